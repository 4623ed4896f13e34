package host

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

const (
	// inboundQueue is how many events wait for the loop before the transport has to
	// wait.
	inboundQueue = 1024
	// inboundBatch is how many of them are handled before the timers are looked at.
	inboundBatch = 64
	// publishEvery is how often the counters are published while there is
	// something to count.
	publishEvery = 100 * time.Millisecond
	// stalled is how long a peer may read nothing of what is sent to it. A peer that is
	// alive and does not read would otherwise hold its queue forever.
	stalled = time.Minute
	// askEvery is how often send queues in which a keep-alive waits are looked at.
	askEvery = 200 * time.Millisecond
)

// loop is a started registrar: its sockets and its goroutine.
type loop struct {
	h       *Host
	network network
	ep      sctp.Endpoint
	enrp    sctp.Endpoint // nil without ENRP
	groups  []group       // of announcements

	inbound chan registrar.Event
	waiting atomic.Int64  // handlers that wait for room in inbound
	poked   chan struct{} // wakes the loop
	stop    chan struct{} // closed: end in good order
	quit    chan struct{} // closed: end at once
	ended   chan struct{} // closed by run

	// Only the goroutine uses the rest.
	later  []registrar.Event // caused by actions
	heard  time.Time         // all events before it are handled
	marked time.Time         // when unread was counted; the next heard, once unread is 0
	unread int
	open   map[registrar.AssocID]sctp.Endpoint
	// unsent are the associations on which a keep-alive may wait in the send queue.
	unsent    map[registrar.AssocID]sctp.Endpoint
	asked     time.Time // when they were last asked whether it still does
	stopping  bool
	answer    chan<- registrar.Removed // of the removal that is being handled
	stats     Stats                    // without the core's
	published time.Time
	dirty     bool
	places    places
	looked    time.Time
	keeping   bool // all elements are being given to the keeper
}

// keepEvery is how often the loop looks whether the keeper has room for more elements.
const keepEvery = 50 * time.Millisecond

func newLoop(h *Host) *loop {
	l := &loop{
		h:       h,
		inbound: make(chan registrar.Event, inboundQueue),
		poked:   make(chan struct{}, 1),
		stop:    make(chan struct{}),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
		open:    make(map[registrar.AssocID]sctp.Endpoint),
		unsent:  make(map[registrar.AssocID]sctp.Endpoint),
	}
	l.stats = h.Stats()
	if h.keeper != nil {
		h.keeper.wake = l.poke
	}
	return l
}

// onEvent is the handler of the ASAP endpoint. It waits while the loop is behind.
func (l *loop) onEvent(ev sctp.Event) { l.enqueue(translate(ev)) }

// onENRPEvent is the handler of the ENRP endpoint.
func (l *loop) onENRPEvent(ev sctp.Event) {
	e := translate(ev)
	if up, ok := e.(registrar.AssocUp); ok {
		up.ENRP = true
		e = up
	}
	l.enqueue(e)
}

// enqueue queues an event for the loop.
func (l *loop) enqueue(e registrar.Event) {
	if e != nil {
		l.enqueueUntil(nil, e)
	}
}

// enqueueUntil queues an event, unless done is closed before there is room for it.
func (l *loop) enqueueUntil(done <-chan struct{}, e registrar.Event) {
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	select {
	case l.inbound <- e:
	case <-done:
	case <-l.quit:
	}
}

// poke has the loop look at what has changed without an event.
func (l *loop) poke() {
	select {
	case l.poked <- struct{}{}:
	default:
	}
}

// end ends the loop: in good order until the timeout.
func (l *loop) end(timeout time.Duration) error {
	close(l.stop)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var err error
	select {
	case <-l.ended:
	case <-timer.C:
		err = fmt.Errorf("not all peers have ended their associations within %v: %w", timeout, context.DeadlineExceeded)
	}
	close(l.quit) // lets go of the handlers, too
	<-l.ended
	l.release()
	return err
}

