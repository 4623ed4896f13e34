package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
)

// minAskGap is the least time between two keep-alives that others cause by reports and
// claims.
const minAskGap = time.Second

// alive notes that an element is alive. The next keep-alive follows after the interval,
// plus or minus 50 % (RFC 5352, Section 3.5), so that elements that have registered
// together are not asked together.
func (r *Registrar) alive(e *element) {
	e.waiting, e.heldUp = false, false
	interval := float64(r.keepAliveInterval(e.Handle()))
	r.timers.Arm(&e.keepAlive, e, r.now.Add(time.Duration(interval*(0.5+r.rand.Float64()))))
}

// askSoon has the next keep-alive sent within a second, unless one is unanswered.
func (r *Registrar) askSoon(e *element) {
	if at := r.now.Add(minAskGap); e.keepAlive.Armed() && !e.waiting && at.Before(r.timers.At(&e.keepAlive)) {
		r.timers.Arm(&e.keepAlive, e, at)
	}
}

// check has a keep-alive without the H flag sent soon (RFC 5352, Section 3.5): at once,
// if there was none in the last second. A probe does so anyway.
func (r *Registrar) check(e *element) {
	if e.probe != nil || e.waiting {
		return
	}
	if at := e.asked.Add(minAskGap); at.After(r.now) {
		if at.Before(r.timers.At(&e.keepAlive)) {
			r.timers.Arm(&e.keepAlive, e, at)
		}
		return
	}
	r.ask(e, false)
}

// ask sends a keep-alive to an element over its association. home tells whether it may
// carry the H flag.
func (r *Registrar) ask(e *element, home bool) {
	e.waiting, e.heldUp = true, false
	r.timers.Arm(&e.keepAlive, e, r.now.Add(r.cfg.Timers.KeepAliveTimeout))
	r.sendKeepAlive(e, e.assoc, home)
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
	timeout := r.cfg.Timers.KeepAliveTimeout
	for e := on.client.elements.First(); e != nil; e = e.place.Next() {
		at := r.now.Add(timeout)
		if last := e.asked.Add(maxUnsent * timeout); last.Before(at) {
			at = last
		}
		if e.waiting && at.After(r.timers.At(&e.keepAlive)) {
			r.timers.Arm(&e.keepAlive, e, at)
		}
	}
}

// sendKeepAlive: RFC 5352, Section 2.2.7. The identifier is an addition of the
// reference implementation. Without it, an association with two elements of one pool
// could not tell which one is meant.
func (r *Registrar) sendKeepAlive(e *element, a *client, home bool) {
	e.asked, e.adopting = r.now, home && e.adopt
	r.stats.KeepAlivesSent++
	r.reply(a, &asap.EndpointKeepAlive{Home: e.adopting, Server: r.id, Handle: e.Handle(), ID: e.ID(), HasID: true})
}

// keepAliveDue: it is time for a keep-alive, or one was not acknowledged in time. If
// the timer itself is far behind, the host was suspended or busy. Then the elements get
// more time, and are not asked all at once.
func (r *Registrar) keepAliveDue(e *element) {
	t, interval := &r.cfg.Timers, r.keepAliveInterval(e.Handle())
	late := r.now.Sub(r.timers.At(&e.keepAlive))
	switch {
	case e.waiting && late > t.KeepAliveTimeout/2 && !e.heldUp:
		e.heldUp = true
		r.timers.Arm(&e.keepAlive, e, r.now.Add(t.KeepAliveTimeout))
	case e.waiting:
		r.stats.KeepAlivesTimedOut++
		r.remove(e, RemovedNoAck)
	case late > interval:
		r.timers.Arm(&e.keepAlive, e, r.now.Add(time.Duration(r.rand.Int64N(int64(interval)))))
	default:
		r.ask(e, true)
	}
}

// onKeepAliveAck: RFC 5352, Section 2.2.8. Only the association that has carried the
// keep-alive can acknowledge it.
func (r *Registrar) onKeepAliveAck(a *client, m *asap.EndpointKeepAliveAck) {
	e := r.find(m.Handle, m.ID)
	switch {
	case e != nil && e.assoc == a && e.waiting:
	case e != nil && e.probe != nil && e.probe.assoc == a && e.place.In(&e.probe.asked):
		p := e.probe
		r.supervise(e, a)
		p.progress(r)
	case r.inquiryOf(a, m.Handle, m.ID) != nil:
		r.stats.KeepAlivesAcked++
		r.inquiryOf(a, m.Handle, m.ID).rest(r)
		return
	default:
		r.stats.KeepAlivesUnexpected++
		r.onLateAck(a, m)
		return
	}
	r.stats.KeepAlivesAcked++
	adopted := e.adopting || e.contested != nil
	e.adopt, e.adopting, e.contested = e.adopt && !e.adopting, false, nil
	if adopted {
		r.announceUpdate(enrp.AddPE, e.Handle(), e.PE())
	}
	r.refuseClaims(e.entry)
	r.alive(e)
	if e.adopt {
		r.askSoon(e)
	}
}

// onSendFailed: an element to which a keep-alive cannot be delivered is unreachable
// (RFC 5352, Section 3.5). All other messages are repeated by their sender, if at all.
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
		e := r.find(m.Handle, m.ID)
		if e != nil && (e.assoc == a && e.waiting || e.probe != nil && e.place.In(&e.probe.asked) && e.probe.assoc == a) {
			r.remove(e, RemovedSendFailed)
		} else if q := r.inquiryOf(a, m.Handle, m.ID); q != nil {
			q.avoid(r)
		}
	}
}
