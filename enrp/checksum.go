package enrp

import "github.com/rserpool/coredns-rserpool/rserpool"

// Checksum is the PE checksum of a set of pool elements, kept up to date as
// elements come and go (RFC 5353, Section 3.6.2): the Internet checksum (RFC
// 1071) over the pool handle, padded with zeros to a multiple of 4 bytes, and
// the PE identifier of each. The zero Checksum is that of no elements. It does
// not know which elements it has: remove only what was added.
type Checksum struct {
	// sum is the plain sum of all 16-bit words. It is folded only when asked
	// for, so that removing is exact, and 64 bits hold more than 2^32
	// elements with the longest handles.
	sum uint64
}

// Add counts an element in.
func (s *Checksum) Add(h rserpool.PoolHandle, id rserpool.PEID) { s.sum += wordSum(h, id) }

// Remove counts an element out that has been counted in.
func (s *Checksum) Remove(h rserpool.PoolHandle, id rserpool.PEID) { s.sum -= wordSum(h, id) }

// Value is the checksum as in a [Presence].
func (s Checksum) Value() uint16 {
	v := s.sum
	for v > 0xffff {
		v = v>>16 + v&0xffff
	}
	return ^uint16(v)
}

// ChecksumsMatch reports whether two checksums are of the same elements, as
// far as checksums can tell. 0 and 0xffff are the same number in one's
// complement: which of them an implementation arrives at may depend on what
// was added and removed before.
func ChecksumsMatch(a, b uint16) bool {
	return a == b || a == 0 && b == 0xffff || a == 0xffff && b == 0
}

// wordSum adds up the 16-bit words of an element's block.
func wordSum(h rserpool.PoolHandle, id rserpool.PEID) uint64 {
	sum := uint64(id>>16) + uint64(id&0xffff)
	for ; len(h) >= 2; h = h[2:] {
		sum += uint64(h[0])<<8 | uint64(h[1])
	}
	if len(h) == 1 {
		sum += uint64(h[0]) << 8
	}
	return sum
}
