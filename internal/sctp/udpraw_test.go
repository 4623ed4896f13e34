package sctp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// onRaw runs a test of the endpoint at addrY with a raw peer.
func onRaw(t *testing.T, lim Limits, f func(t *testing.T, w *wire, y *site, p *rawPeer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		y := w.mux(t, lim, EncapPort).site(t, addrY)
		t.Cleanup(func() { y.end() })
		f(t, w, y, w.rawPeer(t))
	})
}

// TestUDPHandshake checks answers to good and bad beginnings.
func TestUDPHandshake(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, y *site, p *rawPeer)
	}{
		{"good", func(t *testing.T, y *site, p *rawPeer) {
			p.connect()
			if ev := y.next(Up); len(ev.Peer) != 1 || ev.Peer[0].String() != "10.0.0.3:7777" {
				t.Errorf("Got peer %v", ev.Peer)
			}
		}},
		{"lists addresses", func(t *testing.T, y *site, p *rawPeer) {
			p.ours.addrs = []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("127.0.0.1"),
				netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fd00::3"), netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("0.0.0.0")}
			p.connect()
			if ev := y.next(Up); fmt.Sprint(ev.Peer, ev.Claimed) != "[10.0.0.3:7777] [10.0.0.4:7777 [fd00::3]:7777]" {
				t.Errorf("Got peer %v, claiming %v", ev.Peer, ev.Claimed)
			}
		}},
		{"INIT keeps nothing", func(t *testing.T, y *site, p *rawPeer) {
			p.init()
			y.mux().empty(t)
			y.none()
		}},
		{"cookie twice", func(t *testing.T, y *site, p *rawPeer) {
			c := chunk{typ: chunkCookieEcho, body: p.init().cookie}
			p.send(c)
			p.want(chunkCookieAck)
			p.send(c)
			p.want(chunkCookieAck)
			y.next(Up)
			time.Sleep(time.Second)
			y.none()
		}},
		{"data with the cookie", func(t *testing.T, y *site, p *rawPeer) {
			p.send(chunk{typ: chunkCookieEcho, body: p.init().cookie}, data(100, 0, 0, whole, []byte("at once")))
			p.want(chunkCookieAck)
			y.next(Up)
			if got := y.next(Received); string(got.Message.Data) != "at once" || got.Message.PPID != 11 {
				t.Errorf("Got %v", got)
			}
		}},
		{"forged cookie", func(t *testing.T, y *site, p *rawPeer) {
			c := p.init().cookie
			c[20]++
			p.send(chunk{typ: chunkCookieEcho, body: c})
			p.silence()
			if n := y.mux().n.badCookie.Load(); n != 1 {
				t.Errorf("Got %d bad cookies counted, want 1", n)
			}
		}},
		{"cookie from elsewhere", func(t *testing.T, y *site, p *rawPeer) {
			c := p.init().cookie
			p.h.src++
			p.send(chunk{typ: chunkCookieEcho, body: c})
			p.silence()
			p.h.src--
			in := arrival{header: p.h, from: netip.MustParseAddrPort("10.66.6.6:9899"), to: p.to.Addr()}
			in.sock = y.Endpoint.(*udpEndpoint).socks[0]
			y.mux().onCookieEcho(in, c, nil)
			if n := y.mux().n.badCookie.Load(); n != 2 {
				t.Errorf("Got %d bad cookies counted, want 2", n)
			}
			y.none()
		}},
		{"stale cookie", func(t *testing.T, y *site, p *rawPeer) {
			c := p.init().cookie
			time.Sleep(cookieLife + 1)
			p.send(chunk{typ: chunkCookieEcho, body: c})
			if _, c := p.want(chunkError); binary.BigEndian.Uint16(c.body) != causeStaleCookie {
				t.Errorf("Got error %x, want stale cookie", c.body)
			}
			y.none()
		}},
		{"no such port", func(t *testing.T, y *site, p *rawPeer) {
			p.h.dst = 1
			p.send(chunk{typ: chunkInit, body: p.ours.body()})
			if h, c := p.want(chunkAbort); h.tag != p.ours.tag || c.flags != 0 {
				t.Errorf("Got ABORT with tag %#x and flags %d, want %#x and 0", h.tag, c.flags, p.ours.tag)
			}
		}},
		{"no streams", func(t *testing.T, y *site, p *rawPeer) {
			p.ours.in = 0
			p.send(chunk{typ: chunkInit, body: p.ours.body()})
			if _, c := p.want(chunkAbort); binary.BigEndian.Uint16(c.body) != causeInvalidParameter {
				t.Errorf("Got causes %x", c.body)
			}
		}},
		{"host name", func(t *testing.T, y *site, p *rawPeer) {
			p.send(chunk{typ: chunkInit, body: appendTLV(p.ours.appendFixed(nil), paramHostName, []byte("example.org\x00"))})
			if _, c := p.want(chunkAbort); binary.BigEndian.Uint16(c.body) != causeUnresolvableAddr {
				t.Errorf("Got causes %x", c.body)
			}
		}},
		{"unknown parameters", func(t *testing.T, y *site, p *rawPeer) {
			b := p.ours.appendFixed(nil)
			b = appendTLV(b, 0x8abc, []byte("skip"))
			b = appendTLV(b, 0xc000, nil) // FORWARD-TSN: skip and report
			b = appendTLV(b, 0xcabc, []byte("odd"))
			b = appendTLV(b, 0x4abc, []byte("stop and report"))
			b = appendTLV(b, 0xcabd, []byte("not reached"))
			p.send(chunk{typ: chunkInit, body: b})
			_, c := p.want(chunkInitAck)
			want := appendTLV(nil, paramUnrecognized, appendTLV(nil, 0xc000, nil))
			want = appendTLV(want, paramUnrecognized, []byte("\xca\xbc\x00\x07odd"))
			want = appendTLV(want, paramUnrecognized, []byte("\x4a\xbc\x00\x13stop and report"))
			if !bytes.HasSuffix(c.body, want) {
				t.Errorf("Got INIT ACK %x, want the end %x", c.body, want)
			}
		}},
		{"INIT with company", func(t *testing.T, y *site, p *rawPeer) {
			p.send(chunk{typ: chunkInit, body: p.ours.body()}, chunk{typ: chunkCookieAck})
			p.silence()
		}},
		{"restart with a new address", func(t *testing.T, y *site, p *rawPeer) {
			p.connect()
			y.next(Up)
			p.ours.tag, p.ours.addrs, p.h.tag = 0x5678, []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.66.6.6")}, 0
			p.send(chunk{typ: chunkInit, body: p.ours.body()})
			if _, c := p.want(chunkAbort); binary.BigEndian.Uint16(c.body) != causeNewAddresses {
				t.Errorf("Got causes %x", c.body)
			}
			y.none()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, Limits{}, func(t *testing.T, _ *wire, y *site, p *rawPeer) { tt.run(t, y, p) })
		})
	}
}

