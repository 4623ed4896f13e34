package sctp

import (
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// cutOff loses all packets from now on.
func (w *wire) cutOff() {
	w.set(func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) { return 0, false })
}

// TestUDPEnds ends associations in ways that need more than one packet to
// arrive.
func TestUDPEnds(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T, w *wire, x, y *site, a, b AssocID)
	}{
		{"shutdown delivers what is queued", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			for range 50 {
				_ = x.Send(a, Message{Data: make([]byte, 5000)})
			}
			x.Shutdown(a)
			if err := x.Send(a, Message{Data: []byte("late")}); !errors.Is(err, ErrNoAssoc) {
				t.Errorf("Send after Shutdown: got %v, want %v", err, ErrNoAssoc)
			}
			for range 50 {
				y.next(Received)
			}
			if ev := y.next(Down); ev.Reason != PeerShutdown {
				t.Errorf("Got %v, want PeerShutdown", ev)
			}
			x.down(LocalClose)
		}},
		{"both shut down", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			x.Shutdown(a)
			y.Shutdown(b)
			x.down(LocalClose)
			y.down(LocalClose)
		}},
		{"shutdown of a silent peer", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			w.cutOff()
			start := time.Now()
			x.Shutdown(a)
			x.down(LocalClose)
			if d := time.Since(start); d != graceTime {
				t.Errorf("Got Down after %v, want %v", d, graceTime)
			}
			y.down(Lost)
		}},
		{"shutdown on a bad network", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			n := 0
			w.set(func(_, _ netip.AddrPort, b []byte) (time.Duration, bool) {
				n++
				return time.Millisecond, n%2 == 0
			})
			x.Shutdown(a)
			x.down(LocalClose)
			y.down(PeerShutdown)
		}},
		{"the peer's shutdown is cut off", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			w.set(func(from, _ netip.AddrPort, b []byte) (time.Duration, bool) {
				return time.Millisecond, from.Addr().String() == "10.0.0.1"
			})
			x.Shutdown(a)
			y.down(PeerShutdown)
			x.down(LocalClose)
		}},
		{"lost with messages queued", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			w.cutOff()
			for i := range 3 {
				_ = x.Send(a, Message{Data: []byte{byte(i)}, PPID: 11})
			}
			time.Sleep(time.Minute)
			for i := range 3 {
				if ev := x.next(SendFailed); ev.Message.Data[0] != byte(i) || ev.Message.PPID != 11 {
					t.Errorf("Got %v, want message %d", ev, i)
				}
			}
			x.down(Lost)
			y.down(Lost)
		}},
		{"aborted while connecting", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			x.Abort(a)
			x.down(LocalClose)
			y.down(PeerAbort)
			a = x.Connect(to(addrY))
			x.Abort(a)
			if ev := x.next(Down); ev.Assoc != a || ev.Reason != LocalClose {
				t.Errorf("Got %v, want LocalClose", ev)
			}
		}},
		{"shut down while connecting", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			c := x.Connect(to("10.0.0.9:1"))
			x.Shutdown(c)
			if ev := x.next(Down); ev.Assoc != c || ev.Reason != LocalClose {
				t.Errorf("Got %v, want LocalClose", ev)
			}
		}},
		{"nobody answers", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			start := time.Now()
			x.Connect(to("10.0.0.9:1"))
			x.down(ConnectFailed)
			if d := time.Since(start); d != 10*time.Second {
				t.Errorf("Got Down after %v, want 10 s", d)
			}
		}},
		{"closed", func(t *testing.T, w *wire, x, y *site, a, b AssocID) {
			x.Close()
			if ev := x.next(Down); ev.Reason != LocalClose {
				t.Errorf("Got %v, want LocalClose", ev)
			}
			y.down(PeerAbort)
			if err := x.Send(a, Message{Data: []byte("x")}); !errors.Is(err, ErrClosed) {
				t.Errorf("Send: got %v, want %v", err, ErrClosed)
			}
			if id := x.Connect(to(addrY)); id != 0 {
				t.Errorf("Connect: got %d, want 0", id)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
				a := x.Connect(to(addrY))
				x.next(Up)
				b := y.next(Up).Assoc
				tt.run(t, w, x, y, a, b)
			})
		})
	}
}

// TestUDPSendUnfit sends what cannot be sent.
func TestUDPSendUnfit(t *testing.T) {
	onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
		a := x.Connect(to(addrY))
		x.next(Up)
		for name, m := range map[string]Message{
			"empty":    {},
			"too long": {Data: make([]byte, 65536+65)},
			"stream":   {Data: []byte("x"), Stream: ourStreams},
		} {
			if err := x.Send(a, m); err == nil || errors.Is(err, ErrQueueFull) || errors.Is(err, ErrNoAssoc) {
				t.Errorf("Send, %s: got %v, want an error of its own", name, err)
			}
		}
		if err := x.Send(a+100, Message{Data: []byte("x")}); !errors.Is(err, ErrNoAssoc) {
			t.Errorf("Send to nobody: got %v, want %v", err, ErrNoAssoc)
		}
		y.next(Up)
		y.none()
	})
}

// TestUDPConnectNowhere calls what cannot be called.
func TestUDPConnectNowhere(t *testing.T) {
	onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
		for _, d := range []Dest{{}, to("[fd00::1]:1"), to("10.0.0.9:0"), to(addrX)} {
			x.Connect(d)
			if ev := x.next(Down); ev.Reason != ConnectFailed || ev.Err == nil {
				t.Errorf("Connect to %v: got %v, want ConnectFailed and why", d.Addrs, ev)
			}
		}
		x.mux().empty(t)
	})
}

