package udp

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/logging"
	pionsctp "github.com/pion/sctp"

	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// pionConn is the connection that pion has instead of one to the peer.
type pionConn struct {
	a     *assoc
	pion  atomic.Pointer[pionsctp.Association]
	reads atomic.Int64 // messages that have been read from pion
	sack  lastSack
	sent  resends
	acked atomic.Int64 // stamp: when the last SACK arrived
	rwnd  uint32       // of the peer's last SACK; guarded by a.mu
	opens bool         // rwnd has grown from nearly nothing; guarded by a.mu
	fed   fed          // only pion's reading goroutine uses it

	mu     sync.Mutex
	more   sync.Cond
	in     []packetIn
	bytes  int
	opened bool // a SACK that opens the window is or was in the queue
	closed bool

	big bigChunks
}

// packetIn is a packet for pion.
type packetIn struct {
	b []byte
	// acks: it has nothing but SACKs.
	acks bool
}

// fed says what pion has read last, and is handling until its next Read.
type fed uint8

const (
	fedNothing fed = iota
	fedAcks
	fedMore
)

var _ net.Conn = (*pionConn)(nil)

func newPionConn(a *assoc) *pionConn {
	c := &pionConn{a: a}
	c.more.L = &c.mu
	return c
}

// push queues a packet for pion to read, or drops it if there is no room. a.mu is held.
func (c *pionConn) push(p packetIn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.bytes+len(p.b) > connQueue {
		c.a.m.n.Dropped.Add(1)
		return
	}
	c.opened = c.opened || c.opens
	c.opens = false
	c.in = append(c.in, p)
	c.bytes += len(p.b)
	c.more.Signal()
}

// Read is called by pion's reading goroutine when it has handled the packet before. This
// is when messages may have become readable.
func (c *pionConn) Read(b []byte) (int, error) {
	if c.windowOpened() {
		// While data are in flight, pion does not send more when the window opens.
		// It does after any other packet: Write drops the HEARTBEAT.
		c.pion.Load().ActiveHeartbeat()
	}
	c.handled()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.in) == 0 && !c.closed {
		c.more.Wait()
	}
	if c.closed {
		return 0, io.EOF
	}
	next := c.in[0]
	n := copy(b, next.b)
	c.bytes -= len(next.b)
	c.in[0] = packetIn{}
	if c.in = c.in[1:]; len(c.in) == 0 {
		c.in = nil
	}
	if c.fed = fedMore; next.acks {
		c.fed = fedAcks
	}
	return n, nil
}

// handled: pion has handled what it has read. Acknowledgements need run only if somebody waits
// for room in the queue.
func (c *pionConn) handled() {
	switch c.fed {
	case fedMore:
		c.a.poke()
	case fedAcks:
		c.a.acked()
	case fedNothing:
	}
	c.fed = fedNothing
}

// Write sends a packet of pion with the ports and checksum of the real association. It may
// change b, which pion does not use again.
func (c *pionConn) Write(b []byte) (int, error) {
	if len(b) < wire.CommonHeaderLen {
		return len(b), nil
	}
	binary.BigEndian.PutUint16(b, c.a.ep.port)
	binary.BigEndian.PutUint16(b[2:], c.a.peerPort)
	again, sackOnly := false, true
	for rest := b[wire.CommonHeaderLen:]; ; {
		ch, r, ok := wire.NextChunk(rest)
		if !ok {
			break
		}
		switch {
		case ch.Type == wire.ChunkHeartbeat:
			// pion sends HEARTBEATs without Heartbeat Info, for which a kernel
			// aborts the association. assoc sends its own.
			return len(b), nil
		case ch.Type == wire.ChunkSack && len(ch.Body) >= wire.SackHeaderLen:
			c.onSack(ch.Body)
		}
		again = c.sent.again(ch) || again
		sackOnly = sackOnly && ch.Type == wire.ChunkSack
		rest = r
	}
	c.send(wire.SealPacket(b), again, sackOnly)
	return len(b), nil
}

// resends distinguishes retransmissions of pion from new packets. Only pion's writing
// goroutine uses it.
type resends struct {
	any      bool
	highest  uint32 // TSN
	shutdown bool
}

