package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// onRaw runs a test of the endpoint at addrY with a raw peer.
func onRaw(t *testing.T, lim sctp.Limits, f func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newEther()
		y := w.mux(t, lim, sctp.EncapPort).site(t, addrY)
		t.Cleanup(func() { end(y) })
		f(t, w, y, w.rawPeer(t))
	})
}

// TestUDPHandshake checks answers to good and bad beginnings.
func TestUDPHandshake(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, y *sctptest.Site, p *rawPeer)
	}{
		{"good", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.connect()
			if ev := y.Next(sctp.Up); len(ev.Peer) != 1 || ev.Peer[0].String() != "10.0.0.3:7777" {
				t.Errorf("Got peer %v", ev.Peer)
			}
		}},
		{"lists addresses", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.ours.Addrs = []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("127.0.0.1"),
				netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fd00::3"), netip.MustParseAddr("224.0.0.1"), netip.MustParseAddr("0.0.0.0")}
			p.connect()
			if ev := y.Next(sctp.Up); fmt.Sprint(ev.Peer, ev.Claimed) != "[10.0.0.3:7777] [10.0.0.4:7777 [fd00::3]:7777]" {
				t.Errorf("Got peer %v, claiming %v", ev.Peer, ev.Claimed)
			}
		}},
		{"INIT keeps nothing", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.init()
			muxOf(y).empty(t)
			y.None()
		}},
		{"cookie twice", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			c := wire.Chunk{Type: wire.ChunkCookieEcho, Body: p.init().Cookie}
			p.send(c)
			p.want(wire.ChunkCookieAck)
			p.send(c)
			p.want(wire.ChunkCookieAck)
			y.Next(sctp.Up)
			time.Sleep(time.Second)
			y.None()
		}},
		{"data with the cookie", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.send(wire.Chunk{Type: wire.ChunkCookieEcho, Body: p.init().Cookie}, sctptest.Data(100, 0, 0, whole, []byte("at once")))
			p.want(wire.ChunkCookieAck)
			y.Next(sctp.Up)
			if got := y.Next(sctp.Received); string(got.Message.Data) != "at once" || got.Message.PPID != 11 {
				t.Errorf("Got %v", got)
			}
		}},
		{"forged cookie", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			c := p.init().Cookie
			c[20]++
			p.send(wire.Chunk{Type: wire.ChunkCookieEcho, Body: c})
			p.silence()
			if n := muxOf(y).n.BadCookie.Load(); n != 1 {
				t.Errorf("Got %d bad cookies counted, want 1", n)
			}
		}},
		{"cookie from elsewhere", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			c := p.init().Cookie
			p.h.Src++
			p.send(wire.Chunk{Type: wire.ChunkCookieEcho, Body: c})
			p.silence()
			p.h.Src--
			in := arrival{Header: p.h, from: netip.MustParseAddrPort("10.66.6.6:9899"), to: p.to.Addr()}
			in.sock = y.Endpoint.(*endpoint).socks[0]
			muxOf(y).onCookieEcho(in, c, nil)
			if n := muxOf(y).n.BadCookie.Load(); n != 2 {
				t.Errorf("Got %d bad cookies counted, want 2", n)
			}
			y.None()
		}},
		{"stale cookie", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			c := p.init().Cookie
			time.Sleep(wire.CookieLife + 1)
			p.send(wire.Chunk{Type: wire.ChunkCookieEcho, Body: c})
			if _, c := p.want(wire.ChunkError); binary.BigEndian.Uint16(c.Body) != wire.CauseStaleCookie {
				t.Errorf("Got error %x, want stale cookie", c.Body)
			}
			y.None()
		}},
		{"no such port", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.h.Dst = 1
			p.send(wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()})
			if h, c := p.want(wire.ChunkAbort); h.Tag != p.ours.Tag || c.Flags != 0 {
				t.Errorf("Got ABORT with tag %#x and flags %d, want %#x and 0", h.Tag, c.Flags, p.ours.Tag)
			}
		}},
		{"no streams", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.ours.In = 0
			p.send(wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()})
			if _, c := p.want(wire.ChunkAbort); binary.BigEndian.Uint16(c.Body) != wire.CauseInvalidParameter {
				t.Errorf("Got causes %x", c.Body)
			}
		}},
		{"host name", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.send(wire.Chunk{Type: wire.ChunkInit, Body: wire.AppendTLV(p.ours.AppendFixed(nil), wire.ParamHostName, []byte("example.org\x00"))})
			if _, c := p.want(wire.ChunkAbort); binary.BigEndian.Uint16(c.Body) != wire.CauseUnresolvableAddr {
				t.Errorf("Got causes %x", c.Body)
			}
		}},
		{"unknown parameters", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			b := p.ours.AppendFixed(nil)
			b = wire.AppendTLV(b, 0x8abc, []byte("skip"))
			b = wire.AppendTLV(b, 0xc000, nil) // FORWARD-TSN: skip and report
			b = wire.AppendTLV(b, 0xcabc, []byte("odd"))
			b = wire.AppendTLV(b, 0x4abc, []byte("stop and report"))
			b = wire.AppendTLV(b, 0xcabd, []byte("not reached"))
			p.send(wire.Chunk{Type: wire.ChunkInit, Body: b})
			_, c := p.want(wire.ChunkInitAck)
			want := wire.AppendTLV(nil, wire.ParamUnrecognized, wire.AppendTLV(nil, 0xc000, nil))
			want = wire.AppendTLV(want, wire.ParamUnrecognized, []byte("\xca\xbc\x00\x07odd"))
			want = wire.AppendTLV(want, wire.ParamUnrecognized, []byte("\x4a\xbc\x00\x13stop and report"))
			if !bytes.HasSuffix(c.Body, want) {
				t.Errorf("Got INIT ACK %x, want the end %x", c.Body, want)
			}
		}},
		{"INIT with company", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.send(wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()}, wire.Chunk{Type: wire.ChunkCookieAck})
			p.silence()
		}},
		{"restart with a new address", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			p.connect()
			y.Next(sctp.Up)
			p.ours.Tag, p.ours.Addrs, p.h.Tag = 0x5678, []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.66.6.6")}, 0
			p.send(wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()})
			if _, c := p.want(wire.ChunkAbort); binary.BigEndian.Uint16(c.Body) != wire.CauseNewAddresses {
				t.Errorf("Got causes %x", c.Body)
			}
			y.None()
		}},
		{"restart with the same addresses", func(t *testing.T, y *sctptest.Site, p *rawPeer) {
			// Those that are not used are the same as well.
			muxOf(y).machine.Read = func() (localaddr.State, error) {
				return localaddr.State{Offered: ips("10.0.0.2 172.17.0.1")}, nil
			}
			p.ours.Addrs = ips("10.0.0.3 10.0.0.4 172.17.0.1 fe80::1 127.0.0.1")
			p.connect()
			y.Next(sctp.Up)
			p.ours.Tag = 0x5678
			p.connect()
			y.Down(sctp.PeerAbort)
			if ev := y.Next(sctp.Up); fmt.Sprint(ev.Peer, ev.Claimed) != "[10.0.0.3:7777] [10.0.0.4:7777]" {
				t.Errorf("Got peer %v, claiming %v", ev.Peer, ev.Claimed)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, sctp.Limits{}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) { tt.run(t, y, p) })
		})
	}
}

