package secure

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// phase is how far an association is.
type phase uint8

const (
	phaseBelow     phase = iota // the transport connects
	phaseHello                  // the transport is up, and the peer has not sent its ClientHello
	phaseHandshake              // the goroutine of the handshake runs
	phaseUp
	phaseFailed // the handshake has failed, and the transport shuts down
)

// assoc is an association under TLS.
type assoc struct {
	id   sctp.AssocID
	e    *Endpoint
	ours bool       // Connect has made it
	host netip.Addr // of the peer; set if it is not ours
	w    *wire
	// heard: the peer has sent something.
	heard atomic.Bool

	// emitMu is held while the Handler runs and while TLS is read. It is locked before mu.
	emitMu    sync.Mutex
	cut       cutter
	rest      []byte // decrypted and not cut yet, because the association is paused
	truncated bool   // the transport has ended within a record
	finished  bool   // Down has been reported
	farewell  bool   // the peer has ended TLS
	deaf      bool   // a Read has failed, and so would all others
	records   uint64 // that were decrypted

	mu      sync.Mutex
	phase   phase
	came    *sctp.Event // Up of the transport, until it is passed on
	kind    sctp.Kind
	peer    netip.AddrPort
	conn    *tls.Conn // if it is up
	session *Session
	queue   sctp.SendQueue // not yet encrypted: what was sent before Up
	refused bool           // Send has returned ErrQueueFull since it is up
	paused  bool
	left    bool // something waits to be reported because of paused
	early   bool // the transport was paused during the handshake
	closing bool // close_notify and SHUTDOWN follow the queue
	closed  bool // they are sent
	aborted bool
	ended   bool // reason and err are set
	reason  sctp.Reason
	err     error
	lost    bool        // a record could not be delivered
	over    *sctp.Event // Down of the transport
	timer   *time.Timer // of the handshake, then of Shutdown
	begun   time.Time   // when the handshake began
}

// begin begins the handshake when the transport is up.
func (a *assoc) begin(ev sctp.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase != phaseBelow {
		return
	}
	a.phase, a.came, a.kind, a.peer = phaseHello, &ev, ev.Kind, ev.Peer[0]
	if a.timer == nil {
		a.begun = time.Now()
		a.timer = time.AfterFunc(a.patience(), a.late)
	}
	if a.ours {
		a.start()
	}
}

// handshakeTimes is how many times Limits.HandshakeTime a handshake may last in all. A server waits for
// its client for HandshakeTime. A client waits longer for its server: after a restart of that, thousands
// of clients wait with it, and coming again would cost both sides more.
const handshakeTimes = 3

// patience is how much longer the handshake may last, not more than 0 if it has lasted too long.
// a.mu is held.
func (a *assoc) patience() time.Duration {
	most := a.e.lim.HandshakeTime
	all := handshakeTimes*most - time.Since(a.begun)
	switch {
	case a.ours:
		return all
	case a.phase == phaseHello:
		return most - time.Since(a.begun)
	}
	return min(all, most-a.w.waited())
}

// late ends a handshake that has lasted too long.
func (a *assoc) late() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == phaseUp || a.closing {
		return // it has come to its end in this moment
	}
	if more := a.patience(); more > 0 && a.phase != phaseFailed {
		a.timer.Reset(more)
		return
	}
	a.endLocked(sctp.ConnectFailed, fmt.Errorf("TLS handshake: %w", sctp.ErrTimeout))
	a.e.below.Abort(a.id)
}

// start starts the goroutine of the handshake. a.mu is held.
func (a *assoc) start() {
	a.phase = phaseHandshake
	a.e.wg.Go(a.handshake)
}

// received handles a message of the transport, which is a record or a part of one.
func (a *assoc) received(m sctp.Message) {
	switch {
	case m.Stream != 0:
		a.cutOff("peer sent a message on stream %d: TLS is on stream 0", m.Stream)
		return
	case m.PPID != a.e.frame.PPID && m.PPID != 0 && !a.e.sessions: // common TLS tools set none
		a.cutOff("peer sent a message with payload protocol identifier %d, want %d", m.PPID, a.e.frame.PPID)
		return
	}
	if !a.heard.Load() {
		a.heard.Store(true)
	}
	a.mu.Lock()
	if a.doomed() {
		a.mu.Unlock()
		return
	}
	waiting := a.w.push(m.Data)
	switch {
	case a.phase == phaseHello:
		a.start()
	case a.phase == phaseHandshake && waiting > maxEarly && !a.early:
		a.early = true
		a.e.below.Pause(a.id)
	}
	up := a.phase == phaseUp
	a.mu.Unlock()
	if up {
		a.emitMu.Lock()
		defer a.emitMu.Unlock()
		a.deliver()
	}
}

