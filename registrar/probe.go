package registrar

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// probe looks after the elements of an association that has ended, for whatever reason.
// It connects to their ASAP transport, over the same kind of SCTP, and sends each a
// keep-alive. Elements that acknowledge stay, supervised over the new association. The
// others are removed as soon as the connection fails, or ProbeTimeout after the last
// acknowledgement. Until then all of them stay in the handlespace.
//
//	delayed --> queued --> connecting --> asking --> over
//
// If the connection fails, the probe goes from connecting to over at once.
type probe struct {
	state probeState
	ref   uint64
	via   rserpool.Via
	// adopted tells that the elements were foreign ones: the kind of SCTP that they
	// came by is not known.
	adopted bool
	to      []netip.AddrPort // the elements' ASAP transport
	encap   uint16           // and its UDP port, if another registrar has told it
	heard   uint16           // the UDP port of the former association
	host    []netip.AddrPort // of the former association
	assoc   *client          // the new one

	waiting chain.List[element] // not yet asked
	asked   chain.List[element] // asked, and not yet answered
	again   bool                // those asked have been asked once more, with the H flag
	timer   timer
}

// probesAt are probes by the place to which they connect; see addrsKey.
type probesAt map[string]*probe

type probeState uint8

const (
	probeDelayed probeState = iota
	probeQueued
	probeConnecting
	probeAsking
	probeOver
)

// probes are the probes that wait for others to end, in a queue, and the number of
// those that run.
type probes struct {
	connecting map[uint64]*probe // until the host tells their association
	queue      []*probe          // some may be over
	running    int
}

const (
	// askWindow is how many keep-alives of a probe may be unanswered at a time.
	askWindow = 64
	// maxProbesPerAssoc is how many places the elements of one association can have the
	// registrar connect to. With more, they could have it connect to half a network.
	maxProbesPerAssoc = 8
	// minProbeGap is the least time between two associations that probes open to one
	// place, so that an element that acknowledges and closes again does not keep the
	// registrar busy.
	minProbeGap = 100 * time.Millisecond
)

// probeElements gives the elements of an association that has ended to probes, one for
// each ASAP transport.
func (r *Registrar) probeElements(a *client) {
	probes := make(probesAt)
	var list []*probe
	for e := a.elements.First(); e != nil; e = a.elements.First() {
		to := a.peer
		if e.ownASAP {
			to = r.asapAddrs(e)
		}
		key := addrsKey(to)
		p := probes[key]
		if p == nil {
			if len(list) == maxProbesPerAssoc {
				r.remove(e, RemovedUnreachable)
				continue
			}
			p = &probe{via: a.via, to: to, host: a.peer, heard: a.encap}
			probes[key] = p
			list = append(list, p)
		}
		r.timers.Stop(&e.keepAlive)
		e.waiting = false
		e.place.Leave()
		e.assoc = nil
		p.add(e)
		r.awaitFarewell(e)
	}
	for _, p := range list {
		r.stats.Probes++
		r.probing++
		if at := a.upAt.Add(minProbeGap); a.ours && at.After(r.now) {
			r.timers.Arm(&p.timer, p, at)
		} else {
			r.queueProbe(p)
		}
	}
	r.runProbes()
}

// asapAddrs returns the addresses of an element's ASAP transport, without those that
// this machine has as well: a connection to them would reach this machine.
func (r *Registrar) asapAddrs(e *element) []netip.AddrPort {
	t := e.PE().ASAPTransport
	t.Addrs = r.ofHost(t.Addrs)
	return addrPorts(&t)
}

func (r *Registrar) queueProbe(p *probe) {
	p.state = probeQueued
	r.probes.queue = append(r.probes.queue, p)
}