// TestUDPOutOfTheBlue checks RFC 9260, Section 8.4.
func TestUDPOutOfTheBlue(t *testing.T) {
	tests := []struct {
		c    wire.Chunk
		want wire.ChunkType // 0 for silence
	}{
		{sctptest.Data(1, 0, 0, whole, []byte("x")), wire.ChunkAbort},
		{wire.Chunk{Type: wire.ChunkHeartbeat, Body: []byte{0, 1, 0, 4}}, wire.ChunkAbort},
		{wire.Chunk{Type: wire.ChunkSack, Body: make([]byte, 12)}, wire.ChunkAbort},
		{wire.Chunk{Type: wire.ChunkShutdown, Body: make([]byte, 4)}, wire.ChunkAbort},
		{wire.Chunk{Type: wire.ChunkShutdownAck}, wire.ChunkShutdownComplete},
		{wire.Chunk{Type: wire.ChunkAbort}, 0},
		{wire.Chunk{Type: wire.ChunkShutdownComplete}, 0},
		{wire.Chunk{Type: wire.ChunkCookieAck}, 0},
		{wire.Chunk{Type: wire.ChunkError, Body: make([]byte, 4)}, 0},
		{wire.Chunk{Type: wire.ChunkInitAck, Body: make([]byte, 16)}, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint("chunk ", tt.c.Type), func(t *testing.T) {
			onRaw(t, sctp.Limits{}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) {
				p.h.Tag = 99
				p.send(tt.c)
				if tt.want == 0 {
					p.silence()
				} else if h, c := p.want(tt.want); h.Tag != 99 || c.Flags&wire.FlagT == 0 {
					t.Errorf("Got tag %d and flags %d, want 99 reflected", h.Tag, c.Flags)
				}
				if n := muxOf(y).n.OutOfTheBlue.Load(); n != 1 {
					t.Errorf("Got %d counted, want 1", n)
				}
			})
		})
	}
	t.Run("limited", func(t *testing.T) {
		onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
			p.h.Tag = 99
			const n = 4 * ootbEach
			for range n {
				p.send(wire.Chunk{Type: wire.ChunkHeartbeat})
			}
			time.Sleep(time.Second)
			if got := len(p.s.in); got == 0 || got > 2*ootbEach {
				t.Errorf("Got %d answers to %d packets, want some and at most %d", got, n, 2*ootbEach)
			}
		})
	})
}

