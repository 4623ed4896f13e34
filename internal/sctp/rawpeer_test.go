package sctp

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// rawPeer is a peer that sends what the test wants, chunk by chunk.
type rawPeer struct {
	t    *testing.T
	s    *wireSock
	h    header // of what it sends
	to   netip.AddrPort
	ours initParams
}

// rawPeer makes a peer at 10.0.0.3 for the endpoint at addrY.
func (w *wire) rawPeer(t *testing.T) *rawPeer {
	t.Helper()
	s, err := w.sock(netip.MustParseAddrPort("10.0.0.3:9899"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return &rawPeer{
		t: t, s: s, h: header{src: 7777, dst: 3863},
		to:   netip.MustParseAddrPort("10.0.0.2:9899"),
		ours: initParams{tag: 0x1234, rwnd: 100000, out: 10, in: 10, tsn: 100},
	}
}

// send sends a packet.
func (p *rawPeer) send(c ...chunk) { _ = p.s.write(packetOf(p.h, c...), p.to, netip.Addr{}) }

// recv waits for a packet, and gives its header and first chunk. No packet in
// a second is a zero chunk.
func (p *rawPeer) recv() (header, chunk) {
	select {
	case in := <-p.s.in:
		h, b, err := parsePacket(in.b)
		c, _, ok := nextChunk(b)
		if err != nil || !ok {
			p.t.Fatalf("Got packet %x: %v", in.b, err)
		}
		return h, c
	case <-time.After(time.Second):
		return header{}, chunk{}
	}
}

// want waits for a packet whose first chunk is of a type.
func (p *rawPeer) want(typ chunkType) (header, chunk) {
	p.t.Helper()
	h, c := p.recv()
	if c.typ != typ || h == (header{}) {
		p.t.Fatalf("Got chunk type %d in %+v, want %d", c.typ, h, typ)
	}
	return h, c
}

// answer answers the HEARTBEAT that comes next.
func (p *rawPeer) answer() {
	p.t.Helper()
	_, c := p.want(chunkHeartbeat)
	p.send(chunk{typ: chunkHeartbeatAck, body: c.body})
}

// silence checks that nothing comes.
func (p *rawPeer) silence() {
	p.t.Helper()
	if h, c := p.recv(); h != (header{}) {
		p.t.Fatalf("Got chunk type %d in %+v, want none", c.typ, h)
	}
}

// init sends INIT and gives the parameters of the INIT ACK.
func (p *rawPeer) init() initParams {
	p.t.Helper()
	p.h.tag = 0
	p.send(chunk{typ: chunkInit, body: p.ours.body()})
	h, c := p.want(chunkInitAck)
	if h.tag != p.ours.tag {
		p.t.Errorf("Got tag %#x on INIT ACK, want %#x", h.tag, p.ours.tag)
	}
	theirs, err := parseInit(c.body)
	if err != nil {
		p.t.Fatalf("INIT ACK: %v", err)
	}
	p.h.tag = theirs.tag
	return theirs
}

// connect does the whole handshake.
func (p *rawPeer) connect() {
	p.t.Helper()
	p.send(chunk{typ: chunkCookieEcho, body: p.init().cookie})
	p.want(chunkCookieAck)
}

// data is a DATA chunk.
func data(tsn uint32, stream, ssn uint16, flags byte, user []byte) chunk {
	b := binary.BigEndian.AppendUint32(nil, tsn)
	b = binary.BigEndian.AppendUint16(b, stream)
	b = binary.BigEndian.AppendUint16(b, ssn)
	b = binary.BigEndian.AppendUint32(b, 11)
	return chunk{typ: chunkData, flags: flags, body: append(b, user...)}
}

// whole are the flags of a DATA chunk with a whole message, to be
// acknowledged at once.
const whole = 3 | 8
