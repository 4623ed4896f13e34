package registrar

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
)

// probe cares for the elements of an association that has ended, however it
// went: it calls them at their ASAP transport, the way they came, and asks each
// for a sign of life. Those that give it stay, supervised over the new
// association; the others are removed as soon as the call fails, or
// ProbeTimeout after the last sign of life. Until then all of them stay in the
// handlespace.
//
//	delayed --> queued --> connecting --> asking --> over
//
// A call that fails leads from connecting to over at once.
type probe struct {
	state probeState
	ref   uint64
	via   Via
	// adopted tells that the elements were another registrar's: nobody knows
	// by what kind of SCTP they came.
	adopted bool
	to      []netip.AddrPort // where the elements take calls
	encap   uint16           // and the UDP port, if another registrar told it
	heard   uint16           // the UDP port of the former association
	host    []netip.AddrPort // of the former association
	assoc   *client          // the new one

	waiting elements // not yet asked
	asked   elements // asked, and not yet answered
	again   bool     // those asked have been asked once more, with the H flag
	timer   timer
}

// probesAt are probes by the place that they connect to; see addrsKey.
type probesAt map[string]*probe

type probeState uint8

const (
	probeDelayed probeState = iota
	probeQueued
	probeConnecting
	probeAsking
	probeOver
)

// probes are all probes that wait for others to end, in a queue, and the number
// of those that run.
type probes struct {
	connecting map[uint64]*probe // until the host tells their association
	queue      []*probe          // some may be over
	running    int
}

const (
	// askWindow is how many elements a probe asks at a time.
	askWindow = 64
	// maxProbesPerAssoc is how many places the elements of one association can ask to
	// be called at: with more they could have us call half a network.
	maxProbesPerAssoc = 8
	// minProbeGap is the least time from the coming up of an association that
	// a probe has opened to the next call there, so that an element that
	// answers and hangs up again does not keep us busy.
	minProbeGap = 100 * time.Millisecond
)

// probeElements hands the elements of an association that is gone to probes,
// one for each place where they take calls.
func (r *Registrar) probeElements(a *client) {
	probes := make(probesAt)
	var list []*probe
	for e := a.elements.head; e != nil; e = a.elements.head {
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
		e.unlink()
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

// asapAddrs are where an element takes calls, by its ASAP transport. A call to an
// address that this machine has as well would reach this machine.
func (r *Registrar) asapAddrs(e *element) []netip.AddrPort {
	t := e.PE().ASAPTransport
	t.Addrs = r.ofHost(t.Addrs)
	return addrPorts(&t)
}

func (r *Registrar) queueProbe(p *probe) {
	p.state = probeQueued
	r.probes.queue = append(r.probes.queue, p)
}

// runProbes begins probes while the limit allows it.
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

// begin finds the way to the elements: an association that the peer has opened
// meanwhile, or else a new one.
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

// encapPort is the UDP port to call at; 0 for the one that was last heard from. That
// one may be another element's where one address has several, behind a NAT.
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

// associated is an association that the elements' host has opened.
func (p *probe) associated(r *Registrar) *client {
	if p.adopted {
		return r.clientAt(anySCTP, p.to, p.encap)
	}
	return r.clientAt([]Via{p.via}, p.to, p.heard)
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

// unreached: the call has failed. If it was because the peer has called at the
// same time, that association will do.
func (p *probe) unreached(r *Registrar) {
	if a := p.associated(r); a != nil {
		p.askOver(r, a)
		return
	}
	p.fail(r, RemovedUnreachable)
}

// lost: the probe's association has ended, or never came up.
func (p *probe) lost(r *Registrar) {
	a := p.assoc
	p.assoc, a.probe = nil, nil
	switch {
	case p.state == probeConnecting:
		p.unreached(r)
	case !a.ours: // it was the peer's, so the call is still to be made
		for e := p.asked.head; e != nil; e = p.asked.head {
			e.unlink()
			p.waiting.push(e)
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

// await gives those asked half of ProbeTimeout to answer, and then, asked again,
// the other half.
func (p *probe) await(r *Registrar) {
	p.again = false
	r.timers.Arm(&p.timer, p, r.now.Add(r.cfg.Timers.ProbeTimeout/2))
}

// askAgain asks with the H flag: elements of the reference implementation answer
// no registrar but the one that they take for their home, and that may be another
// one, which has taken this one for dead. An element is asked so once in
// KeepAliveInterval, so that two registrars do not fight over it.
func (p *probe) askAgain(r *Registrar) {
	p.again = true
	t := &r.cfg.Timers
	r.timers.Arm(&p.timer, p, r.now.Add(t.ProbeTimeout-t.ProbeTimeout/2))
	for e := p.asked.head; e != nil; e = e.next {
		if !e.adopting && r.now.Sub(e.claimed) >= t.KeepAliveInterval {
			e.adopt, e.claimed = true, r.now
			r.sendKeepAlive(e, p.assoc, true)
		}
	}
}

// askOver asks over an association that is already there. If another probe is
// busy on it, that one takes the elements.
func (p *probe) askOver(r *Registrar, a *client) {
	if q := a.probe; q != nil {
		for _, l := range []*elements{&p.asked, &p.waiting} {
			for e := l.head; e != nil; e = l.head {
				e.unlink()
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

// take puts an element, which is in no list, into the probe's care.
func (p *probe) add(e *element) {
	e.probe = p
	p.waiting.push(e)
}

// fill asks elements until askWindow answers are out.
func (p *probe) fill(r *Registrar) {
	for e := p.waiting.head; e != nil && p.asked.n < askWindow; e = p.waiting.head {
		e.unlink()
		p.asked.push(e)
		r.sendKeepAlive(e, p.assoc, true)
	}
}

// progress: an element has answered, so the others get their time again.
func (p *probe) progress(r *Registrar) {
	if p.state == probeAsking {
		p.await(r)
	}
}

// shrunk: an element has left the probe's care.
func (p *probe) shrunk(r *Registrar) {
	switch {
	case p.state == probeOver:
	case p.waiting.n+p.asked.n == 0:
		p.end(r)
	case p.state == probeAsking:
		p.fill(r)
	}
}

// Due: time is up, for a call, for an answer, or for a pause.
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
		r.stats.KeepAlivesTimedOut += uint64(p.asked.n)
		p.fail(r, RemovedNoAck)
	case probeQueued, probeOver: // without a timer
	}
}

// fail removes all elements that are left. If they were asked over an association
// that the peer has opened, they are told.
func (p *probe) fail(r *Registrar, why RemoveReason) {
	a := p.assoc
	p.end(r)
	for _, l := range []*elements{&p.asked, &p.waiting} {
		for e := l.head; e != nil; e = l.head {
			if a != nil && !a.ours && e.contested == nil {
				r.tellRemoved(a, e.entry)
				r.miss(a, e)
			}
			r.remove(e, why)
		}
	}
}

// end ends the probe. An association that it was opening, or that did not help,
// is closed.
func (p *probe) end(r *Registrar) {
	r.timers.Stop(&p.timer)
	if p.state == probeConnecting || p.state == probeAsking {
		r.probes.running--
	}
	p.state = probeOver
	r.probing--
	if a := p.assoc; a != nil {
		p.assoc, a.probe = nil, nil
		if a.ours && !a.up || a.ours && a.elements.n == 0 && p.asked.n > 0 {
			r.act(Close{Assoc: a.id, Abort: true})
		} else {
			r.leaveIdle(a)
		}
	}
	r.runProbes()
}
