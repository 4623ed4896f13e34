package sctp

import "net/netip"

// HostOf is what limits count as one host: for IPv6 its network of 64 bits, in which a machine
// can have any number of addresses.
func HostOf(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, _ := a.Prefix(64)
	return p.Addr()
}
