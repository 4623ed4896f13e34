package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// assocState is what an association can do.
type assocState uint8

const (
	stateConnecting assocState = iota // Up is to come; messages are queued
	stateUp
	stateEnding // Down is to come, messages are refused
	stateEnded  // Down has been reported, or is being so
)

// assoc is an association of the kernel's SCTP.
type assoc struct {
	id  sctp.AssocID
	e   *endpoint
	kid int32 // the kernel's name, constant once in the table
	// peer is the peer's primary address, once the association is up.
	peer netip.AddrPort

	// sock is the association's own socket from before Up on, the endpoint's
	// until then.
	sock *socket

	// partial is a message of which the rest is to come, ignored is set once
	// nothing more is wanted; both are the reader's own, of one socket after
	// the other.
	partial []byte
	ignored bool

	// emitMu is held while the Handler runs, so that it takes one event of
	// this association at a time. It comes before mu.
	emitMu sync.Mutex
	begun  bool // Up has been given
	over   bool // Down has been given

	mu     sync.Mutex
	state  assocState
	reason sctp.Reason // of Down, once it is of our making
	err    error
	timer  *time.Timer // of the handshake, then of Shutdown

	out     outbound
	queue   sctp.SendQueue // not yet taken by the kernel
	writing bool           // write runs
	stalled *time.Timer
	eof     bool // Shutdown was called: ends when the queue is empty
	eofSent bool
}

// newAssoc makes an association, which is not in the tables yet.
func (e *endpoint) newAssoc() *assoc {
	a := &assoc{id: e.ids.Next(), e: e, sock: e.sock, queue: sctp.SendQueue{Total: &e.n.Queued}}
	a.out.init()
	return a
}

// emit returns an event to the Handler, unless the association is over. Of one
// that was not reported Up, because it was aborted or had ended before the
// kernel told of it, only Down is given: what its peer sent meanwhile is
// dropped. A panic of the Handler ends the association, not the process.
func (a *assoc) emit(ev sctp.Event) {
	ev.Assoc, ev.Kind = a.id, sctp.Kernel
	a.emitMu.Lock()
	defer a.emitMu.Unlock()
	a.begun = a.begun || ev.Type == sctp.Up
	if a.over || !a.begun && ev.Type != sctp.Down {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			a.abort(sctp.Overrun, fmt.Errorf("panic while handling an event of the association: %v", r))
		}
	}()
	a.over = ev.Type == sctp.Down
	a.e.h(ev)
}

// up reports that the association is established.
func (a *assoc) up(ev sctp.Event) {
	a.mu.Lock()
	if a.state != stateConnecting {
		a.mu.Unlock()
		return
	}
	if !a.eof {
		a.state = stateUp
		a.stopTimer()
	}
	a.mu.Unlock()
	ev.Type = sctp.Up
	a.emit(ev)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.eof && a.state == stateConnecting {
		a.state = stateEnding
	}
	if len(a.queue.Msgs) > 0 || a.eof {
		a.schedule()
	}
}

// finish ends an association: it is forgotten and reported Down. A reason of
// our own making goes before the one given.
func (a *assoc) finish(reason sctp.Reason, err error) {
	a.mu.Lock()
	if a.state == stateEnded {
		a.mu.Unlock()
		return
	}
	if a.reason != 0 {
		reason, err = a.reason, a.err
	} else if a.state == stateConnecting && reason != sctp.LocalClose {
		reason = sctp.ConnectFailed
	}
	a.state = stateEnded
	peer := a.peer
	a.queue.Drain()
	a.stopTimer()
	a.mu.Unlock()

	e := a.e
	e.Mu.Lock()
	delete(e.All, a.id)
	if e.byKernel[a.kid] == a {
		delete(e.byKernel, a.kid)
	}
	e.Mu.Unlock()
	if reason == sctp.Overrun {
		e.n.Cut(sctp.Kernel, peer, err)
	}
	a.emit(sctp.Event{Type: sctp.Down, Reason: reason, Err: err})
}

// socket is the socket that the association has now.
func (a *assoc) socket() *socket {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sock
}

// stopTimer stops the timers. a.mu is held.
func (a *assoc) stopTimer() {
	if a.stalled != nil {
		a.stalled.Stop()
	}
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// Abort implements sctp.Association.
func (a *assoc) Abort() { a.abort(sctp.LocalClose, nil) }

// Full implements sctp.Association.
func (a *assoc) Full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queue.Full(a.e.lim)
}

// abort ends the association at once; Down with the reason follows when the
// kernel says so.
func (a *assoc) abort(reason sctp.Reason, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.abortLocked(reason, err)
}

// abortIf aborts the association if it is still in a state.
func (a *assoc) abortIf(s assocState, reason sctp.Reason, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == s {
		a.abortLocked(reason, err)
	}
}

func (a *assoc) abortLocked(reason sctp.Reason, err error) {
	if a.state == stateEnded {
		return
	}
	if a.reason == 0 {
		a.reason, a.err = reason, err
	}
	a.state = stateEnding
	a.queue.Drain()
	a.stopTimer()
	err = a.sock.send(&a.out, nil, sndInfo{flags: sndAbort, assoc: a.kid})
	if isFull(err) {
		a.timer = time.AfterFunc(abortAgain, func() { a.abort(reason, nil) })
	}
	// Any other error means that the association has ended already; then its
	// notification is on the way.
}

// abortAgain is when to abort once more where the kernel had no memory for it.
const abortAgain = 100 * time.Millisecond

// isFull reports whether an error of the kernel means that it has no room now.
func isFull(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// Shutdown ends the association after what is queued.
func (a *assoc) Shutdown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state >= stateEnding {
		return
	}
	a.reason, a.eof = sctp.LocalClose, true
	if a.state == stateUp {
		a.state = stateEnding
	}
	a.stopTimer()
	a.timer = time.AfterFunc(sctp.GraceTime, func() { a.abort(sctp.LocalClose, nil) })
	if a.state == stateEnding {
		a.schedule()
	}
}

// peerAddrs asks the kernel for the peer's addresses, the primary one first.
func (s *socket) peerAddrs(kid int32) []netip.AddrPort {
	peer, err := s.addrs(optPeerAddrs, kid)
	if err != nil || len(peer) < 2 {
		return peer
	}
	p := prim{assoc: kid}
	if getOption(s, "SCTP_PRIMARY_ADDR", optPrimaryAddr, &p) == nil {
		first, _ := parseSockaddr(p.addr[:])
		if i := slices.Index(peer, first); i > 0 {
			peer = slices.Insert(slices.Delete(peer, i, i+1), 0, first)
		}
	}
	return peer
}