// again notes a packet's chunk and returns whether it was sent before.
func (r *resends) again(c wire.Chunk) bool {
	switch {
	case c.Type == wire.ChunkShutdown || c.Type == wire.ChunkShutdownAck:
		before := r.shutdown
		r.shutdown = true
		return before
	case c.Type != wire.ChunkData || len(c.Body) < wire.DataHeaderLen:
		return false
	}
	tsn := binary.BigEndian.Uint32(c.Body)
	if r.any && int32(tsn-r.highest) <= 0 {
		return true
	}
	r.any, r.highest = true, tsn
	return false
}

// send sends a packet of pion over the right way: retransmissions over another one if the
// one in use fails, and SACKs to where the data came from.
func (c *pionConn) send(b []byte, again, sackOnly bool) {
	a := c.a
	w := a.out.Load()
	if again && c.late(w) {
		w = a.failover(w)
	}
	to := w
	if r := a.reply.Load(); sackOnly && r != nil {
		to = r // (RFC 9260, Section 6.4)
	}
	if a.transmitPacket(to.path.Load(), b) == nil || len(a.ways) < 2 {
		return
	}
	if next := a.failover(to); next != to {
		_ = a.transmitPacket(next.path.Load(), b)
	}
}

// late reports whether nothing has been acknowledged over a way for wayDoubt.
func (c *pionConn) late(w *way) bool {
	last := max(c.acked.Load(), w.acked.Load(), w.since.Load())
	return c.a.m.clock.since(last) >= wayDoubt
}

// onSack subtracts the data of large chunks, which are stored here, from the window, and
// notes when the window is closed while no chunk is missing.
func (c *pionConn) onSack(body []byte) {
	window := binary.BigEndian.Uint32(body[4:])
	window -= min(window, uint32(c.big.acknowledged(binary.BigEndian.Uint32(body))))
	binary.BigEndian.PutUint32(body[4:], window)
	c.sack.keep(body, window)
	if window == 0 && binary.BigEndian.Uint16(body[8:]) == 0 {
		c.windowShut()
	}
}

// peerWindow notes the peer's window before pion does.
func (c *pionConn) peerWindow(window uint32) {
	c.opens = c.opens || c.rwnd < 2*ourMTU && window >= 2*ourMTU
	c.rwnd = window
}

// windowOpened reports, once, that pion has handled a SACK that opens the peer's window.
func (c *pionConn) windowOpened() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opened || len(c.in) > 0 {
		return false
	}
	c.opened = false
	return true
}

// windowShut has run check whether a message that is too long is the cause.
func (c *pionConn) windowShut() {
	c.a.full.Store(c.reads.Load() + 1)
	c.a.poke()
}

// Close is called by pion, with its locks held.
func (c *pionConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.in = nil
	c.more.Broadcast()
	c.mu.Unlock()
	c.a.pionEnd.Store(true)
	c.a.poke()
	return nil
}

// pion does not use the addresses and deadlines.
func (c *pionConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(netip.AddrPort{}) }
func (c *pionConn) RemoteAddr() net.Addr             { return net.UDPAddrFromAddrPort(netip.AddrPort{}) }
func (c *pionConn) SetDeadline(time.Time) error      { return nil }
func (c *pionConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pionConn) SetWriteDeadline(time.Time) error { return nil }

// quiet is a logger that logs nothing: what matters is reported as an event or counted.
type quiet struct{}

var _ logging.LeveledLogger = quiet{}

func (quiet) NewLogger(string) logging.LeveledLogger { return quiet{} }
func (quiet) Trace(string)                           {}
func (quiet) Tracef(string, ...any)                  {}
func (quiet) Debug(string)                           {}
func (quiet) Debugf(string, ...any)                  {}
func (quiet) Info(string)                            {}
func (quiet) Infof(string, ...any)                   {}
func (quiet) Warn(string)                            {}
func (quiet) Warnf(string, ...any)                   {}
func (quiet) Error(string)                           {}
func (quiet) Errorf(string, ...any)                  {}
