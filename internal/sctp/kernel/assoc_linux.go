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

// assocState is the state of an association as its user sees it.
type assocState uint8

const (
	stateConnecting assocState = iota // before Up; messages are queued
	stateUp
	stateEnding // before Down; messages are refused
	stateEnded  // Down is reported or being reported
)

// assoc is an association of kernel SCTP.
type assoc struct {
	id  sctp.AssocID
	e   *endpoint
	kid int32 // the kernel's name; it does not change once the association is in the table
	// peer is the peer's primary address, as the kernel's last notification of its
	// addresses has it; guarded by mu.
	peer netip.AddrPort

	// sock is the endpoint's socket at first, and the association's own one from
	// Up on.
	sock *socket

	// partial is the beginning of a message that is not complete. ignored is set
	// when no more messages are wanted. Only the goroutine that reads the socket
	// uses them.
	partial []byte
	ignored bool

	// emitMu is held while the Handler runs, so that it gets one event of the
	// association at a time. It is locked before mu.
	emitMu sync.Mutex
	begun  bool // Up has been reported
	over   bool // Down has been reported

	mu     sync.Mutex
	state  assocState
	reason sctp.Reason // of Down, if this side ends the association
	err    error
	timer  *time.Timer // of the handshake, then of Shutdown

	gate    sctp.Gate
	out     outbound
	queue   sctp.SendQueue // not yet passed to the kernel
	writing bool           // write runs
	stalled *time.Timer
	eof     bool // Shutdown was called: SHUTDOWN follows the queue
	eofSent bool
}

// newAssoc makes an association that is not in the tables yet.
func (e *endpoint) newAssoc() *assoc {
	a := &assoc{id: e.ids.Next(), e: e, sock: e.sock, queue: sctp.SendQueue{Total: &e.n.Queued}}
	a.out.init()
	return a
}

// emit calls the Handler, unless Down has been reported. If an association was aborted or
// had ended before it was reported Up, only Down is reported, and messages of its peer are
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
			a.e.n.Panicked(fmt.Sprintf("association %d of the kernel", a.id), r)
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

// finish removes an association from the tables and reports Down. If this side has ended
// the association, that is the reason, and not the one given.
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
	a.gate.Break()
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
	a.emit(sctp.Event{Type: sctp.Down, Peer: []netip.AddrPort{peer}, Reason: reason, Err: err})
}

// socket returns the present socket of the association.
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

// Behind implements sctp.Association.
func (a *assoc) Behind() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queue.Behind()
}

// Pause implements sctp.Association. It has the association's socket not be read.
func (a *assoc) Pause() { a.gate.Pause() }

// Resume implements sctp.Association.
func (a *assoc) Resume() { a.gate.Resume() }

// Heartbeat implements sctp.Association. The notification that the primary address has changed
// may not have been read. If the kernel has none, the association has ended.
func (a *assoc) Heartbeat() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != stateUp {
		return
	}
	if peer, ok := a.sock.primary(a.kid); ok {
		_ = setOption(a.sock, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams, pathParams(a.kid, peer, hbDemand))
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

// abort ends the association at once. Down with the reason follows the notification of the
// kernel.
func (a *assoc) abort(reason sctp.Reason, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.abortLocked(reason, err)
}

// abortIf aborts the association if it is in a state.
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
	a.gate.Break()
	a.queue.Drain()
	a.stopTimer()
	err = a.sock.send(&a.out, nil, sndInfo{flags: sndAbort, assoc: a.kid})
	if isFull(err) {
		a.timer = time.AfterFunc(abortAgain, func() { a.abort(reason, nil) })
	}
	// Any other error means that the association has ended already. Its
	// notification follows.
}

// abortAgain is the time after which an abort is repeated that the kernel had no memory for.
const abortAgain = 100 * time.Millisecond

// isFull reports whether an error of the kernel means that it has no room at the moment.
func isFull(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// Shutdown implements sctp.Association.
func (a *assoc) Shutdown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state >= stateEnding {
		return
	}
	a.reason, a.eof = sctp.LocalClose, true
	a.gate.Break()
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
	if first, ok := s.primary(kid); ok {
		if i := slices.Index(peer, first); i > 0 {
			peer = slices.Insert(slices.Delete(peer, i, i+1), 0, first)
		}
	}
	return peer
}

// primary asks the kernel for the peer's primary address.
func (s *socket) primary(kid int32) (netip.AddrPort, bool) {
	p := prim{assoc: kid}
	if getOption(s, "SCTP_PRIMARY_ADDR", optPrimaryAddr, &p) != nil {
		return netip.AddrPort{}, false
	}
	peer, n := parseSockaddr(p.addr[:])
	return peer, n > 0
}