// TestUDPOutOfTheBlue checks RFC 9260, Section 8.4.
func TestUDPOutOfTheBlue(t *testing.T) {
	tests := []struct {
		c    chunk
		want chunkType // 0 for silence
	}{
		{data(1, 0, 0, whole, []byte("x")), chunkAbort},
		{chunk{typ: chunkHeartbeat, body: []byte{0, 1, 0, 4}}, chunkAbort},
		{chunk{typ: chunkSack, body: make([]byte, 12)}, chunkAbort},
		{chunk{typ: chunkShutdown, body: make([]byte, 4)}, chunkAbort},
		{chunk{typ: chunkShutdownAck}, chunkShutdownComplete},
		{chunk{typ: chunkAbort}, 0},
		{chunk{typ: chunkShutdownComplete}, 0},
		{chunk{typ: chunkCookieAck}, 0},
		{chunk{typ: chunkError, body: make([]byte, 4)}, 0},
		{chunk{typ: chunkInitAck, body: make([]byte, 16)}, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint("chunk ", tt.c.typ), func(t *testing.T) {
			onRaw(t, Limits{}, func(t *testing.T, _ *wire, y *site, p *rawPeer) {
				p.h.tag = 99
				p.send(tt.c)
				if tt.want == 0 {
					p.silence()
				} else if h, c := p.want(tt.want); h.tag != 99 || c.flags&flagT == 0 {
					t.Errorf("Got tag %d and flags %d, want 99 reflected", h.tag, c.flags)
				}
				if n := y.mux().n.outOfTheBlue.Load(); n != 1 {
					t.Errorf("Got %d counted, want 1", n)
				}
			})
		})
	}
	t.Run("limited", func(t *testing.T) {
		onRaw(t, Limits{}, func(t *testing.T, w *wire, y *site, p *rawPeer) {
			p.h.tag = 99
			const n = 4 * blueEach
			for range n {
				p.send(chunk{typ: chunkHeartbeat})
			}
			time.Sleep(time.Second)
			if got := len(p.s.in); got == 0 || got > 2*blueEach {
				t.Errorf("Got %d answers to %d packets, want some and at most %d", got, n, 2*blueEach)
			}
		})
	})
}

