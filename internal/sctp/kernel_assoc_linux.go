package sctp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// kernelState is what an association can do.
type kernelState uint8

const (
	kernelConnecting kernelState = iota // Up is to come; messages are queued
	kernelUp
	kernelEnding // Down is to come, messages are refused
	kernelEnded  // Down has been reported, or is being so
)

// kernelAssoc is an association of the kernel's SCTP.
type kernelAssoc struct {
	id  AssocID
	e   *kernelEndpoint
	kid int32 // the kernel's name, constant once in the table

	// partial is a message of which the rest is to come, deaf is set once
	// nothing more is wanted; both are the reader's own.
	partial []byte
	deaf    bool

	// emitMu is held while the Handler runs, so that it takes one event of
	// this association at a time. It comes before mu.
	emitMu sync.Mutex
	begun  bool // Up has been given
	over   bool // Down has been given

	mu     sync.Mutex
	state  kernelState
	reason Reason // of Down, once it is of our making
	err    error
	timer  *time.Timer // of the handshake, then of Shutdown

	call    sendCall
	queue   sendQueue // not yet taken by the kernel
	listed  bool      // in e.pending
	next    int       // length of the first in queue; the writer's own
	eof     bool      // Shutdown was called: ends when the queue is empty
	eofSent bool

	// held is what may be in the kernel's send buffer, by the measure of
	// kernelCost; sinceAsk the part of it sent after asking (askedDry) the
	// kernel to say when it has none left.
	held, sinceAsk int
	askedDry       bool
	askedAt        time.Time
}

// newAssoc makes an association, which is not in the tables yet.
func (e *kernelEndpoint) newAssoc() *kernelAssoc {
	a := &kernelAssoc{id: e.ids.next(), e: e}
	a.call.init()
	return a
}

// emit gives an event to the Handler, unless the association is over. Of one
// that was not reported Up, because it was aborted or had ended before the
// kernel told of it, only Down is given: what its peer sent meanwhile is
// dropped. A panic of the Handler ends the association, not the process.
func (a *kernelAssoc) emit(ev Event) {
	ev.Assoc, ev.Kind = a.id, Kernel
	a.emitMu.Lock()
	defer a.emitMu.Unlock()
	a.begun = a.begun || ev.Type == Up
	if a.over || !a.begun && ev.Type != Down {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			a.abort(Overrun, fmt.Errorf("panic while handling an event of the association: %v", r))
		}
	}()
	a.over = ev.Type == Down
	a.e.h(ev)
}

// up reports that the association is established.
func (a *kernelAssoc) up(peer []netip.AddrPort, encapPort uint16) {
	a.mu.Lock()
	if a.state != kernelConnecting {
		a.mu.Unlock()
		return
	}
	if !a.eof {
		a.state = kernelUp
		a.stopTimer()
	}
	a.mu.Unlock()
	a.emit(Event{Type: Up, Peer: peer, EncapPort: encapPort})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.eof && a.state == kernelConnecting {
		a.state = kernelEnding
	}
	if len(a.queue.msgs) > 0 || a.eof {
		a.schedule()
	}
}

// finish ends an association: it is forgotten and reported Down. A reason of
// our own making goes before the one given.
func (a *kernelAssoc) finish(reason Reason, err error) {
	a.mu.Lock()
	if a.state == kernelEnded {
		a.mu.Unlock()
		return
	}
	if a.reason != 0 {
		reason, err = a.reason, a.err
	} else if a.state == kernelConnecting && reason != LocalClose {
		reason = ConnectFailed
	}
	a.state = kernelEnded
	a.queue = sendQueue{}
	a.stopTimer()
	a.mu.Unlock()

	e := a.e
	e.mu.Lock()
	delete(e.assocs, a.id)
	if e.byKernel[a.kid] == a {
		delete(e.byKernel, a.kid)
	}
	e.mu.Unlock()
	a.emit(Event{Type: Down, Reason: reason, Err: err})
}

