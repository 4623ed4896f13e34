package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

const (
	// inboundQueue is how many events wait for the loop before the transport
	// has to wait itself.
	inboundQueue = 1024
	// inboundBatch is how many of them are handled before the clock's turn.
	inboundBatch = 64
	// publishEvery is how often the counters are published while there is
	// something to count.
	publishEvery = 100 * time.Millisecond
	// stalled is how long a peer may take nothing of what is sent to it. Who
	// lives and does not read would hold its queue for ever.
	stalled = time.Minute
)

// loop is a started registrar: its sockets and its goroutine.
type loop struct {
	h       *Host
	network Network
	ep      sctp.Endpoint
	enrp    sctp.Endpoint // nil without ENRP
	groups  []*group      // of announces

	inbound chan registrar.Event
	waiting atomic.Int64  // handlers that wait for room in inbound
	stop    chan struct{} // closed: end in good order
	quit    chan struct{} // closed: end at once
	ended   chan struct{} // closed by run
	readers sync.WaitGroup

	// The rest is the goroutine's alone.
	later     []registrar.Event // what performing actions has brought
	heard     time.Time         // before which all that peers have sent is handled
	marked    time.Time         // when unread was counted, and is heard once it is 0
	unread    int
	open      map[registrar.AssocID]sctp.Endpoint
	stopping  bool
	stats     Stats // without the core's
	published time.Time
	dirty     bool
	places    places
	looked    time.Time
}

func newLoop(h *Host) *loop {
	l := &loop{
		h:       h,
		inbound: make(chan registrar.Event, inboundQueue),
		stop:    make(chan struct{}),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
		open:    make(map[registrar.AssocID]sctp.Endpoint),
	}
	l.stats = h.Stats()
	return l
}

// onEvent is the handler of the ASAP endpoint. It waits while the loop is behind.
func (l *loop) onEvent(ev sctp.Event) { l.take(translate(ev)) }

// onENRPEvent is that of the ENRP endpoint.
func (l *loop) onENRPEvent(ev sctp.Event) {
	e := translate(ev)
	if up, ok := e.(registrar.AssocUp); ok {
		up.ENRP = true
		e = up
	}
	l.take(e)
}

func (l *loop) take(e registrar.Event) {
	if e == nil {
		return
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	select {
	case l.inbound <- e:
	case <-l.quit:
	}
}

// translate puts a transport's event into the registrar's words.
func translate(ev sctp.Event) registrar.Event {
	id := registrar.AssocID(ev.Assoc)
	switch ev.Type {
	case sctp.Up:
		return registrar.AssocUp{Assoc: id, Peer: ev.Peer, Claimed: ev.Claimed, Translated: ev.Translated, Via: via(ev.Kind), EncapPort: ev.EncapPort}
	case sctp.PeerAddrs:
		return registrar.AssocAddrs{Assoc: id, Peer: ev.Peer, Claimed: ev.Claimed, Translated: ev.Translated}
	case sctp.Received:
		return registrar.Received{Assoc: id, PPID: ev.Message.PPID, Data: ev.Message.Data}
	case sctp.SendFailed:
		return registrar.SendFailed{Assoc: id, Data: ev.Message.Data}
	case sctp.PeerDone:
		return registrar.AssocDone{Assoc: id}
	case sctp.Down:
		return registrar.AssocDown{Assoc: id}
	}
	return nil
}

func via(k sctp.Kind) registrar.Via {
	switch k {
	case sctp.Kernel:
		return registrar.ViaKernel
	case sctp.UDP:
		return registrar.ViaUDP
	case sctp.TCP:
		return registrar.ViaTCP
	}
	return 0
}

func kind(v registrar.Via) sctp.Kind {
	switch v {
	case registrar.ViaKernel:
		return sctp.Kernel
	case registrar.ViaUDP:
		return sctp.UDP
	case registrar.ViaTCP:
		return sctp.TCP
	}
	return sctp.Any
}

// start starts the goroutines.
func (l *loop) start(serving registrar.Serving) {
	for _, g := range l.groups {
		l.readers.Go(func() { g.read(l.inbound, l.quit) })
		l.readers.Go(g.write)
	}
	go l.run(serving)
}

// end ends what start began: in good order until ctx is done.
func (l *loop) end(ctx context.Context) error {
	close(l.stop)
	var err error
	select {
	case <-l.ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	close(l.quit) // lets go of the handlers, too
	<-l.ended
	l.release()
	return err
}

// release closes what is open. The loop has ended, or has not begun.
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
		g.close()
	}
	l.readers.Wait()
}

// run is the registrar's goroutine.
func (l *loop) run(serving registrar.Serving) {
	defer close(l.ended)
	timer := time.NewTimer(0)
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
		if at, ok := l.h.core.NextDeadline(); ok && !at.After(l.heard) {
			l.handle(registrar.Tick{Until: l.heard})
		}
		if now.Sub(l.looked) >= lookEvery && !l.stopping {
			l.lookAgain(now)
		}
		if l.dirty && now.Sub(l.published) >= publishEvery {
			l.publish(now)
		}
		timer.Reset(l.wait(now))
	}
}

