package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// receive handles the chunks of a packet. Chunks for pion are checked for their form and
// passed on. It returns false if the packet is not the association's (RFC 9260, Section
// 8.5), because the peer has not listed the address that it comes from. The caller then
// answers with an ABORT: behind a NAT that has assigned a new address, the peer would
// otherwise wait until it gives up.
func (a *assoc) receive(in arrival, chunks []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	// It may have ended since it was found, before it had a path.
	known := a.state != stateClosed && a.knows(in.from.Addr())
	if a.state == stateEstablished && !known {
		return false
	}
	if !known {
		a.m.n.OutOfTheBlue.Add(1)
		return true
	}
	var fwd forward
	for len(chunks) > 0 && a.state != stateClosed {
		c, rest, ok := wire.NextChunk(chunks)
		if !ok {
			a.m.n.Malformed.Add(1)
			break
		}
		if !a.onChunk(in, c, &fwd) {
			break
		}
		chunks = rest
	}
	if a.state == stateEstablished {
		now := a.m.clock.now()
		a.onWay(in, fwd.used, now)
		a.misses = 0
		a.heard.Store(a.m.clock.stamp(now))
		fwd.flush(a.conn)
	}
	return true
}

// knows reports whether a packet may come from an address of this peer. The association has not
// ended. a.mu is held.
func (a *assoc) knows(ip netip.Addr) bool {
	if a.state == stateCookieWait {
		return slices.ContainsFunc(a.targets, func(p path) bool { return p.to.Addr() == ip })
	}
	return a.path.Load().to.Addr() == ip || slices.Contains(a.peer.Addrs, ip)
}

// onChunk handles one chunk and returns whether to go on with the packet.
func (a *assoc) onChunk(in arrival, c wire.Chunk, fwd *forward) bool {
	switch c.Type {
	case wire.ChunkInitAck:
		a.onInitAck(in, c.Body)
		return false
	case wire.ChunkCookieAck:
		if p := a.path.Load(); a.state == stateCookieEchoed {
			if in.from.Addr() != p.to.Addr() {
				// The peer has proved only that it receives packets at the address
				// of the COOKIE ECHO. Packets from another one may be forged.
				in.sock, in.to, in.from = p.sock, p.from, p.to
			}
			a.establish(in)
		}
		return true
	case wire.ChunkAbort:
		a.onAbort(in, c)
		return false
	case wire.ChunkError:
		a.onError(c)
		return true
	}
	if a.state != stateEstablished {
		return false // the peer repeats it
	}
	switch c.Type {
	case wire.ChunkHeartbeat:
		p := path{in.sock, in.to, in.from}
		a.transmit(&p, a.peerTag.Load(), wire.Chunk{Type: wire.ChunkHeartbeatAck, Body: c.Body})
	case wire.ChunkHeartbeatAck:
		a.onHeartbeatAck(in, c.Body)
	case wire.ChunkCookieEcho, wire.ChunkInit:
	case wire.ChunkData:
		if w := a.wayOf(in); w != nil && w.usable() {
			a.reply.Store(w)
		}
		return a.onData(c, fwd)
	case wire.ChunkSack:
		if len(c.Body) < wire.SackHeaderLen || len(c.Body) != wire.SackHeaderLen+
			4*(int(binary.BigEndian.Uint16(c.Body[8:]))+int(binary.BigEndian.Uint16(c.Body[10:]))) {
			return a.violated(wire.CauseProtocolViolation, "SACK of a wrong length")
		}
		a.conn.acked.Store(a.m.clock.stampNow())
		a.conn.peerWindow(binary.BigEndian.Uint32(c.Body[4:]))
		fwd.add(a.conn, c)
	case wire.ChunkShutdown, wire.ChunkShutdownAck, wire.ChunkShutdownComplete:
		return a.onShutdown(c, fwd)
	default:
		return a.onUnknown(in, c)
	}
	return true
}

// onInitAck handles INIT ACK; the state becomes COOKIE-ECHOED (RFC 9260, Section 5.1).
func (a *assoc) onInitAck(in arrival, body []byte) {
	if a.state != stateCookieWait {
		return
	}
	p, err := wire.ParseInit(body)
	if err == nil && p.Cookie == nil {
		err = errors.New("INIT ACK has no cookie")
	}
	if err != nil {
		a.m.n.Malformed.Add(1)
		a.dropTarget(in.cameFrom, err)
		return
	}
	a.m.cameFrom(&p, in.from.Addr())
	a.peer = p
	a.peerTag.Store(p.Tag)
	a.setPath(path{in.sock, in.to, in.from})
	a.state, a.tries, a.timer = stateCookieEchoed, 0, a.m.clock.now()
	a.poke()
}