// TestUDPUnserved: an INIT for a port that peers may call is logged with the reason, once in a
// while, and refused like any other.
func TestUDPUnserved(t *testing.T) {
	onRaw(t, sctp.Limits{}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) {
		var lines []string
		m := muxOf(y)
		m.n.Logf = func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
		m.Unserved = map[uint16]error{1: errors.New("call port 2"), 3863: errors.New("this port is served")}
		for _, port := range []uint16{1, 1, 3, 3863} {
			p.h.Dst = port
			p.send(wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()})
			if port == 3863 {
				p.want(wire.ChunkInitAck)
			} else {
				p.want(wire.ChunkAbort)
			}
		}
		time.Sleep(time.Minute)
		p.h.Dst = 1
		p.send(wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()})
		p.want(wire.ChunkAbort)
		want := []string{
			"sctp: refused an association (udp) with 10.0.0.3:7777: call port 2",
			"sctp: refused an association (udp) with 10.0.0.3:7777: call port 2 (1 more aborted or refused since the last such line)",
		}
		if !slices.Equal(lines, want) {
			t.Errorf("logged %q, want %q", lines, want)
		}
		if n := m.n.OutOfTheBlue.Load(); n != 4 {
			t.Errorf("Got %d counted, want 4", n)
		}
	})
}

// TestUDPUnknownAddress: a NAT gives the peer another address. What comes from
// there is no packet of the association, and the peer is told; the association
// stays, as the peer may be at its own address, too.
func TestUDPUnknownAddress(t *testing.T) {
	onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		p.connect()
		y.Next(sctp.Up)
		first := p.s
		var err error
		if p.s, err = w.sock(netip.MustParseAddrPort("10.66.6.6:9899")); err != nil {
			t.Fatal(err)
		}
		defer p.s.close()
		p.send(wire.Chunk{Type: wire.ChunkHeartbeat, Body: []byte{0, 1, 0, 4}})
		if h, c := p.want(wire.ChunkAbort); h.Tag != p.h.Tag || c.Flags&wire.FlagT == 0 {
			t.Errorf("Got tag %#x and flags %d, want %#x reflected", h.Tag, c.Flags, p.h.Tag)
		}
		p.send(wire.Chunk{Type: wire.ChunkAbort})
		p.silence()
		p.s = first
		p.send(wire.Chunk{Type: wire.ChunkHeartbeat, Body: []byte{0, 1, 0, 4}})
		p.want(wire.ChunkHeartbeatAck)
		y.None()
	})
}

