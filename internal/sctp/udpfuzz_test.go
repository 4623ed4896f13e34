package sctp

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// FuzzUDPReceive feeds an established association with arbitrary chunks under
// a right tag and checksum, of which everything but a panic may come. pion's
// goroutines are fed with it too.
func FuzzUDPReceive(f *testing.F) {
	sack := chunk{typ: chunkSack, body: make([]byte, 12)}
	for _, c := range []chunk{
		data(100, 0, 0, whole, []byte("hello")), data(101, 1, 0, 2, make([]byte, 9000)), data(102, 1, 0, 1|4, []byte("x")), sack,
		{typ: chunkInit, body: (&initParams{tag: 1, rwnd: 2000, out: 1, in: 1}).body()},
		{typ: chunkInitAck, body: (&initParams{tag: 1, rwnd: 2000, out: 1, in: 1, cookie: []byte("c")}).body()},
		{typ: chunkHeartbeat, body: []byte{0, 1, 0, 4}}, {typ: chunkHeartbeatAck}, {typ: chunkAbort},
		{typ: chunkShutdown, body: make([]byte, 4)}, {typ: chunkShutdownAck}, {typ: chunkShutdownComplete},
		{typ: chunkError, body: []byte{0, 3, 0, 8, 0, 0, 0, 0}}, {typ: chunkCookieEcho, body: make([]byte, 150)}, {typ: chunkCookieAck},
		{typ: 192, body: make([]byte, 8)}, {typ: 64, body: make([]byte, 20)}, {typ: 130, body: make([]byte, 20)},
	} {
		f.Add(appendChunk(nil, c), false)
		f.Add(appendChunk(appendChunk(nil, c), sack), true)
	}
	w := newWire()
	w.set(func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) { return 0, true })
	m := newUDPMux(Limits{}.withDefaults(), EncapPort, []byte("key"), newMachine(f.Logf), w.bind)
	sock, err := w.sock(netip.MustParseAddrPort("10.0.0.3:9899"))
	if err != nil {
		f.Fatal(err)
	}
	y, err := m.listen(on(addrY), new(idAllocator), func(Event) {})
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
	at.dst, at.src = 3863, 7777
	connect := func() uint32 {
		c := cookie{
			made: m.clock.stampNow(), tag: newTag(), tsn: 5, local: at.dst, peerPort: at.src, from: at.from, to: at.to,
			peer: initParams{tag: newTag(), rwnd: 100000, out: 10, in: 10, tsn: 100},
		}
		in := at
		in.tag = c.tag
		m.onCookieEcho(in, c.seal(m.key), nil)
		m.mu.RLock()
		a := m.tags[c.tag]
		m.mu.RUnlock()
		if a != nil {
			_ = a.send(Message{Data: make([]byte, 5000)})
		}
		return c.tag
	}
	tag := connect()
	f.Fuzz(func(t *testing.T, chunks []byte, zeroTag bool) {
		m.mu.RLock()
		alive := m.tags[tag] != nil
		m.mu.RUnlock()
		if !alive {
			tag = connect()
		}
		b := appendHeader(nil, header{at.src, at.dst, tag})
		if zeroTag {
			binary.BigEndian.PutUint32(b[4:], 0)
		}
		m.receive(at.sock, sealPacket(append(b, chunks...)), at.from, at.to)
		for len(sock.in) > 0 {
			<-sock.in
		}
		if n := m.n.panics.Load(); n != 0 {
			t.Fatalf("Got %d panics", n)
		}
	})
}

// FuzzInit parses INITs, and what it made of them again.
func FuzzInit(f *testing.F) {
	p := initParams{tag: 1, rwnd: 2000, out: 1, in: 1, tsn: 7, addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	f.Add(p.body())
	p.cookie = []byte("cookie")
	f.Add(p.body())
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseInit(b)
		if err != nil {
			return
		}
		p.unreported = nil
		q, err := parseInit(p.body())
		if err != nil || q.tag != p.tag || q.rwnd != p.rwnd || q.tsn != p.tsn || len(q.addrs) != len(p.addrs) || string(q.cookie) != string(p.cookie) {
			t.Fatalf("Got %+v (%v) of %+v", q, err, p)
		}
	})
}

// FuzzCookie opens cookies that are not ours, and those that are.
func FuzzCookie(f *testing.F) {
	key := []byte("key")
	const now = 1_700_000_000
	f.Add([]byte{}, uint32(1), uint16(2), true)
	f.Fuzz(func(t *testing.T, b []byte, tag uint32, port uint16, is4 bool) {
		if _, err := openCookie(b, key, now); err == nil {
			t.Fatal("a forged cookie is taken")
		}
		c := cookie{made: now, tag: tag, tsn: ^tag, tieTag: tag + 1, tiePeer: tag + 2, local: port, peerPort: ^port,
			from: netip.MustParseAddrPort("10.1.2.3:4"), to: netip.MustParseAddr("fd00::1"),
			peer: initParams{tag: tag | 1, rwnd: 5000, out: 3, in: 4, tsn: 5, addrs: []netip.Addr{netip.MustParseAddr("fd00::2")}}}
		if is4 {
			c.to = netip.Addr{}
			c.peer.addrs = append(c.peer.addrs, netip.MustParseAddr("10.1.2.4"))
		}
		got, err := openCookie(c.seal(key), key, now)
		if err != nil || got.from != c.from || got.to != c.to || got.tag != c.tag || got.tsn != c.tsn || got.tieTag != c.tieTag ||
			got.tiePeer != c.tiePeer || got.local != c.local || got.peerPort != c.peerPort || got.peer.rwnd != 5000 || len(got.peer.addrs) != len(c.peer.addrs) {
			t.Fatalf("Got %+v (%v), want %+v", got, err, c)
		}
	})
}
