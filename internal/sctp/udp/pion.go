package udp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	pionsctp "github.com/pion/sctp"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

const (
	// pionPort is the SCTP port that pion uses at both ends.
	pionPort = 5000
	// pionMTU is the largest packet that pion reads, in bytes.
	pionMTU = 8192
	// ourMTU is the largest SCTP packet that is sent: with IPv6 and UDP headers it
	// has the IPv6 minimum MTU. There is no path MTU discovery.
	ourMTU = ipv6MinMTU - 40 - 8
	// ipv6MinMTU is the packet size that every IPv6 path carries (RFC 8200,
	// Section 5).
	ipv6MinMTU = 1280
	// rtoMax is RTO.Max (RFC 9260, Section 16, has 60 s), so that a peer that comes
	// back gets its data soon.
	rtoMax = 10 * time.Second
	// connQueue bounds the bytes between the socket and pion.
	connQueue = 512 << 10
)

// pionSide is what an association has of pion/sctp.
type pionSide struct {
	conn    *pionConn
	pion    *pionsctp.Association
	streams map[uint16]*pionsctp.Stream
	readers []*pionsctp.Stream
	read    int64        // messages read from pion; for run only
	pionEnd atomic.Bool  // pion has closed its connection
	full    atomic.Int64 // 1 + messages read when the window was last found closed
	shut    int64        // full when nothing was read after it; for run only
}

// recvWindow returns the receive window: twice the largest message.
func recvWindow(lim sctp.Limits) int { return max(2*lim.MessageSize, 128<<10) }

// establish hands the association to pion after the handshake: pion gets the INITs of
// both sides as if it had exchanged them itself (draft-hancke-tsvwg-snap). Then it sends
// the queue. a.mu is held.
func (a *assoc) establish(in arrival) {
	a.peerTag.Store(a.peer.Tag)
	a.setPath(path{in.sock, in.to, in.from})
	now := a.m.clock.now()
	a.makeWays(*a.path.Load(), now)
	a.conn = newPionConn(a)
	a.conn.acked.Store(a.m.clock.stamp(now))
	local, remote := a.local, a.peer
	remote.RWND = max(remote.RWND, wire.MinRwnd)
	pion, err := pionsctp.ClientContext(context.Background(),
		pionsctp.WithNetConn(a.conn),
		pionsctp.WithLoggerFactory(quiet{}),
		pionsctp.WithName("udp"),
		pionsctp.WithMTU(ourMTU),
		pionsctp.WithEnableInterleaving(false),
		pionsctp.WithEnableZeroChecksum(true), // the checksum is done here
		pionsctp.WithMaxReceiveBufferSize(uint32(recvWindow(a.m.lim))),
		pionsctp.WithRTOMax(float64(rtoMax.Milliseconds())),
		pionsctp.WithMaxMessageSize(uint32(a.m.lim.MessageSize)),
		pionsctp.WithSNAP(pionInit(local), pionInit(remote)),
	)
	if err != nil {
		a.end(sctp.ConnectFailed, fmt.Errorf("pion/sctp: %w", err))
		return
	}
	a.conn.pion.Store(pion)
	a.heard.Store(a.m.clock.stamp(now))
	a.state, a.pion, a.timer, a.giveUp = stateEstablished, pion, now.Add(a.m.lim.Heartbeat), time.Time{}
	a.targets, a.peer.Cookie, a.misses = nil, nil, 0
	a.learn(a.primary)
	for _, msg := range a.queue.Msgs {
		if err := a.write(msg); err != nil {
			break // the association is ending
		}
	}
	a.poke()
}

// pionInit returns an INIT for pion. Of pion's extensions it offers only that checksums
// need not be computed, because Mux and pionConn do that.
func pionInit(p wire.InitParams) []byte {
	body := wire.AppendTLV(p.AppendFixed(nil), 0x8001, []byte{0, 0, 0, 1})
	return wire.AppendChunk(nil, wire.Chunk{Type: wire.ChunkInit, Body: body})
}

// stream returns pion's stream and opens it if necessary. a.mu is held.
func (a *assoc) stream(sid uint16) (*pionsctp.Stream, error) {
	if s := a.streams[sid]; s != nil {
		return s, nil
	}
	s, err := a.pion.OpenStream(sid, 0)
	if err != nil {
		return nil, err
	}
	// With a deadline in the past, reads do not wait.
	_ = s.SetReadDeadline(time.Unix(1, 0))
	if a.streams == nil {
		a.streams = make(map[uint16]*pionsctp.Stream)
	}
	a.streams[sid] = s
	a.readers = append(a.readers, s)
	return s, nil
}

