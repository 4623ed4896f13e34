package enrp

import "github.com/rserpool/coredns-rserpool/rserpool"

// Checksum is the PE checksum of a set of pool elements (RFC 5353, Section 3.6.2): the
// Internet checksum (RFC 1071) over the pool handle, padded with zeros to a multiple of 4
// bytes, and the PE identifier of each element. It changes with each element that is added
// or removed. The zero Checksum is that of an empty set. A Checksum does not know its
// elements: remove only an element that was added.
type Checksum struct {
	// sum is the sum of all 16-bit words. Only Value folds it, so that removing an
	// element is exact. 64 bits are enough for 2^32 elements with the longest
	// handles.
	sum uint64
}

// Add adds an element.
func (s *Checksum) Add(h rserpool.PoolHandle, id rserpool.PEID) { s.sum += wordSum(h, id) }

// Remove removes an element that was added.
func (s *Checksum) Remove(h rserpool.PoolHandle, id rserpool.PEID) { s.sum -= wordSum(h, id) }

// Join returns the checksum of the elements of two sets that have none in common.
func (s Checksum) Join(t Checksum) Checksum { return Checksum{sum: s.sum + t.sum} }

// Value is the checksum as in a [Presence].
func (s Checksum) Value() uint16 {
	v := s.sum
	for v > 0xffff {
		v = v>>16 + v&0xffff
	}
	return ^uint16(v)
}

// ChecksumsMatch reports whether two checksums may be of the same elements. 0 and 0xffff
// are the same number in one's complement: which of them an implementation computes may
// depend on the elements that it has added and removed before.
func ChecksumsMatch(a, b uint16) bool {
	return a == b || a == 0 && b == 0xffff || a == 0xffff && b == 0
}

// wordSum is the sum of the 16-bit words of an element's handle and identifier.
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
