package sim

import (
	"errors"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/session"
)

const (
	beatGap   = time.Second // between the heartbeats of an association
	maxMisses = 4           // heartbeats without an answer until it is lost
	// maxWindow is how many bytes may be on their way to a process, or wait for it. Some
	// associations have a small window.
	maxWindow, minWindow = 8 << 10, 200
	// pauseSlack is how many messages may still come after Pause.
	pauseSlack = 4
)

// The reasons why associations end, and why a message is not taken.
var (
	errLost    = errors.New("association lost")
	errUnsent  = errors.New("message not delivered")
	errAborted = session.ErrPeerAborted
	errRefused = errors.New("refused")
	errShut    = errors.New("shut down by the peer")
	errLocal   = errors.New("ended here")
	errFull    = errors.New("no room")
	errNoAssoc = errors.New("no such association")
)

// link is the association of a session. Unlike those of ASAP and ENRP in this package, it
// keeps what is sent while it is cut, has a window, and can be paused and shut down.
// Messages are neither doubled nor overtaken, as with SCTP on one stream.
type link struct {
	w       *sessions
	serial  int
	window  int
	user    *linkEnd
	element *linkEnd // nil until the element has accepted it
	tag     *sess    // whose it is
	// wantEcho is the cookie that the user had when the association came up. The element
	// must get it before anything else.
	wantEcho []byte
	hasEcho  bool
	query    bool // the user must ask where to go on before it sends anything else
}

// linkEnd is one side of it.
type linkEnd struct {
	l      *link
	h      *host
	life   int
	peer   *linkEnd
	handle func(*linkEvent)

	out    []session.Message // sent, and not on the network yet
	room   int               // bytes on their way, or waiting for the peer
	full   bool              // a message was refused
	last   time.Duration     // when the last message to here arrives
	misses int

	broken  bool // nothing that is sent gets anywhere
	closing bool // to be shut down
	closed  bool // nothing can be sent any more
	ended   bool // nothing arrives any more
	paused  bool
	slack   int
	held    []*linkEvent
}

type linkEventKind uint8

const (
	linkUp linkEventKind = iota
	linkReceived
	linkSendFailed
	linkWritable
	linkDown
)

// linkEvent is what an end tells its process.
type linkEvent struct {
	kind linkEventKind
	m    session.Message
	shut bool // in good order, by the peer
	err  error
}

// connect starts an association with the service there, if there is one. Its end tells
// handle what comes of it, beginning with linkUp or linkDown.
func (w *sessions) connect(h *host, s *service, tag *sess, handle func(*linkEvent)) *linkEnd {
	w.serial++
	l := &link{w: w, serial: w.serial, tag: tag, window: maxWindow}
	if w.net.chance(4) {
		l.window = minWindow
	}
	e := &linkEnd{l: l, h: h, life: h.life, handle: handle}
	l.user = e
	w.net.after(w.net.delay(), func() { w.arrive(e, s) })
	return e
}

// arrive is the call of an element.
func (w *sessions) arrive(e *linkEnd, s *service) {
	switch {
	case e.closed:
	case s == nil || s.unreachable(e.h): // no answer
		w.net.after(connectTime, func() {
			if !e.closed && e.peer == nil {
				e.end(&linkEvent{kind: linkDown, err: errLost})
			}
		})
	case s.h.proc == nil:
		w.net.after(w.net.delay(), func() { e.end(&linkEvent{kind: linkDown, err: errRefused}) })
	default:
		// A kernel accepts for a process that stands still.
		p := &linkEnd{l: e.l, h: s.h, life: s.h.life, peer: e}
		e.peer, e.l.element = p, p
		w.net.after(w.net.upTo(beatGap), e.l.beat)
		e.last = w.net.now + w.net.delay()
		if w.slow && w.net.chance(30) { // a packet is lost
			e.last += w.net.upTo(2 * connectWait)
		}
		s.accept(p)
		w.net.at(e.last, func() {
			if !e.ended {
				e.tell(&linkEvent{kind: linkUp})
			}
		})
	}
}

// tell gives an event to the process, when it does not stand still.
func (e *linkEnd) tell(ev *linkEvent) {
	e.h.do(e.life, func() { e.take(ev) })
}

// take gives the process an event, or keeps it while the process reads nothing.
func (e *linkEnd) take(ev *linkEvent) {
	if ev.kind != linkWritable && (len(e.held) > 0 || e.stuck()) {
		e.held = append(e.held, ev)
		return
	}
	e.give(ev)
}

func (e *linkEnd) stuck() bool { return e.paused && e.slack == 0 }

func (e *linkEnd) give(ev *linkEvent) {
	if e.paused && ev.kind != linkWritable {
		e.slack--
	}
	e.handle(ev)
	if ev.kind == linkReceived {
		e.peer.free(len(ev.m.Data))
	}
}

// free makes room again for what the peer's process has taken.
func (e *linkEnd) free(n int) {
	e.room -= n
	if e.full && e.room <= e.l.window/2 && !e.closed {
		e.full = false
		e.l.w.net.after(e.l.w.net.delay(), func() {
			if !e.closed {
				e.tell(&linkEvent{kind: linkWritable})
			}
		})
	}
}

