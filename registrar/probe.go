package registrar

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// probe looks after the elements of an association that has ended, for whatever reason.
// It connects to their ASAP transport, over the same kind of SCTP, and sends each a
// keep-alive. Elements that acknowledge are supervised over the new association.
//
//	   +-------------- silence -------------+
//	   v                                    |
//	delayed --> queued --> connecting --> asking --> over
//	                            |
//	                            +--------> over
//
// If the peer's host refuses the connection, all elements are removed. If there is only
// silence, they become suspects, unless they are spared, and the probe connects again after a
// pause that grows from time to time. If another one answers, they are displaced. If the peer accepts the connection and ends it, the probe
// connects once more: a process that has ended refuses then, and one that lives but has no room
// for another association is silent. Probes that wait for the same place become one.
type probe struct {
	state probeState
	ref   uint64
	via   rserpool.Via
	line  line
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

	ended     bool          // the peer has ended an association of the probe
	untrusted bool          // the former association has ended because of its certificate
	began     time.Time     // when the last call, or the asking, began
	pause     time.Duration // after the last call
	undecided bool          // the pause is for news of other lines; see judge
	why       SilentReason  // for which it judges then
	place     string        // its key in probes.resting, "" if it is not there
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

// probes are the probes that wait for others to end, in two queues, and the number of
// those that run. Probes that have found only silence so far are in the second one, and run
// only while half of the limit is left for the others.
type probes struct {
	connecting map[uint64]*probe // until the host tells their association
	queue      []*probe          // some may be over
	later      []*probe
	running    int
	resting    probesAt // those that pause after silence
}

const (
	// askWindow is how many keep-alives of a probe may be unanswered at a time.
	askWindow = 64
	// maxProbesPerAssoc is how many places the elements of one association can have the
	// registrar connect to within a second.
	maxProbesPerAssoc = 8
	// firstProbePause is the first pause after silence. Each is twice as long as the one
	// before, up to maxSilentPause.
	firstProbePause = 2 * time.Second
	// wonderTime is how long a probe waits for news of other lines.
	wonderTime = 500 * time.Millisecond
	// renewTime is how long a peer may take to come back that has ended its association in
	// good order inside of TLS. If it has not by then, it is called. A registrar whose
	// machine has much to do may need a second for a handshake.
	renewTime = 2 * time.Second
	// minProbeGap is the least time between two associations that probes open to one
	// place, so that an element that acknowledges and closes again does not keep the
	// registrar busy.
	minProbeGap = 100 * time.Millisecond
)

// probeElements gives the elements of an association that has ended to probes, one for
// each ASAP transport. again is a probe that is about to connect, nil if there is none.
func (r *Registrar) probeElements(a *client, why DownReason, again *probe) {
	probes, host := make(probesAt), a.peer
	if again != nil {
		probes[addrsKey(again.to)], host = again, again.to
	}
	var list []*probe
	for e := a.elements.First(); e != nil; e = a.elements.First() {
		to := host
		if e.ownASAP {
			to = r.asapAddrs(e)
		}
		key := addrsKey(to)
		p := probes[key]
		if p == nil {
			p = &probe{via: a.via, to: to, host: a.peer, heard: a.encap, untrusted: why == DownUntrusted}
			p.line.untimely = why == DownUntimely
			probes[key] = p
			list = append(list, p)
		}
		r.timers.Stop(&e.keepAlive)
		e.waiting = false
		r.leaveLine(e)
		if e.silence != nil {
			e.silence.place.Leave()
		}
		e.place.Leave()
		e.assoc = nil
		p.add(r, e)
		r.awaitFarewell(e)
	}
	var back time.Duration
	if why == DownFarewell {
		back = renewTime
	}
	for i, p := range list {
		if why == DownSilent || why == DownUntimely {
			r.setLine(&p.line, lineMissing)
		}
		r.startProbe(p, a, back+time.Duration(i/maxProbesPerAssoc)*time.Second)
	}
	r.runProbes()
}

// startProbe queues a new probe, after a delay.
func (r *Registrar) startProbe(p *probe, a *client, delay time.Duration) {
	r.countProbe()
	at := r.now.Add(delay)
	if gap := a.upAt.Add(minProbeGap); a.ours && gap.After(at) {
		at = gap
	}
	if at.After(r.now) {
		r.timers.Arm(&p.timer, p, at)
	} else {
		r.queueProbe(p)
	}
}

// countProbe counts a new probe.
func (r *Registrar) countProbe() {
	r.stats.Probes++
	r.probing++
}

// adopt makes it a probe of elements from which this registrar has heard nothing. encap is
// their UDP port, 0 if they have named none.
func (p *probe) adopt(encap uint16) {
	p.adopted, p.encap = true, encap
	if encap != 0 {
		p.via = rserpool.ViaUDP
	}
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
	if p.pause > 0 {
		r.probes.later = append(r.probes.later, p)
	} else {
		r.probes.queue = append(r.probes.queue, p)
	}
}

// runProbes starts queued probes while the limit allows it.
func (r *Registrar) runProbes() {
	most := r.cfg.Limits.Probes
	r.runQueue(&r.probes.queue, most)
	r.runQueue(&r.probes.later, (most+1)/2)
}

func (r *Registrar) runQueue(queue *[]*probe, most int) {
	for len(*queue) > 0 && r.probes.running < most {
		p := (*queue)[0]
		(*queue)[0] = nil
		*queue = (*queue)[1:]
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
	p.began = r.now
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
	if p != nil && (p.state != probeConnecting || p.ref != ev.Ref) {
		p = nil // it has called again since
	}
	known := r.assocs[ev.Assoc] != nil // that would be the host's mistake
	if ev.Assoc != 0 && !known {
		a := r.newClient(ev.Assoc)
		a.ours = true
		if p != nil {
			a.via, a.probe, p.assoc = p.via, p, a
			return
		}
		r.act(Close{Assoc: a.id, Abort: true}) // too late
	}
	if p != nil {
		p.unreached(r, DownSilent)
	}
}

// unreached: the connection has failed. If the reason is that the peer has connected at
// the same time, the peer's association is used.
func (p *probe) unreached(r *Registrar, why DownReason) {
	if a := p.associated(r); a != nil {
		p.askOver(r, a)
		return
	}
	switch why {
	case DownSilent, DownRenew:
		p.unanswered(r, SilentUnreachable)
	case DownUntimely:
		p.unanswered(r, SilentUntimely)
	case DownUntrusted:
		if p.untrusted {
			p.removeAll(r, RemovedUntrusted)
		} else {
			p.distrusted(r)
		}
	case DownByPeer, DownFarewell, DownRefused:
		p.removeAll(r, RemovedUnreachable)
	}
}

// lost: the probe's association has ended, or never was established. It reports whether the
// probe connects once more.
func (p *probe) lost(r *Registrar, why DownReason) (again bool) {
	a := p.assoc
	p.assoc, a.probe = nil, nil
	switch {
	case p.state == probeConnecting && a.barred:
		p.unreached(r, DownUntrusted)
	case p.state == probeConnecting:
		p.unreached(r, why)
	case !a.ours: // the peer had opened it, so the probe still has to connect
		p.requeue()
		p.state = probeConnecting
		p.begin(r)
	case why == DownUntimely:
		p.unanswered(r, SilentUntimely)
	case why == DownSilent || p.ended:
		p.unanswered(r, SilentUnreachable)
	default:
		p.untrusted = why == DownUntrusted
		p.callOnceMore(r, a)
		return true
	}
	return false
}

// callOnceMore: the peer has accepted the call and ended the association.
func (p *probe) callOnceMore(r *Registrar, a *client) {
	p.ended = true
	p.detach(r)
	p.requeue()
	at := a.upAt.Add(minProbeGap)
	if at.Before(r.now) {
		at = r.now
	}
	r.timers.Arm(&p.timer, p, at)
	r.runProbes()
}

// requeue has all elements wait that were asked.
func (p *probe) requeue() {
	for e := p.asked.First(); e != nil; e = p.asked.First() {
		p.waiting.Add(e, &e.place)
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
		if !e.adopting && !e.standsIn() && r.now.Sub(e.claimed) >= r.keepAliveInterval(e.Handle()) {
			e.adopt, e.claimed = true, r.now
			r.sendKeepAlive(e, p.assoc, true)
		}
	}
}

// askOver uses an association that is already up. If another probe uses it, that one
// takes the elements over.
func (p *probe) askOver(r *Registrar, a *client) {
	if q := a.probe; q != nil {
		p.pass(r, q)
		if q.state == probeAsking {
			q.fill(r)
		}
		return
	}
	p.assoc, a.probe = a, p
	r.leaveIdle(a)
	p.connected(r)
}

// pass ends the probe and gives its elements to another one.
func (p *probe) pass(r *Registrar, to *probe) {
	for _, e := range p.elements() {
		r.leaveLine(e)
		to.add(r, e)
	}
	p.end(r)
}

// elements returns all elements in the probe's care, those that were asked first.
func (p *probe) elements() []*element {
	list := make([]*element, 0, p.asked.Len()+p.waiting.Len())
	for _, l := range []*chain.List[element]{&p.asked, &p.waiting} {
		for e := l.First(); e != nil; e = e.place.Next() {
			list = append(list, e)
		}
	}
	return list
}

// add puts an element into the probe's care.
func (p *probe) add(r *Registrar, e *element) {
	e.probe = p
	p.waiting.Add(e, &e.place)
	r.joinLine(e)
}

// fill sends keep-alives until askWindow of them are unanswered.
func (p *probe) fill(r *Registrar) {
	a, others := p.assoc, []*element(nil)
	for e := p.waiting.First(); e != nil && p.asked.Len() < askWindow; e = p.waiting.First() {
		if !r.answersFor(a, e) {
			p.release(r, e)
			others = append(others, e)
			continue
		}
		p.asked.Add(e, &e.place)
		r.sendKeepAlive(e, a, true)
	}
	r.strangersAt(p, a, others)
	if p.state == probeAsking && p.waiting.Len()+p.asked.Len() == 0 {
		p.end(r)
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
		if p.undecided {
			p.judge(r, p.why)
			return
		}
		p.callAgain(r)
	case probeConnecting:
		p.unanswered(r, SilentUnreachable)
	case probeAsking:
		if !p.again {
			p.askAgain(r)
			return
		}
		r.stats.KeepAlivesTimedOut += uint64(p.asked.Len())
		p.unanswered(r, SilentNoAck)
	case probeQueued, probeOver: // without a timer
	}
}

// callAgain ends a pause.
func (p *probe) callAgain(r *Registrar) {
	r.timers.Stop(&p.timer)
	p.rise(r)
	r.queueProbe(p)
	r.runProbes()
}

// hasten has a probe that pauses call now, or a second after its last call. It reports whether
// that is sooner than otherwise.
func (p *probe) hasten(r *Registrar) bool {
	if p.state != probeDelayed || p.undecided {
		return false
	}
	at := p.began.Add(minAskGap)
	switch {
	case !at.After(r.now):
		p.callAgain(r)
	case at.Before(r.timers.At(&p.timer)):
		r.timers.Arm(&p.timer, p, at)
	default:
		return false
	}
	return true
}

// removeAll removes all elements that are left: the peer's host refuses the connection, or shows
// a certificate that is not accepted.
func (p *probe) removeAll(r *Registrar, why RemoveReason) {
	left := p.elements()
	p.end(r)
	for _, e := range left {
		r.remove(e, why)
	}
}

// unanswered: nobody has answered the call, or those that were asked have not acknowledged.
func (p *probe) unanswered(r *Registrar, why SilentReason) {
	if p.line.state == lineFine {
		r.setLine(&p.line, lineMissing)
	}
	a := p.detach(r)
	if a != nil && a.up && !a.barred {
		p.handOver(r, a, why)
		return
	}
	r.closeUseless(a, p.asked.Len())
	p.requeue()
	p.judge(r, why)
	r.runProbes()
}

// handOver has all elements supervised over an association that is up: those that have not
// acknowledged may only be slow, and the others were not asked yet.
func (p *probe) handOver(r *Registrar, a *client, why SilentReason) {
	asked := p.asked.Len()
	var others []*element
	for i, e := range p.elements() {
		if !r.answersFor(a, e) {
			p.release(r, e)
			others = append(others, e)
			continue
		}
		r.supervise(e, a)
		switch {
		case i < asked:
			r.missedBy(e)
			r.silent(e, why)
		case e.silence != nil:
			r.askLater(e)
		default:
			r.alive(e)
		}
	}
	r.strangersAt(p, a, others)
	if p.state != probeOver && p.waiting.Len()+p.asked.Len() == 0 {
		p.end(r)
	}
}

// judge judges the elements, and then rests. If too little is known of other lines, it waits
// for news of them first.
func (p *probe) judge(r *Registrar, why SilentReason) {
	p.line.untimely = p.line.untimely || why == SilentUntimely
	member := slices.ContainsFunc(p.elements(), func(e *element) bool { return !e.isSuspect() })
	if !p.undecided && member && r.judge(&p.line, p.began) == judgedOpen {
		p.undecided, p.why = true, why
		r.wonder(&p.line, p.began)
		r.timers.Arm(&p.timer, p, r.now.Add(wonderTime))
		return
	}
	for _, e := range p.elements() {
		r.silent(e, why)
	}
	p.undecided = false
	if p.state == probeDelayed {
		p.rest(r)
	}
}

// rest has the probe pause before it calls again. If another one rests that calls the same
// place, that one takes the elements over.
func (p *probe) rest(r *Registrar) {
	if p.pause = min(2*p.pause, maxSilentPause); p.pause == 0 {
		p.pause = firstProbePause
	}
	place := addrsKey(p.to) + strconv.Itoa(int(p.via)) + "/" + strconv.Itoa(int(p.encap)) + "/" + strconv.Itoa(int(p.heard)) + strconv.FormatBool(p.untrusted)
	if q := r.probes.resting[place]; q != nil {
		p.pass(r, q)
		return
	}
	p.place, r.probes.resting[place] = place, p
	r.timers.Arm(&p.timer, p, r.now.Add(r.jitter(p.pause)))
}

// rise ends the rest.
func (p *probe) rise(r *Registrar) {
	if p.place != "" {
		delete(r.probes.resting, p.place)
		p.place = ""
	}
}

// detach takes a probe that runs off its association, which it returns.
func (p *probe) detach(r *Registrar) *client {
	r.timers.Stop(&p.timer)
	if p.state == probeConnecting || p.state == probeAsking {
		r.probes.running--
	}
	p.state = probeDelayed
	a := p.assoc
	if a != nil {
		p.assoc, a.probe = nil, nil
	}
	return a
}

// closeUseless closes an association of a probe if it is not up, or was of no use: so many
// elements have not acknowledged over it, and none has. It may be nil.
func (r *Registrar) closeUseless(a *client, unanswered int) {
	switch {
	case a == nil:
	case a.ours && !a.up || a.ours && a.elements.Len() == 0 && unanswered > 0:
		r.act(Close{Assoc: a.id, Abort: true})
	default:
		r.leaveIdle(a)
	}
}

// end ends the probe.
func (p *probe) end(r *Registrar) {
	r.closeUseless(p.detach(r), p.asked.Len())
	p.rise(r)
	p.state = probeOver
	r.probing--
	r.runProbes()
}
