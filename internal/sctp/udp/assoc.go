package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// assocState is the state of an association. The states of a shutdown are known only to
// pion: here they are stateEstablished.
type assocState uint8

const (
	stateCookieWait assocState = iota
	stateCookieEchoed
	stateEstablished
	stateClosed
)

// assoc is an association of user-space SCTP. It does the handshake, the heartbeats and
// the end; pion carries the data in between.
//
// The goroutine that reads the socket handles received packets. The goroutine of run
// calls the Handler and keeps the timers. pion has three goroutines more. Locks are
// locked in the order endpoint, association, mux.
type assoc struct {
	id       sctp.AssocID
	ep       *endpoint
	m        *Mux
	peerPort uint16        // SCTP
	wake     chan struct{} // run has something to do
	after    *assoc        // the association that this one replaces
	done     chan struct{} // closed after Down
	untold   bool          // in the endpoint's backlog; for run only, once it runs

	path    atomic.Pointer[path]
	peerTag atomic.Uint32
	heard   atomic.Int64 // stamp: when the last valid packet arrived

	// Set when the association is established.
	ways    []*way
	out     atomic.Pointer[way] // where packets are sent
	reply   atomic.Pointer[way] // over which data arrived last
	doubted atomic.Bool         // out has changed; run sends HEARTBEATs

	mu          sync.Mutex
	state       assocState
	local, peer wire.InitParams
	targets     []path  // where to send INITs, while connecting
	failures    []error // what those have said that are no targets any more
	tries       int
	unsent      int       // INITs in a row that could not be sent
	timer       time.Time // of the handshake, then of the heartbeat
	giveUp      time.Time // end of handshake or shutdown; zero if neither
	misses      int
	primary     *way              // whose path is in path
	refusal     *unreachableError // the last one at the primary address
	doubtAt     time.Time         // when another than the primary way was chosen
	verifyAt    time.Time         // when HEARTBEATs to silent addresses are due
	verifyWait  time.Duration
	upSent      bool
	readdressed bool // the primary address has changed, or more are confirmed
	closing     bool // Shutdown was called
	peerClosing bool
	reason      sctp.Reason
	err         error

	gate     sctp.Gate
	pionSide // guarded by mu, except as it says
	queue    sctp.SendQueue
	progress time.Time // when a message last left queue

	keys []peerKey // guarded by m.mu
}

// path is a local socket and address, and an address of the peer.
type path struct {
	sock *boundSocket
	from netip.Addr // ours; the system chooses if it is invalid
	to   netip.AddrPort
}

var errSelf = errors.New("cannot connect to itself")

// poke has run look for work.
func (a *assoc) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// reflects reports whether a tag is the peer's.
func (a *assoc) reflects(tag uint32) bool { return tag != 0 && a.peerTag.Load() == tag }

// transmit sends a packet of chunks to the peer.
func (a *assoc) transmit(p *path, tag uint32, c ...wire.Chunk) error {
	return a.transmitPacket(p, wire.PacketOf(wire.Header{Src: a.ep.port, Dst: a.peerPort, Tag: tag}, c...))
}

// transmitPacket sends a whole packet. Callers may ignore the error: the packet is lost
// then, as it may be on any network.
func (a *assoc) transmitPacket(p *path, b []byte) error {
	if p == nil || p.sock == nil {
		return nil
	}
	err := p.sock.write(b, p.to, p.from)
	if err != nil && p.from.IsValid() && len(a.ways) < 2 && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENETUNREACH)) {
		// This machine has lost the address. The peer may know the new one; if it
		// does not, it answers with an ABORT, and a new association can begin.
		err = p.sock.write(b, p.to, netip.Addr{})
	}
	return err
}

// end ends the association; run then calls the Handler. a.mu is held.
func (a *assoc) end(r sctp.Reason, err error) {
	if a.state == stateClosed {
		return
	}
	a.state, a.reason, a.err = stateClosed, r, err
	a.gate.Break()
	a.m.remove(a)
	a.poke()
}

// Pause implements sctp.Association. It has run not read from pion, whose window closes.
func (a *assoc) Pause() { a.gate.Pause() }

// Resume implements sctp.Association.
func (a *assoc) Resume() {
	if a.gate.Resume() {
		a.poke()
	}
}

// Abort implements sctp.Association.
func (a *assoc) Abort() {
	a.abort(sctp.LocalClose, nil, wire.CauseUserAbort)
	a.unpause()
}

// unpause resumes an association that is to end.
func (a *assoc) unpause() {
	if a.gate.Break() {
		a.poke()
	}
}

// abort ends the association at once and sends an ABORT.
func (a *assoc) abort(r sctp.Reason, err error, cause uint16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.abortLocked(r, err, cause, nil)
}