// release closes the sockets. The loop has ended, or has not started.
func (l *loop) release() {
	for _, ep := range []sctp.Endpoint{l.ep, l.enrp} {
		if ep != nil {
			_ = ep.Close()
		}
	}
	if l.network != nil {
		_ = l.network.Close()
	}
	for _, g := range l.groups {
		_ = g.Close()
	}
}

// run is the registrar's goroutine.
func (l *loop) run(serving registrar.Serving) {
	defer close(l.ended)
	timer := alarm{Timer: time.NewTimer(0)}
	defer timer.Stop()
	l.handle(serving)
	l.looked = time.Now()
	stop := l.stop
	for {
		select {
		case ev := <-l.inbound:
			l.read(ev)
			l.drain()
		case <-timer.C:
			timer.rings = time.Time{}
		case <-l.poked:
		case <-stop:
			stop, l.stopping = nil, true
			l.handle(registrar.Stop{})
			for id, ep := range l.open { // were the core to miss one, we would wait for it
				ep.Shutdown(sctp.AssocID(id))
			}
		case <-l.quit:
			l.publish(time.Now())
			return
		}
		if l.stopping && len(l.open) == 0 {
			l.publish(time.Now())
			return
		}
		now := time.Now()
		l.mark(now)
		l.lookAtUnsent(now)
		if at, ok := l.h.core.NextDeadline(); ok && !at.After(l.heard) {
			l.handle(registrar.Tick{Until: l.heard})
		}
		if now.Sub(l.looked) >= lookEvery && !l.stopping {
			l.lookAgain(now)
		}
		l.keepAll()
		if l.dirty && now.Sub(l.published) >= publishEvery {
			l.publish(now)
		}
		timer.set(now, l.wait(now))
	}
}

// alarm is a timer whose time moves with most events. It may ring too early, but not too late.
type alarm struct {
	*time.Timer
	rings time.Time // zero when it has rung
}

// set has the alarm ring after d at the latest. It is not moved to a later time: when the time to
// which a waiting timer was moved has come, Go's runtime looks at all timers of the processor, and
// each association has some.
func (a *alarm) set(now time.Time, d time.Duration) {
	if at := now.Add(d); a.rings.IsZero() || at.Before(a.rings) {
		a.Reset(d)
		a.rings = at
	}
}

// drain handles the events that had come in at the last mark, up to a batch: a message
// that has arrived before a deadline is handled before the deadline.
func (l *loop) drain() {
	for range inboundBatch - 1 {
		if l.unread <= 0 {
			return
		}
		select {
		case ev := <-l.inbound:
			l.read(ev)
		default:
			return
		}
	}
}

// read handles a queued event.
func (l *loop) read(ev registrar.Event) {
	l.unread--
	l.handle(ev)
}

// mark advances heard to the last mark once all events are handled that waited then. So
// heard advances however many events come in. Events come in the order in which handlers
// began to wait.
func (l *loop) mark(now time.Time) {
	waiting := len(l.inbound) + int(l.waiting.Load())
	switch {
	case waiting == 0:
		l.heard, l.unread = now, 0
	case l.unread <= 0:
		l.heard, l.marked, l.unread = l.marked, now, waiting
	}
}

// wait is the time until there is something to do.
func (l *loop) wait(now time.Time) time.Duration {
	d := l.looked.Add(lookEvery).Sub(now)
	if l.stopping {
		d = time.Hour
	}
	if at, ok := l.h.core.NextDeadline(); ok {
		d = min(d, at.Sub(now))
	}
	if len(l.unsent) > 0 {
		d = min(d, l.asked.Add(askEvery).Sub(now))
	}
	if l.keeping && !l.stopping {
		d = min(d, l.keepPause())
	}
	if l.dirty {
		d = min(d, l.published.Add(publishEvery).Sub(now))
	}
	return max(d, 0)
}