// stopTimer stops the timer. a.mu is held.
func (a *kernelAssoc) stopTimer() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}

// abort ends the association at once; Down with the reason follows when the
// kernel says so.
func (a *kernelAssoc) abort(reason Reason, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.abortLocked(reason, err)
}

// abortIf aborts the association if it is still in a state.
func (a *kernelAssoc) abortIf(s kernelState, reason Reason, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == s {
		a.abortLocked(reason, err)
	}
}

func (a *kernelAssoc) abortLocked(reason Reason, err error) {
	if a.state == kernelEnded {
		return
	}
	if a.reason == 0 {
		a.reason, a.err = reason, err
	}
	a.state = kernelEnding
	a.queue = sendQueue{}
	a.stopTimer()
	err = a.e.sock.send(&a.call, nil, sndInfo{flags: sndAbort, assoc: a.kid})
	if isFull(err) {
		a.timer = time.AfterFunc(abortAgain, func() { a.abort(reason, nil) })
	}
	// Any other error means that the association has ended already; then its
	// notification is on the way.
}

// abortAgain is when to abort once more where the kernel had no memory for it.
const abortAgain = 100 * time.Millisecond

// isFull says whether an error of the kernel means that it has no room now.
func isFull(err error) bool {
	return errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// shutdown ends the association after what is queued.
func (a *kernelAssoc) shutdown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state >= kernelEnding {
		return
	}
	a.reason, a.eof = LocalClose, true
	if a.state == kernelUp {
		a.state = kernelEnding
	}
	a.stopTimer()
	a.timer = time.AfterFunc(graceTime, func() { a.abort(LocalClose, nil) })
	if a.state == kernelEnding {
		a.schedule()
	}
}