// TestUDPUnknownAddress: a NAT gives the peer another address. What comes from
// there is no packet of the association, and the peer is told; the association
// stays, as the peer may be at its own address, too.
func TestUDPUnknownAddress(t *testing.T) {
	onRaw(t, Limits{}, func(t *testing.T, w *wire, y *site, p *rawPeer) {
		p.connect()
		y.next(Up)
		first := p.s
		var err error
		if p.s, err = w.sock(netip.MustParseAddrPort("10.66.6.6:9899")); err != nil {
			t.Fatal(err)
		}
		defer p.s.close()
		p.send(chunk{typ: chunkHeartbeat, body: []byte{0, 1, 0, 4}})
		if h, c := p.want(chunkAbort); h.tag != p.h.tag || c.flags&flagT == 0 {
			t.Errorf("Got tag %#x and flags %d, want %#x reflected", h.tag, c.flags, p.h.tag)
		}
		p.send(chunk{typ: chunkAbort})
		p.silence()
		p.s = first
		p.send(chunk{typ: chunkHeartbeat, body: []byte{0, 1, 0, 4}})
		p.want(chunkHeartbeatAck)
		y.none()
	})
}

// TestUDPBadChunks has a connected peer break the rules.
func TestUDPBadChunks(t *testing.T) {
	sack := func(gaps, dups uint16, n int) chunk {
		b := make([]byte, n)
		if n >= sackHeaderLen {
			binary.BigEndian.PutUint16(b[8:], gaps)
			binary.BigEndian.PutUint16(b[10:], dups)
		}
		return chunk{typ: chunkSack, body: b}
	}
	tests := []struct {
		name  string
		c     chunk
		cause uint16 // of the ABORT, 0 if the association lives on
	}{
		{"DATA without data", data(100, 0, 0, whole, nil), causeNoUserData},
		{"DATA cut short", chunk{typ: chunkData, flags: whole, body: make([]byte, 11)}, causeProtocolViolation},
		{"DATA on a stream not granted", data(100, ourStreams, 0, whole, []byte("x")), causeInvalidStream},
		{"SACK cut short", sack(0, 0, 11), causeProtocolViolation},
		{"SACK with less than it says", sack(1, 1, 16), causeProtocolViolation},
		{"SACK with more than it says", sack(1, 1, 24), causeProtocolViolation},
		{"SACK of 65535 blocks it has not", sack(65535, 65535, 12), causeProtocolViolation},
		{"SACK of what was never sent", sack(1, 0, 16), 0},
		{"SHUTDOWN cut short", chunk{typ: chunkShutdown, body: make([]byte, 3)}, causeProtocolViolation},
		{"SHUTDOWN COMPLETE out of order", chunk{typ: chunkShutdownComplete}, 0},
		{"FORWARD TSN not granted", chunk{typ: 192, body: make([]byte, 4)}, 0},
		{"RE-CONFIG not granted", chunk{typ: 130, body: make([]byte, 12)}, 0},
		{"I-DATA not granted", chunk{typ: 64, body: make([]byte, 20)}, 0},
		{"unknown chunk", chunk{typ: 63, body: []byte("?")}, 0},
		{"INIT ACK", chunk{typ: chunkInitAck, body: make([]byte, 16)}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, Limits{}, func(t *testing.T, _ *wire, y *site, p *rawPeer) {
				p.connect()
				y.next(Up)
				p.send(tt.c)
				if tt.cause == 0 {
					time.Sleep(time.Second)
					for len(p.s.in) > 0 {
						if _, c := p.recv(); c.typ == chunkAbort {
							t.Fatalf("Got ABORT with %x, want none", c.body)
						}
					}
					p.send(data(100, 3, 0, whole, []byte("still here")))
					if got := y.next(Received); string(got.Message.Data) != "still here" || got.Message.Stream != 3 {
						t.Errorf("Got %v", got)
					}
					return
				}
				if _, c := p.want(chunkAbort); len(c.body) < 4 || binary.BigEndian.Uint16(c.body) != tt.cause {
					t.Errorf("Got ABORT with %x, want cause %d", c.body, tt.cause)
				}
				y.down(Overrun)
				y.mux().empty(t)
			})
		})
	}
}