func (a *assoc) abortLocked(r sctp.Reason, err error, cause uint16, info []byte) {
	if a.state == stateClosed {
		return
	}
	if tag := a.peerTag.Load(); tag != 0 {
		a.transmit(a.outPath(), tag, wire.Chunk{Type: wire.ChunkAbort, Body: wire.AppendTLV(nil, cause, info)})
	}
	a.end(r, err)
}

// Shutdown implements sctp.Association.
func (a *assoc) Shutdown() {
	a.unpause()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.state == stateClosed || a.closing:
	case a.state != stateEstablished:
		a.abortLocked(sctp.LocalClose, nil, wire.CauseUserAbort, nil)
	default:
		a.closing = true
		a.giveUp = a.m.clock.now().Add(sctp.GraceTime)
		a.ep.wg.Add(1) // run has not ended, so that no Wait has returned
		go a.shutdownPion()
		a.poke()
	}
}

// remove removes an association from the tables.
func (m *Mux) remove(a *assoc) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tags[a.local.Tag] == a {
		delete(m.tags, a.local.Tag)
	}
	m.unindex(a)
}

// unindex removes an association from the table by address. m.mu is held.
func (m *Mux) unindex(a *assoc) {
	for _, k := range a.keys {
		if m.peers[k] == a {
			delete(m.peers, k)
		}
	}
	a.keys = a.keys[:0]
}

// index enters an association in the table by the peer's addresses. m.mu is held.
func (m *Mux) index(a *assoc, at ...netip.AddrPort) {
	m.unindex(a)
	for _, to := range at {
		k := peerKey{a.ep.port, a.peerPort, to}
		if m.peers[k] == nil {
			m.peers[k] = a
			a.keys = append(a.keys, k)
		}
	}
}

// setPath sets the primary path. a.mu is held.
func (a *assoc) setPath(p path) {
	if old := a.path.Load(); old != nil && *old == p {
		return
	}
	a.path.Store(&p)
	a.reindex()
}

// reindex enters the association in the table by the peer's confirmed addresses. a.mu is
// held.
func (a *assoc) reindex() {
	at := []netip.AddrPort{a.path.Load().to}
	for _, w := range a.ways {
		if w.usable() && w != a.primary {
			at = append(at, w.path.Load().to)
		}
	}
	a.m.mu.Lock()
	a.m.index(a, at...)
	a.m.mu.Unlock()
}

// encapPort returns the peer's UDP port at the primary address.
func (a *assoc) encapPort() uint16 {
	if p := a.path.Load(); p != nil {
		return p.to.Port()
	}
	return 0
}

// confirmed returns the peer's addresses, the primary one first, in two lists: confirmed
// ones, and those that the peer only lists (RFC 9260, Section 5.4). a.mu is held.
func (a *assoc) confirmed() (confirmed, claimed []netip.AddrPort) {
	for i, ap := range a.addrs() {
		if i == 0 || slices.ContainsFunc(a.ways, func(w *way) bool {
			return w.acked.Load() != 0 && w.path.Load().to.Addr() == ap.Addr()
		}) {
			confirmed = append(confirmed, ap)
		} else {
			claimed = append(claimed, ap)
		}
	}
	return confirmed, claimed
}

// addrs returns the peer's addresses, confirmed or not, the primary one first. a.mu is
// held.
func (a *assoc) addrs() []netip.AddrPort {
	var out []netip.AddrPort
	add := func(ip netip.Addr) {
		if ap := netip.AddrPortFrom(ip, a.peerPort); !slices.Contains(out, ap) {
			out = append(out, ap)
		}
	}
	if p := a.path.Load(); p != nil {
		add(p.to.Addr())
	}
	for _, ip := range a.peer.Addrs {
		add(ip)
	}
	return out
}

// Full implements sctp.Association.
func (a *assoc) Full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reap()
	return a.queue.Full(a.m.lim)
}

// Behind implements sctp.Association.
func (a *assoc) Behind() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reap()
	return a.queue.Behind()
}

// Send implements sctp.Association.
func (a *assoc) Send(msg sctp.Message) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.state == stateClosed || a.closing || a.peerClosing:
		return sctp.ErrNoAssoc
	case len(msg.Data) == 0 || len(msg.Data) > a.m.lim.MessageSize:
		return fmt.Errorf("message of %d bytes: it must have 1 to %d", len(msg.Data), a.m.lim.MessageSize)
	case msg.Stream >= a.outStreams():
		return fmt.Errorf("stream %d: the association has %d", msg.Stream, a.outStreams())
	}
	a.reap()
	if len(a.queue.Msgs) == 0 {
		a.progress = a.m.clock.now()
	}
	if !a.queue.Push(msg, a.m.lim) {
		return sctp.ErrQueueFull
	}
	if a.state != stateEstablished {
		return nil
	}
	err := a.write(msg)
	if err != nil {
		a.queue.Unpush()
	}
	return err
}

// outStreams returns the number of streams for sending. a.mu is held.
func (a *assoc) outStreams() uint16 {
	if a.state != stateEstablished {
		return ourStreams
	}
	return min(ourStreams, a.peer.In)
}
