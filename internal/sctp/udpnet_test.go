package sctp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const addrX, addrY = "10.0.0.1:3863", "10.0.0.2:3863"

func to(addrs ...string) Dest {
	d := memDest(addrs...)
	d.Kind = UDP
	return d
}

// onWire runs a test with two endpoints on a wire, both at port 9899.
func onWire(t *testing.T, lim Limits, f func(t *testing.T, w *wire, x, y *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		x, y := w.mux(t, lim, EncapPort).site(t, addrX), w.mux(t, lim, EncapPort).site(t, addrY)
		t.Cleanup(func() { x.end(y) })
		f(t, w, x, y)
	})
}

func (x *site) mux() *udpMux { return x.Endpoint.(*udpEndpoint).m }

// reason waits for Down, whatever comes before it.
func (x *site) down(want Reason) Event {
	x.t.Helper()
	for {
		select {
		case ev := <-x.events:
			if ev.Type != Down {
				continue
			}
			if ev.Reason != want {
				x.t.Errorf("Got %v, want reason %d", ev, want)
			}
			return ev
		case <-time.After(10 * time.Minute):
			x.t.Fatalf("Got no Down, want reason %d", want)
		}
	}
}

// empty checks that a mux holds nothing of any association.
func (m *udpMux) empty(t *testing.T) {
	t.Helper()
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.tags) != 0 || len(m.peers) != 0 {
		t.Errorf("Got %d tags and %d peers, want none left", len(m.tags), len(m.peers))
	}
}

// TestUDPHeartbeat has the network go silent under an idle association.
func TestUDPHeartbeat(t *testing.T) {
	onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
		x.Connect(to(addrY))
		x.next(Up)
		y.next(Up)
		time.Sleep(time.Hour)
		x.none()
		y.none()
		before := w.packets()
		time.Sleep(10 * time.Second)
		if n := w.packets() - before; n < 1 || n > 4 {
			t.Errorf("Got %d packets in 10 s of idleness, want a heartbeat and its answer", n)
		}
		w.set(func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) { return 0, false })
		cut := time.Now()
		x.down(Lost)
		if d := time.Since(cut); d < 30*time.Second || d > 40*time.Second {
			t.Errorf("Got Lost after %v, want 30 to 40 s", d)
		}
		y.down(Lost)
		x.mux().empty(t)
		y.mux().empty(t)
	})
}

// TestUDPBadNetwork sends messages over a network that loses, disorders and
// corrupts packets.
func TestUDPBadNetwork(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			onWire(t, Limits{HandshakeTime: time.Minute}, func(t *testing.T, w *wire, x, y *site) {
				rng := rand.New(rand.NewPCG(seed, 1))
				wireRNG := rand.New(rand.NewPCG(seed, 4))
				lossy := bad(wireRNG, 0.1)
				w.set(func(from, to netip.AddrPort, b []byte) (time.Duration, bool) {
					if wireRNG.IntN(20) == 0 {
						b[wireRNG.IntN(len(b))] ^= 1 << wireRNG.IntN(8)
					}
					return lossy(from, to, b)
				})
				a := x.Connect(to(addrY))
				const n = 200
				for i := range n {
					if err := x.Send(a, Message{Data: message(4+rng.IntN(5000), byte(i)), PPID: uint32(i)}); err != nil {
						t.Fatalf("Send %d: %v", i, err)
					}
				}
				x.next(Up)
				y.next(Up)
				for i := range n {
					select {
					case ev := <-y.events:
						if ev.Type != Received || ev.Message.PPID != uint32(i) {
							t.Fatalf("Got %v with %d, want message %d", ev, ev.Message.PPID, i)
						}
					case <-time.After(30 * time.Minute):
						t.Fatalf("Message %d does not come", i)
					}
				}
				if y.mux().n.badChecksum.Load() == 0 {
					t.Error("Got no bad checksum counted")
				}
			})
		})
	}
}

