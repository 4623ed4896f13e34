package udp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

const addrX, addrY = "10.0.0.1:3863", "10.0.0.2:3863"

func to(addrs ...string) sctp.Dest {
	d := sctp.Dest{Kind: sctp.UDP}
	for _, a := range addrs {
		d.Addrs = append(d.Addrs, netip.MustParseAddrPort(a))
	}
	return d
}

// onWire runs a test with two endpoints on a wire, both at port 9899.
func onWire(t *testing.T, lim sctp.Limits, f func(t *testing.T, w *ether, x, y *sctptest.Site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newEther()
		x, y := w.mux(t, lim, sctp.EncapPort).site(t, addrX), w.mux(t, lim, sctp.EncapPort).site(t, addrY)
		t.Cleanup(func() { end(x, y) })
		f(t, w, x, y)
	})
}

func muxOf(x *sctptest.Site) *Mux { return x.Endpoint.(*endpoint).m }

// empty checks that a mux holds nothing of any association.
func (m *Mux) empty(t *testing.T) {
	t.Helper()
	m.mu.RLock()
	defer m.mu.RUnlock()
	if len(m.tags) != 0 || len(m.peers) != 0 {
		t.Errorf("Got %d tags and %d peers, want none left", len(m.tags), len(m.peers))
	}
}

// TestUDPHeartbeat has the network go silent under an idle association.
func TestUDPHeartbeat(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		x.Connect(to(addrY))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		time.Sleep(time.Hour)
		x.None()
		y.None()
		before := w.packets()
		time.Sleep(10 * time.Second)
		if n := w.packets() - before; n < 1 || n > 4 {
			t.Errorf("Got %d packets in 10 s of idleness, want a heartbeat and its answer", n)
		}
		w.set(func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) { return 0, false })
		cut := time.Now()
		x.Down(sctp.Lost)
		if d := time.Since(cut); d < 30*time.Second || d > 40*time.Second {
			t.Errorf("Got Lost after %v, want 30 to 40 s", d)
		}
		y.Down(sctp.Lost)
		muxOf(x).empty(t)
		muxOf(y).empty(t)
	})
}