func (a *assoc) onAbort(in arrival, c wire.Chunk) {
	err, cause := sctp.ErrAborted, uint16(0)
	if len(c.Body) >= 4 {
		cause = binary.BigEndian.Uint16(c.Body)
		err = fmt.Errorf("%w: %s", err, wire.CauseText(cause))
	}
	switch {
	case a.state == stateEstablished && (a.closing || a.peerClosing):
		// The peer has finished the shutdown already.
		a.end(a.lostReason(), err)
		return
	case a.state == stateEstablished:
		a.end(sctp.PeerAbort, err)
		return
	}
	if wire.IsRefusal(cause) {
		err = fmt.Errorf("%w: %w", sctp.ErrRefused, err)
	}
	if a.state == stateCookieWait {
		a.dropTarget(in.cameFrom, err)
		return
	}
	a.end(sctp.ConnectFailed, err)
}

// onError begins the handshake again if the peer's cookie has become too old (RFC 9260,
// Section 5.2.6). It ignores other errors.
func (a *assoc) onError(c wire.Chunk) {
	if a.state != stateCookieEchoed || len(c.Body) < 4 || binary.BigEndian.Uint16(c.Body) != wire.CauseStaleCookie {
		return
	}
	a.state, a.tries, a.timer = stateCookieWait, 0, a.m.clock.now()
	a.peerTag.Store(0)
	a.targets = []path{*a.path.Load()}
	a.poke()
}

// onData checks DATA and passes it to pion, which must have the stream open.
func (a *assoc) onData(c wire.Chunk, fwd *forward) bool {
	if len(c.Body) < wire.DataHeaderLen {
		return a.violated(wire.CauseProtocolViolation, "DATA of a wrong length")
	}
	if len(c.Body) == wire.DataHeaderLen {
		return a.violated(wire.CauseNoUserData, "DATA without data")
	}
	sid := binary.BigEndian.Uint16(c.Body[4:])
	if sid >= ourStreams {
		return a.violated(wire.CauseInvalidStream, fmt.Sprintf("DATA on stream %d of %d", sid, ourStreams))
	}
	if _, err := a.stream(sid); err != nil {
		return false // shutting down
	}
	fwd.addData(a.conn, c)
	return true
}

func (a *assoc) onShutdown(c wire.Chunk, fwd *forward) bool {
	want := 0
	if c.Type == wire.ChunkShutdown {
		want = 4
		if !a.peerClosing {
			a.peerClosing = true
			a.giveUp = a.m.clock.now().Add(sctp.GraceTime)
			a.poke()
		}
	}
	if len(c.Body) != want {
		return a.violated(wire.CauseProtocolViolation, "SHUTDOWN of a wrong length")
	}
	c.Flags = 0 // the T bit has been handled
	fwd.add(a.conn, c)
	return true
}

// violated aborts the association of a peer that breaks the protocol.
func (a *assoc) violated(cause uint16, what string) bool {
	a.m.n.Malformed.Add(1)
	a.abortLocked(sctp.Overrun, errors.New(what), cause, nil)
	return false
}

// onUnknown skips an unknown chunk or the rest of the packet, and reports the chunk if it
// must be, by the high bits of its type (RFC 9260, Section 3.2).
func (a *assoc) onUnknown(in arrival, c wire.Chunk) bool {
	if c.Type&0x40 != 0 && a.m.ootb.allow(in.from.Addr(), a.m.clock.now()) {
		head := binary.BigEndian.AppendUint16([]byte{byte(c.Type), c.Flags}, uint16(wire.ChunkHeaderLen+len(c.Body)))
		info := append(head, c.Body[:min(len(c.Body), wire.MaxReported)]...)
		p := path{in.sock, in.to, in.from}
		a.transmit(&p, a.peerTag.Load(), wire.Chunk{Type: wire.ChunkError, Body: wire.AppendTLV(nil, wire.CauseUnrecognizedChunk, info)})
	}
	return c.Type&0x80 != 0
}