// TestUDPBothCall has both sides call each other, in all kinds of order, and
// wants one association of it that works.
func TestUDPBothCall(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			onWire(t, Limits{HandshakeTime: 10 * time.Minute, Heartbeat: time.Hour}, func(t *testing.T, w *wire, x, y *site) {
				rng := rand.New(rand.NewPCG(seed, 2))
				if seed > 0 {
					w.set(bad(rand.New(rand.NewPCG(seed, 3)), float64(seed%3)*0.15))
				}
				a := x.Connect(to(addrY))
				if seed > 0 {
					time.Sleep(time.Duration(rng.IntN(60)) * time.Millisecond)
				}
				b := y.Connect(to(addrX))
				x1, y1 := settle(x), settle(y)
				if err := x.Send(x1, Message{Data: []byte("hello")}); err != nil {
					t.Fatalf("x has no association that works: %v (called %d, has %d)", err, a, x1)
				}
				for {
					select {
					case ev := <-y.events:
						if ev.Type == Received {
							if ev.Assoc != y1 {
								t.Errorf("Got message on %d, want %d", ev.Assoc, y1)
							}
							return
						}
					case <-time.After(20 * time.Minute):
						t.Fatalf("Got no message; y called %d, has %d", b, y1)
					}
				}
			})
		})
	}
}

// settle waits until an endpoint's calls have ended one way or the other, and
// gives the association that is left.
func settle(x *site) AssocID {
	up := map[AssocID]bool{}
	for {
		select {
		case ev := <-x.events:
			switch ev.Type {
			case Up:
				up[ev.Assoc] = true
			case Down:
				delete(up, ev.Assoc)
			}
		case <-time.After(11 * time.Minute):
			if len(up) != 1 {
				x.t.Fatalf("Got %d associations up, want 1", len(up))
			}
			for id := range up {
				return id
			}
		}
	}
}

// TestUDPRestart has a process end without a word and start again with the
// same addresses and ports.
func TestUDPRestart(t *testing.T) {
	onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
		x.Connect(to(addrY))
		x.next(Up)
		old := y.next(Up)
		x.mux().crash(w)
		x2 := w.mux(t, Limits{}, EncapPort).site(t, addrX)
		a := x2.Connect(to(addrY))
		if err := x2.Send(a, Message{Data: []byte("again")}); err != nil {
			t.Error(err)
		}
		x2.next(Up)
		if ev := y.next(Down); ev.Assoc != old.Assoc || ev.Reason != PeerAbort || !errors.Is(ev.Err, errRestarted) {
			t.Errorf("Got %v, want Down of %d by a restart", ev, old.Assoc)
		}
		if ev := y.next(Up); ev.Assoc == old.Assoc {
			t.Errorf("Got Up of %d again, want a new name", ev.Assoc)
		}
		if got := y.next(Received); string(got.Message.Data) != "again" {
			t.Errorf("Got %q, want again", got.Message.Data)
		}
		x2.end()
	})
}

// TestUDPConnectedAlready calls a peer that there is an association with.
func TestUDPConnectedAlready(t *testing.T) {
	onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
		x.Connect(to(addrY))
		x.next(Up)
		y.next(Up)
		y.Connect(to(addrX))
		if ev := y.down(ConnectFailed); !errors.Is(ev.Err, ErrConnected) {
			t.Errorf("Got error %v, want %v", ev.Err, ErrConnected)
		}
	})
}

// TestUDPNewPort moves a peer to another UDP port, as a NAT does, in the
// middle of an association (RFC 6951, Section 5.4).
func TestUDPNewPort(t *testing.T) {
	onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
		a := x.Connect(to(addrY))
		x.next(Up)
		b := y.next(Up).Assoc
		xAddr, nat := netip.MustParseAddrPort("10.0.0.1:9899"), netip.MustParseAddrPort("10.0.0.1:777")
		w.mu.Lock()
		s := w.socks[xAddr]
		w.socks[nat] = &wireSock{w: w, addr: nat, in: s.in, done: s.done}
		delete(w.socks, xAddr)
		s.addr = nat
		w.mu.Unlock()
		_ = x.Send(a, Message{Data: []byte("I moved")})
		y.next(Received)
		_ = y.Send(b, Message{Data: []byte("so I see")})
		x.next(Received)
		if p := y.mux().encap.port(netip.MustParseAddrPort(addrX)); p != 777 {
			t.Errorf("Got port %d remembered, want 777", p)
		}
	})
}

// TestUDPOversize has a peer send messages above the limit: one that fits the
// window, and one that does not.
func TestUDPOversize(t *testing.T) {
	for _, n := range []int{1001, 300_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWire()
				x := w.mux(t, Limits{MessageSize: 1 << 20, SendQueueBytes: 1 << 22}, EncapPort).site(t, addrX)
				y := w.mux(t, Limits{MessageSize: 1000}, EncapPort).site(t, addrY)
				t.Cleanup(func() { x.end(y) })
				a := x.Connect(to(addrY))
				if err := x.Send(a, Message{Data: make([]byte, 1000)}); err != nil {
					t.Fatal(err)
				}
				y.next(Up)
				y.next(Received)
				if err := x.Send(a, Message{Data: make([]byte, n)}); err != nil {
					t.Fatal(err)
				}
				y.down(Overrun)
				if ev := x.down(PeerAbort); ev.Err == nil {
					t.Error("Got no error with PeerAbort")
				}
				if c := y.mux().n.overruns.Load(); c != 1 {
					t.Errorf("Got %d overruns counted, want 1", c)
				}
			})
		})
	}
}