// TestUDPUnknownChunk checks that those are reported that ask for it
// (RFC 9260, Section 3.2), and that the packet is read on or not.
func TestUDPUnknownChunk(t *testing.T) {
	for _, tt := range []struct {
		typ          chunkType
		report, stop bool
	}{{63, false, true}, {127, true, true}, {191, false, false}, {255, true, false}} {
		t.Run(fmt.Sprint(tt.typ), func(t *testing.T) {
			onRaw(t, Limits{}, func(t *testing.T, _ *wire, y *site, p *rawPeer) {
				p.connect()
				y.next(Up)
				p.send(chunk{typ: tt.typ, body: []byte("what?")}, chunk{typ: chunkHeartbeat, body: []byte{0, 1, 0, 4}})
				if tt.report {
					if _, c := p.want(chunkError); binary.BigEndian.Uint16(c.body) != causeUnrecognizedChunk ||
						!bytes.HasPrefix(c.body[4:], []byte{byte(tt.typ), 0, 0, 9, 'w', 'h', 'a', 't', '?'}) {
						t.Errorf("Got error %x", c.body)
					}
				}
				if tt.stop {
					p.silence()
				} else if _, c := p.want(chunkHeartbeatAck); !bytes.Equal(c.body, []byte{0, 1, 0, 4}) {
					t.Errorf("Got HEARTBEAT ACK with %x", c.body)
				}
			})
		})
	}
}

// TestUDPFollowsPeer has a peer change to another address of its own, and back;
// the one that it leaves no longer answers.
func TestUDPFollowsPeer(t *testing.T) {
	onRaw(t, Limits{}, func(t *testing.T, w *wire, y *site, p *rawPeer) {
		second, err := w.sock(netip.MustParseAddrPort("10.0.0.4:9899"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { second.close() })
		p.ours.addrs = []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")}
		p.connect()
		b := y.next(Up).Assoc
		first := p.s
		p.s = second
		p.answer()
		y.next(PeerAddrs)
		for i, s := range []*wireSock{second, first} {
			time.Sleep(2 * time.Second)
			p.s = s
			for len(s.in) > 0 {
				<-s.in // HEARTBEATs that nobody answered
			}
			p.send(chunk{typ: chunkHeartbeat, body: []byte{0, 1, 0, 4}})
			p.want(chunkHeartbeatAck)
			synctest.Wait()
			y.none() // a heartbeat is no change of path
			p.send(data(100+uint32(i), 0, uint16(i), whole, []byte("from here")))
			sacked := false
			for range 2 { // in either order
				switch _, c := p.recv(); c.typ {
				case chunkSack:
					sacked = true
				case chunkHeartbeat:
					p.send(chunk{typ: chunkHeartbeatAck, body: c.body})
				}
			}
			if !sacked {
				t.Error("Got no SACK at the address that the data came from")
			}
			y.next(Received)
			if ev := y.next(PeerAddrs); ev.Peer[0].Addr() != s.addr.Addr() || len(ev.Peer) != 2 {
				t.Errorf("Got peer %v, want %v first of two", ev.Peer, s.addr.Addr())
			}
			_ = y.Send(b, Message{Data: []byte("to there")})
			_, c := p.want(chunkData)
			p.send(chunk{typ: chunkSack, body: binary.BigEndian.AppendUint64(c.body[:4:4], 100000<<32)})
		}
	})
}

// TestUDPLargeChunks sends DATA chunks larger than pion can read, in order and
// not, doubled, and mixed with small ones.
func TestUDPLargeChunks(t *testing.T) {
	onRaw(t, Limits{}, func(t *testing.T, _ *wire, y *site, p *rawPeer) {
		p.connect()
		y.next(Up)
		rng := rand.New(rand.NewPCG(1, 1))
		var parts [][]byte
		for _, n := range []int{20000, 5, 8100, 8200, 28000, 1} {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			parts = append(parts, b)
		}
		tsn := uint32(100)
		for round := range 20 {
			for _, i := range append(rng.Perm(len(parts)), rng.IntN(len(parts))) {
				flags := byte(8)
				if i == 0 {
					flags |= 2
				}
				if i == len(parts)-1 {
					flags |= 1
				}
				p.send(data(tsn+uint32(i), 1, uint16(round), flags, parts[i]))
			}
			tsn += uint32(len(parts))
			if got := y.next(Received); !bytes.Equal(got.Message.Data, bytes.Join(parts, nil)) {
				t.Fatalf("Got a message of %d bytes that is not what was sent", len(got.Message.Data))
			}
		}
		a := y.mux().tags[p.h.tag]
		time.Sleep(time.Second) // until all is acknowledged
		p.send(data(tsn, 1, 20, whole, []byte("x")))
		y.next(Received)
		a.conn.big.mu.Lock()
		defer a.conn.big.mu.Unlock()
		if n := len(a.conn.big.data); n > len(parts) || a.conn.big.bytes != 0 {
			t.Errorf("Got %d large chunks and %d bytes left, want none", n, a.conn.big.bytes)
		}
	})
}

// TestUDPTinyChunks has a peer send tiny messages to a Handler that blocks:
// what they take is bounded by the window.
func TestUDPTinyChunks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		m := w.mux(t, Limits{}, EncapPort)
		gate := make(chan struct{})
		y, err := m.listen(on(addrY), new(idAllocator), func(Event) { <-gate })
		if err != nil {
			t.Fatal(err)
		}
		p := w.rawPeer(t)
		p.connect()
		var window uint32
		for i := range uint32(10000) {
			p.send(data(100+i, 0, uint16(i), whole, []byte("x")))
			if _, c := p.want(chunkSack); binary.BigEndian.Uint32(c.body) == 100+i {
				window = binary.BigEndian.Uint32(c.body[4:])
				continue
			}
			if n := recvWindow(m.lim)/recordUnit + 2; int(i) > n {
				t.Errorf("Got %d tiny messages taken, want at most %d", i, n)
			}
			break
		}
		if window != 0 {
			t.Errorf("Got window %d in the end, want 0", window)
		}
		close(gate)
		_, c := p.want(chunkSack)
		if got := binary.BigEndian.Uint32(c.body[4:]); got < windowStep {
			t.Errorf("Got window %d when the Handler goes on, want it open", got)
		}
		y.Close()
		m.wg.Wait()
	})
}

