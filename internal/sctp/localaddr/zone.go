package localaddr

import (
	"net"
	"net/netip"
	"strconv"
)

// Zone returns the zone of link-local addresses on an interface, as package net reports them:
// its name, or its number if it has none.
func Zone(index uint32) string {
	if index == 0 {
		return ""
	}
	if ifi, err := net.InterfaceByIndex(int(index)); err == nil {
		return ifi.Name
	}
	return strconv.FormatUint(uint64(index), 10)
}

// NamedZone returns an address with the zone that packets from it have: the name of the
// interface if the zone is its number.
func NamedZone(a netip.Addr) netip.Addr {
	index, err := strconv.ParseUint(a.Zone(), 10, 32)
	if err != nil {
		return a
	}
	if _, err := net.InterfaceByName(a.Zone()); err == nil {
		return a
	}
	return a.WithZone(Zone(uint32(index)))
}
