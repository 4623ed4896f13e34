package client

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// errNoLocalAddr says that this machine has no address to be reached at.
var errNoLocalAddr = errors.New("this machine has no address toward a registrar")

// LocalToward gives the machine's addresses from which the registrars are
// reached, without repetition and in the order of the registrars. The system
// chooses them; of IPv6 addresses it is asked for stable ones, not temporary
// ones (RFC 5014). A loopback address counts only toward a registrar on the
// loopback, and if there are no others: it means nothing to anyone else.
// Likewise a link-local one, which has its zone. Registrars whose name has not
// been looked up are left out.
//
// A pool element without given addresses registers these (RFC 5352, Section
// 3.1, R1).
func LocalToward(registrars []rserpool.Registrar) ([]netip.Addr, error) {
	var all []netip.Addr
	var errs []error
	for _, r := range registrars {
		for _, to := range r.Addrs {
			a, err := localToward(to.Unmap())
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
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

// noLocalAddr is errNoLocalAddr with the reason for each registrar, in one line.
func noLocalAddr(errs []error) error {
	err, sep := errNoLocalAddr, ": "
	for _, e := range errs {
		err, sep = fmt.Errorf("%w%s%w", err, sep, e), "; "
	}
	return err
}

// localToward asks the system which source address it takes. No packet is
// sent.
func localToward(to netip.Addr) (netip.Addr, error) {
	a, err := localaddr.Source(to)
	switch {
	case err != nil:
		return netip.Addr{}, err
	case a.IsLoopback() && !to.IsLoopback(), a.IsLinkLocalUnicast() && !to.IsLinkLocalUnicast():
		// So it is while IPv6 looks for duplicates of the others.
		return netip.Addr{}, fmt.Errorf("toward %v there is only the address %v", to, a)
	case a.IsLinkLocalUnicast():
		return a.WithZone(to.Zone()), nil
	}
	return a.WithZone(""), nil
}

// HasAddr reports whether the machine has an address.
func HasAddr(a netip.Addr) bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(x net.Addr) bool {
		n, ok := x.(*net.IPNet)
		if !ok {
			return false
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		return ip.Unmap() == a.WithZone("")
	})
}
