package registrar

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// places are the addresses at which the registrar serves. They change while it runs:
// the registrar starts before the network is up, an address expires, an interface is
// added. So every message that names addresses is built when it is sent.
type places struct {
	asap, enrp []netip.AddrPort
	// own are all addresses at which the ENRP endpoint of this registrar can be
	// reached, those that are not offered to others included.
	own []netip.Addr
	// machine are the machine's addresses without the loopback.
	machine []netip.Addr

	tcp, announced bool

	// former is the transport of the presences before the last change. A multicast
	// datagram of this registrar that arrives late may still have it.
	former rserpool.Transport
	moved  move
}

// move runs some time after the loss of an address. Associations that were bound to
// that address are dead, and SCTP needs half a minute to notice.
type move struct{ timer timer }

// onServing starts ENRP and the announces.
func (r *Registrar) onServing(ev Serving) {
	r.places.tcp, r.places.announced = ev.TCP, ev.Announce
	r.place(Addresses{Addrs: ev.Addrs, ENRP: ev.ENRP, Own: ev.Own, Machine: ev.Machine})
	if len(ev.ENRP) > 0 {
		r.beginENRP()
	} else {
		r.start.running = false
	}
	if ev.Announce {
		r.timers.Arm(&r.announce.timer, &r.announce, r.now)
	}
	r.callRestored()
}

// place sets where the registrar serves.
func (r *Registrar) place(ev Addresses) {
	p := &r.places
	p.asap, p.enrp = outer(plain(ev.Addrs)), outer(plain(ev.ENRP))
	p.own, p.machine = nil, nil
	for _, a := range ev.Machine {
		if !a.IsLoopback() {
			p.machine = append(p.machine, plainAddr(a))
		}
	}
	for _, a := range ev.Own {
		p.own = append(p.own, plainAddr(a))
	}
	for _, a := range plain(ev.ENRP) {
		if !slices.Contains(p.own, a.Addr()) {
			p.own = append(p.own, a.Addr())
		}
	}
	t := rserpool.Transport{}
	for _, a := range p.enrp[:min(len(p.enrp), maxAnnounced)] {
		t.Type, t.Port = rserpool.SCTP, a.Port()
		t.Addrs = append(t.Addrs, a.Addr())
	}
	if len(ev.ENRP) > 0 {
		r.peers.server = rserpool.ServerInformation{ID: r.id, Transport: t}
	}
}

// inner reports whether the registrar serves on the loopback only.
func (p *places) inner() bool { return len(p.enrp) > 0 && p.enrp[0].Addr().IsLoopback() }

// isOurs reports whether a connection to an address of ENRP reaches this registrar.
func (r *Registrar) isOurs(a netip.AddrPort) bool {
	return a.Port() == r.peers.server.Transport.Port && slices.Contains(r.places.own, a.Addr())
}

// isShared reports whether this machine also has an address that a host names, for
// instance that of docker0, while the host has proved to be at another one. The address
// leads only to this machine.
func (r *Registrar) isShared(addr, proved netip.Addr) bool {
	m := r.places.machine
	return len(m) > 0 && slices.Contains(m, plainAddr(addr)) && !slices.Contains(m, plainAddr(proved)) && !proved.IsLoopback()
}

// isLocal reports whether this machine has an address.
func (r *Registrar) isLocal(addr netip.Addr) bool {
	return addr.IsLoopback() || slices.Contains(r.places.machine, addr)
}

// ofHost returns those of a foreign element's addresses that belong only to its host:
// not those that this machine has as well, if there are others.
func (r *Registrar) ofHost(addrs []netip.Addr) []netip.Addr {
	others := slices.DeleteFunc(slices.Clone(addrs), r.isLocal)
	if len(others) == 0 { // it is on this machine
		return addrs
	}
	return others
}

// atHome reports whether an association comes from the host of a foreign element.
func (r *Registrar) atHome(a *client, f *entry) bool {
	listed := slices.Concat(f.PE().ASAPTransport.Addrs, f.PE().UserTransport.Addrs)
	return slices.Contains(r.ofHost(listed), a.primary())
}

// isSent reports whether a multicast presence with this registrar's identifier is one
// of its own.
func (r *Registrar) isSent(t *rserpool.Transport) bool {
	return t.Equal(r.peers.server.Transport) || t.Equal(r.places.former)
}

// onAddresses: the machine's addresses have changed. The registrar tells its peers and
// the multicast groups at once, and connects to the registrars that it could not reach
// so far.
func (r *Registrar) onAddresses(ev Addresses) {
	old := r.places
	former := r.peers.server.Transport
	r.place(ev)
	if slices.Equal(old.asap, r.places.asap) && slices.Equal(old.enrp, r.places.enrp) {
		return // only addresses that are not offered, such as a bridge's
	}
	r.logf(false, "the machine's addresses have changed: the registrar offers ASAP at %v and ENRP at %v, before at %v and %v",
		r.places.asap, r.places.enrp, old.asap, old.enrp)
	if r.places.announced {
		r.timers.Arm(&r.announce.timer, &r.announce, r.now)
	}
	if !former.Present() {
		return
	}
	r.places.former = former
	r.tellAll(r.presence(0, false))
	r.connectSoon()
	if r.cfg.Discover {
		r.discovery.eager = r.now.Add(r.cfg.Timers.MentorDiscovery)
		r.timers.Arm(&r.discovery.timer, &r.discovery, r.now)
		if s := &r.start; s.running && (len(old.enrp) == 0 || old.inner()) {
			s.discovery = r.discovery.eager // there was no network before
			s.delay(s.discovery)
			r.timers.Arm(&s.timer, s, r.now)
		}
	}
	if slices.ContainsFunc(old.enrp, func(a netip.AddrPort) bool { return !slices.Contains(r.places.enrp, a) }) {
		for _, p := range r.peers.list {
			r.doubt(p)
		}
		r.timers.Arm(&r.places.moved.timer, &r.places.moved, r.now.Add(r.doubtTime()))
	}
}

// doubt sends a peer a presence that asks for one, over its present link, and notes
// when.
func (r *Registrar) doubt(p *peer) {
	if p.link != nil && p.doubted.IsZero() {
		p.doubted = r.now
		r.sendPresence(p, true)
	}
}

// doubtTime is how long a peer may take to respond then. It is shorter than the time
// after which a peer that has lost this registrar takes it over.
func (r *Registrar) doubtTime() time.Duration { return r.cfg.Timers.MaxTimeNoResponse / 4 }

// isSilent reports whether a peer has not responded in that time.
func (r *Registrar) isSilent(p *peer) bool {
	return !p.doubted.IsZero() && r.now.Sub(p.doubted) >= r.doubtTime()
}

// Due aborts the links that did not survive the loss of an address. The registrar then
// connects to their peers again.
func (m *move) Due(r *Registrar, _ *timer) {
	for _, p := range r.peers.list {
		if p.link != nil && p.link.up && r.isSilent(p) {
			r.logf(false, "the association with registrar %v did not survive the change of addresses", p.id)
			p.doubted = time.Time{}
			r.act(Close{Assoc: p.link.id, Abort: true})
		}
	}
}
