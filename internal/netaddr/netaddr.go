// Package netaddr reads IP addresses with and without a port, in one way for
// all flags and options that take them.
package netaddr

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseAddrPort reads ADDRESS, ADDRESS:PORT, [ADDRESS] or [ADDRESS]:PORT, where
// the last two are for IPv6, which may have a zone: [fe80::1%eth0]:3863. The
// given port stands for one that is not there. IPv4 addresses that are mapped
// into IPv6 become IPv4.
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
	// No interface has one of these in its name, so they belong to a mistake.
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

func unfit(s string) error {
	return fmt.Errorf("%q is not an IP address with or without a port, such as 192.0.2.1, 192.0.2.1:3863, [2001:db8::1]:3863 or [fe80::1%%eth0]:3863", s)
}
