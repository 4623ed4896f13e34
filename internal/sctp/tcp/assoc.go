package tcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
)

// assoc is a TCP connection. The goroutine of run reads and calls the Handler; another
// one writes.
type assoc struct {
	id       sctp.AssocID
	e        *endpoint
	incoming bool            // the peer has connected
	host     netip.Addr      // of the peer; set if it has connected
	accepted bool            // and no whole message has arrived yet
	ctx      context.Context // done at the end
	cancel   context.CancelFunc
	wake     chan struct{} // the writer has something to do
	written  chan struct{} // closed when the writer has ended

	// stream is what is read and written: conn, or the TLS on it, both with the deadline of
	// each write. session is nil without TLS. run sets them before the writer runs.
	stream  net.Conn
	session *secure.Session
	told    bool // Up was reported

	mu       sync.Mutex
	conn     *net.TCPConn // nil while dialling
	shaken   bool         // the handshake of TLS is over
	ended    bool
	closing  bool
	shutErr  error // why this side has begun to close; nil if its user wants it
	peerDone bool  // the peer sends no more
	reason   sctp.Reason
	err      error
	queue    sctp.SendQueue // not yet written
	active   time.Time      // last successful write

	gate sctp.Gate
	// emitMu is held while the Handler runs: Writable comes from the writer.
	emitMu sync.Mutex
}

// run is the life of the association.
func (a *assoc) run(to sctp.Dest) {
	defer a.e.wg.Done()
	defer a.finish()
	defer a.recovered()
	if a.conn == nil {
		c, err := a.e.dial(a.ctx, to)
		if err != nil {
			a.stop(sctp.ConnectFailed, err)
			return
		}
		if !a.setConn(c) {
			return
		}
	}
	a.stream = timed{a.conn, a}
	up := sctp.Event{Type: sctp.Up, Peer: []netip.AddrPort{a.peer()}}
	if a.e.watch != nil {
		if err := a.secure(); err != nil {
			a.stop(sctp.ConnectFailed, err)
			return
		}
		up.Identity = a.session.Name
	}
	go func() {
		defer close(a.written)
		defer a.recovered()
		a.write()
	}()
	a.told = true
	a.emit(up)
	a.read()
	<-a.written
}

// secure does the handshake of TLS.
func (a *assoc) secure() error {
	a.mu.Lock()
	if !a.closing {
		_ = a.conn.SetDeadline(time.Now().Add(a.e.lim.HandshakeTime))
	}
	a.mu.Unlock()
	var host netip.Addr
	if a.incoming {
		host = sctp.HostOf(a.peer().Addr())
	}
	s, err := a.e.watch.Handshake(a.stream, host, a.shut)
	if err != nil {
		a.letRead()
		return err
	}
	a.session, a.stream = s, s.Conn()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shaken = true
	if !a.closing {
		_ = a.conn.SetDeadline(time.Time{})
	}
	return nil
}

// timed is a connection whose writes have a deadline each. TLS writes while it reads, too: it
// answers key updates.
type timed struct {
	*net.TCPConn
	a *assoc
}

// Write implements net.Conn. The deadlines of the handshake and of a shutdown stay.
func (c timed) Write(b []byte) (int, error) {
	a := c.a
	a.mu.Lock()
	if !a.closing && (a.shaken || a.e.watch == nil) {
		_ = c.SetWriteDeadline(time.Now().Add(a.e.lim.IdleTCP))
	}
	a.mu.Unlock()
	return c.TCPConn.Write(b)
}

// letRead lets the peer read the alert that says why the handshake has failed: a reset would
// take it away.
func (a *assoc) letRead() {
	const most, wait = 64 << 10, time.Second
	_ = a.conn.CloseWrite()
	_ = a.conn.SetReadDeadline(time.Now().Add(wait))
	_, _ = io.CopyN(io.Discard, a.conn, most)
}

// peer returns the peer's address. There must be a connection.
func (a *assoc) peer() netip.AddrPort {
	peer := a.conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
}

// setConn sets the connection, unless the association has ended.
func (a *assoc) setConn(c *net.TCPConn) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		_ = c.Close()
		return false
	}
	a.conn = c
	return true
}

func (a *assoc) recovered() {
	if r := recover(); r != nil {
		a.e.n.Panicked(fmt.Sprintf("association %d over TCP", a.id), r)
		a.stop(sctp.Lost, fmt.Errorf("panic: %v", r))
	}
}

// stop ends the association at once. The first reason counts.
func (a *assoc) stop(r sctp.Reason, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	if a.closing && !a.peerDone {
		r, err = sctp.LocalClose, a.shutErr
	}
	a.ended, a.reason, a.err = true, r, err
	a.cancel()
	a.gate.Break()
	if a.conn != nil {
		if r != sctp.PeerShutdown && !a.closing {
			_ = a.conn.SetLinger(0) // a reset says that it is not in good order
		}
		_ = a.conn.Close()
	}
}