// TestUDPBadChunks has a connected peer break the rules.
func TestUDPBadChunks(t *testing.T) {
	sack := func(gaps, dups uint16, n int) wire.Chunk {
		b := make([]byte, n)
		if n >= wire.SackHeaderLen {
			binary.BigEndian.PutUint16(b[8:], gaps)
			binary.BigEndian.PutUint16(b[10:], dups)
		}
		return wire.Chunk{Type: wire.ChunkSack, Body: b}
	}
	tests := []struct {
		name  string
		c     wire.Chunk
		cause uint16 // of the ABORT, 0 if the association lives on
	}{
		{"DATA without data", sctptest.Data(100, 0, 0, whole, nil), wire.CauseNoUserData},
		{"DATA cut short", wire.Chunk{Type: wire.ChunkData, Flags: whole, Body: make([]byte, 11)}, wire.CauseProtocolViolation},
		{"DATA on a stream not granted", sctptest.Data(100, ourStreams, 0, whole, []byte("x")), wire.CauseInvalidStream},
		{"SACK cut short", sack(0, 0, 11), wire.CauseProtocolViolation},
		{"SACK with less than it says", sack(1, 1, 16), wire.CauseProtocolViolation},
		{"SACK with more than it says", sack(1, 1, 24), wire.CauseProtocolViolation},
		{"SACK of 65535 blocks it has not", sack(65535, 65535, 12), wire.CauseProtocolViolation},
		{"SACK of what was never sent", sack(1, 0, 16), 0},
		{"SHUTDOWN cut short", wire.Chunk{Type: wire.ChunkShutdown, Body: make([]byte, 3)}, wire.CauseProtocolViolation},
		{"SHUTDOWN COMPLETE out of order", wire.Chunk{Type: wire.ChunkShutdownComplete}, 0},
		{"FORWARD TSN not granted", wire.Chunk{Type: 192, Body: make([]byte, 4)}, 0},
		{"RE-CONFIG not granted", wire.Chunk{Type: 130, Body: make([]byte, 12)}, 0},
		{"I-DATA not granted", wire.Chunk{Type: 64, Body: make([]byte, 20)}, 0},
		{"unknown chunk", wire.Chunk{Type: 63, Body: []byte("?")}, 0},
		{"INIT ACK", wire.Chunk{Type: wire.ChunkInitAck, Body: make([]byte, 16)}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, sctp.Limits{}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) {
				p.connect()
				y.Next(sctp.Up)
				p.send(tt.c)
				if tt.cause == 0 {
					time.Sleep(time.Second)
					for len(p.s.in) > 0 {
						if _, c := p.recv(); c.Type == wire.ChunkAbort {
							t.Fatalf("Got ABORT with %x, want none", c.Body)
						}
					}
					p.send(sctptest.Data(100, 3, 0, whole, []byte("still here")))
					if got := y.Next(sctp.Received); string(got.Message.Data) != "still here" || got.Message.Stream != 3 {
						t.Errorf("Got %v", got)
					}
					return
				}
				if _, c := p.want(wire.ChunkAbort); len(c.Body) < 4 || binary.BigEndian.Uint16(c.Body) != tt.cause {
					t.Errorf("Got ABORT with %x, want cause %d", c.Body, tt.cause)
				}
				y.Down(sctp.Overrun)
				muxOf(y).empty(t)
			})
		})
	}
}

