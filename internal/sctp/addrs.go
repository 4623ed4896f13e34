package sctp

import (
	"net"
	"net/netip"
	"slices"
)

func loopbackLast(a netip.Addr) int {
	if a.IsLoopback() {
		return 1
	}
	return 0
}

// expand replaces unspecified addresses by the machine's of their family.
func expand(bound, machine []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, b := range bound {
		if !b.IsUnspecified() {
			out = append(out, b)
			continue
		}
		for _, a := range machine {
			if a.Is4() == b.Is4() && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// inScope says whether an address that one side has is of use to the other,
// whose address is far: loopback addresses are for those on the same machine.
func inScope(a, far netip.Addr) bool { return !a.IsLoopback() || far.IsLoopback() }

// bindAddrs reads a ListenConfig: the addresses, :: split into both families,
// and the port.
func bindAddrs(cfg ListenConfig) (addrs []netip.Addr, port uint16, both bool, err error) {
	list := cfg.Addrs
	if len(list) == 0 {
		list = []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), 0)}
	}
	port = list[0].Port()
	for _, ap := range list {
		a := ap.Addr().Unmap()
		if !a.IsValid() || a.IsMulticast() || ap.Port() != port {
			return nil, 0, false, &net.AddrError{Err: "addresses to listen on must be unicast and have one port", Addr: ap.String()}
		}
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
		if a == netip.IPv6Unspecified() {
			both = true
		}
	}
	if both && !slices.Contains(addrs, netip.IPv4Unspecified()) {
		addrs = append(addrs, netip.IPv4Unspecified())
	}
	return addrs, port, both, nil
}