// doomed reports whether this side has ended the association before it was up, or aborted it.
// a.mu is held.
func (a *assoc) doomed() bool {
	return a.aborted || a.phase == phaseFailed || a.phase != phaseUp && a.ended && !a.closing
}

// cutOff aborts the association of a peer that breaks the rules.
func (a *assoc) cutOff(format string, args ...any) {
	a.end(sctp.Overrun, untrusted(format, args...), sctp.Endpoint.Abort)
}

// handshake does the handshake and reports Up, or has the association end.
func (a *assoc) handshake() {
	defer a.recovered()
	s, err := a.negotiate()
	if a.e.sessions && errors.Is(err, ErrPlainPeer) {
		err = errPlainSession
	}
	a.e.settled(a)
	a.emitMu.Lock()
	defer a.emitMu.Unlock()
	switch {
	case err == nil:
		a.open(s)
	case errors.Is(err, errCutShort):
		a.cutShort(err)
	case errors.Is(err, ErrPlainPeer), errors.Is(err, errPlainSession), errors.Is(err, errLongHandshake), errors.Is(err, errNoConfig):
		a.end(sctp.ConnectFailed, err, sctp.Endpoint.Abort)
	default:
		// An alert that is on its way tells the peer why.
		a.end(sctp.ConnectFailed, err, sctp.Endpoint.Shutdown)
	}
	a.settle()
}

// cutShort ends an association whose peer has ended TLS, unless Down of the transport is there.
func (a *assoc) cutShort(err error) {
	a.mu.Lock()
	over := a.over != nil
	a.mu.Unlock()
	if !over {
		a.end(sctp.ConnectFailed, err, sctp.Endpoint.Abort)
	}
}

// settle ends the phase of the handshake. emitMu is held.
func (a *assoc) settle() {
	a.mu.Lock()
	if a.phase == phaseHandshake {
		a.phase = phaseFailed
	}
	over := a.over != nil
	a.mu.Unlock()
	if over {
		a.conclude()
	}
}

// recovered ends the association if its handshake, or a Handler that handshake has called,
// panics.
func (a *assoc) recovered() {
	r := recover()
	if r == nil {
		return
	}
	a.e.n.Panicked(fmt.Sprintf("the handshake of association %d", a.id), r)
	a.end(sctp.Overrun, fmt.Errorf("panic in TLS: %v", r), sctp.Endpoint.Abort)
	a.emitMu.Lock()
	defer a.emitMu.Unlock()
	a.settle()
}

// negotiate does the handshake. The side that has opened the association is the client,
// unless both have.
func (a *assoc) negotiate() (*Session, error) {
	a.e.turns.take(false)
	defer a.e.turns.give()
	if a.w.ended() { // while it waited for its turn
		return nil, errEnded
	}
	looks := a.e.watch.looked()
	client := a.ours
	for {
		var v verdict
		side, host := tls.Server, sctp.HostOf(a.peer.Addr())
		if client {
			side, host = tls.Client, netip.Addr{}
		}
		cfg, err := a.e.cfg.prepare(host, &v)
		if err != nil {
			return nil, err
		}
		conn := side(a.w, cfg)
		err = conn.Handshake()
		switch {
		case errors.Is(err, errServe) && client:
			client = false
			a.w.serve()
			continue
		case err != nil:
			return nil, a.e.cfg.refusal(ownOf(cfg), host, a.w.last.explain(err, &v)) // nothing reads any more
		}
		s := a.e.watch.session(conn, cfg, host, &v, a.shut)
		forget(cfg)
		if err := a.e.watch.add(s, looks); err != nil {
			return nil, err
		}
		return s, nil
	}
}

// open reports Up and what has arrived behind the handshake. emitMu is held.
func (a *assoc) open(s *Session) {
	a.mu.Lock()
	if a.doomed() {
		a.mu.Unlock()
		a.e.watch.Remove(s)
		return
	}
	a.phase, a.conn, a.session = phaseUp, s.conn, s
	if !a.closing {
		a.timer.Stop()
		a.timer = nil
	}
	ev := *a.came
	a.came = nil
	a.w.poll()
	a.mu.Unlock()
	ev.Identity = s.Name
	a.e.h(ev)
	a.mu.Lock()
	a.pump()
	if a.early && !a.paused {
		a.e.below.Resume(a.id)
	}
	a.mu.Unlock()
	a.deliver()
}