// TestUDPUnknownChunk checks that those are reported that ask for it
// (RFC 9260, Section 3.2), and that the packet is read on or not.
func TestUDPUnknownChunk(t *testing.T) {
	for _, tt := range []struct {
		typ          wire.ChunkType
		report, stop bool
	}{{63, false, true}, {127, true, true}, {191, false, false}, {255, true, false}} {
		t.Run(fmt.Sprint(tt.typ), func(t *testing.T) {
			onRaw(t, sctp.Limits{}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) {
				p.connect()
				y.Next(sctp.Up)
				p.send(wire.Chunk{Type: tt.typ, Body: []byte("what?")}, wire.Chunk{Type: wire.ChunkHeartbeat, Body: []byte{0, 1, 0, 4}})
				if tt.report {
					if _, c := p.want(wire.ChunkError); binary.BigEndian.Uint16(c.Body) != wire.CauseUnrecognizedChunk ||
						!bytes.HasPrefix(c.Body[4:], []byte{byte(tt.typ), 0, 0, 9, 'w', 'h', 'a', 't', '?'}) {
						t.Errorf("Got error %x", c.Body)
					}
				}
				if tt.stop {
					p.silence()
				} else if _, c := p.want(wire.ChunkHeartbeatAck); !bytes.Equal(c.Body, []byte{0, 1, 0, 4}) {
					t.Errorf("Got HEARTBEAT ACK with %x", c.Body)
				}
			})
		})
	}
}

// TestUDPFollowsPeer has a peer change to another address of its own, and back;
// the one that it leaves no longer answers.
func TestUDPFollowsPeer(t *testing.T) {
	onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		second, err := w.sock(netip.MustParseAddrPort("10.0.0.4:9899"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { second.close() })
		p.ours.Addrs = []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")}
		p.connect()
		b := y.Next(sctp.Up).Assoc
		first := p.s
		p.s = second
		p.answer()
		y.Next(sctp.PeerAddrs)
		for i, s := range []*etherSock{second, first} {
			time.Sleep(2 * time.Second)
			p.s = s
			for len(s.in) > 0 {
				<-s.in // HEARTBEATs that nobody answered
			}
			p.send(wire.Chunk{Type: wire.ChunkHeartbeat, Body: []byte{0, 1, 0, 4}})
			p.want(wire.ChunkHeartbeatAck)
			synctest.Wait()
			y.None() // a heartbeat is no change of path
			p.send(sctptest.Data(100+uint32(i), 0, uint16(i), whole, []byte("from here")))
			sacked := false
			for range 2 { // in either order
				switch _, c := p.recv(); c.Type {
				case wire.ChunkSack:
					sacked = true
				case wire.ChunkHeartbeat:
					p.send(wire.Chunk{Type: wire.ChunkHeartbeatAck, Body: c.Body})
				}
			}
			if !sacked {
				t.Error("Got no SACK at the address that the data came from")
			}
			y.Next(sctp.Received)
			if ev := y.Next(sctp.PeerAddrs); ev.Peer[0].Addr() != s.addr.Addr() || len(ev.Peer) != 2 {
				t.Errorf("Got peer %v, want %v first of two", ev.Peer, s.addr.Addr())
			}
			_ = y.Send(b, sctp.Message{Data: []byte("to there")})
			_, c := p.want(wire.ChunkData)
			p.send(wire.Chunk{Type: wire.ChunkSack, Body: binary.BigEndian.AppendUint64(c.Body[:4:4], 100000<<32)})
		}
	})
}

// TestUDPLargeChunks sends DATA chunks larger than pion can read, in order and
// not, doubled, and mixed with small ones.
func TestUDPLargeChunks(t *testing.T) {
	onRaw(t, sctp.Limits{}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) {
		p.connect()
		y.Next(sctp.Up)
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
				p.send(sctptest.Data(tsn+uint32(i), 1, uint16(round), flags, parts[i]))
			}
			tsn += uint32(len(parts))
			if got := y.Next(sctp.Received); !bytes.Equal(got.Message.Data, bytes.Join(parts, nil)) {
				t.Fatalf("Got a message of %d bytes that is not what was sent", len(got.Message.Data))
			}
		}
		a := muxOf(y).tags[p.h.Tag]
		time.Sleep(time.Second) // until all is acknowledged
		p.send(sctptest.Data(tsn, 1, 20, whole, []byte("x")))
		y.Next(sctp.Received)
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
		w := newEther()
		m := w.mux(t, sctp.Limits{}, sctp.EncapPort)
		gate := make(chan struct{})
		y, err := m.Listen(sctptest.On(addrY), new(sctp.IDs), func(sctp.Event) { <-gate })
		if err != nil {
			t.Fatal(err)
		}
		p := w.rawPeer(t)
		p.connect()
		var window uint32
		for i := range uint32(10000) {
			p.send(sctptest.Data(100+i, 0, uint16(i), whole, []byte("x")))
			if _, c := p.want(wire.ChunkSack); binary.BigEndian.Uint32(c.Body) == 100+i {
				window = binary.BigEndian.Uint32(c.Body[4:])
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
		_, c := p.want(wire.ChunkSack)
		if got := binary.BigEndian.Uint32(c.Body[4:]); got < windowStep {
			t.Errorf("Got window %d when the Handler goes on, want it open", got)
		}
		y.Close()
		m.wg.Wait()
	})
}

