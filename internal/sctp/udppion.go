package sctp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/logging"
	"github.com/pion/sctp"
)

const (
	// pionPort is the SCTP port that pion uses at both ends.
	pionPort = 5000
	// pionMTU is the most that pion reads at a time.
	pionMTU = 8192
	// ourMTU is the size of the SCTP packets that we send: what fits the IPv6
	// minimum MTU with IPv6 and UDP headers, as we do not probe for more.
	ourMTU = 1280 - 40 - 8
	// rtoMax bounds how rarely what a peer does not acknowledge is sent again
	// (RFC 9260, Section 16, has 60 s): a peer that comes back is served soon.
	rtoMax = 10 * time.Second
	// connQueue bounds the bytes that lie between the socket and pion.
	connQueue = 512 << 10
)

// recvWindow is the receive window that we grant: it holds the largest message
// and as much again.
func recvWindow(lim Limits) int { return max(2*lim.MessageSize, 128<<10) }

// establish hands the association, whose handshake is done, to pion: it takes
// both sides' INITs as if it had exchanged them itself
// (draft-hancke-tsvwg-snap). Then it sends what has been queued. a.mu is held.
func (a *udpAssoc) establish(in arrival) {
	a.peerTag.Store(a.peer.tag)
	a.setPath(path{in.sock, in.to, in.from})
	a.peer.addrs = slices.DeleteFunc(a.peer.addrs, func(ip netip.Addr) bool {
		return !inScope(ip, in.from.Addr()) || ip.Is6() && ip.IsLinkLocalUnicast()
	})
	a.conn = newPionConn(a)
	local, remote := a.local, a.peer
	remote.rwnd = max(remote.rwnd, minRwnd)
	pion, err := sctp.ClientContext(context.Background(),
		sctp.WithNetConn(a.conn),
		sctp.WithLoggerFactory(quiet{}),
		sctp.WithName("udp"),
		sctp.WithMTU(ourMTU),
		sctp.WithEnableInterleaving(false),
		sctp.WithEnableZeroChecksum(true), // the checksum is done here
		sctp.WithMaxReceiveBufferSize(uint32(recvWindow(a.m.lim))),
		sctp.WithRTOMax(float64(rtoMax.Milliseconds())),
		sctp.WithMaxMessageSize(uint32(a.m.lim.MessageSize)),
		sctp.WithSNAP(pionInit(local), pionInit(remote)),
	)
	if err != nil {
		a.end(ConnectFailed, fmt.Errorf("pion/sctp: %w", err))
		return
	}
	now := time.Now()
	a.heard.Store(now.UnixNano())
	a.pathHeard = now.UnixNano()
	a.state, a.pion, a.timer, a.giveUp = stateEstablished, pion, now.Add(a.m.lim.Heartbeat), time.Time{}
	a.calls, a.peer.cookie, a.misses = nil, nil, 0
	a.learn()
	for _, msg := range a.queue.msgs {
		if err := a.write(msg); err != nil {
			break // it is on its way down
		}
	}
	a.poke()
}

// pionInit is an INIT for pion's eyes. It offers none of pion's extensions,
// but that checksums need not be computed, which is between pion and us.
func pionInit(p initParams) []byte {
	body := appendTLV(p.appendFixed(nil), 0x8001, []byte{0, 0, 0, 1})
	return appendChunk(nil, chunk{typ: chunkInit, body: body})
}

// stream gives pion's stream, opening it if need be. a.mu is held.
func (a *udpAssoc) stream(sid uint16) (*sctp.Stream, error) {
	if s := a.streams[sid]; s != nil {
		return s, nil
	}
	s, err := a.pion.OpenStream(sid, 0)
	if err != nil {
		return nil, err
	}
	// A deadline in the past makes reads return at once when there is nothing.
	_ = s.SetReadDeadline(time.Unix(1, 0))
	if a.streams == nil {
		a.streams = make(map[uint16]*sctp.Stream)
	}
	a.streams[sid] = s
	a.readers = append(a.readers, s)
	return s, nil
}

// write gives a message to pion, which does not block. a.mu is held.
func (a *udpAssoc) write(msg Message) error {
	s, err := a.stream(msg.Stream)
	if err == nil {
		_, err = s.WriteSCTP(msg.Data, sctp.PayloadProtocolIdentifier(msg.PPID))
	}
	if err != nil {
		return ErrNoAssoc
	}
	return nil
}

// reap forgets queued messages that the peer has acknowledged. a.mu is held.
func (a *udpAssoc) reap() {
	if a.pion != nil {
		a.queue.keep(a.pion.BufferedAmount())
	}
}

// shutdownPion lets pion do the shutdown.
func (a *udpAssoc) shutdownPion() {
	defer a.ep.wg.Done()
	a.mu.Lock()
	pion := a.pion
	a.mu.Unlock()
	if pion == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), graceTime)
	defer cancel()
	_ = pion.Shutdown(ctx)
	a.poke()
}

