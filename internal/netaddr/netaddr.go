// Package netaddr reads IP addresses with and without a port, in the same way for all
// flags and options.
package netaddr

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseAddrPort reads ADDRESS, ADDRESS:PORT, [ADDRESS] or [ADDRESS]:PORT. The last two are
// for IPv6, which may have a zone: [fe80::1%eth0]:3863. If s has no port, port is used.
// IPv4 addresses that are mapped into IPv6 become IPv4.
func ParseAddrPort(s string, port uint16) (netip.AddrPort, error) {
	addr, number := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		inner, rest, ok := strings.Cut(s[1:], "]")
		a, err := netip.ParseAddr(inner)
		if !ok || err != nil || a.Is4() || rest != "" && rest[0] != ':' || rest == ":" {
			return netip.AddrPort{}, unfit(s)
		}
		addr, number = inner, strings.TrimPrefix(rest, ":")
	case strings.Count(s, ":") == 1:
		addr, number, _ = strings.Cut(s, ":")
		if number == "" {
			return netip.AddrPort{}, unfit(s)
		}
	}
	a, err := netip.ParseAddr(addr)
	// Interface names have none of these characters, so they are a typing error.
	if err != nil || strings.ContainsAny(a.Zone(), ":[]/") {
		return netip.AddrPort{}, unfit(s)
	}
	if number != "" {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			return netip.AddrPort{}, unfit(s)
		}
		port = uint16(n)
	}
	return netip.AddrPortFrom(a.Unmap(), port), nil
}

// ParseGroup reads the address of a multicast group, with or without a port. The usual
// group is the example in the error, and has the port that is used if s has none.
func ParseGroup(s string, usual netip.AddrPort) (netip.AddrPort, error) {
	a, err := ParseAddrPort(s, usual.Port())
	if err != nil || !a.Addr().IsMulticast() || a.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is not a multicast address with or without a port, such as %s", s, usual)
	}
	return a, nil
}

func unfit(s string) error {
	return fmt.Errorf("%q is not an IP address with or without a port, such as 192.0.2.1, 192.0.2.1:3863, [2001:db8::1]:3863 or [fe80::1%%eth0]:3863", s)
}
