package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// cutOff loses all packets from now on.
func (w *ether) cutOff() {
	w.set(func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) { return 0, false })
}

// TestUDPEnds ends associations in ways that need more than one packet to
// arrive.
func TestUDPEnds(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID)
	}{
		{"shutdown delivers what is queued", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			for range 50 {
				_ = x.Send(a, sctp.Message{Data: make([]byte, 5000)})
			}
			x.Shutdown(a)
			if err := x.Send(a, sctp.Message{Data: []byte("late")}); !errors.Is(err, sctp.ErrNoAssoc) {
				t.Errorf("Send after Shutdown: got %v, want %v", err, sctp.ErrNoAssoc)
			}
			for range 50 {
				y.Next(sctp.Received)
			}
			if ev := y.Next(sctp.Down); ev.Reason != sctp.PeerShutdown {
				t.Errorf("Got %v, want PeerShutdown", ev)
			}
			x.Down(sctp.LocalClose)
		}},
		{"both shut down", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			x.Shutdown(a)
			y.Shutdown(b)
			x.Down(sctp.LocalClose)
			y.Down(sctp.LocalClose)
		}},
		{"shutdown of a silent peer", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			w.cutOff()
			start := time.Now()
			x.Shutdown(a)
			x.Down(sctp.LocalClose)
			if d := time.Since(start); d != sctp.GraceTime {
				t.Errorf("Got Down after %v, want %v", d, sctp.GraceTime)
			}
			y.Down(sctp.Lost)
		}},
		{"shutdown on a bad network", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			n := 0
			w.set(func(_, _ netip.AddrPort, b []byte) (time.Duration, bool) {
				n++
				return time.Millisecond, n%2 == 0
			})
			x.Shutdown(a)
			x.Down(sctp.LocalClose)
			y.Down(sctp.PeerShutdown)
		}},
		{"the peer's shutdown is cut off", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			w.set(func(from, _ netip.AddrPort, b []byte) (time.Duration, bool) {
				return time.Millisecond, from.Addr().String() == "10.0.0.1"
			})
			x.Shutdown(a)
			y.Down(sctp.PeerShutdown)
			x.Down(sctp.LocalClose)
		}},
		{"lost with messages queued", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			w.cutOff()
			for i := range 3 {
				_ = x.Send(a, sctp.Message{Data: []byte{byte(i)}, PPID: 11})
			}
			time.Sleep(time.Minute)
			for i := range 3 {
				if ev := x.Next(sctp.SendFailed); ev.Message.Data[0] != byte(i) || ev.Message.PPID != 11 {
					t.Errorf("Got %v, want message %d", ev, i)
				}
			}
			x.Down(sctp.Lost)
			y.Down(sctp.Lost)
		}},
		{"aborted while connecting", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			x.Abort(a)
			x.Down(sctp.LocalClose)
			y.Down(sctp.PeerAbort)
			a = x.Connect(to(addrY))
			x.Abort(a)
			if ev := x.Next(sctp.Down); ev.Assoc != a || ev.Reason != sctp.LocalClose {
				t.Errorf("Got %v, want LocalClose", ev)
			}
		}},
		{"shut down while connecting", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			c := x.Connect(to("10.0.0.9:1"))
			x.Shutdown(c)
			if ev := x.Next(sctp.Down); ev.Assoc != c || ev.Reason != sctp.LocalClose {
				t.Errorf("Got %v, want LocalClose", ev)
			}
		}},
		{"nobody answers", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			start := time.Now()
			x.Connect(to("10.0.0.9:1"))
			x.Down(sctp.ConnectFailed)
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("Got Down after %v, want 10 s", d)
			}
		}},
		{"closed", func(t *testing.T, w *ether, x, y *sctptest.Site, a, b sctp.AssocID) {
			x.Close()
			if ev := x.Next(sctp.Down); ev.Reason != sctp.LocalClose {
				t.Errorf("Got %v, want LocalClose", ev)
			}
			y.Down(sctp.PeerAbort)
			if err := x.Send(a, sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrClosed) {
				t.Errorf("Send: got %v, want %v", err, sctp.ErrClosed)
			}
			if id := x.Connect(to(addrY)); id != 0 {
				t.Errorf("Connect: got %d, want 0", id)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
				a := x.Connect(to(addrY))
				x.Next(sctp.Up)
				b := y.Next(sctp.Up).Assoc
				tt.run(t, w, x, y, a, b)
			})
		})
	}
}

// TestUDPSendUnfit sends what cannot be sent.
func TestUDPSendUnfit(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		a := x.Connect(to(addrY))
		x.Next(sctp.Up)
		for name, m := range map[string]sctp.Message{
			"empty":    {},
			"too long": {Data: make([]byte, 65536+65)},
			"stream":   {Data: []byte("x"), Stream: ourStreams},
		} {
			if err := x.Send(a, m); err == nil || errors.Is(err, sctp.ErrQueueFull) || errors.Is(err, sctp.ErrNoAssoc) {
				t.Errorf("Send, %s: got %v, want an error of its own", name, err)
			}
		}
		if err := x.Send(a+100, sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrNoAssoc) {
			t.Errorf("Send to nobody: got %v, want %v", err, sctp.ErrNoAssoc)
		}
		y.Next(sctp.Up)
		y.None()
	})
}