// runProbes starts queued probes while the limit allows it.
func (r *Registrar) runProbes() {
	for len(r.probes.queue) > 0 && r.probes.running < r.cfg.Limits.Probes {
		p := r.probes.queue[0]
		r.probes.queue[0] = nil
		r.probes.queue = r.probes.queue[1:]
		if p.state == probeQueued {
			r.probes.running++
			p.state = probeConnecting
			p.begin(r)
		}
	}
}

// begin starts the probe: over an association that the peer has opened since, or else
// over a new one.
func (p *probe) begin(r *Registrar) {
	if a := p.associated(r); a != nil {
		p.askOver(r, a)
		return
	}
	r.refs++
	p.ref = r.refs
	r.probes.connecting[p.ref] = p
	r.timers.Arm(&p.timer, p, r.now.Add(r.cfg.Timers.ProbeTimeout))
	r.act(Connect{Ref: p.ref, PPID: asap.PPID, To: p.to, Via: p.via, EncapPort: p.encapPort(r)})
}

// encapPort returns the UDP port to connect to; 0 for the one that the peer was last
// heard from. If one address has several peers, behind a NAT, that may be another
// element's.
func (p *probe) encapPort(r *Registrar) uint16 {
	if p.encap == 0 && p.heard != 0 {
		for _, addr := range p.to {
			if a := r.byPrimary[peerKey{via: p.via, addr: addr}]; a != nil && a.encap != p.heard {
				return p.heard
			}
		}
	}
	return p.encap
}

// associated returns an association that the elements' host has opened.
func (p *probe) associated(r *Registrar) *client {
	if p.adopted {
		return r.clientAt(anySCTP, p.to, p.encap)
	}
	return r.clientAt([]rserpool.Via{p.via}, p.to, p.heard)
}

func (r *Registrar) onConnecting(ev Connecting) {
	if c := r.peers.connecting[ev.Ref]; c != nil {
		r.onLinkConnecting(c, ev)
		return
	}
	if q := r.inquiries.connecting[ev.Ref]; q != nil {
		q.onConnecting(r, ev)
		return
	}
	p := r.probes.connecting[ev.Ref]
	delete(r.probes.connecting, ev.Ref)
	known := r.assocs[ev.Assoc] != nil // that would be the host's mistake
	if ev.Assoc != 0 && !known {
		a := r.newClient(ev.Assoc)
		a.ours = true
		if p != nil && p.state == probeConnecting {
			a.via, a.probe, p.assoc = p.via, p, a
			return
		}
		r.act(Close{Assoc: a.id, Abort: true}) // too late
	}
	if p != nil && p.state == probeConnecting {
		p.unreached(r)
	}
}

// unreached: the connection has failed. If the reason is that the peer has connected at
// the same time, the peer's association is used.
func (p *probe) unreached(r *Registrar) {
	if a := p.associated(r); a != nil {
		p.askOver(r, a)
		return
	}
	p.fail(r, RemovedUnreachable)
}

// lost: the probe's association has ended, or never was established.
func (p *probe) lost(r *Registrar) {
	a := p.assoc
	p.assoc, a.probe = nil, nil
	switch {
	case p.state == probeConnecting:
		p.unreached(r)
	case !a.ours: // the peer had opened it, so the probe still has to connect
		for e := p.asked.First(); e != nil; e = p.asked.First() {
			p.waiting.Add(e, &e.place)
		}
		p.state = probeConnecting
		p.begin(r)
	default:
		p.fail(r, RemovedUnreachable)
	}
}

// connected: the probe's own association is up.
func (p *probe) connected(r *Registrar) {
	p.state = probeAsking
	p.await(r)
	p.fill(r)
}

// await gives the elements that were asked half of ProbeTimeout to acknowledge. Then
// they are asked again and have the other half.
func (p *probe) await(r *Registrar) {
	p.again = false
	r.timers.Arm(&p.timer, p, r.now.Add(r.cfg.Timers.ProbeTimeout/2))
}