// TestUDPInitFlood sends INITs from very many forged addresses: no memory is
// kept for them, and a true peer gets through.
func TestUDPInitFlood(t *testing.T) {
	onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		m := muxOf(y)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		goroutines := runtime.NumGoroutine()
		sock := m.socks[netip.MustParseAddr("10.0.0.2")]
		const n = 100_000
		b := wire.PacketOf(p.h, wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()})
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
		y.Next(sctp.Up)
	})
}

// TestUDPAssociationLimit has more peers than are taken.
func TestUDPAssociationLimit(t *testing.T) {
	onRaw(t, sctp.Limits{Associations: 3}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		for range 3 {
			p.h.Src++
			p.connect()
			y.Next(sctp.Up)
		}
		p.h.Src++
		p.send(wire.Chunk{Type: wire.ChunkCookieEcho, Body: p.init().Cookie})
		if _, c := p.want(wire.ChunkAbort); binary.BigEndian.Uint16(c.Body) != wire.CauseOutOfResource {
			t.Errorf("Got causes %x", c.Body)
		}
		y.None()
	})
}

// TestUDPBacklog: the Handler hangs, so that peers have to wait. One that gives up and comes
// again, or restarts, adds nothing. All goes on when the Handler does.
func TestUDPBacklog(t *testing.T) {
	const backlog = 8
	onRaw(t, sctp.Limits{Backlog: backlog}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		hang := make(chan struct{})
		y.Hooked(func(sctp.Event) { <-hang })
		for i := range 2 * backlog {
			p.h.Tag, p.h.Src = 0, 8000+uint16(i)
			if i%2 == 1 {
				p.ours.Tag++
				p.h.Src = 8000 // it restarts
			}
			p.send(wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()})
			_, c := p.recv()
			in, err := wire.ParseInit(c.Body)
			if c.Type == wire.ChunkInitAck && err == nil {
				p.h.Tag = in.Tag
				p.send(wire.Chunk{Type: wire.ChunkCookieEcho, Body: in.Cookie})
				_, c = p.recv()
			}
			if done := c.Type == wire.ChunkCookieAck; done != (i < backlog) {
				t.Fatalf("Handshake %d ended with chunk type %d", i, c.Type)
			}
		}
		e := y.Endpoint.(*endpoint)
		if n := e.backlog.Load(); n != backlog {
			t.Errorf("%d associations wait, want %d", n, backlog)
		}
		if n := e.m.Stats().Deferred; n == 0 {
			t.Error("No handshake is counted as deferred")
		}
		close(hang)
		synctest.Wait()
		if n := e.backlog.Load(); n != 0 {
			t.Errorf("%d associations wait after the Handler has gone on, want 0", n)
		}
		for len(y.Events) > 0 {
			<-y.Events
		}
		p.h.Src++
		p.connect()
		y.Next(sctp.Up)
	})
}

// TestUDPTagInUse: the next random tag is one that an association has already. A peer that got it
// would be taken for the owner, and its COOKIE ECHO not be answered.
func TestUDPTagInUse(t *testing.T) {
	onRaw(t, sctp.Limits{}, func(_ *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		p.connect()
		y.Next(sctp.Up)
		draws := []uint32{0, p.h.Tag, 0xabcd}
		muxOf(y).draw = func() uint32 {
			next := draws[0]
			if len(draws) > 1 {
				draws = draws[1:]
			}
			return next
		}
		p.h.Src, p.ours.Tag = 7778, 0x1235
		p.connect()
		y.Next(sctp.Up)
	})
}
