package soak

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// lean is an element of a lean throng, with its association: what the wire needs of RFC 9260,
// and no more. It takes DATA only in the order of their TSNs, so that the peer repeats what
// comes behind a loss.
type lean struct {
	i, fd int
	port  uint16 // for UDP and SCTP
	state leanState

	tag, peerTag uint32
	tsn, cum     uint32 // the next own TSN, and the last one of the peer
	ssn          uint16
	cookie       []byte
	unacked      []leanData // the first sent ones have been sent
	sent         int
	sack         bool   // it is to be sent
	part         []byte // of a message in fragments
	tls          *leanTLS
	tries, miss  int
	giveUp       time.Duration

	home    bool // the association is that with the home registrar
	stands  bool // the registration stands
	former  bool // it stood when the association was lost
	server  rserpool.ServerID
	renewBy time.Duration
	pause   time.Duration // the last one before an attempt to connect
	quiet   leanQuiet
	at      [leanTimerKinds]time.Duration // 0: not set
	alarm   time.Duration
}

type leanState uint8

const (
	leanDown leanState = iota
	leanInit           // INIT is sent
	leanEcho           // COOKIE ECHO is sent
	leanUp
	leanShut // SHUTDOWN ACK is sent
)

// leanData is a DATA chunk.
type leanData struct {
	tsn   uint32
	chunk wire.Chunk
}

// The limits of internal/sctp/udp and pion/sctp.
const (
	leanRTO       = time.Second
	leanMostRTO   = 10 * time.Second
	leanHandshake = 10 * time.Second
	leanSilence   = 10 * time.Second
	leanMisses    = 3
	leanMTU       = 1232
	leanFragment  = leanMTU - wire.CommonHeaderLen - wire.ChunkHeaderLen - wire.DataHeaderLen
	leanWindow    = 131200
	leanStreams   = 64

	flagBegin, flagUnordered = 2, 4
)

func (e *lean) id() rserpool.PEID { return rserpool.PEID(e.i + 1) }

// end forgets an association.
func (e *lean) end() {
	e.state, e.peerTag, e.cookie, e.unacked, e.sent, e.part, e.sack = leanDown, 0, nil, nil, 0, nil, false
	e.at[leanRepeat], e.at[leanIdle] = 0, 0
	if e.tls != nil {
		e.tls.end()
		e.tls = nil
	}
}

// packet sends a packet of chunks.
func (c *leanThrong) packet(e *lean, tag uint32, chunks ...wire.Chunk) {
	b := wire.AppendHeader(c.out[:0], wire.Header{Src: e.port, Dst: c.port, Tag: tag})
	for _, ch := range chunks {
		b = wire.AppendChunk(b, ch)
	}
	c.out = b
	c.write(e, wire.SealPacket(b))
}

// connect sends INIT, unless the registrar has connected to the element.
func (c *leanThrong) connect(e *lean) {
	e.at[leanCall] = 0
	if e.state == leanUp {
		c.register(e)
		return
	}
	e.end()
	e.state, e.tries, e.tag, e.tsn = leanInit, 0, rand.Uint32()|1, rand.Uint32()
	e.giveUp = c.now() + leanHandshake
	c.repeat(e)
}

// params are those of INIT and INIT ACK.
func params(tag, tsn uint32) wire.InitParams {
	return wire.InitParams{Tag: tag, TSN: tsn, RWND: leanWindow, Out: leanStreams, In: leanStreams}
}

// repeat sends what the registrar has not answered, and again after a pause that doubles.
func (c *leanThrong) repeat(e *lean) {
	now := c.now()
	switch e.state {
	case leanDown:
		return
	case leanInit, leanEcho:
		if now >= e.giveUp {
			c.failed(e, "no answer")
			return
		}
		ch := wire.Chunk{Type: wire.ChunkCookieEcho, Body: e.cookie}
		if e.state == leanInit {
			p := params(e.tag, e.tsn)
			ch = wire.Chunk{Type: wire.ChunkInit, Body: p.Body()}
		}
		c.packet(e, e.peerTag, ch)
	case leanShut:
		if now >= e.giveUp {
			c.lost(e, "shut down", false)
			return
		}
		c.packet(e, e.peerTag, wire.Chunk{Type: wire.ChunkShutdownAck})
	case leanUp:
		e.sent = 0
		c.flush(e)
	}
	e.at[leanRepeat] = now + min(leanRTO<<min(e.tries, 6), leanMostRTO)
	e.tries++
}

// send queues a message in fragments. flush sends it.
func (c *leanThrong) send(e *lean, msg []byte, flags byte) {
	for begin := byte(flagBegin); len(msg) > 0; begin = 0 {
		n := min(len(msg), leanFragment)
		f := flags | begin
		if n == len(msg) {
			f |= wire.FlagEnd
		}
		b := binary.BigEndian.AppendUint32(make([]byte, 0, wire.DataHeaderLen+n), e.tsn)
		b = binary.BigEndian.AppendUint16(b, 0) // stream
		b = binary.BigEndian.AppendUint16(b, e.ssn)
		b = binary.BigEndian.AppendUint32(b, asap.PPID)
		e.unacked = append(e.unacked, leanData{e.tsn, wire.Chunk{Type: wire.ChunkData, Flags: f, Body: append(b, msg[:n]...)}})
		e.tsn++
		msg = msg[n:]
	}
	if flags&flagUnordered == 0 {
		e.ssn++
	}
}