// TestUDPConnectNowhere calls what cannot be called.
func TestUDPConnectNowhere(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		for _, d := range []sctp.Dest{{}, to("[fd00::1]:1"), to("10.0.0.9:0"), to(addrX)} {
			x.Connect(d)
			if ev := x.Next(sctp.Down); ev.Reason != sctp.ConnectFailed || ev.Err == nil {
				t.Errorf("Connect to %v: got %v, want ConnectFailed and why", d.Addrs, ev)
			}
		}
		muxOf(x).empty(t)
	})
}

// TestUDPCannotSend calls while the machine has no way to the peer: the caller
// is told so, and not after the whole time of a handshake, but only if it lasts.
func TestUDPCannotSend(t *testing.T) {
	noRoute := errors.New("network is unreachable")
	t.Run("for good", func(t *testing.T) {
		onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
			w.cut(noRoute)
			start := time.Now()
			x.Connect(to(addrY))
			if ev := x.Next(sctp.Down); ev.Reason != sctp.ConnectFailed || !errors.Is(ev.Err, noRoute) || time.Since(start) > 1100*time.Millisecond {
				t.Errorf("got %v after %v, want ConnectFailed with %q after a second", ev, time.Since(start), noRoute)
			}
			muxOf(x).empty(t)
		})
	})
	t.Run("for a moment", func(t *testing.T) {
		onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
			w.cut(noRoute)
			x.Connect(to(addrY))
			time.Sleep(500 * time.Millisecond) // virtual
			w.cut(nil)
			x.Next(sctp.Up)
			y.Next(sctp.Up)
		})
	})
}

// TestUDPGoroutines counts the goroutines of an association.
func TestUDPGoroutines(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		// It is counted in the stacks, as a bubble counts its own only.
		count := func() (n int) {
			synctest.Wait()
			b := make([]byte, 1<<20)
			for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
				if strings.Contains(g, "synctest bubble") {
					n++
				}
			}
			return n
		}
		before := count()
		x.Connect(to(addrY))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		time.Sleep(time.Minute)
		if n := count() - before; n > 2*5 {
			t.Errorf("Got %d goroutines for both sides of an association, want at most 5 each", n)
		} else {
			t.Logf("%d goroutines for both sides of an association", n)
		}
	})
}

// TestUDPHandlerPanics has a Handler panic: its association ends, and nothing
// else does.
func TestUDPHandlerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEther()
		x := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, addrX)
		m := w.mux(t, sctp.Limits{}, sctp.EncapPort)
		var logged string
		m.n.Logf = func(format string, args ...any) { logged += fmt.Sprintf(format, args...) }
		var downs []sctp.Reason
		y, err := m.Listen(sctptest.On(addrY), new(sctp.IDs), func(ev sctp.Event) {
			switch ev.Type {
			case sctp.Received:
				panic("the Handler does this")
			case sctp.Down:
				downs = append(downs, ev.Reason)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		a := x.Connect(to(addrY))
		_ = x.Send(a, sctp.Message{Data: []byte("boo")})
		x.Next(sctp.Up)
		x.Down(sctp.PeerAbort)
		x.Connect(to(addrY))
		x.Next(sctp.Up)
		if m.n.Panics.Load() != 1 || !slices.Equal(downs, []sctp.Reason{sctp.Lost}) || !strings.Contains(logged, "life_test.go") {
			t.Errorf("Got %d panics, Down %v and the log %q, want 1, [Lost] and a stack", m.n.Panics.Load(), downs, logged)
		}
		y.Close()
		m.wg.Wait()
		end(x)
	})
}

// BenchmarkUDPInit is the answer to an INIT.
func BenchmarkUDPInit(b *testing.B) {
	w := newEther()
	w.cutOff()
	m := w.mux(b, sctp.Limits{}, sctp.EncapPort)
	y := m.site(b, addrY)
	defer end(y)
	p := wire.InitParams{Tag: 1, RWND: 100000, Out: 10, In: 10, TSN: 1}
	pkt := wire.PacketOf(wire.Header{Src: 7777, Dst: 3863}, wire.Chunk{Type: wire.ChunkInit, Body: p.Body()})
	sock := m.socks[netip.MustParseAddr("10.0.0.2")]
	from := netip.MustParseAddrPort("10.0.0.3:9899")
	b.ReportAllocs()
	for b.Loop() {
		m.receive(sock, pkt, from, sock.local().Addr())
	}
}

// TestUDPLatePacket: an association is aborted between the moment at which a packet is found to be
// its own and that at which it is handled.
func TestUDPLatePacket(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, _ *sctptest.Site) {
		w.cutOff()
		x.Connect(to(addrY))
		m := muxOf(x)
		var a *assoc
		for _, a = range m.tags {
		}
		before := m.Stats().OutOfTheBlue
		a.abort(sctp.LocalClose, errors.New("not wanted any more"), wire.CauseUserAbort)
		in := arrival{from: netip.MustParseAddrPort("10.0.0.2:9899"), Header: wire.Header{Src: a.peerPort, Dst: a.ep.port, Tag: a.local.Tag}}
		if !a.receive(in, wire.AppendChunk(nil, wire.Chunk{Type: wire.ChunkInitAck})) || m.Stats().OutOfTheBlue != before+1 {
			t.Error("a packet for an association that has just ended is not counted as out of the blue")
		}
	})
}
