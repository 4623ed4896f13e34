package registrar

import (
	"net/netip"
	"time"
)

// A peer that names elements at the address of a victim and does not name them, by turns, would have
// each of them called as often as it sends its table: naming an element ends its call. So the elements
// that sweeps have called are bounded, twice as many at once as these in a second:
const (
	// sweepRate bounds those of one peer at one host, and what each peer has in any case.
	sweepRate = 256
	// sweepSpare is what all peers have together beyond that, if their elements are at different
	// hosts. Less is left of sweepRates for the others: no peer has the others wait for long.
	sweepSpare = 512
	// sweepRates bounds those of all peers.
	sweepRates = 1024
	// sweepHosts is the number of the buckets of a peer for its hosts. Hosts that share one have
	// sweepRate together.
	sweepHosts = 64
)

// sweeps are the calls that the sweeps of one peer have caused.
type sweeps struct {
	own   bucket
	hosts *[sweepHosts]bucket // nil if there were none yet
}

// allSweeps are those of all peers.
type allSweeps struct{ all, spare bucket }

// maySweep reports whether one more element of the peer may be called now.
func (r *Registrar) maySweep(p *peer, e *entry) bool {
	s, ps := &p.sweeps, &r.peers.sweeps
	return s.hostsAllow(r.now, e.PE().ASAPTransport.Addrs) &&
		(s.own.allow(r.now, sweepRate) || ps.spare.allow(r.now, sweepSpare)) &&
		ps.all.allow(r.now, sweepRates)
}

// hostsAllow counts a call at these addresses, unless one of them has had too many.
func (s *sweeps) hostsAllow(now time.Time, addrs []netip.Addr) bool {
	if s.hosts == nil {
		s.hosts = new([sweepHosts]bucket)
	}
	for _, a := range addrs {
		if b := s.hosts[sweepHost(a)]; !b.allow(now, sweepRate) {
			return false
		}
	}
	for _, a := range addrs {
		s.hosts[sweepHost(a)].allow(now, sweepRate)
	}
	return true
}

// sweepHost is the bucket of a host. In IPv6, a network of 64 bits counts as one host.
func sweepHost(a netip.Addr) uint32 {
	b := a.As16()
	of := b[:8]
	if a.Unmap().Is4() {
		of = b[12:]
	}
	sum := uint32(2166136261) // FNV-1a
	for _, c := range of {
		sum = (sum ^ uint32(c)) * 16777619
	}
	return (sum>>16 ^ sum) % sweepHosts
}
