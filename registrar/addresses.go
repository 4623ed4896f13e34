package registrar

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// places are where the registrar serves. They change while it runs: a registrar
// starts before the network is up, an address expires, an interface is added.
// So every message that names addresses is built when it is sent.
type places struct {
	asap, enrp []netip.AddrPort
	// own are all addresses at which a call to our ENRP port reaches ourselves,
	// those included that are not offered to others.
	own []netip.Addr
	// machine are those of the machine, the loopback left out.
	machine []netip.Addr

	tcp, announced bool

	// former is the transport of the last presence before the present one; a
	// datagram of ours that comes back may still have it.
	former rserpool.Transport
	moved  move
}

// move runs some time after the loss of an address: associations that were bound
// to that address are dead, and SCTP needs half a minute to find it out.
type move struct{ timer timer }

// onServing begins ENRP and the announces.
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
}

// place notes where we serve.
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

// inner reports whether we are on the loopback only.
func (p *places) inner() bool { return len(p.enrp) > 0 && p.enrp[0].Addr().IsLoopback() }

// isOurs reports whether a call to an address of ENRP reaches ourselves.
func (r *Registrar) isOurs(a netip.AddrPort) bool {
	return a.Port() == r.peers.server.Transport.Port && slices.Contains(r.places.own, a.Addr())
}

// isShared reports whether an address that a host names, which has proved to be at
// another one, is one that this machine has as well, such as that of docker0. It
// leads to nobody but ourselves.
func (r *Registrar) isShared(addr, proved netip.Addr) bool {
	m := r.places.machine
	return len(m) > 0 && slices.Contains(m, plainAddr(addr)) && !slices.Contains(m, plainAddr(proved)) && !proved.IsLoopback()
}

// isLocal reports whether an address is one of this machine.
func (r *Registrar) isLocal(addr netip.Addr) bool {
	return addr.IsLoopback() || slices.Contains(r.places.machine, addr)
}

// ofHost are those of an element's addresses, as another registrar tells them, that
// belong only to its host: not those that this machine has as well, if there are
// others.
func (r *Registrar) ofHost(addrs []netip.Addr) []netip.Addr {
	others := slices.DeleteFunc(slices.Clone(addrs), r.isLocal)
	if len(others) == 0 { // it is on this machine
		return addrs
	}
	return others
}

// atHome reports whether the association is from the host of another registrar's
// element.
func (r *Registrar) atHome(a *client, f *entry) bool {
	listed := slices.Concat(f.PE().ASAPTransport.Addrs, f.PE().UserTransport.Addrs)
	return slices.Contains(r.ofHost(listed), a.primary())
}

// isSent reports whether a presence by multicast with our identifier is one of
// our own, come back.
func (r *Registrar) isSent(t *rserpool.Transport) bool {
	return t.Equal(r.peers.server.Transport) || t.Equal(r.places.former)
}

// onAddresses: the machine's addresses have changed. The peers and all who listen
// are told now, and registrars that could not be reached so far are called now.
func (r *Registrar) onAddresses(ev Addresses) {
	old := r.places
	former := r.peers.server.Transport
	r.place(ev)
	if slices.Equal(old.asap, r.places.asap) && slices.Equal(old.enrp, r.places.enrp) {
		return // what only we know of, such as a bridge
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
			s.discovery = r.discovery.eager // nobody could be heard before
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

// doubt asks a peer over its present association for a sign of life, and notes
// since when it owes one.
func (r *Registrar) doubt(p *peer) {
	if p.link != nil && p.doubted.IsZero() {
		p.doubted = r.now
		r.sendPresence(p, true)
	}
}

// doubtTime is how long a peer may take to answer then. It is shorter than the
// time that the peer has, having lost us, before it takes us over.
func (r *Registrar) doubtTime() time.Duration { return r.cfg.Timers.MaxTimeNoResponse / 4 }

// isSilent reports whether a peer has not answered in that time.
func (r *Registrar) isSilent(p *peer) bool {
	return !p.doubted.IsZero() && r.now.Sub(p.doubted) >= r.doubtTime()
}

// Due ends the associations that did not survive the loss of an address. Their
// peers are called anew.
func (m *move) Due(r *Registrar, _ *timer) {
	for _, p := range r.peers.list {
		if p.link != nil && p.link.up && r.isSilent(p) {
			r.logf(false, "association with registrar %v has not survived the change of addresses", p.id)
			p.doubted = time.Time{}
			r.act(Close{Assoc: p.link.id, Abort: true})
		}
	}
}