// drain hands the messages that have come to the Handler. It is called by run
// alone.
func (a *udpAssoc) drain(readers []*sctp.Stream) {
	if len(readers) == 0 {
		return
	}
	full := a.full.Load()
	buf := a.m.getBuf()
	defer a.m.putBuf(buf)
	defer a.updateWindow()
	for _, s := range readers {
		for {
			n, ppid, err := s.ReadSCTP(*buf)
			if errors.Is(err, io.ErrShortBuffer) {
				a.overrun()
				return
			}
			if err != nil {
				break // nothing (more) there
			}
			data, ok := a.conn.unpack((*buf)[:n], a.m.lim.MessageSize)
			if !ok {
				a.overrun()
				return
			}
			a.read++
			a.conn.sack.taken(n)
			a.conn.reads.Store(a.read)
			a.tell(Event{Type: Received, Message: Message{Data: data, PPID: uint32(ppid), Stream: s.StreamIdentifier()}})
		}
	}
	// The window was shut with nothing missing, and still there was no whole
	// message to read: then none will come of it.
	if full != 0 && full == a.read+1 && a.full.CompareAndSwap(full, 0) {
		a.overrun()
	}
}

// updateWindow tells the peer that its window is open again, which pion leaves
// to the peer to find out by probes (RFC 9260, Section 6.2).
func (a *udpAssoc) updateWindow() {
	body := a.conn.sack.update(uint32(recvWindow(a.m.lim)))
	if body == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == stateEstablished {
		a.transmit(a.path.Load(), a.peerTag.Load(), chunk{typ: chunkSack, body: body})
	}
}

// overrun cuts off a peer that sends a message beyond the limit.
func (a *udpAssoc) overrun() {
	a.abort(Overrun, fmt.Errorf("peer sent a message of more than %d bytes", a.m.lim.MessageSize), causeOutOfResource)
}

// pionConn is the connection that pion thinks it has to its peer.
type pionConn struct {
	a     *udpAssoc
	reads counter64
	sack  lastSack

	mu     sync.Mutex
	more   sync.Cond
	in     [][]byte
	bytes  int
	fed    bool
	closed bool

	big bigChunks
}

var _ net.Conn = (*pionConn)(nil)

func newPionConn(a *udpAssoc) *pionConn {
	c := &pionConn{a: a}
	c.more.L = &c.mu
	return c
}

// push gives pion a packet to read. What it has no room for is lost.
func (c *pionConn) push(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.bytes+len(b) > connQueue {
		c.a.m.n.dropped.Add(1)
		return
	}
	c.in = append(c.in, b)
	c.bytes += len(b)
	c.more.Signal()
}

// Read is called by pion's reading goroutine, and not before it has dealt with
// the packet before: that is when messages may have become readable.
func (c *pionConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fed {
		c.fed = false
		c.a.poke()
	}
	for len(c.in) == 0 && !c.closed {
		c.more.Wait()
	}
	if c.closed {
		return 0, io.EOF
	}
	n := copy(b, c.in[0])
	c.bytes -= len(c.in[0])
	c.in[0] = nil
	if c.in = c.in[1:]; len(c.in) == 0 {
		c.in = nil
	}
	c.fed = true
	return n, nil
}

// Write sends a packet of pion's, with the ports and checksum of the real
// association. It owns b, which pion has just made.
func (c *pionConn) Write(b []byte) (int, error) {
	if len(b) < commonHeaderLen {
		return len(b), nil
	}
	binary.BigEndian.PutUint16(b, c.a.ep.port)
	binary.BigEndian.PutUint16(b[2:], c.a.peerPort)
	for rest := b[commonHeaderLen:]; ; {
		ch, r, ok := nextChunk(rest)
		if !ok {
			break
		}
		switch {
		case ch.typ == chunkHeartbeat:
			// pion probes without the Heartbeat Info, which it forgets to
			// write, and a kernel aborts for that. The heartbeats are ours.
			return len(b), nil
		case ch.typ == chunkSack && len(ch.body) >= sackHeaderLen:
			c.onSack(ch.body)
		}
		rest = r
	}
	c.a.transmitPacket(c.a.path.Load(), sealPacket(b))
	return len(b), nil
}

// onSack corrects the window by what lies here, and notes when it is shut
// though nothing is missing.
func (c *pionConn) onSack(body []byte) {
	window := binary.BigEndian.Uint32(body[4:])
	window -= min(window, uint32(c.big.acknowledged(binary.BigEndian.Uint32(body))))
	binary.BigEndian.PutUint32(body[4:], window)
	c.sack.keep(body, window)
	if window == 0 && binary.BigEndian.Uint16(body[8:]) == 0 {
		c.windowShut()
	}
}

// windowShut has run look whether a message that cannot be taken is the cause.
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

// The addresses and deadlines are of no use to pion.
func (c *pionConn) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(netip.AddrPort{}) }
func (c *pionConn) RemoteAddr() net.Addr             { return net.UDPAddrFromAddrPort(netip.AddrPort{}) }
func (c *pionConn) SetDeadline(time.Time) error      { return nil }
func (c *pionConn) SetReadDeadline(time.Time) error  { return nil }
func (c *pionConn) SetWriteDeadline(time.Time) error { return nil }

// quiet is a logger that says nothing: what matters of what pion would log
// comes as an event or a counter.
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