// flush sends the chunks that were not sent yet, as many as fit into each packet.
func (c *leanThrong) flush(e *lean) {
	for e.sent < len(e.unacked) {
		b := wire.AppendHeader(c.out[:0], wire.Header{Src: e.port, Dst: c.port, Tag: e.peerTag})
		for ; e.sent < len(e.unacked); e.sent++ {
			ch := e.unacked[e.sent].chunk
			if len(b) > wire.CommonHeaderLen && len(b)+wire.ChunkHeaderLen+wire.Padded(len(ch.Body)) > leanMTU {
				break
			}
			b = wire.AppendChunk(b, ch)
		}
		c.out = b
		c.write(e, wire.SealPacket(b))
		if e.at[leanRepeat] == 0 {
			e.at[leanRepeat], e.tries = c.now()+leanRTO, 1
		}
	}
}

// say sends a message. An acknowledgement waits for no lost message.
func (c *leanThrong) say(e *lean, m asap.Message) {
	b, err := m.Append(nil)
	c.must(err)
	if e.tls != nil {
		b = append(b, make([]byte, wire.Padded(len(b))-len(b))...)
		_, err = e.tls.conn.Write(b)
		c.must(err)
		return
	}
	var flags byte
	if _, ack := m.(*asap.EndpointKeepAliveAck); ack {
		flags = flagUnordered
	}
	c.send(e, b, flags)
	c.flush(e)
}

// expired does what is due.
func (c *leanThrong) expired(e *lean, kind leanTimer, now time.Duration) {
	switch kind {
	case leanRepeat:
		if e.state != leanUp || len(e.unacked) > 0 {
			c.repeat(e)
		}
	case leanCall:
		c.connect(e)
	case leanRenew:
		if e.state == leanUp {
			c.register(e)
		}
	case leanBeat:
		if e.state == leanUp {
			c.heartbeat(e)
			e.quiet.beat(e, now)
		}
	case leanIdle:
		if e.miss++; e.miss > leanMisses {
			c.packet(e, e.peerTag, wire.Chunk{Type: wire.ChunkAbort})
			c.lost(e, "silent", false)
			return
		}
		e.at[leanIdle] = now + leanSilence
		c.heartbeat(e)
	}
}

func (c *leanThrong) heartbeat(e *lean) {
	c.packet(e, e.peerTag, wire.Chunk{Type: wire.ChunkHeartbeat, Body: wire.AppendTLV(nil, 1, make([]byte, 12))})
}

// refused handles an ICMP error: nobody listens.
func (c *leanThrong) refused(e *lean) {
	switch e.state {
	case leanInit, leanEcho:
		c.failed(e, "refused")
	case leanUp, leanShut:
		c.lost(e, "refused", false)
	case leanDown:
	}
}

// receive handles a packet.
func (c *leanThrong) receive(e *lean, p []byte) {
	h, chunks, err := wire.ParsePacket(p)
	c.must(err)
	for len(chunks) > 0 {
		ch, rest, ok := wire.NextChunk(chunks)
		if !ok || !c.onChunk(e, h, ch) {
			break
		}
		chunks = rest
	}
	if e.state != leanUp {
		return
	}
	e.at[leanIdle], e.miss = c.now()+leanSilence, 0
	if e.sack {
		e.sack = false
		b := binary.BigEndian.AppendUint32(make([]byte, 0, wire.SackHeaderLen), e.cum)
		b = binary.BigEndian.AppendUint32(b, leanWindow)
		c.packet(e, e.peerTag, wire.Chunk{Type: wire.ChunkSack, Body: append(b, 0, 0, 0, 0)})
	}
}

