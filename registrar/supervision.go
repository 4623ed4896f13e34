package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// minAskGap is the least time between two keep-alives that others cause by reports and
// claims.
const minAskGap = time.Second

// maxTries is how many tries of a keep-alive an element may leave unanswered. After
// triesToWonder of them, it is found out whether others are silent as well, so that it is
// known when the last try is over; see guard.
const (
	maxTries      = 7
	triesToWonder = 4
)

// alive notes that an element is alive. The next keep-alive follows after the interval.
func (r *Registrar) alive(e *element) {
	e.waiting, e.queued, e.undecided, e.disowned = false, false, false, false
	e.brief = !r.inRush()
	r.timers.Arm(&e.keepAlive, e, r.now.Add(r.jitter(r.keepAliveInterval(e.Handle()))))
}

// askSoon has the next keep-alive sent within a second, unless one is unanswered.
func (r *Registrar) askSoon(e *element) {
	e.brief = false // also if it is due within a second anyway
	if at := r.now.Add(minAskGap); e.keepAlive.Armed() && !e.waiting && at.Before(r.timers.At(&e.keepAlive)) {
		r.timers.Arm(&e.keepAlive, e, at)
	}
}

// check has a keep-alive without the H flag sent soon (RFC 5352, Section 3.5): at once,
// if there was none in the last second. A probe does so anyway.
func (r *Registrar) check(e *element) {
	e.brief = false // also if it is due within a second anyway
	at := e.asked.Add(minAskGap)
	switch {
	case e.probe != nil, e.waiting:
	case at.After(r.now):
		if at.Before(r.timers.At(&e.keepAlive)) {
			r.timers.Arm(&e.keepAlive, e, at)
		}
	case e.silence != nil:
		r.askSilent(e, false)
	default:
		r.ask(e, false)
	}
}

// ask sends a keep-alive to an element over its association. home tells whether it may
// carry the H flag.
func (r *Registrar) ask(e *element, home bool) {
	e.waiting, e.held, e.tries, e.shares, e.queued = true, 0, 0, false, false
	e.allowed = r.allow(e.assoc)
	r.timers.Arm(&e.keepAlive, e, r.now.Add(e.try()))
	r.beginKeepAlive(e, home)
	r.tryNow(e)
	r.awaitFarewell(e)
}

// maxUnsent is how many times KeepAliveTimeout an element may take at most from the moment
// at which its keep-alive was given to the transport.
const maxUnsent = 4

// onUnsent: the time for the acknowledgements begins when the keep-alives have left the
// send queue. A peer that reads too slowly to reach that is not waited for without end.
func (r *Registrar) onUnsent(ev Unsent) {
	on := r.assocs[ev.Assoc]
	if on == nil || on.client == nil {
		return
	}
	for e := on.client.elements.First(); e != nil; e = e.place.Next() {
		if e.waiting && r.now.Sub(e.asked) <= (maxUnsent-1)*r.cfg.Timers.KeepAliveTimeout {
			e.tries, e.held, e.queued = 0, max(e.held, 1), false
			r.timers.Arm(&e.keepAlive, e, r.now.Add(e.try()))
		}
	}
}

// sendKeepAlive: RFC 5352, Section 2.2.7. The identifier is an addition of the
// reference implementation. Without it, an association with two elements of one pool
// could not tell which one is meant.
func (r *Registrar) sendKeepAlive(e *element, a *client, home bool) {
	r.beginKeepAlive(e, home)
	r.writeKeepAlive(e, a)
}

// beginKeepAlive notes that a keep-alive is sent, and not one that is repeated.
func (r *Registrar) beginKeepAlive(e *element, home bool) {
	e.asked, e.adopting, e.written = r.now, home && e.adopt, 0
	r.stats.KeepAlivesSent++
}

// writeKeepAlive writes a keep-alive, for the first time or again.
func (r *Registrar) writeKeepAlive(e *element, a *client) {
	a.line.asked = r.tickNow()
	r.reply(a, &asap.EndpointKeepAlive{Home: e.adopting, Server: r.id, Handle: e.Handle(), ID: e.ID(), HasID: true})
}

// keepAliveDue: it is time for a keep-alive, or a try of one was not acknowledged in time.
// If the timer itself is far behind, the host was suspended or busy. Then the elements get
// more time, and are not asked all at once.
func (r *Registrar) keepAliveDue(e *element) {
	late := r.now.Sub(r.timers.At(&e.keepAlive))
	interval := r.keepAliveInterval(e.Handle())
	switch {
	case e.waiting && e.queued:
		r.repeatNow(e)
	case e.waiting && r.isHeld(e, late):
		r.timers.Arm(&e.keepAlive, e, r.now.Add(e.try()))
	case e.waiting:
		r.tryOver(e)
	case e.Note.claim != nil && e.silence == nil:
		r.ask(e, true) // somebody waits for the answer
	case late > interval:
		r.timers.Arm(&e.keepAlive, e, r.now.Add(time.Duration(r.rand.Int64N(int64(interval)))))
	case e.silence != nil:
		r.askSilent(e, true)
	case e.queued:
		r.ask(e, true)
	case r.prolong(e):
	default:
		r.askInTurn(e)
	}
}

