package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// ErrNoLocalAddr says that this machine has no address to be reached at.
var ErrNoLocalAddr = errors.New("this machine has no address toward a registrar")

// LocalToward gives the machine's addresses from which the registrars are
// reached, without repetition and in the order of the registrars. Loopback
// addresses count only if there are no others: they mean nothing to anyone
// else. Without a registrar it gives the addresses of all interfaces.
//
// A pool element that is told no address registers these (RFC 5352, Section
// 3.1, R1).
func LocalToward(registrars []Registrar) ([]netip.Addr, error) {
	var all []netip.Addr
	var errs []error
	for _, r := range registrars {
		for _, to := range r.Addrs {
			a, err := localToward(to)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	if len(registrars) == 0 {
		var err error
		if all, err = interfaceAddrs(); err != nil {
			return nil, err
		}
	}
	outside := slices.DeleteFunc(slices.Clone(all), netip.Addr.IsLoopback)
	if len(outside) > 0 {
		return outside, nil
	}
	if len(all) == 0 {
		return nil, noLocalAddr(errs)
	}
	return all, nil
}

// noLocalAddr is ErrNoLocalAddr with the reason for each registrar, in one line.
func noLocalAddr(errs []error) error {
	err, sep := ErrNoLocalAddr, ": "
	for _, e := range errs {
		err, sep = fmt.Errorf("%w%s%w", err, sep, e), "; "
	}
	return err
}

// localToward asks the system which source address it takes. No packet is
// sent.
func localToward(to netip.AddrPort) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	local, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("no local address toward %v", to)
	}
	return local.AddrPort().Addr().Unmap().WithZone(""), nil
}

func interfaceAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && !ip.IsLinkLocalUnicast() {
				all = append(all, ip.Unmap())
			}
		}
	}
	return all, nil
}
