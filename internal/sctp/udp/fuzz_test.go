package udp

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// FuzzUDPReceive feeds an established association with arbitrary chunks under
// a right tag and checksum, of which everything but a panic may come. pion's
// goroutines are fed with it too.
func FuzzUDPReceive(f *testing.F) {
	sack := wire.Chunk{Type: wire.ChunkSack, Body: make([]byte, 12)}
	for _, c := range []wire.Chunk{
		sctptest.Data(100, 0, 0, whole, []byte("hello")), sctptest.Data(101, 1, 0, 2, make([]byte, 9000)), sctptest.Data(102, 1, 0, 1|4, []byte("x")), sack,
		{Type: wire.ChunkInit, Body: (&wire.InitParams{Tag: 1, RWND: 2000, Out: 1, In: 1}).Body()},
		{Type: wire.ChunkInitAck, Body: (&wire.InitParams{Tag: 1, RWND: 2000, Out: 1, In: 1, Cookie: []byte("c")}).Body()},
		{Type: wire.ChunkHeartbeat, Body: []byte{0, 1, 0, 4}}, {Type: wire.ChunkHeartbeatAck}, {Type: wire.ChunkAbort},
		{Type: wire.ChunkShutdown, Body: make([]byte, 4)}, {Type: wire.ChunkShutdownAck}, {Type: wire.ChunkShutdownComplete},
		{Type: wire.ChunkError, Body: []byte{0, 3, 0, 8, 0, 0, 0, 0}}, {Type: wire.ChunkCookieEcho, Body: make([]byte, 150)}, {Type: wire.ChunkCookieAck},
		{Type: 192, Body: make([]byte, 8)}, {Type: 64, Body: make([]byte, 20)}, {Type: 130, Body: make([]byte, 20)},
	} {
		f.Add(wire.AppendChunk(nil, c), false)
		f.Add(wire.AppendChunk(wire.AppendChunk(nil, c), sack), true)
	}
	w := newEther()
	w.set(func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) { return 0, true })
	m := w.mux(f, sctp.Limits{}, sctp.EncapPort)
	sock, err := w.sock(netip.MustParseAddrPort("10.0.0.3:9899"))
	if err != nil {
		f.Fatal(err)
	}
	y, err := m.Listen(sctptest.On(addrY), new(sctp.IDs), func(sctp.Event) {})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		y.Close()
		sock.close()
		m.wg.Wait()
	})
	var at arrival
	at.sock, at.from, at.to = y.socks[0], netip.MustParseAddrPort("10.0.0.3:9899"), netip.MustParseAddr("10.0.0.2")
	at.Dst, at.Src = 3863, 7777
	connect := func() uint32 {
		c := wire.Cookie{
			Made: m.clock.stampNow(), Tag: m.newTag(), TSN: 5, Local: at.Dst, PeerPort: at.Src, From: at.from, To: at.to,
			Peer: wire.InitParams{Tag: m.newTag(), RWND: 100000, Out: 10, In: 10, TSN: 100},
		}
		in := at
		in.Tag = c.Tag
		m.onCookieEcho(in, c.Seal(m.key), nil)
		m.mu.RLock()
		a := m.tags[c.Tag]
		m.mu.RUnlock()
		if a != nil {
			_ = a.Send(sctp.Message{Data: make([]byte, 5000)})
		}
		return c.Tag
	}
	tag := connect()
	f.Fuzz(func(t *testing.T, chunks []byte, zeroTag bool) {
		m.mu.RLock()
		alive := m.tags[tag] != nil
		m.mu.RUnlock()
		if !alive {
			tag = connect()
		}
		b := wire.AppendHeader(nil, wire.Header{Src: at.Src, Dst: at.Dst, Tag: tag})
		if zeroTag {
			binary.BigEndian.PutUint32(b[4:], 0)
		}
		m.receive(at.sock, wire.SealPacket(append(b, chunks...)), at.from, at.to)
		for len(sock.in) > 0 {
			<-sock.in
		}
		if n := m.n.Panics.Load(); n != 0 {
			t.Fatalf("Got %d panics", n)
		}
	})
}
