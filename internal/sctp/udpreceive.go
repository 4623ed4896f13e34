package sctp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// receive takes in the chunks of a packet. What is pion's is checked for its
// form first and handed on; the rest is dealt with here. It reports false if the
// packet is not the association's (RFC 9260, Section 8.5), because the peer has not
// named the address that it comes from. The peer has to be told then: a NAT that
// has given it another address would make it wait until it gives us up.
func (a *udpAssoc) receive(in arrival, chunks []byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	known := a.knows(in.from.Addr())
	if a.state == stateEstablished && !known {
		return false
	}
	if a.state == stateClosed || !known {
		a.m.n.outOfTheBlue.Add(1)
		return true
	}
	var fwd forward
	for len(chunks) > 0 && a.state != stateClosed {
		c, rest, ok := nextChunk(chunks)
		if !ok {
			a.m.n.malformed.Add(1)
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

// knows says whether a packet may come from an address of this peer.
func (a *udpAssoc) knows(ip netip.Addr) bool {
	if a.state == stateCookieWait {
		return slices.ContainsFunc(a.calls, func(p path) bool { return p.to.Addr() == ip })
	}
	return a.path.Load().to.Addr() == ip || slices.Contains(a.peer.addrs, ip)
}

// learn remembers the peer's UDP port for calling it. a.mu is held.
func (a *udpAssoc) learn() {
	p := a.path.Load()
	for i, ap := range a.addrs() {
		a.m.encap.learn(ap, p.to.Port(), i == 0)
	}
}

// onChunk handles one chunk and says whether to go on with the packet.
func (a *udpAssoc) onChunk(in arrival, c chunk, fwd *forward) bool {
	switch c.typ {
	case chunkInitAck:
		a.onInitAck(in, c.body)
		return false
	case chunkCookieAck:
		if p := a.path.Load(); a.state == stateCookieEchoed {
			if in.from.Addr() != p.to.Addr() {
				// Only where the COOKIE ECHO went the peer has proved to be. From
				// another address that it claims anybody can send.
				in.sock, in.to, in.from = p.sock, p.from, p.to
			}
			a.establish(in)
		}
		return true
	case chunkAbort:
		a.onAbort(in, c)
		return false
	case chunkError:
		a.onError(c)
		return true
	}
	if a.state != stateEstablished {
		return false // it will come again
	}
	switch c.typ {
	case chunkHeartbeat:
		p := path{in.sock, in.to, in.from}
		a.transmit(&p, a.peerTag.Load(), chunk{typ: chunkHeartbeatAck, body: c.body})
	case chunkHeartbeatAck:
		a.onHeartbeatAck(in, c.body)
	case chunkCookieEcho, chunkInit:
	case chunkData:
		if w := a.wayOf(in); w != nil && w.usable() {
			a.reply.Store(w)
		}
		return a.onData(c, fwd)
	case chunkSack:
		if len(c.body) < sackHeaderLen || len(c.body) != sackHeaderLen+
			4*(int(binary.BigEndian.Uint16(c.body[8:]))+int(binary.BigEndian.Uint16(c.body[10:]))) {
			return a.violated(causeProtocolViolation, "SACK of a wrong length")
		}
		a.conn.acked.Store(a.m.clock.stampNow())
		a.conn.peerWindow(binary.BigEndian.Uint32(c.body[4:]))
		fwd.add(a.conn, c)
	case chunkShutdown, chunkShutdownAck, chunkShutdownComplete:
		return a.onShutdown(c, fwd)
	default:
		return a.onUnknown(in, c)
	}
	return true
}

// onInitAck goes on to COOKIE-ECHOED (RFC 9260, Section 5.1).
func (a *udpAssoc) onInitAck(in arrival, body []byte) {
	if a.state != stateCookieWait {
		return
	}
	p, err := parseInit(body)
	if err == nil && p.cookie == nil {
		err = errors.New("INIT ACK has no cookie")
	}
	if err != nil {
		a.m.n.malformed.Add(1)
		a.dropCall(in.cameFrom, err)
		return
	}
	p.from(in.from.Addr())
	a.peer = p
	a.peerTag.Store(p.tag)
	a.setPath(path{in.sock, in.to, in.from})
	a.state, a.tries, a.timer = stateCookieEchoed, 0, a.m.clock.now()
	a.poke()
}

func (a *udpAssoc) onAbort(in arrival, c chunk) {
	err := errors.New("peer aborted the association")
	if len(c.body) >= 4 {
		err = fmt.Errorf("%w: %s", err, causeText(binary.BigEndian.Uint16(c.body)))
	}
	switch {
	case a.state == stateEstablished && (a.closing || a.peerClosing):
		// The peer had finished the shutdown already.
		a.end(a.lostReason(), err)
		return
	case a.state == stateEstablished:
		a.end(PeerAbort, err)
		return
	}
	err = fmt.Errorf("%w: %w", errRefused, err)
	if a.state == stateCookieWait {
		a.dropCall(in.cameFrom, err)
		return
	}
	a.end(ConnectFailed, err)
}

// onError starts the handshake anew where the peer found its cookie too old
// (RFC 9260, Section 5.2.6). Other errors are for reading only.
func (a *udpAssoc) onError(c chunk) {
	if a.state != stateCookieEchoed || len(c.body) < 4 || binary.BigEndian.Uint16(c.body) != causeStaleCookie {
		return
	}
	a.state, a.tries, a.timer = stateCookieWait, 0, a.m.clock.now()
	a.peerTag.Store(0)
	a.calls = []path{*a.path.Load()}
	a.poke()
}

// onData checks DATA and hands it to pion, on a stream that is open there.
func (a *udpAssoc) onData(c chunk, fwd *forward) bool {
	if len(c.body) < dataHeaderLen {
		return a.violated(causeProtocolViolation, "DATA of a wrong length")
	}
	if len(c.body) == dataHeaderLen {
		return a.violated(causeNoUserData, "DATA without data")
	}
	sid := binary.BigEndian.Uint16(c.body[4:])
	if sid >= ourStreams {
		return a.violated(causeInvalidStream, fmt.Sprintf("DATA on stream %d of %d", sid, ourStreams))
	}
	if _, err := a.stream(sid); err != nil {
		return false // shutting down
	}
	fwd.addData(a.conn, c)
	return true
}

func (a *udpAssoc) onShutdown(c chunk, fwd *forward) bool {
	want := 0
	if c.typ == chunkShutdown {
		want = 4
		if !a.peerClosing {
			a.peerClosing = true
			a.giveUp = a.m.clock.now().Add(graceTime)
			a.poke()
		}
	}
	if len(c.body) != want {
		return a.violated(causeProtocolViolation, "SHUTDOWN of a wrong length")
	}
	c.flags = 0 // the T bit has been looked at
	fwd.add(a.conn, c)
	return true
}

// violated cuts off a peer that breaks the protocol.
func (a *udpAssoc) violated(cause uint16, what string) bool {
	a.m.n.malformed.Add(1)
	a.abortLocked(Overrun, errors.New(what), cause, nil)
	return false
}

// onUnknown skips an unknown chunk, or the rest of the packet, and reports it,
// as its high bits say (RFC 9260, Section 3.2).
func (a *udpAssoc) onUnknown(in arrival, c chunk) bool {
	if c.typ&0x40 != 0 && a.m.blue.allow(in.from.Addr(), a.m.clock.now()) {
		head := binary.BigEndian.AppendUint16([]byte{byte(c.typ), c.flags}, uint16(chunkHeaderLen+len(c.body)))
		info := append(head, c.body[:min(len(c.body), maxReported)]...)
		p := path{in.sock, in.to, in.from}
		a.transmit(&p, a.peerTag.Load(), chunk{typ: chunkError, body: appendTLV(nil, causeUnrecognizedChunk, info)})
	}
	return c.typ&0x80 != 0
}