// drain handles what had come in at the last mark, up to a batch: what peers
// have sent counts before it is too late for them.
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

// read handles an event that came in.
func (l *loop) read(ev registrar.Event) {
	l.unread--
	l.handle(ev)
}

// mark moves heard on: to the last mark, once all is handled that waited then,
// so that it moves however much comes in. Events come in the order in which
// handlers began to wait.
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
	if l.dirty {
		d = min(d, l.published.Add(publishEvery).Sub(now))
	}
	return max(d, 0)
}

// handle takes an event and all that follows from it.
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
}

// step drives the core. A panic there is a mistake of ours, which must not end
// the name server.
func (l *loop) step(ev registrar.Event) (acts []registrar.Action) {
	defer func() {
		if p := recover(); p != nil {
			l.stats.Panics++
			stack := strings.Join(strings.Fields(string(debug.Stack())), " ")
			l.h.cfg.Logf(true, fmt.Sprintf("registrar panics at %T, please report it: %v: %s", ev, p, stack))
			acts = nil
		}
	}()
	switch e := ev.(type) {
	case registrar.Received:
		if l.noRoom(e) {
			// The answer could not be sent, so it is not made: it may be long.
			l.stats.SendsRefused++
			ev = registrar.SendFailed{Assoc: e.Assoc}
		}
	case registrar.AssocUp:
		if _, known := l.open[e.Assoc]; l.stopping && !known {
			// A peer that was told that we go may be back at once. Nobody waits
			// for its new association, which ends with the endpoint: ended now,
			// it would be back again.
			return nil
		}
		l.open[e.Assoc] = l.endpoint(e.ENRP)
	case registrar.AssocDown:
		delete(l.open, e.Assoc)
	}
	return l.h.core.Handle(time.Now(), ev)
}

// noRoom says whether a message is a pool user's question that cannot be
// answered, because the peer does not take the answers to earlier ones.
func (l *loop) noRoom(ev registrar.Received) bool {
	if len(ev.Data) == 0 || asap.MessageType(ev.Data[0]) != asap.TypeHandleResolution || ev.PPID == enrp.PPID {
		return false
	}
	ep, ok := l.open[ev.Assoc].(interface{ Full(sctp.AssocID) bool })
	return ok && ep.Full(sctp.AssocID(ev.Assoc))
}

// perform does what the core wants. What comes of it is handled later, so that
// the core is never entered twice.
func (l *loop) perform(acts []registrar.Action) {
	for _, act := range acts {
		switch a := act.(type) {
		case *registrar.Send:
			l.send(a)
		case registrar.Connect:
			l.connect(a)
		case registrar.Close:
			switch ep := l.open[a.Assoc]; {
			case ep == nil: // it is gone
			case a.Abort:
				ep.Abort(sctp.AssocID(a.Assoc))
			default:
				ep.Shutdown(sctp.AssocID(a.Assoc))
			}
		case registrar.Announce:
			for _, g := range l.groups {
				if g.enrp == a.ENRP {
					g.send(a.Data)
				}
			}
		case registrar.Log:
			l.h.cfg.Logf(a.Warn, a.Text)
		}
	}
}

// endpoint is that of ENRP or of ASAP.
func (l *loop) endpoint(enrp bool) sctp.Endpoint {
	if enrp {
		return l.enrp
	}
	return l.ep
}

func (l *loop) connect(a registrar.Connect) {
	to := sctp.Dest{Addrs: a.To, Kind: kind(a.Via), EncapPort: a.EncapPort}
	peer := a.PPID == enrp.PPID
	if peer {
		to.EncapPort = l.h.cfg.PeerEncap
	}
	ep := l.endpoint(peer)
	id := registrar.AssocID(ep.Connect(to))
	if id != 0 {
		l.open[id] = ep
	}
	l.later = append(l.later, registrar.Connecting{Ref: a.Ref, Assoc: id})
}

func (l *loop) send(a *registrar.Send) {
	ep := l.open[a.Assoc]
	if ep == nil {
		return // Down was its last event
	}
	err := ep.Send(sctp.AssocID(a.Assoc), sctp.Message{Data: bytes.Clone(a.Data), PPID: a.PPID})
	switch {
	case err == nil:
		l.stats.Sent++
	case errors.Is(err, sctp.ErrNoAssoc), errors.Is(err, sctp.ErrClosed): // Down is on its way
	default:
		l.stats.SendsRefused++
		l.later = append(l.later, registrar.SendFailed{Assoc: a.Assoc})
	}
}

// publish makes the counters known.
func (l *loop) publish(now time.Time) {
	s := l.stats
	s.Stats = l.h.core.Stats()
	if n, ok := l.network.(interface{ Stats() sctp.Stats }); ok {
		s.Transport = n.Stats()
	}
	for _, g := range l.groups {
		failed := &s.AnnouncesFailed.ASAP
		if g.enrp {
			failed = &s.AnnouncesFailed.ENRP
		}
		*failed += g.failed.Load()
	}
	l.h.stats.Store(&s)
	l.published, l.dirty = now, false
}