// emit calls the Handler. emitMu is held.
func (a *assoc) emit(ev sctp.Event) {
	ev.Assoc, ev.Kind = a.id, a.kind
	a.e.h(ev)
}

// buffers are for what tls.Conn.Read decrypts: at most one record.
var buffers = sync.Pool{New: func() any { return new([maxContent]byte) }}

// deliver decrypts and reports what has arrived, until the association is paused. emitMu is
// held.
func (a *assoc) deliver() {
	buf := buffers.Get().(*[maxContent]byte)
	defer buffers.Put(buf)
	rest := a.rest
	a.rest = nil
	for !a.deaf {
		if a.holds() {
			a.rest = append([]byte(nil), rest...)
			return
		}
		for len(rest) == 0 {
			n, err := a.read(buf[:])
			if rest = buf[:n]; n == 0 {
				a.readEnded(err)
				return
			}
		}
		var msg []byte
		var err error
		if msg, rest, err = a.cut.cut(rest); err != nil {
			a.end(sctp.Overrun, err, sctp.Endpoint.Abort)
			return
		}
		if msg != nil {
			a.emit(sctp.Event{Type: sctp.Received, Message: a.e.content(msg)})
		}
	}
}

// holds reports whether nothing may be reported now, and notes that something may wait.
func (a *assoc) holds() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left = a.paused
	return a.paused || a.aborted
}

// readEnded handles the error of a Read. emitMu is held.
func (a *assoc) readEnded(err error) {
	var temporary net.Error
	switch {
	case a.w.overrun():
		a.end(sctp.Overrun, errBacklog, sctp.Endpoint.Abort)
	case errors.As(err, &temporary) && temporary.Timeout(): // nothing has arrived
		return
	case errors.Is(err, io.ErrUnexpectedEOF):
		a.truncated = true // Down follows
	case errors.Is(err, io.EOF) && a.w.readOut(): // without close_notify; Down follows
	case errors.Is(err, io.EOF): // close_notify, which may be read when the transport has ended
		a.farewell = true
		a.end(sctp.PeerShutdown, nil, func(below sctp.Endpoint, id sctp.AssocID) { a.shut(nil) })
	default:
		why := a.e.cfg.refusal(a.session.own, a.session.host, explain(err, nil))
		a.end(Reason(why), why, sctp.Endpoint.Abort)
	}
	a.deaf = true
}

// check says what is wrong with a message to send. Its length, with or without padding, must
// be the one that its head tells. Inside of TLS there is one stream in order, and one protocol.
func (e *Endpoint) check(m sctp.Message) error {
	if e.sessions {
		return e.checkSession(m)
	}
	f := &e.frame
	switch n := len(m.Data); {
	case n < f.HeadLen || f.Padded(n) != f.Padded(f.Len(m.Data)) || n > e.lim.MessageSize:
		return fmt.Errorf("message of %d bytes cannot be sent over TLS: its header has another length", n)
	case m.Stream != 0:
		return fmt.Errorf("stream %d: TLS has only stream 0", m.Stream)
	case m.PPID != f.PPID && m.PPID != 0:
		return fmt.Errorf("payload protocol identifier %d: this endpoint has TLS for %d", m.PPID, f.PPID)
	}
	return nil
}

// encode makes what is encrypted of a message.
func (e *Endpoint) encode(m sctp.Message) []byte {
	if e.sessions {
		return appendSession(make([]byte, 0, sessionHead+len(m.Data)), m)
	}
	b := m.Data
	if n := e.frame.Padded(len(b)); n > len(b) {
		b = make([]byte, n)
		copy(b, m.Data)
	}
	return b
}

// Send implements sctp.Association.
func (a *assoc) Send(m sctp.Message) error {
	if err := a.e.check(m); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ended || a.closing || a.over != nil || a.phase == phaseFailed:
		return sctp.ErrNoAssoc
	case a.phase != phaseUp:
		if !a.queue.Push(m, a.e.lim) {
			return sctp.ErrQueueFull
		}
		return nil
	case len(a.queue.Msgs) > 0 || a.w.behind():
		// What is encrypted must be sent, so that room is needed first.
		a.refused = true
		return sctp.ErrQueueFull
	}
	return a.encrypt(m)
}