// onChunk handles a chunk. It returns whether to go on with the packet.
func (c *leanThrong) onChunk(e *lean, h wire.Header, ch wire.Chunk) bool {
	reflected := ch.Flags&wire.FlagT != 0 && (ch.Type == wire.ChunkAbort || ch.Type == wire.ChunkShutdownComplete)
	switch {
	case ch.Type == wire.ChunkInit:
		c.onInit(e, ch.Body)
		return false
	case ch.Type == wire.ChunkCookieEcho:
		return c.onCookieEcho(e, h, ch.Body)
	case e.state == leanDown || reflected && h.Tag != e.peerTag || !reflected && h.Tag != e.tag:
		if ch.Type != wire.ChunkAbort && ch.Type != wire.ChunkShutdownComplete {
			c.packet(e, h.Tag, wire.Chunk{Type: wire.ChunkAbort, Flags: wire.FlagT})
		}
		return false
	}
	switch ch.Type {
	case wire.ChunkInitAck:
		if e.state == leanInit {
			p, err := wire.ParseInit(ch.Body)
			c.must(err)
			e.state, e.tries, e.peerTag, e.cum, e.cookie = leanEcho, 0, p.Tag, p.TSN-1, p.Cookie
			c.repeat(e)
		}
	case wire.ChunkCookieAck:
		if e.state == leanEcho {
			c.established(e)
			c.begin(e)
		}
	case wire.ChunkAbort, wire.ChunkShutdownComplete:
		if e.state < leanUp {
			c.failed(e, "ABORT")
		} else {
			c.lost(e, "ABORT", false)
		}
		return false
	case wire.ChunkHeartbeat:
		c.packet(e, e.peerTag, wire.Chunk{Type: wire.ChunkHeartbeatAck, Body: ch.Body})
	case wire.ChunkShutdown:
		if e.state == leanUp {
			e.state, e.tries, e.giveUp = leanShut, 0, c.now()+leanHandshake
			c.repeat(e)
		}
	case wire.ChunkSack:
		e.acked(binary.BigEndian.Uint32(ch.Body))
	case wire.ChunkData:
		if e.state == leanUp {
			c.onData(e, ch)
		}
	}
	return true
}

// established begins to exchange messages.
func (c *leanThrong) established(e *lean) {
	e.state, e.ssn, e.cookie, e.miss = leanUp, 0, nil, 0
	e.at[leanRepeat] = 0
	e.at[leanIdle] = c.now() + leanSilence
}

// begin goes on with an association that the element has opened.
func (c *leanThrong) begin(e *lean) {
	if c.certs == nil {
		c.register(e)
	} else {
		c.secure(e)
	}
}

// acked handles a SACK.
func (e *lean) acked(cum uint32) {
	n := 0
	for n < len(e.unacked) && int32(e.unacked[n].tsn-cum) <= 0 {
		n++
	}
	if n == 0 {
		return
	}
	e.unacked, e.sent = e.unacked[n:], max(e.sent-n, 0)
	if e.tries = 0; len(e.unacked) == 0 {
		e.unacked, e.at[leanRepeat] = nil, 0
	}
}

// onData handles DATA: a message, or a fragment of one.
func (c *leanThrong) onData(e *lean, ch wire.Chunk) {
	e.sack = true
	if binary.BigEndian.Uint32(ch.Body) != e.cum+1 {
		return
	}
	e.cum++
	data := ch.Body[wire.DataHeaderLen:]
	if len(e.part) > 0 || ch.Flags&wire.FlagEnd == 0 {
		e.part = append(e.part, data...)
		if ch.Flags&wire.FlagEnd == 0 {
			return
		}
		data, e.part = e.part, nil
	}
	if e.tls != nil {
		e.tls.push(data)
	} else {
		c.onMessage(e, data)
	}
}

// onInit answers the INIT of a registrar that calls its elements. While the element connects to it,
// both handshakes become one association (RFC 9260, Section 5.2.1). If there is an association, the
// cookie names it (Section 5.2.2).
func (c *leanThrong) onInit(e *lean, body []byte) {
	if c.certs != nil {
		c.must(errors.New("the registrar calls an element of a trusted scope, which cannot be a TLS server"))
	}
	p, err := wire.ParseInit(body)
	c.must(err)
	ours, tie := params(e.tag, e.tsn), uint32(0)
	if e.state != leanInit && e.state != leanEcho {
		ours = params(rand.Uint32()|1, rand.Uint32())
	}
	if e.state >= leanUp {
		tie = e.tag
	}
	for _, v := range []uint32{ours.Tag, ours.TSN, p.Tag, p.TSN, tie} {
		ours.Cookie = binary.BigEndian.AppendUint32(ours.Cookie, v)
	}
	c.packet(e, p.Tag, wire.Chunk{Type: wire.ChunkInitAck, Body: ours.Body()})
}

// onCookieEcho makes the association of a cookie. If there is one that the cookie names, it ends: the
// registrar has restarted (RFC 9260, Section 5.2.4).
func (c *leanThrong) onCookieEcho(e *lean, h wire.Header, cookie []byte) bool {
	at := func(i int) uint32 { return binary.BigEndian.Uint32(cookie[4*i:]) }
	tag, tsn, peerTag, cum := at(0), at(1), at(2), at(3)-1
	ours := e.tag == tag && e.state != leanDown
	switch {
	case h.Tag != tag, !ours && e.state != leanDown && e.tag != at(4):
		return false
	case ours && e.state >= leanUp: // it has come twice
		c.packet(e, peerTag, wire.Chunk{Type: wire.ChunkCookieAck})
		return true
	case !ours && e.state >= leanUp:
		c.lost(e, "the registrar has restarted", true)
	}
	c.packet(e, peerTag, wire.Chunk{Type: wire.ChunkCookieAck})
	e.tag, e.tsn, e.peerTag, e.cum = tag, tsn, peerTag, cum
	c.established(e)
	if ours {
		c.begin(e)
	}
	return true
}
