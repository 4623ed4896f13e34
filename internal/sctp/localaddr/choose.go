package localaddr

import (
	"math/bits"
	"net/netip"
)

// Choose returns the index of the local address to send to another one from, -1 if there is
// none of its family: the source address of the route, or an unspecified address, or else the
// one with the longest common prefix.
func (m *View) Choose(local []netip.Addr, to netip.Addr) int {
	var fit []int // of the same family
	for i, a := range local {
		if a.Is4() == to.Is4() {
			fit = append(fit, i)
		}
	}
	var source netip.Addr
	if len(fit) > 1 {
		source, _ = m.Source(to)
	}
	best, highest := -1, -1
	for _, i := range fit {
		if r := rank(local[i], to, source); r > highest {
			best, highest = i, r
		}
	}
	return best
}

// rank rates a local address for packets to another; source is the address that the system
// would choose, if known.
func rank(a, to, source netip.Addr) int {
	switch {
	case a == source:
		return 300
	case a.IsUnspecified():
		return 200
	case a.IsLoopback() != to.IsLoopback():
		return 0
	}
	return 1 + commonBits(a, to)
}

// commonBits returns the length of the common prefix of two addresses, in bits.
func commonBits(a, b netip.Addr) int {
	x, y := a.As16(), b.As16()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 128
}
