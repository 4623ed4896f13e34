package udp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// rawPeer is a peer that sends what the test wants, chunk by chunk.
type rawPeer struct {
	t    *testing.T
	s    *etherSock
	h    wire.Header // of what it sends
	to   netip.AddrPort
	ours wire.InitParams
}

// rawPeer makes a peer at 10.0.0.3 for the endpoint at addrY.
func (w *ether) rawPeer(t *testing.T) *rawPeer {
	t.Helper()
	s, err := w.sock(netip.MustParseAddrPort("10.0.0.3:9899"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return &rawPeer{
		t: t, s: s, h: wire.Header{Src: 7777, Dst: 3863},
		to:   netip.MustParseAddrPort("10.0.0.2:9899"),
		ours: wire.InitParams{Tag: 0x1234, RWND: 100000, Out: 10, In: 10, TSN: 100},
	}
}

// send sends a packet.
func (p *rawPeer) send(c ...wire.Chunk) { _ = p.s.write(wire.PacketOf(p.h, c...), p.to, netip.Addr{}) }

// recv waits for a packet, and gives its header and first chunk. No packet in
// a second is a zero chunk.
func (p *rawPeer) recv() (wire.Header, wire.Chunk) {
	select {
	case in := <-p.s.in:
		h, b, err := wire.ParsePacket(in.b)
		c, _, ok := wire.NextChunk(b)
		if err != nil || !ok {
			p.t.Fatalf("Got packet %x: %v", in.b, err)
		}
		return h, c
	case <-time.After(time.Second):
		return wire.Header{}, wire.Chunk{}
	}
}

// want waits for a packet whose first chunk is of a type.
func (p *rawPeer) want(typ wire.ChunkType) (wire.Header, wire.Chunk) {
	p.t.Helper()
	h, c := p.recv()
	if c.Type != typ || h == (wire.Header{}) {
		p.t.Fatalf("Got chunk type %d in %+v, want %d", c.Type, h, typ)
	}
	return h, c
}

// answer answers the HEARTBEAT that comes next.
func (p *rawPeer) answer() {
	p.t.Helper()
	_, c := p.want(wire.ChunkHeartbeat)
	p.send(wire.Chunk{Type: wire.ChunkHeartbeatAck, Body: c.Body})
}

// silence checks that nothing comes.
func (p *rawPeer) silence() {
	p.t.Helper()
	if h, c := p.recv(); h != (wire.Header{}) {
		p.t.Fatalf("Got chunk type %d in %+v, want none", c.Type, h)
	}
}

// init sends INIT and gives the parameters of the INIT ACK.
func (p *rawPeer) init() wire.InitParams {
	p.t.Helper()
	p.h.Tag = 0
	p.send(wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()})
	h, c := p.want(wire.ChunkInitAck)
	if h.Tag != p.ours.Tag {
		p.t.Errorf("Got tag %#x on INIT ACK, want %#x", h.Tag, p.ours.Tag)
	}
	theirs, err := wire.ParseInit(c.Body)
	if err != nil {
		p.t.Fatalf("INIT ACK: %v", err)
	}
	p.h.Tag = theirs.Tag
	return theirs
}

// connect does the whole handshake.
func (p *rawPeer) connect() {
	p.t.Helper()
	p.send(wire.Chunk{Type: wire.ChunkCookieEcho, Body: p.init().Cookie})
	p.want(wire.ChunkCookieAck)
}

// whole are the flags of a DATA chunk with a whole message, to be
// acknowledged at once.
const whole = 3 | 8