// send gives a message to the kernel, or queues it where the kernel does not
// take it at once.
func (a *kernelAssoc) send(m Message) error {
	if len(m.Data) == 0 {
		return errors.New("SCTP cannot send an empty message (RFC 9260, Section 3.3.1)")
	}
	if m.Stream >= kernelStreams {
		return fmt.Errorf("stream %d: an association has the streams 0 to %d", m.Stream, kernelStreams-1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state >= kernelEnding || a.eof {
		return ErrNoAssoc
	}
	if a.state == kernelUp && len(a.queue.msgs) == 0 {
		if err := a.push(&m); !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	if !a.queue.push(m, a.e.lim) {
		return ErrQueueFull
	}
	if a.state == kernelUp {
		a.schedule()
	}
	return nil
}

// kernelCost is about what a message takes in the kernel's send buffer: its
// bytes, and for each packet the kernel's own structures.
func kernelCost(n int) int { return n + (1+n/1400)*1280 }

// kernelShare is what one association may hold of a send buffer: where the
// associations share it, so little that it takes many peers that do not read
// to fill it.
func kernelShare(sndbuf int, shared bool) int {
	if !shared {
		return sndbuf / 2
	}
	return max(sndbuf/16, 16<<10)
}

// push gives a message to the kernel. unix.EAGAIN means not now, ErrNoAssoc
// that it is too late.
//
// The kernel does not say how much of its send buffer an association has, only
// when that gets to nothing (SCTP_SENDER_DRY_EVENT), and each such event costs
// a system call or two. So what is sent is counted, the kernel is asked for
// the event at half of the share, and only at the end of it does the
// association wait.
func (a *kernelAssoc) push(m *Message) error {
	cost := kernelCost(len(m.Data))
	if a.held+cost > a.e.share/2 && a.held > 0 && !a.askedDry {
		a.askDry()
	}
	if a.held+cost > a.e.share && a.held > 0 {
		return unix.EAGAIN
	}
	info := sndInfo{stream: m.Stream, ppid: htonl(m.PPID), assoc: a.kid}
	if a.held+cost > a.e.share*3/4 {
		// Do not wait for the peer's delayed acknowledgement.
		info.flags = sndSackImmediately
	}
	err := a.e.sock.send(&a.call, m.Data, info)
	switch {
	case err == nil:
		a.e.taken.Add(1)
		a.held += cost
		if a.askedDry {
			a.sinceAsk += cost
		}
		return nil
	case isFull(err):
		return unix.EAGAIN
	case isGone(err), errors.Is(err, unix.EINVAL) && m.Stream == 0:
		return ErrNoAssoc // the kernel no longer knows the name
	default:
		return fmt.Errorf("send %d bytes: %w", len(m.Data), err)
	}
}

// askDry asks the kernel to say when it has nothing of ours left; it says so
// at once if that is the case.
func (a *kernelAssoc) askDry() {
	a.askedDry, a.askedAt, a.sinceAsk = true, time.Now(), 0
	if a.setDryEvent(1) != nil {
		// A kernel before 5.0. Its send buffer is anybody's then.
		a.askedDry, a.held = false, 0
	}
}

// dry takes the kernel's word that it had nothing left at some time after it
// was asked.
func (a *kernelAssoc) dry() {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.setDryEvent(0)
	if !a.askedDry {
		return
	}
	a.askedDry, a.held = false, a.sinceAsk
	if len(a.queue.msgs) > 0 {
		a.schedule()
	}
}

func (a *kernelAssoc) setDryEvent(on uint8) error {
	return setOption(a.e.sock, "SCTP_EVENT", optEvent, &eventSwitch{assoc: a.kid, typ: noteSenderDry, on: on})
}

// flush sends what is queued as far as the kernel takes it; unix.EAGAIN means
// that the kernel's buffer, not this association's share of it, is full. a.mu
// is held. Only the writer calls it, which Close waits for.
func (a *kernelAssoc) flush() error {
	if a.state == kernelConnecting || a.state == kernelEnded {
		return nil
	}
	sent := 0
	for sent < len(a.queue.msgs) {
		m := &a.queue.msgs[sent]
		err := a.push(m)
		if errors.Is(err, unix.EAGAIN) {
			if a.waitsDry(m) {
				err = nil // dry goes on
			}
			a.dequeue(sent)
			return err
		}
		if err != nil && !errors.Is(err, ErrNoAssoc) {
			failed := Event{Type: SendFailed, Message: *m, Err: err}
			a.e.wg.Go(func() { a.emit(failed) })
		}
		sent++
	}
	a.dequeue(sent)
	if a.eof && !a.eofSent {
		a.eofSent = true
		_ = a.e.sock.send(&a.call, nil, sndInfo{flags: sndEOF, assoc: a.kid})
	}
	return nil
}

// waitsDry says whether a message waits for the association's share.
func (a *kernelAssoc) waitsDry(m *Message) bool {
	return a.held > 0 && a.held+kernelCost(len(m.Data)) > a.e.share
}

// dequeue removes the first n messages.
func (a *kernelAssoc) dequeue(n int) {
	for _, m := range a.queue.msgs[:n] {
		a.queue.bytes -= len(m.Data)
	}
	a.queue.msgs = slices.Delete(a.queue.msgs, 0, n)
}

// peerAddrs asks the kernel for the peer's addresses, the primary one first.
func (e *kernelEndpoint) peerAddrs(kid int32) []netip.AddrPort {
	peer, err := e.sock.addrs(optPeerAddrs, kid)
	if err != nil || len(peer) < 2 {
		return peer
	}
	p := prim{assoc: kid}
	if getOption(e.sock, "SCTP_PRIMARY_ADDR", optPrimaryAddr, &p) == nil {
		first, _ := parseSockaddr(p.addr[:])
		if i := slices.Index(peer, first); i > 0 {
			peer = slices.Insert(slices.Delete(peer, i, i+1), 0, first)
		}
	}
	return peer
}