// TestUDPCannotSend calls while the machine has no way to the peer: the caller
// is told so, and not after the whole time of a handshake, but only if it lasts.
func TestUDPCannotSend(t *testing.T) {
	noRoute := errors.New("network is unreachable")
	t.Run("for good", func(t *testing.T) {
		onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
			w.cut(noRoute)
			start := time.Now()
			x.Connect(to(addrY))
			if ev := x.next(Down); ev.Reason != ConnectFailed || !errors.Is(ev.Err, noRoute) || time.Since(start) > 1100*time.Millisecond {
				t.Errorf("got %v after %v, want ConnectFailed with %q after a second", ev, time.Since(start), noRoute)
			}
			x.mux().empty(t)
		})
	})
	t.Run("for a moment", func(t *testing.T) {
		onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
			w.cut(noRoute)
			x.Connect(to(addrY))
			time.Sleep(500 * time.Millisecond) // virtual
			w.cut(nil)
			x.next(Up)
			y.next(Up)
		})
	})
}

// TestUDPGoroutines counts the goroutines of an association.
func TestUDPGoroutines(t *testing.T) {
	onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
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
		x.next(Up)
		y.next(Up)
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
		w := newWire()
		x := w.mux(t, Limits{}, EncapPort).site(t, addrX)
		m := w.mux(t, Limits{}, EncapPort)
		var downs []Reason
		y, err := m.listen(on(addrY), new(idAllocator), func(ev Event) {
			switch ev.Type {
			case Received:
				panic("the Handler does this")
			case Down:
				downs = append(downs, ev.Reason)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		a := x.Connect(to(addrY))
		_ = x.Send(a, Message{Data: []byte("boo")})
		x.next(Up)
		x.down(PeerAbort)
		x.Connect(to(addrY))
		x.next(Up)
		if m.n.panics.Load() != 1 || !slices.Equal(downs, []Reason{Lost}) {
			t.Errorf("Got %d panics and Down %v, want 1 and [Lost]", m.n.panics.Load(), downs)
		}
		y.Close()
		m.wg.Wait()
		x.end()
	})
}

// TestEncapPorts checks what is remembered of whom.
func TestEncapPorts(t *testing.T) {
	var e encapPorts
	peer := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 3863)
	}
	if p := e.port(peer(1)); p != EncapPort {
		t.Errorf("Got port %d for one not heard of, want %d", p, EncapPort)
	}
	e.learn(peer(1), 1000, true)
	e.learn(peer(1), 2000, false)
	if p := e.port(peer(1)); p != 1000 {
		t.Errorf("Got port %d after another's claim, want 1000", p)
	}
	e.learn(peer(1), 3000, true)
	if p := e.port(peer(1)); p != 3000 {
		t.Errorf("Got port %d, want 3000, the last heard", p)
	}
	for i := range maxEncapPorts + 10 {
		e.learn(peer(i+2), 5000, true)
	}
	if len(e.ports) != maxEncapPorts || e.order.Len() != maxEncapPorts {
		t.Errorf("Got %d remembered, want %d", len(e.ports), maxEncapPorts)
	}
	if p := e.port(peer(1)); p != EncapPort {
		t.Errorf("Got port %d of the one to be forgotten first", p)
	}
}

// BenchmarkUDPRequest is a request and its response over loopback.
func BenchmarkUDPRequest(b *testing.B) {
	s1, s2 := newStack(b, StackConfig{Mode: UDPOnly}), newStack(b, StackConfig{Mode: UDPOnly})
	x := s1.site(b, on("127.0.0.1:0"))
	var y Endpoint
	y, err := s2.Listen(on("127.0.0.1:0"), func(ev Event) {
		if ev.Type == Received {
			_ = y.Send(ev.Assoc, ev.Message)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	a := x.Connect(Dest{Addrs: y.LocalAddrs(), EncapPort: s2.EncapPort()})
	x.next(Up)
	msg := Message{Data: make([]byte, 100), PPID: 11}
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Send(a, msg); err != nil {
			b.Fatal(err)
		}
		x.next(Received)
	}
}

// BenchmarkUDPInit is the answer to an INIT.
func BenchmarkUDPInit(b *testing.B) {
	w := newWire()
	w.cutOff()
	m := w.mux(b, Limits{}, EncapPort)
	y := m.site(b, addrY)
	defer y.end()
	p := initParams{tag: 1, rwnd: 100000, out: 10, in: 10, tsn: 1}
	pkt := packetOf(header{src: 7777, dst: 3863}, chunk{typ: chunkInit, body: p.body()})
	sock := m.socks[netip.MustParseAddr("10.0.0.2")]
	from := netip.MustParseAddrPort("10.0.0.3:9899")
	b.ReportAllocs()
	for b.Loop() {
		m.receive(sock, pkt, from, sock.local().Addr())
	}
}

// BenchmarkUDPStream is messages of 1000 bytes in one direction.
func BenchmarkUDPStream(b *testing.B) {
	s1, s2 := newStack(b, StackConfig{Mode: UDPOnly}), newStack(b, StackConfig{Mode: UDPOnly})
	x := s1.site(b, on("127.0.0.1:0"))
	got := make(chan struct{}, 1<<16)
	y, err := s2.Listen(on("127.0.0.1:0"), func(ev Event) {
		if ev.Type == Received {
			got <- struct{}{}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	a := x.Connect(Dest{Addrs: y.LocalAddrs(), EncapPort: s2.EncapPort()})
	x.next(Up)
	msg := Message{Data: make([]byte, 1000), PPID: 11}
	b.SetBytes(1000)
	b.ReportAllocs()
	ahead := 0
	for b.Loop() {
		for ahead++; ; {
			err := x.Send(a, msg)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrQueueFull) {
				b.Fatal(err)
			}
			<-got
			ahead--
		}
	}
	for ; ahead > 0; ahead-- {
		<-got
	}
}