// TestUDPBadNetwork sends messages over a network that loses, disorders and
// corrupts packets.
func TestUDPBadNetwork(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			onWire(t, sctp.Limits{HandshakeTime: time.Minute}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
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
					if err := x.Send(a, sctp.Message{Data: sctptest.Message(4+rng.IntN(5000), byte(i)), PPID: uint32(i)}); err != nil {
						t.Fatalf("Send %d: %v", i, err)
					}
				}
				x.Next(sctp.Up)
				y.Next(sctp.Up)
				for i := range n {
					select {
					case ev := <-y.Events:
						if ev.Type != sctp.Received || ev.Message.PPID != uint32(i) {
							t.Fatalf("Got %v with %d, want message %d", ev, ev.Message.PPID, i)
						}
					case <-time.After(30 * time.Minute):
						t.Fatalf("Message %d does not come", i)
					}
				}
				if muxOf(y).n.BadChecksum.Load() == 0 {
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
			onWire(t, sctp.Limits{HandshakeTime: 10 * time.Minute, Heartbeat: time.Hour}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
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
				if err := x.Send(x1, sctp.Message{Data: []byte("hello")}); err != nil {
					t.Fatalf("x has no association that works: %v (called %d, has %d)", err, a, x1)
				}
				for {
					select {
					case ev := <-y.Events:
						if ev.Type == sctp.Received {
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
func settle(x *sctptest.Site) sctp.AssocID {
	up := map[sctp.AssocID]bool{}
	for {
		select {
		case ev := <-x.Events:
			switch ev.Type {
			case sctp.Up:
				up[ev.Assoc] = true
			case sctp.Down:
				delete(up, ev.Assoc)
			}
		case <-time.After(11 * time.Minute):
			if len(up) != 1 {
				x.T.Fatalf("Got %d associations up, want 1", len(up))
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
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		x.Connect(to(addrY))
		x.Next(sctp.Up)
		old := y.Next(sctp.Up)
		muxOf(x).crash(w)
		x2 := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, addrX)
		a := x2.Connect(to(addrY))
		if err := x2.Send(a, sctp.Message{Data: []byte("again")}); err != nil {
			t.Error(err)
		}
		x2.Next(sctp.Up)
		if ev := y.Next(sctp.Down); ev.Assoc != old.Assoc || ev.Reason != sctp.PeerAbort || !errors.Is(ev.Err, sctp.ErrRestarted) {
			t.Errorf("Got %v, want Down of %d by a restart", ev, old.Assoc)
		}
		if ev := y.Next(sctp.Up); ev.Assoc == old.Assoc {
			t.Errorf("Got Up of %d again, want a new name", ev.Assoc)
		}
		if got := y.Next(sctp.Received); string(got.Message.Data) != "again" {
			t.Errorf("Got %q, want again", got.Message.Data)
		}
		end(x2)
	})
}

// TestUDPHeartbeatFindsRestart: a peer that has restarted answers a HEARTBEAT at once, and
// one that lives does not mind any number.
func TestUDPHeartbeatFindsRestart(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		a := x.Connect(to(addrY))
		x.Heartbeat(a) // not up yet
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		for range 100 {
			x.Heartbeat(a)
			time.Sleep(10 * time.Millisecond)
		}
		x.None()
		y.None()
		muxOf(y).crash(w)
		for range 10 { // none of them counts as a miss
			x.Heartbeat(a)
			time.Sleep(10 * time.Millisecond)
		}
		x.None()
		y2 := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, addrY)
		x.Heartbeat(a)
		restarted := time.Now()
		x.Down(sctp.PeerAbort)
		if d := time.Since(restarted); d > 100*time.Millisecond {
			t.Errorf("Down after %v, want it after a round trip", d)
		}
		end(y2)
	})
}

// TestUDPConnectedAlready calls a peer that there is an association with.
func TestUDPConnectedAlready(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		x.Connect(to(addrY))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		y.Connect(to(addrX))
		if ev := y.Down(sctp.ConnectFailed); !errors.Is(ev.Err, sctp.ErrConnected) {
			t.Errorf("Got error %v, want %v", ev.Err, sctp.ErrConnected)
		}
	})
}

// TestUDPNewPort moves a peer to another UDP port, as a NAT does, in the
// middle of an association (RFC 6951, Section 5.4).
func TestUDPNewPort(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		a := x.Connect(to(addrY))
		x.Next(sctp.Up)
		b := y.Next(sctp.Up).Assoc
		xAddr, nat := netip.MustParseAddrPort("10.0.0.1:9899"), netip.MustParseAddrPort("10.0.0.1:777")
		w.mu.Lock()
		s := w.socks[xAddr]
		w.socks[nat] = &etherSock{w: w, addr: nat, in: s.in, done: s.done}
		delete(w.socks, xAddr)
		s.addr = nat
		w.mu.Unlock()
		_ = x.Send(a, sctp.Message{Data: []byte("I moved")})
		y.Next(sctp.Received)
		_ = y.Send(b, sctp.Message{Data: []byte("so I see")})
		x.Next(sctp.Received)
		if p := muxOf(y).encap.Port(netip.MustParseAddrPort(addrX)); p != 777 {
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
				w := newEther()
				x := w.mux(t, sctp.Limits{MessageSize: 1 << 20, SendQueueBytes: 1 << 22}, sctp.EncapPort).site(t, addrX)
				y := w.mux(t, sctp.Limits{MessageSize: 1000}, sctp.EncapPort).site(t, addrY)
				t.Cleanup(func() { end(x, y) })
				a := x.Connect(to(addrY))
				if err := x.Send(a, sctp.Message{Data: make([]byte, 1000)}); err != nil {
					t.Fatal(err)
				}
				y.Next(sctp.Up)
				y.Next(sctp.Received)
				if err := x.Send(a, sctp.Message{Data: make([]byte, n)}); err != nil {
					t.Fatal(err)
				}
				y.Down(sctp.Overrun)
				if ev := x.Down(sctp.PeerAbort); ev.Err == nil {
					t.Error("Got no error with PeerAbort")
				}
				if c := muxOf(y).n.Overruns.Load(); c != 1 {
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
		w := newEther()
		x := w.mux(t, sctp.Limits{SendQueueBytes: 1 << 20, SendQueueMessages: 1 << 20}, sctp.EncapPort).site(t, addrX)
		m := w.mux(t, sctp.Limits{}, sctp.EncapPort)
		gate := make(chan struct{})
		got := 0
		y, err := m.Listen(sctptest.On(addrY), new(sctp.IDs), func(ev sctp.Event) {
			if ev.Type == sctp.Received {
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
		x.Next(sctp.Up)
		sent, full := 0, 0
		for full < 10 {
			switch err := x.Send(a, sctp.Message{Data: make([]byte, 3000), PPID: uint32(sent)}); {
			case err == nil:
				sent++
			case errors.Is(err, sctp.ErrQueueFull):
				full++
				time.Sleep(10 * time.Second)
			default:
				t.Fatalf("Send %d: %v", sent, err)
			}
		}
		time.Sleep(10 * time.Minute)
		x.None()
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
		end(x)
	})
}

// TestUDPSecondAddress calls a peer whose first address is dead, and loses the
// path in use later: the association goes on by another one.
func TestUDPSecondAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEther()
		x := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, addrX)
		y := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, "10.0.0.2:3863", "10.1.0.2:3863", "10.2.0.2:3863")
		dead := []netip.Addr{netip.MustParseAddr("10.0.0.2")}
		w.set(func(from, to netip.AddrPort, _ []byte) (time.Duration, bool) {
			return time.Millisecond, !slices.Contains(dead, to.Addr()) && !slices.Contains(dead, from.Addr())
		})
		start := time.Now()
		a := x.Connect(to("10.0.0.2:3863", "10.1.0.2:3863"))
		up := x.Next(sctp.Up)
		if d := time.Since(start); d > time.Second {
			t.Errorf("Got Up after %v, want the second address tried within a second", d)
		}
		if len(up.Peer)+len(up.Claimed) != 3 || up.Peer[0].String() != "10.1.0.2:3863" {
			t.Errorf("Got peer %v, claiming %v, want 10.1.0.2 first of three", up.Peer, up.Claimed)
		}
		if up = x.Confirmed(up, 2); up.Peer[0].String() != "10.1.0.2:3863" || up.Peer[1].String() != "10.2.0.2:3863" {
			t.Errorf("Got peer %v, want 10.1.0.2 and 10.2.0.2", up.Peer)
		}
		y.Next(sctp.Up)
		w.mu.Lock()
		dead = append(dead, netip.MustParseAddr("10.1.0.2"))
		w.mu.Unlock()
		_ = x.Send(a, sctp.Message{Data: []byte("which way?")})
		time.Sleep(2 * time.Minute)
		if got := y.Next(sctp.Received); string(got.Message.Data) != "which way?" {
			t.Errorf("Got %q", got.Message.Data)
		}
		if ev := x.Next(sctp.PeerAddrs); ev.Peer[0].String() != "10.2.0.2:3863" {
			t.Errorf("Got peer %v, want 10.2.0.2 first", ev.Peer)
		}
		end(x, y)
	})
}