// isHeld reports whether a try does not count, because the host was late: it begins anew, and
// the first time all of them do.
func (r *Registrar) isHeld(e *element, late time.Duration) bool {
	if late <= e.try()/2 || e.held >= maxTries {
		return false
	}
	if e.held++; e.held == 1 {
		e.tries = 0
	}
	return true
}

// tryOver: a try of a keep-alive was not acknowledged in time.
func (r *Registrar) tryOver(e *element) {
	e.tries++
	r.missedBy(e)
	switch {
	case e.tries >= maxTries && e.shares && e.assoc.line.state == lineFine:
		e.shares, e.tries = false, 0 // now it counts what this element itself does
	case e.tries >= maxTries:
		r.stats.KeepAlivesTimedOut++
		e.waiting = false
		r.silent(e, SilentNoAck)
		return
	case e.tries == triesToWonder:
		r.wonder(e.line(), e.asked)
	}
	r.repeat(e)
}

// onKeepAliveAck: RFC 5352, Section 2.2.8. Only the association that has carried the
// keep-alive can acknowledge it. It may do so late.
func (r *Registrar) onKeepAliveAck(a *client, m *asap.EndpointKeepAliveAck) {
	e := r.find(m.Handle, m.ID)
	switch {
	case e != nil && e.assoc == a && (e.waiting || e.silence != nil):
	case e != nil && e.probe != nil && e.probe.assoc == a && e.place.In(&e.probe.asked):
		p := e.probe
		if !p.again {
			a.trips.sample(r.now.Sub(e.asked))
		}
		r.supervise(e, a)
		p.progress(r)
	case e != nil && e.assoc == a && e.surplus > 0: // of another try than the first one
		r.stats.KeepAlivesAcked++
		r.doubles.count(r.now, true)
		e.surplus--
		return
	case r.inquiryOf(a, m.Handle, m.ID) != nil:
		r.stats.KeepAlivesAcked++
		r.inquiryOf(a, m.Handle, m.ID).rest(r)
		return
	default:
		r.stats.KeepAlivesUnexpected++
		r.onUnknownAck(a, m)
		return
	}
	r.stats.KeepAlivesAcked++
	r.doubles.count(r.now, false)
	r.measure(e, a, m.Unordered)
	e.surplus = max(e.written, 1) - 1
	r.acknowledged(e)
}

// acknowledged: an element has acknowledged a keep-alive.
func (r *Registrar) acknowledged(e *element) {
	if e.isExpired() && e.silence == nil {
		r.remove(e, RemovedExpired)
		return
	}
	adopted := e.adopting || e.contested != nil
	if adopted {
		r.endStandIn(e) // it holds this registrar for its home now
	}
	e.assoc.isHome = e.assoc.isHome || !e.standsIn()
	e.adopt, e.adopting, e.contested = e.adopt && !e.adopting, false, nil
	if back := r.heard(e); adopted && !back {
		r.announceUpdate(enrp.AddPE, e.Handle(), e.PE())
	}
	r.refuseClaims(e.entry)
	r.alive(e)
	if e.adopt {
		r.askSoon(e)
	}
}

// onUnknownAck: an acknowledgement of an element that is not known. It was removed before,
// perhaps by a former registrar at this place, and is notified.
func (r *Registrar) onUnknownAck(a *client, m *asap.EndpointKeepAliveAck) {
	if a.via == rserpool.ViaTCP || !r.Ready() || r.ledger.Find(m.Handle, m.ID) != nil {
		return
	}
	if a.errors.allow(r.now, r.cfg.Limits.ErrorsPerSecond) {
		r.reply(a, &asap.DeregistrationResponse{Handle: m.Handle, ID: m.ID})
	}
}

// onSendFailed: an element to which a keep-alive cannot be delivered is silent, as one that
// is unreachable (RFC 5352, Section 3.5). The end of the association follows, which decides
// about elements that a probe has asked. All other messages are repeated by their sender, if
// at all.
func (r *Registrar) onSendFailed(ev SendFailed) {
	on := r.assocs[ev.Assoc]
	if on == nil {
		return
	}
	r.stats.SendsFailed++
	a := on.client
	if a == nil {
		return // the next audit repairs it
	}
	if len(ev.Data) == 0 || asap.MessageType(ev.Data[0]) != asap.TypeEndpointKeepAlive {
		return
	}
	m, _, err := asap.Parse(ev.Data)
	if err != nil {
		return
	}
	if m, ok := m.(*asap.EndpointKeepAlive); ok {
		if e := r.find(m.Handle, m.ID); e != nil && e.assoc == a && e.waiting {
			e.waiting = false
			r.missedBy(e)
			r.silent(e, SilentSendFailed)
		} else if q := r.inquiryOf(a, m.Handle, m.ID); q != nil {
			q.rest(r)
		}
	}
}