// Shutdown has the writer end the connection when the queue is written.
func (a *assoc) Shutdown() { a.shut(nil) }

// shut is Shutdown for a reason.
func (a *assoc) shut(why error) {
	a.mu.Lock()
	dialling := a.conn == nil
	ended := a.closing || a.ended
	if !ended {
		a.closing, a.shutErr = true, why
	}
	a.mu.Unlock()
	a.gate.Break()
	switch {
	case ended:
	case dialling:
		a.stop(sctp.LocalClose, nil)
	default:
		_ = a.conn.SetDeadline(time.Now().Add(sctp.GraceTime))
		a.poke()
	}
}

func (a *assoc) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// finish reports undelivered messages and Down.
func (a *assoc) finish() {
	a.stop(sctp.Lost, nil) // has no effect unless run returned by mistake
	a.e.Mu.Lock()
	delete(a.e.All, a.id)
	a.e.leaveHalf(a)
	a.e.Mu.Unlock()
	a.mu.Lock()
	unsent := a.queue.Drain()
	a.mu.Unlock()
	if a.e.watch != nil {
		a.e.watch.Remove(a.session)
	}
	switch {
	case a.incoming && !a.told:
		// Nobody knows of it. Without TLS, Up comes at once.
		if a.reason != sctp.LocalClose {
			a.e.n.Refuse(sctp.TCP, a.peer(), a.err)
		}
		return
	case errors.Is(a.err, errCrowded):
		a.e.n.Refuse(sctp.TCP, a.peer(), a.err)
	case a.reason == sctp.Overrun:
		a.e.n.Cut(sctp.TCP, a.peer(), a.err)
	}
	if a.reason != sctp.LocalClose {
		for _, m := range unsent {
			a.emit(sctp.Event{Type: sctp.SendFailed, Message: m, Err: a.err})
		}
	}
	a.emit(sctp.Event{Type: sctp.Down, Reason: a.reason, Err: a.err})
}

func (a *assoc) emit(ev sctp.Event) {
	ev.Assoc, ev.Kind = a.id, sctp.TCP
	a.emitMu.Lock()
	defer a.emitMu.Unlock()
	a.e.h(ev)
}

// read reads messages until the connection ends.
func (a *assoc) read() {
	f := &a.e.frame
	head := make([]byte, f.HeadLen)
	for {
		if err := a.readHead(head); err != nil {
			if errors.Is(err, io.EOF) && a.incoming {
				a.answerRest()
			}
			a.stop(readReason(err))
			return
		}
		if a.session == nil && secure.IsTLS(head) {
			a.stop(sctp.Overrun, secure.ErrTLSAtPlain)
			return
		}
		n := f.Len(head)
		if n < f.HeadLen || n > a.e.lim.MessageSize {
			a.stop(sctp.Overrun, fmt.Errorf("peer sent a message with length %d: it must be %d to %d", n, f.HeadLen, a.e.lim.MessageSize))
			return
		}
		b, err := a.readRest(head, f.Padded(n))
		if err != nil {
			a.stop(readReason(halfRead(err)))
			return
		}
		a.whole()
		a.emit(sctp.Event{Type: sctp.Received, Message: sctp.Message{Data: b[:n:n], PPID: f.PPID}})
		a.waitResumed()
	}
}

// answerRest reports PeerDone and waits until the answers are written: a peer that has
// closed only its own direction of the connection waits for them.
func (a *assoc) answerRest() {
	a.mu.Lock()
	a.peerDone = true
	closing := a.closing
	a.mu.Unlock()
	if !closing {
		a.emit(sctp.Event{Type: sctp.PeerDone})
	}
	limit := time.NewTimer(sctp.GraceTime)
	defer limit.Stop()
	select {
	case <-a.written:
	case <-limit.C:
	}
}

// readStep is how many bytes are allocated for a message before they arrive.
const readStep = 2048

// readRest reads the rest of a message of n bytes that begins with head. It allocates
// memory as bytes arrive, since a peer may announce bytes and never send them.
func (a *assoc) readRest(head []byte, n int) ([]byte, error) {
	b := append(make([]byte, 0, min(n, readStep)), head...)
	for len(b) < n {
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(n, 2*len(b)))
			copy(grown, b)
			b = grown
		}
		got, err := io.ReadFull(a.stream, b[len(b):cap(b)])
		b = b[:len(b)+got]
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// errSlow is the error if a message did not arrive in time.
var errSlow = errors.New("peer did not send a whole message in time")