// write returns a message to pion, which does not block. a.mu is held.
func (a *assoc) write(msg sctp.Message) error {
	s, err := a.stream(msg.Stream)
	if err == nil {
		if msg.Unordered {
			s.SetReliabilityParams(true, pionsctp.ReliabilityTypeReliable, 0)
			defer s.SetReliabilityParams(false, pionsctp.ReliabilityTypeReliable, 0)
		}
		_, err = s.WriteSCTP(msg.Data, pionsctp.PayloadProtocolIdentifier(msg.PPID))
	}
	if err != nil {
		return sctp.ErrNoAssoc
	}
	return nil
}

// reap removes messages that the peer has acknowledged from the queue. a.mu is held.
func (a *assoc) reap() {
	if a.pion == nil {
		return
	}
	n := len(a.queue.Msgs)
	a.queue.Keep(a.pion.BufferedAmount())
	if len(a.queue.Msgs) < n {
		a.progress = a.m.clock.now()
	}
}

// acked: pion has handled acknowledgements.
func (a *assoc) acked() {
	a.mu.Lock()
	a.reap()
	waits := a.queue.Refused()
	a.mu.Unlock()
	if waits {
		a.poke()
	}
}

// writable reports, once, that there is room in the queue again. It also ends the
// association if pion has.
func (a *assoc) writable() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == stateEstablished && a.pionEnd.Load() {
		a.pionEnded()
	}
	if a.state != stateEstablished || !a.upSent {
		return false
	}
	a.reap()
	return a.queue.Relieved(a.m.lim)
}

// pionEnded ends the association after pion has closed its connection. a.mu is held.
func (a *assoc) pionEnded() {
	switch {
	case a.closing, a.peerClosing:
		a.end(a.lostReason(), nil)
	default:
		a.end(sctp.Overrun, fmt.Errorf("peer broke the protocol"))
	}
}

// shutdownPion has pion do the shutdown.
func (a *assoc) shutdownPion() {
	defer a.ep.wg.Done()
	a.mu.Lock()
	pion := a.pion
	a.mu.Unlock()
	if pion == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), sctp.GraceTime)
	defer cancel()
	_ = pion.Shutdown(ctx)
	a.poke()
}

// drain passes the received messages to the Handler. It returns false if the Handler has
// paused the association, so that messages may be left. Only run calls it.
func (a *assoc) drain(readers []*pionsctp.Stream) (all bool) {
	if len(readers) == 0 {
		return true
	}
	full := a.full.Load()
	buf := a.m.getBuf()
	defer a.m.putBuf(buf)
	defer a.updateWindow()
	for _, s := range readers {
		for {
			if a.gate.Paused() != nil {
				return false
			}
			n, ppid, err := s.ReadSCTP(*buf)
			if errors.Is(err, io.ErrShortBuffer) {
				a.overrun()
				return true
			}
			if err != nil {
				break // nothing more
			}
			data, ok := a.conn.unpack((*buf)[:n], a.m.lim.MessageSize)
			if !ok {
				a.overrun()
				return true
			}
			a.read++
			a.conn.sack.delivered(n)
			a.conn.reads.Store(a.read)
			a.emit(sctp.Event{Type: sctp.Received, Message: sctp.Message{Data: data, PPID: uint32(ppid), Stream: s.StreamIdentifier()}})
		}
	}
	// The window was closed while no chunk was missing, and still no message is whole.
	// Once, this may be a SACK that pion made before the messages were read. Twice, the
	// message is too long for the window.
	if full != 0 && full == a.read+1 && a.full.CompareAndSwap(full, 0) {
		if a.shut == full {
			a.overrun()
		}
		a.shut = full
	}
	return true
}

// updateWindow tells the peer that the window is open again. pion does not, so that the
// peer would have to find out by probes (RFC 9260, Section 6.2).
func (a *assoc) updateWindow() {
	body := a.conn.sack.update(uint32(recvWindow(a.m.lim)))
	if body == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == stateEstablished {
		a.transmit(a.outPath(), a.peerTag.Load(), wire.Chunk{Type: wire.ChunkSack, Body: body})
	}
}

// overrun aborts the association of a peer that sends too long a message.
func (a *assoc) overrun() {
	a.abort(sctp.Overrun, fmt.Errorf("peer sent a message of more than %d bytes", a.m.lim.MessageSize), wire.CauseOutOfResource)
}
