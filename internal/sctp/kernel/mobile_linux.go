package kernel

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// followAssocs has the associations follow the machine's addresses. Where the kernel allows
// it (net.sctp.addip_enable), it tells their peers of new addresses, and of those that are
// gone while another one is left (RFC 5061). The association's socket must be bound before
// the endpoint's, which listens: while a socket listens at an address, no other can be
// bound to it.
func (e *endpoint) followAssocs(added, lost []netip.Addr) {
	e.Mu.RLock()
	all := slices.Collect(maps.Values(e.All))
	e.Mu.RUnlock()
	s := e.machine.Now()
	for _, a := range all {
		a.mu.Lock()
		sock, kid, up := a.sock, a.kid, a.state == stateUp && a.sock != e.sock
		a.mu.Unlock()
		if !up {
			continue
		}
		if e.addip {
			e.reconfigure(sock, added, lost)
		}
		if !sock.reaches(kid, &s) {
			a.abort(sctp.Lost, sctp.ErrAddrGone)
		}
	}
}

// reconfigure adds and removes local addresses of an association. It may fail: then the
// association keeps the addresses that it has.
func (e *endpoint) reconfigure(sock *socket, added, lost []netip.Addr) {
	for _, a := range added {
		if !a.IsLoopback() {
			_ = sock.bindAlso(netip.AddrPortFrom(a, e.port))
		}
	}
	for _, a := range lost {
		_ = sock.unbind(netip.AddrPortFrom(a, e.port))
	}
}

// reaches reports whether an association has a local address from which packets to its peer
// can be sent.
func (s *socket) reaches(kid int32, machine *localaddr.State) bool {
	local, err := s.addrs(optLocalAddrs, kid)
	if err != nil {
		return true // it has ended; the kernel says so
	}
	for _, p := range s.peerAddrs(kid) {
		to := p.Addr().Unmap()
		for _, l := range local {
			from := l.Addr().Unmap()
			if from.Is4() == to.Is4() && (!from.IsLoopback() || machine.Own(to)) && machine.Usable(from) {
				return true
			}
		}
	}
	return false
}
