package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// plain returns addresses without zones, IPv4-mapped ones as IPv4.
func plain(addrs []netip.AddrPort) []netip.AddrPort {
	list := make([]netip.AddrPort, 0, min(len(addrs), maxPeerAddrs))
	for _, a := range addrs {
		if len(list) == maxPeerAddrs {
			break
		}
		if a.IsValid() {
			list = append(list, netip.AddrPortFrom(plainAddr(a.Addr()), a.Port()))
		}
	}
	return list
}

func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func hasAddr(set []netip.AddrPort, addr netip.Addr) bool {
	return slices.ContainsFunc(set, func(p netip.AddrPort) bool { return p.Addr() == addr })
}

// maxPeerAddrs bounds the addresses of a peer that are used. SCTP stacks have far
// fewer.
const maxPeerAddrs = 64

func addrPorts(t *rserpool.Transport) []netip.AddrPort {
	return appendAddrPorts(make([]netip.AddrPort, 0, len(t.Addrs)), t)
}

func appendAddrPorts(list []netip.AddrPort, t *rserpool.Transport) []netip.AddrPort {
	for _, addr := range t.Addrs {
		list = append(list, netip.AddrPortFrom(addr, t.Port))
	}
	return list
}

// addrsKey is a key for a list of addresses. No key begins with another one.
func addrsKey(to []netip.AddrPort) string { return string(appendAddrsKey(nil, to)) }

func appendAddrsKey(b []byte, to []netip.AddrPort) []byte {
	for _, a := range to {
		b = append(b, 0)
		n := len(b)
		b, _ = a.AppendBinary(b) // it never fails
		b[n-1] = byte(len(b) - n)
	}
	return append(b, 0)
}

// usable reports whether an element can be reached at addr, seen from a peer at
// primary. Only a peer that has come over the loopback may name the loopback.
func usable(addr, primary netip.Addr) bool {
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast(),
		addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return false
	case addr.IsLoopback():
		return primary.IsLoopback()
	}
	return true
}

// toFront moves an address to the front of a list, and reports whether it is in the
// list.
func toFront(addrs []netip.AddrPort, addr netip.Addr) bool {
	i := slices.IndexFunc(addrs, func(a netip.AddrPort) bool { return a.Addr() == addr })
	if i > 0 {
		addrs[0], addrs[i] = addrs[i], addrs[0]
	}
	return i >= 0
}

// usablePeer returns the addresses at which a registrar can be.
func usablePeer(addrs []netip.AddrPort) []netip.AddrPort {
	var list []netip.AddrPort
	for _, a := range addrs {
		if a.Port() != 0 && usable(a.Addr(), a.Addr()) {
			list = append(list, a)
		}
	}
	return list
}

func addrsIn(list []netip.AddrPort) []netip.Addr {
	addrs := make([]netip.Addr, len(list))
	for i, a := range list {
		addrs[i] = a.Addr()
	}
	return addrs
}

// maxLoggedAddrs is how many addresses go into a log line.
const maxLoggedAddrs = 4

func addrsText(list []netip.Addr) string {
	var b strings.Builder
	for i, a := range list {
		if i == maxLoggedAddrs {
			fmt.Fprintf(&b, " and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
	}
	return b.String()
}

func overlap(a, b []netip.AddrPort) bool {
	return slices.ContainsFunc(a, func(x netip.AddrPort) bool { return slices.Contains(b, x) })
}

// without returns a without the addresses of b.
func without(a, b []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(a), func(x netip.AddrPort) bool { return slices.Contains(b, x) })
}

// outer returns the addresses that are not on the loopback, or all if there are no
// others: for each reader, a loopback address means its own machine. Unspecified
// addresses are left out.
func outer(addrs []netip.AddrPort) []netip.AddrPort {
	addrs = slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return a.Addr().IsUnspecified() })
	isOuter := func(a netip.AddrPort) bool { return !a.Addr().IsLoopback() }
	if slices.ContainsFunc(addrs, isOuter) {
		addrs = slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return !isOuter(a) })
	}
	return addrs
}