func (e *linkEnd) pause() { e.paused, e.slack = true, pauseSlack }

func (e *linkEnd) resume() {
	if e.paused {
		e.paused = false
		e.l.w.net.after(0, func() { e.h.do(e.life, e.drain) })
	}
}

// drain gives the process what was kept.
func (e *linkEnd) drain() {
	for len(e.held) > 0 && !e.stuck() {
		ev := e.held[0]
		e.held = e.held[1:]
		e.give(ev)
	}
}

// send sends a message.
func (e *linkEnd) send(m session.Message) error {
	switch {
	case e.closed || e.closing || e.broken || e.peer == nil:
		return errNoAssoc
	case e.room > 0 && e.room+len(m.Data) > e.l.window:
		e.full = true
		return errFull
	}
	list := []session.Message{m}
	if mut := e.l.w.mut; mut.network != nil {
		list = mut.network(e, m)
	}
	for _, m := range list {
		e.room += len(m.Data)
		e.out = append(e.out, m)
	}
	e.flush()
	return nil
}

// cut reports whether nothing gets from one side to the other.
func (e *linkEnd) cut() bool {
	s := e.l.element.h
	return e.l.user.h.group != s.group || e.l.w.off[s]
}

// flush puts what was sent on the network, if it gets anywhere, and shuts down after it.
func (e *linkEnd) flush() {
	w, p := e.l.w, e.peer
	if e.closed || e.broken || e.cut() {
		return
	}
	for _, m := range e.out {
		w.net.note(m.Data)
		p.last = max(w.net.now+w.net.delay(), p.last+1)
		w.net.at(p.last, func() {
			if !p.ended {
				p.tell(&linkEvent{kind: linkReceived, m: m})
			}
		})
	}
	e.out = nil
	if e.closing {
		e.closed = true
		p.last = max(w.net.now+w.net.delay(), p.last+1)
		w.net.at(p.last, func() {
			p.end(&linkEvent{kind: linkDown, shut: true, err: errShut})
			w.net.after(w.net.delay(), func() { e.end(&linkEvent{kind: linkDown, err: errLocal}) })
		})
	}
}

// end ends one side. What was sent and got nowhere may be told before.
func (e *linkEnd) end(ev *linkEvent) {
	if e.ended {
		return
	}
	e.closed, e.ended = true, true
	if (len(e.out) > 0 || e.room > 0) && !ev.shut {
		e.tell(&linkEvent{kind: linkSendFailed, err: errUnsent})
	}
	e.tell(ev)
}

// shutdown ends the association when all is delivered.
func (e *linkEnd) shutdown() {
	if e.closed || e.closing {
		return
	}
	e.closing = true
	e.resume()
	if e.peer != nil {
		e.flush()
	}
}

// abort ends the association at once. The peer hears of it then, or after a heartbeat.
// What is on the way to here may still come, until linkDown.
func (e *linkEnd) abort() {
	if e.closed {
		return
	}
	w := e.l.w
	e.closed = true
	e.resume()
	local := w.net.delay()
	lost := w.net.chance(3)
	if lost {
		local = w.net.upTo(2 * beatGap)
	}
	w.net.after(local, func() { e.end(&linkEvent{kind: linkDown, err: errLocal}) })
	if e.peer != nil && !lost && !e.cut() {
		w.net.after(w.net.delay(), func() { e.peer.end(&linkEvent{kind: linkDown, err: errAborted}) })
	}
}

// die ends the side of a process that has ended. Its host tells the peer, unless it is off.
func (e *linkEnd) die() {
	e.closed, e.ended = true, true
	w, p := e.l.w, e.peer
	if w.off[e.h] || e.cut() {
		return
	}
	shut := w.net.chance(2) // as Linux does if the process had read all
	p.last = max(w.net.now+w.net.delay(), p.last+1)
	w.net.at(p.last, func() {
		if shut {
			p.end(&linkEvent{kind: linkDown, shut: true, err: errShut})
		} else {
			p.end(&linkEvent{kind: linkDown, err: errAborted})
		}
	})
}

// beat is a heartbeat in both directions.
func (l *link) beat() {
	for _, e := range [...]*linkEnd{l.user, l.element} {
		switch {
		case e.ended:
		case e.cut() || e.peer.silent():
			if e.misses++; e.misses >= maxMisses {
				e.end(&linkEvent{kind: linkDown, err: errLost})
			}
		default:
			e.misses = 0
			if e.peer.closed && e.peer.ended {
				e.end(&linkEvent{kind: linkDown, err: errAborted})
			}
			e.flush()
		}
	}
	if !l.user.ended || !l.element.ended {
		l.w.net.after(beatGap, l.beat)
	}
}

// silent reports whether the side answers no heartbeats: its process stands still, and is
// its own SCTP.
func (e *linkEnd) silent() bool { return e.h.stands() && !e.l.w.kernel[e.h] }