// askAgain sends keep-alives with the H flag. Elements of the reference implementation
// acknowledge keep-alives of their home only, and may hold another registrar for it,
// one that has assumed that this one is dead. An element is asked in this way once in
// KeepAliveInterval, so that two registrars do not fight over it.
func (p *probe) askAgain(r *Registrar) {
	p.again = true
	t := &r.cfg.Timers
	r.timers.Arm(&p.timer, p, r.now.Add(t.ProbeTimeout-t.ProbeTimeout/2))
	for e := p.asked.First(); e != nil; e = e.place.Next() {
		if !e.adopting && r.now.Sub(e.claimed) >= r.keepAliveInterval(e.Handle()) {
			e.adopt, e.claimed = true, r.now
			r.sendKeepAlive(e, p.assoc, true)
		}
	}
}

// askOver uses an association that is already up. If another probe uses it, that one
// takes the elements over.
func (p *probe) askOver(r *Registrar, a *client) {
	if q := a.probe; q != nil {
		for _, l := range []*chain.List[element]{&p.asked, &p.waiting} {
			for e := l.First(); e != nil; e = l.First() {
				q.add(e)
			}
		}
		p.end(r)
		if q.state == probeAsking {
			q.fill(r)
		}
		return
	}
	p.assoc, a.probe = a, p
	r.leaveIdle(a)
	p.connected(r)
}

// add puts an element into the probe's care.
func (p *probe) add(e *element) {
	e.probe = p
	p.waiting.Add(e, &e.place)
}

// fill sends keep-alives until askWindow of them are unanswered.
func (p *probe) fill(r *Registrar) {
	for e := p.waiting.First(); e != nil && p.asked.Len() < askWindow; e = p.waiting.First() {
		p.asked.Add(e, &e.place)
		r.sendKeepAlive(e, p.assoc, true)
	}
}

// progress: an element has acknowledged, so the time for the others begins anew.
func (p *probe) progress(r *Registrar) {
	if p.state == probeAsking {
		p.await(r)
	}
}

// shrunk: an element has left the probe's care.
func (p *probe) shrunk(r *Registrar) {
	switch {
	case p.state == probeOver:
	case p.waiting.Len()+p.asked.Len() == 0:
		p.end(r)
	case p.state == probeAsking:
		p.fill(r)
	}
}

// Due: the time to connect, for an acknowledgement, or of a pause is over.
func (p *probe) Due(r *Registrar, _ *timer) {
	switch p.state {
	case probeDelayed:
		r.queueProbe(p)
		r.runProbes()
	case probeConnecting:
		p.fail(r, RemovedUnreachable)
	case probeAsking:
		if !p.again {
			p.askAgain(r)
			return
		}
		r.stats.KeepAlivesTimedOut += uint64(p.asked.Len())
		p.fail(r, RemovedNoAck)
	case probeQueued, probeOver: // without a timer
	}
}

// fail removes all elements that are left. If they were asked over an association that
// the peer has opened, they are notified.
func (p *probe) fail(r *Registrar, why RemoveReason) {
	a := p.assoc
	p.end(r)
	for _, l := range []*chain.List[element]{&p.asked, &p.waiting} {
		for e := l.First(); e != nil; e = l.First() {
			if a != nil && !a.ours && e.contested == nil {
				r.tellRemoved(a, e.entry)
				r.miss(a, e)
			}
			r.remove(e, why)
		}
	}
}

// end ends the probe. If its association is not up, or was of no use, it is closed.
func (p *probe) end(r *Registrar) {
	r.timers.Stop(&p.timer)
	if p.state == probeConnecting || p.state == probeAsking {
		r.probes.running--
	}
	p.state = probeOver
	r.probing--
	if a := p.assoc; a != nil {
		p.assoc, a.probe = nil, nil
		if a.ours && !a.up || a.ours && a.elements.Len() == 0 && p.asked.Len() > 0 {
			r.act(Close{Assoc: a.id, Abort: true})
		} else {
			r.leaveIdle(a)
		}
	}
	r.runProbes()
}