// readHead reads the head of a message. It waits for the first byte for
// Limits.IdleTCP, or for Limits.HandshakeTime on an accepted connection that has not
// sent a message yet. The rest of a message must arrive within HandshakeTime.
func (a *assoc) readHead(head []byte) error {
	for {
		idle := a.e.lim.IdleTCP
		if a.accepted {
			idle = a.e.lim.HandshakeTime
		}
		a.deadline(idle)
		_, err := io.ReadFull(a.stream, head[:1])
		if err == nil {
			break
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if a.accepted {
				return errSlow
			}
			if a.wroteWithin(idle) {
				continue
			}
		}
		return err
	}
	a.deadline(a.e.lim.HandshakeTime)
	_, err := io.ReadFull(a.stream, head[1:])
	return halfRead(err)
}

// deadline sets until when the next bytes must arrive. During a shutdown the deadline of
// the shutdown stays.
func (a *assoc) deadline(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closing {
		_ = a.conn.SetReadDeadline(time.Now().Add(d))
	}
}

func (a *assoc) wroteWithin(d time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.closing && time.Since(a.active) < d
}

// halfRead turns the end of a connection within a message into an error.
func halfRead(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errSlow
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// readReason returns why a connection has ended, by the error of the last read or write.
func readReason(err error) (sctp.Reason, error) {
	switch {
	case errors.Is(err, io.EOF):
		return sctp.PeerShutdown, nil
	case errors.Is(err, errSlow):
		return sctp.Overrun, err
	case errors.Is(err, sctp.ErrUntrusted):
		return secure.Reason(err), err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return sctp.Lost, errors.New("connection was idle too long")
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return sctp.PeerAbort, err
	}
	return sctp.Lost, err
}

// whole notes that a whole message has arrived.
func (a *assoc) whole() {
	if a.accepted {
		a.accepted = false
		a.e.Mu.Lock()
		a.e.leaveHalf(a)
		a.e.Mu.Unlock()
	}
}

// Send queues a message. Its length, with or without padding, must be the one that its
// head tells.
func (a *assoc) Send(m sctp.Message) error {
	f := &a.e.frame
	if n := len(m.Data); n < f.HeadLen || f.Padded(n) != f.Padded(f.Len(m.Data)) {
		return fmt.Errorf("message of %d bytes cannot be sent over TCP: its header has another length", n)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ended || a.closing:
		return sctp.ErrNoAssoc
	case !a.queue.Push(m, a.e.lim):
		return sctp.ErrQueueFull
	}
	a.poke()
	return nil
}

// Full implements sctp.Association.
func (a *assoc) Full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queue.Full(a.e.lim)
}

// Behind implements sctp.Association.
func (a *assoc) Behind() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queue.Behind()
}

// Pause implements sctp.Association. It has the reader read no more from the connection.
func (a *assoc) Pause() { a.gate.Pause() }

// Resume implements sctp.Association.
func (a *assoc) Resume() { a.gate.Resume() }

// Heartbeat implements sctp.Association. TCP has none.
func (a *assoc) Heartbeat() {}

// pausedLook is how often a paused association is looked at.
const pausedLook = time.Second

// waitResumed waits while the association is paused.
func (a *assoc) waitResumed() {
	for c := a.gate.Paused(); c != nil; c = a.gate.Paused() {
		select {
		case <-c:
		case <-time.After(pausedLook):
			// The end is behind what is not read.
			if peerEnded(a.conn) {
				a.gate.Break()
			}
		}
	}
}

// Abort implements sctp.Association.
func (a *assoc) Abort() { a.stop(sctp.LocalClose, nil) }

// write sends what is queued until the connection ends.
func (a *assoc) write() {
	for {
		a.mu.Lock()
		var m sctp.Message
		if len(a.queue.Msgs) > 0 {
			m = a.queue.Msgs[0]
		}
		closing := a.closing
		a.mu.Unlock()
		switch {
		case m.Data != nil:
			if err := a.writeOne(m.Data); err != nil {
				a.stop(readReason(err))
				return
			}
		case closing:
			// The peer sees the end of our direction. read goes on until the peer's.
			if c, ok := a.stream.(*secure.Conn); ok {
				_ = c.CloseWrite() // close_notify
			}
			_ = a.conn.CloseWrite()
			return
		default:
			select {
			case <-a.wake:
			case <-a.ctx.Done():
				return
			}
		}
	}
}

func (a *assoc) writeOne(b []byte) error {
	padded := make([]byte, a.e.frame.Padded(len(b)))
	copy(padded, b)
	if _, err := a.stream.Write(padded); err != nil {
		return err
	}
	a.mu.Lock()
	a.active = time.Now()
	a.queue.Keep(a.queue.Bytes - len(b))
	relieved := a.queue.Relieved(a.e.lim)
	a.mu.Unlock()
	if relieved {
		a.emit(sctp.Event{Type: sctp.Writable})
	}
	return nil
}