// encrypt sends a message. a.mu is held.
func (a *assoc) encrypt(m sctp.Message) error {
	if _, err := a.conn.Write(a.e.encode(m)); err != nil {
		return sctp.ErrNoAssoc // Down follows
	}
	a.wear(a.w.written())
	return nil
}

// wear ends the association when so many records have been sent, or received, that it needs new
// keys. a.mu is held.
func (a *assoc) wear(records uint64) {
	if records >= a.session.records && !a.ended {
		a.shutLocked(sctp.ErrRenew)
	}
}

// read decrypts a record. emitMu is held.
func (a *assoc) read(buf []byte) (int, error) {
	n, err := a.conn.Read(buf)
	if n > 0 && a.session.ours { // else the peer counts them
		a.records++
		a.mu.Lock()
		a.wear(a.records)
		a.mu.Unlock()
	}
	return n, err
}

// pump encrypts what waits as long as the transport has room, and then ends the association
// if that is wanted. a.mu is held.
func (a *assoc) pump() {
	for len(a.queue.Msgs) > 0 && !a.w.behind() && !a.aborted {
		m := a.queue.Msgs[0]
		_ = a.encrypt(m) // the end of the association follows an error
		a.queue.Keep(a.queue.Bytes - len(m.Data))
	}
	if a.closing && !a.closed && !a.aborted && len(a.queue.Msgs) == 0 && !a.w.behind() {
		a.closed = true
		_ = a.conn.CloseWrite()
		a.e.below.Shutdown(a.id)
	}
}

// writable goes on when the transport has room again.
func (a *assoc) writable() {
	room := a.w.flush()
	a.mu.Lock()
	tell := false
	if room && a.phase == phaseUp {
		a.pump()
		if len(a.queue.Msgs) == 0 && !a.w.behind() {
			tell, a.refused = a.refused, false
		}
	}
	a.mu.Unlock()
	if tell {
		a.emitMu.Lock()
		defer a.emitMu.Unlock()
		a.emit(sctp.Event{Type: sctp.Writable})
	}
}

// peerAddrs passes on that the peer's addresses have changed, with Up if that is still to
// come.
func (a *assoc) peerAddrs(ev sctp.Event) {
	a.mu.Lock()
	if up := a.came; up != nil {
		up.Peer, up.Claimed, up.Translated = ev.Peer, ev.Claimed, ev.Translated
	}
	is := a.phase == phaseUp
	a.mu.Unlock()
	if is {
		a.emitMu.Lock()
		defer a.emitMu.Unlock()
		a.e.h(ev)
	}
}

// sendFailed: without a record, those behind it cannot be decrypted.
func (a *assoc) sendFailed() {
	a.mu.Lock()
	a.lost = true
	a.mu.Unlock()
	a.e.below.Abort(a.id)
}

// Full implements sctp.Association.
func (a *assoc) Full() bool {
	a.mu.Lock()
	full := a.queue.Full(a.e.lim)
	a.mu.Unlock()
	return full || a.w.behind() || a.e.below.Full(a.id)
}

// Behind implements sctp.Association.
func (a *assoc) Behind() bool {
	a.mu.Lock()
	behind := a.queue.Behind()
	a.mu.Unlock()
	return behind || a.w.behind() || a.e.below.Behind(a.id)
}

// Heartbeat implements sctp.Association.
func (a *assoc) Heartbeat() { a.e.below.Heartbeat(a.id) }

// Pause implements sctp.Association. At most one record is decrypted and not reported.
func (a *assoc) Pause() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.phase == phaseUp && !a.ended && a.over == nil {
		a.paused = true
		a.e.below.Pause(a.id)
	}
}

// Resume implements sctp.Association.
func (a *assoc) Resume() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resume()
}

// resume reports what waits, in a goroutine: the caller may be the Handler. a.mu is held.
func (a *assoc) resume() {
	if !a.paused {
		return
	}
	a.paused = false
	a.e.below.Resume(a.id)
	if a.left {
		a.e.spawn(func() {
			defer a.recovered()
			a.emitMu.Lock()
			defer a.emitMu.Unlock()
			a.mu.Lock()
			up := a.conn != nil
			a.mu.Unlock()
			if up {
				a.deliver()
			}
		})
	}
}