// keepAll has the core give the next elements to the keeper, if that has lost some and has
// room now.
func (l *loop) keepAll() {
	k := l.h.keeper
	if k == nil || l.stopping {
		return
	}
	first := k.lost.Swap(false)
	if first {
		k.store.Rewriting()
	}
	if l.keeping = l.keeping || first; l.keeping && (first || k.store.Room()) {
		l.handle(registrar.KeepAll{First: first})
	}
}

// keepPause is the time until the keeper may take more elements.
func (l *loop) keepPause() time.Duration {
	if l.h.keeper.store.Room() {
		return 0
	}
	return keepEvery
}

// lookAtUnsent tells the core which associations had a long send queue at the last look:
// the time for a keep-alive's acknowledgement begins when the keep-alive has left.
func (l *loop) lookAtUnsent(now time.Time) {
	if len(l.unsent) == 0 || now.Sub(l.asked) < askEvery {
		return
	}
	l.asked = now
	for id, ep := range l.unsent {
		l.handle(registrar.Unsent{Assoc: id})
		if l.open[id] == nil || !ep.Behind(sctp.AssocID(id)) {
			delete(l.unsent, id)
		}
	}
}

// handle handles an event, and the events that performing its actions causes.
func (l *loop) handle(ev registrar.Event) {
	l.dirty = true
	l.perform(l.step(ev))
	for len(l.later) > 0 {
		next := l.later[0]
		l.later = l.later[1:]
		l.perform(l.step(next))
	}
	l.later = nil
	l.h.knows.Store(l.h.core.Ready())
	l.h.some.Store(l.h.core.Answers())
}

// step drives the core. A panic there is a mistake in the registrar, which must not end
// the name server.
func (l *loop) step(ev registrar.Event) (acts []registrar.Action) {
	defer func() {
		if p := recover(); p != nil {
			l.stats.Panics++
			stack := strings.Join(strings.Fields(string(debug.Stack())), " ")
			l.h.log.add(true, fmt.Sprintf("registrar recovered from a panic at %T; please report it: %v: %s", ev, p, stack))
			acts = nil
		}
	}()
	switch e := ev.(type) {
	case registrar.Received:
		if l.noRoom(e) {
			// The answer could not be sent. It may be long, so it is not built.
			l.stats.SendsRefused++
			ev = registrar.SendFailed{Assoc: e.Assoc}
		}
	case registrar.AssocUp:
		if _, known := l.open[e.Assoc]; l.stopping && !known {
			// A peer whose association this registrar has just shut down may connect
			// again at once. Its new association ends with the endpoint: if it were
			// ended now, the peer would connect again.
			return nil
		}
		l.open[e.Assoc] = l.endpoint(e.ENRP)
	case registrar.AssocDown:
		delete(l.open, e.Assoc)
	case removal:
		l.answer, ev = e.answer, e.Remove
	}
	return l.h.core.Handle(time.Now(), ev)
}

// noRoom reports whether a message is a handle resolution that cannot be answered, because
// the peer does not read the answers to earlier ones.
func (l *loop) noRoom(ev registrar.Received) bool {
	if len(ev.Data) == 0 || asap.MessageType(ev.Data[0]) != asap.TypeHandleResolution || ev.PPID == enrp.PPID {
		return false
	}
	ep := l.open[ev.Assoc]
	return ep != nil && ep.Full(sctp.AssocID(ev.Assoc))
}

// publish publishes the counters.
func (l *loop) publish(now time.Time) {
	s := l.stats
	s.Stats = l.h.core.Stats()
	if n, ok := l.network.(interface{ Stats() sctp.Stats }); ok {
		s.Transport = TransportStats(n.Stats())
	}
	for _, g := range l.groups {
		failed := &s.AnnouncesFailed.ASAP
		if g.enrp {
			failed = &s.AnnouncesFailed.ENRP
		}
		*failed += g.Failed()
	}
	l.h.stats.Store(&s)
	l.published, l.dirty = now, false
}
