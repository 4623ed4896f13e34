//go:build !linux

package localaddr

import (
	"net"
	"net/netip"
)

// Read offers all addresses except loopback and link-local ones: where an interface leads
// to is not known on this system.
func Read() (State, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return State{}, err
	}
	var addrs []netAddr
	for _, ia := range list {
		n, ok := ia.(*net.IPNet)
		if !ok {
			continue
		}
		if a, ok := netip.AddrFromSlice(n.IP); ok {
			ones, _ := n.Mask.Size()
			addrs = append(addrs, netAddr{link: 1, prefix: netip.PrefixFrom(a.Unmap(), ones)})
		}
	}
	return sortAddrs([]netLink{{index: 1, up: true}}, addrs, nil), nil
}

func sourceAddr(to netip.Addr) (netip.Addr, error) { return dialed(new(net.Dialer), to) }