// TestUDPSlowHandler has a Handler block: the peer's window closes, its queue
// fills up, and all that was queued arrives when the Handler goes on.
func TestUDPSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		x := w.mux(t, Limits{SendQueueBytes: 1 << 20, SendQueueMessages: 1 << 20}, EncapPort).site(t, addrX)
		m := w.mux(t, Limits{}, EncapPort)
		gate := make(chan struct{})
		got := 0
		y, err := m.listen(on(addrY), new(idAllocator), func(ev Event) {
			if ev.Type == Received {
				<-gate
				if int(ev.Message.PPID) != got {
					t.Errorf("Got message %d, want %d", ev.Message.PPID, got)
				}
				got++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		a := x.Connect(to(addrY))
		x.next(Up)
		sent, full := 0, 0
		for full < 10 {
			switch err := x.Send(a, Message{Data: make([]byte, 3000), PPID: uint32(sent)}); {
			case err == nil:
				sent++
			case errors.Is(err, ErrQueueFull):
				full++
				time.Sleep(10 * time.Second)
			default:
				t.Fatalf("Send %d: %v", sent, err)
			}
		}
		time.Sleep(10 * time.Minute)
		x.none()
		if n := 1<<20/3000 + recvWindow(m.lim)/3000 + 10; sent > n {
			t.Errorf("Got %d messages sent to a Handler that blocks, want at most %d", sent, n)
		}
		close(gate)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if got != sent {
			t.Errorf("Got %d messages, want %d", got, sent)
		}
		y.Close()
		m.wg.Wait()
		x.end()
	})
}

// TestUDPSecondAddress calls a peer whose first address is dead, and loses the
// path in use later: the association goes on by another one.
func TestUDPSecondAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire()
		x := w.mux(t, Limits{}, EncapPort).site(t, addrX)
		y := &site{t: t, events: make(chan Event, 100)}
		m := w.mux(t, Limits{}, EncapPort)
		e, err := m.listen(ListenConfig{Addrs: memDest("10.0.0.2:3863", "10.1.0.2:3863", "10.2.0.2:3863").Addrs}, new(idAllocator),
			func(ev Event) { y.events <- ev })
		if err != nil {
			t.Fatal(err)
		}
		y.Endpoint = e
		dead := []netip.Addr{netip.MustParseAddr("10.0.0.2")}
		w.set(func(from, to netip.AddrPort, _ []byte) (time.Duration, bool) {
			return time.Millisecond, !slices.Contains(dead, to.Addr()) && !slices.Contains(dead, from.Addr())
		})
		start := time.Now()
		a := x.Connect(to("10.0.0.2:3863", "10.1.0.2:3863"))
		up := x.next(Up)
		if d := time.Since(start); d > time.Second {
			t.Errorf("Got Up after %v, want the second address tried within a second", d)
		}
		if len(up.Peer)+len(up.Claimed) != 3 || up.Peer[0].String() != "10.1.0.2:3863" {
			t.Errorf("Got peer %v, claiming %v, want 10.1.0.2 first of three", up.Peer, up.Claimed)
		}
		if up = x.confirmed(up, 2); up.Peer[0].String() != "10.1.0.2:3863" || up.Peer[1].String() != "10.2.0.2:3863" {
			t.Errorf("Got peer %v, want 10.1.0.2 and 10.2.0.2", up.Peer)
		}
		y.next(Up)
		w.mu.Lock()
		dead = append(dead, netip.MustParseAddr("10.1.0.2"))
		w.mu.Unlock()
		_ = x.Send(a, Message{Data: []byte("which way?")})
		time.Sleep(2 * time.Minute)
		if got := y.next(Received); string(got.Message.Data) != "which way?" {
			t.Errorf("Got %q", got.Message.Data)
		}
		if ev := x.next(PeerAddrs); ev.Peer[0].String() != "10.2.0.2:3863" {
			t.Errorf("Got peer %v, want 10.2.0.2 first", ev.Peer)
		}
		x.end(y)
	})
}