// TestUDPInitFlood sends INITs from very many forged addresses: no memory is
// kept for them, and a true peer gets through.
func TestUDPInitFlood(t *testing.T) {
	onRaw(t, Limits{}, func(t *testing.T, w *wire, y *site, p *rawPeer) {
		m := y.mux()
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		goroutines := runtime.NumGoroutine()
		sock := m.socks[netip.MustParseAddr("10.0.0.2")]
		const n = 100_000
		b := packetOf(p.h, chunk{typ: chunkInit, body: p.ours.body()})
		for i := range uint32(n) {
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 9899)
			m.receive(sock, b, from, netip.MustParseAddr("10.0.0.2"))
			if i%1000 == 0 {
				time.Sleep(time.Second) // the answers go nowhere
			}
		}
		time.Sleep(time.Second)
		m.empty(t)
		if got := runtime.NumGoroutine(); got > goroutines+10 {
			t.Errorf("Got %d goroutines, had %d before", got, goroutines)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
			t.Errorf("The heap has grown by %d bytes", grown)
		}
		p.connect()
		y.next(Up)
	})
}

// TestUDPAssociationLimit has more peers than are taken.
func TestUDPAssociationLimit(t *testing.T) {
	onRaw(t, Limits{Associations: 3}, func(t *testing.T, w *wire, y *site, p *rawPeer) {
		for range 3 {
			p.h.src++
			p.connect()
			y.next(Up)
		}
		p.h.src++
		p.send(chunk{typ: chunkCookieEcho, body: p.init().cookie})
		if _, c := p.want(chunkAbort); binary.BigEndian.Uint16(c.body) != causeOutOfResource {
			t.Errorf("Got causes %x", c.body)
		}
		y.none()
	})
}

// TestLastPadding: the length of a chunk counts the padding of all parameters
// but the last one (RFC 9260, Section 3.2).
func TestLastPadding(t *testing.T) {
	for n := range 9 {
		p := initParams{tag: 1, rwnd: 2000, out: 1, in: 1, cookie: make([]byte, n+1)}
		if got, want := len(p.body()), initFixedLen+4+n+1; got != want {
			t.Errorf("INIT ACK with a cookie of %d bytes: got length %d, want %d", n+1, got, want)
		}
		p.unreported = appendPadded(nil, appendTLV(nil, 0xc123, make([]byte, n)))
		if got, want := len(p.body()), initFixedLen+padded(4+n+1)+4+4+n; got != want {
			t.Errorf("INIT ACK with a report of %d bytes: got length %d, want %d", n, got, want)
		}
		q, err := parseInit(p.body())
		if err != nil || len(q.cookie) != n+1 {
			t.Errorf("got a cookie of %d bytes, %v; want %d", len(q.cookie), err, n+1)
		}
	}
}
