package udp

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// twoNets is two hosts, x and y, on two networks, 10.0.0.0/24 and 10.1.0.0/24,
// with no way between the networks.
type twoNets struct {
	w    *ether
	x, y *sctptest.Site
	dead atomic.Pointer[func(from, to netip.AddrPort) bool]
	// refuse has the dead network's packets fail to be sent, as where its
	// interface is down; else they are lost.
	refuse atomic.Bool
}

const (
	x0, x1 = "10.0.0.1:3863", "10.1.0.1:3863"
	y0, y1 = "10.0.0.2:3863", "10.1.0.2:3863"
)

func net0(ap netip.AddrPort) bool { return ap.Addr().As4()[1] == 0 }

// onTwoNets runs a test with both hosts up and listening.
func onTwoNets(t *testing.T, lim sctp.Limits, f func(t *testing.T, n *twoNets)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &twoNets{w: newEther()}
		n.live()
		n.w.set(func(from, to netip.AddrPort, _ []byte) (time.Duration, bool) {
			return time.Millisecond, net0(from) == net0(to) && !(*n.dead.Load())(from, to)
		})
		n.w.refuse = func(from, to netip.AddrPort) error {
			if n.refuse.Load() && (*n.dead.Load())(from, to) {
				return errors.New("network is down")
			}
			return nil
		}
		n.x = n.w.mux(t, lim, sctp.EncapPort).site(t, x0, x1)
		n.y = n.w.mux(t, lim, sctp.EncapPort).site(t, y0, y1)
		t.Cleanup(func() { end(n.x, n.y) })
		f(t, n)
	})
}

func (n *twoNets) kill(dead func(from, to netip.AddrPort) bool) { n.dead.Store(&dead) }
func (n *twoNets) live()                                        { n.kill(func(_, _ netip.AddrPort) bool { return false }) }

// connect has x call y by the first network.
func (n *twoNets) connect(t *testing.T) (a, b sctp.AssocID) {
	t.Helper()
	a = n.x.Connect(to(y0, y1))
	n.x.Next(sctp.Up)
	b = n.y.Next(sctp.Up).Assoc
	for s, want := range map[*sctptest.Site][]netip.AddrPort{n.x: to(y0, y1).Addrs, n.y: to(x0, x1).Addrs} {
		if ev := s.Next(sctp.PeerAddrs); !slices.Equal(ev.Peer, want) || len(ev.Claimed) > 0 {
			t.Fatalf("peer %v and %v, want %v", ev.Peer, ev.Claimed, want)
		}
	}
	return a, b
}

// get waits for a message, whatever comes before it.
func get(t *testing.T, x *sctptest.Site) sctp.Message {
	t.Helper()
	for {
		select {
		case ev := <-x.Events:
			if ev.Type == sctp.Received {
				return ev.Message
			}
			if ev.Type != sctp.PeerAddrs {
				t.Fatalf("got %v, want a message", ev)
			}
		case <-time.After(10 * time.Minute):
			t.Fatal("got no message")
		}
	}
}

// outage is how long two hosts may be without each other when one of two
// networks dies.
const outage = 2 * time.Second

// TestUDPNetworkDies takes one of two networks away, in all the ways in which
// that happens: at most outage later everything that was sent has arrived.
func TestUDPNetworkDies(t *testing.T) {
	deaths := []struct {
		name   string
		dead   func(from, to netip.AddrPort) bool
		refuse bool
	}{
		{"lost", func(from, to netip.AddrPort) bool { return net0(from) }, false},
		{"the interface is down", func(from, to netip.AddrPort) bool { return net0(from) }, true},
		{"x to y only", func(from, to netip.AddrPort) bool { return from.Addr().String() == "10.0.0.1" }, false},
		{"y to x only", func(from, to netip.AddrPort) bool { return from.Addr().String() == "10.0.0.2" }, false},
	}
	for _, d := range deaths {
		for _, idle := range []time.Duration{0, 50 * time.Millisecond, 700 * time.Millisecond, 5 * time.Second, 25 * time.Second} {
			t.Run(d.name+", idle "+idle.String(), func(t *testing.T) {
				onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
					a, b := n.connect(t)
					for range 5 { // let it know the round-trip time
						_ = n.x.Send(a, sctp.Message{Data: []byte("request")})
						get(t, n.y)
						_ = n.y.Send(b, sctp.Message{Data: []byte("response")})
						get(t, n.x)
					}
					time.Sleep(time.Minute)
					_ = n.x.Send(a, sctp.Message{Data: []byte("request")})
					get(t, n.y)
					time.Sleep(idle)
					n.kill(d.dead)
					n.refuse.Store(d.refuse)
					var worst time.Duration
					for i := range 20 {
						start := time.Now()
						_ = n.x.Send(a, sctp.Message{Data: []byte("request")})
						get(t, n.y)
						_ = n.y.Send(b, sctp.Message{Data: []byte("response")})
						get(t, n.x)
						took := time.Since(start)
						if i > 0 && took > worst {
							t.Logf("request %d took %v", i, took)
						}
						worst = max(worst, took)
						time.Sleep(400 * time.Millisecond)
					}
					if worst > outage+50*time.Millisecond {
						t.Errorf("a request and its response took %v, want %v at most", worst, outage)
					}
					t.Logf("out for %v", worst)
					time.Sleep(5 * time.Minute)
					_ = n.x.Send(a, sctp.Message{Data: []byte("still there?")})
					get(t, n.y)
				})
			})
		}
	}
}

// TestUDPNetworksInTurn takes both networks away in turn, for ten minutes.
func TestUDPNetworksInTurn(t *testing.T) {
	onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
		a, b := n.connect(t)
		var worst time.Duration
		for i := range 20 {
			n.kill(func(from, _ netip.AddrPort) bool { return net0(from) == (i%2 == 0) })
			for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
				start := time.Now()
				_ = n.y.Send(b, sctp.Message{Data: []byte("request")})
				get(t, n.x)
				_ = n.x.Send(a, sctp.Message{Data: []byte("response")})
				get(t, n.y)
				worst = max(worst, time.Since(start))
			}
		}
		t.Logf("out for %v", worst)
		if worst > outage+50*time.Millisecond {
			t.Errorf("a request and its response took %v, want %v at most", worst, outage)
		}
	})
}

// TestUDPCallByLiveNetwork calls a peer whose first network is dead, with its
// source by the route of each address.
func TestUDPCallByLiveNetwork(t *testing.T) {
	onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
		n.kill(func(from, _ netip.AddrPort) bool { return net0(from) })
		start := time.Now()
		n.x.Connect(to(y0, y1))
		up := n.x.Next(sctp.Up)
		if took := time.Since(start); took > time.Second {
			t.Errorf("up after %v, want a second at most", took)
		}
		if up.Peer[0] != to(y1).Addrs[0] {
			t.Errorf("peer %v, want %v first", up.Peer, y1)
		}
	})
}

// TestUDPOneLostPacket loses a packet of an idle association: that is no reason
// to leave its path for good.
func TestUDPOneLostPacket(t *testing.T) {
	onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
		a, b := n.connect(t)
		time.Sleep(time.Minute)
		n.kill(func(from, _ netip.AddrPort) bool { return net0(from) })
		_ = n.x.Send(a, sctp.Message{Data: []byte("lost")})
		time.Sleep(10 * time.Millisecond)
		n.live()
		get(t, n.y)
		_ = n.y.Send(b, sctp.Message{Data: []byte("here")})
		get(t, n.x)
		time.Sleep(time.Minute)
		n.x.None()
		n.y.None()
	})
}

// TestUDPRefusedByOneAddress has a peer's machine say that nobody listens at
// one of its addresses: that ends nothing as long as another one answers.
func TestUDPRefusedByOneAddress(t *testing.T) {
	onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
		a, _ := n.connect(t)
		refused := func(addr string) { n.refused(a, addr) }
		n.kill(func(from, _ netip.AddrPort) bool { return net0(from) })
		refused("10.0.0.2:9899")
		if ev := n.x.Next(sctp.PeerAddrs); ev.Peer[0] != to(y1).Addrs[0] {
			t.Errorf("peer %v, want %v first", ev.Peer, y1)
		}
		_ = n.x.Send(a, sctp.Message{Data: []byte("by the other one")})
		get(t, n.y)
		n.kill(func(from, _ netip.AddrPort) bool { return true })
		refused("10.1.0.2:9899")
		refused("10.0.0.2:9899")
		n.x.Down(sctp.Lost)
	})
}

// refused has x get an ICMP error from an address of y.
func (n *twoNets) refused(a sctp.AssocID, addr string) {
	assoc := assocOf(n.x, a)
	quote := wire.PacketOf(wire.Header{Src: 3863, Dst: 3863, Tag: assoc.peerTag.Load()}, wire.Chunk{Type: wire.ChunkHeartbeat, Body: make([]byte, 8)})
	muxOf(n.x).unreachable(&unreachableError{to: netip.MustParseAddrPort(addr), quote: quote, err: errors.New("refused")})
}

// TestUDPRefusedEverywhere: if nobody listens at any address of the peer, the error names the
// one that the association was made with, whichever answers last. The user may not know the
// others, which the peer lists.
func TestUDPRefusedEverywhere(t *testing.T) {
	const first, second = "10.0.0.2:9899", "10.1.0.2:9899"
	for _, order := range [][]string{{first, second}, {second, first}} {
		onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
			a, _ := n.connect(t)
			n.kill(func(from, _ netip.AddrPort) bool { return true })
			for _, addr := range order {
				n.refused(a, addr)
			}
			if ev, want := n.x.Down(sctp.Lost), first+" is unreachable: refused"; ev.Err == nil || ev.Err.Error() != want {
				t.Errorf("refused by %q: got %v, want %s", order, ev.Err, want)
			}
		})
	}
}

// TestUDPUnconfirmed has a peer list an address that is not its own: nothing but
// a few HEARTBEATs goes there, whatever happens (RFC 9260, Section 5.4).
func TestUDPUnconfirmed(t *testing.T) {
	onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
		end(n.y)
		n.y = n.w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, y0, "10.9.0.2:3863")
		got := map[wire.ChunkType]int{}
		n.w.set(func(from, to netip.AddrPort, b []byte) (time.Duration, bool) {
			if to.Addr().String() == "10.9.0.2" {
				c, _, _ := wire.NextChunk(b[wire.CommonHeaderLen:])
				got[c.Type]++
				return 0, false
			}
			return time.Millisecond, !(*n.dead.Load())(from, to)
		})
		a := n.x.Connect(to(y0))
		n.x.Next(sctp.Up)
		n.y.Next(sctp.Up)
		for i := range 60 {
			if i == 30 {
				n.kill(func(from, _ netip.AddrPort) bool { return net0(from) })
			}
			_ = n.x.Send(a, sctp.Message{Data: []byte("x")})
			time.Sleep(time.Second)
		}
		n.w.mu.Lock()
		defer n.w.mu.Unlock()
		for typ, k := range got {
			if typ != wire.ChunkHeartbeat || k > 20 {
				t.Errorf("got %d chunks of type %d sent to an address that has not answered", k, typ)
			}
		}
	})
}

// TestUDPVictimsGetLittle has many peers list the same address that is not
// theirs: it gets no more HEARTBEATs in a second than one address gets answers to
// packets out of the blue.
func TestUDPVictimsGetLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newEther()
		y := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, addrY)
		m := muxOf(y)
		m.ootb.each = 5
		got := 0
		w.set(func(from, to netip.AddrPort, _ []byte) (time.Duration, bool) {
			if to.Addr().String() == "192.0.2.1" {
				got++
			}
			return time.Millisecond, true
		})
		const n = 50
		p := w.rawPeer(t)
		p.ours.Addrs = []netip.Addr{p.s.addr.Addr(), netip.MustParseAddr("192.0.2.1")}
		for i := range n {
			p.h.Src, p.ours.Tag = uint16(7000+i), uint32(1+i)
			p.connect()
			y.Next(sctp.Up)
		}
		w.mu.Lock()
		if got == 0 || got > 2*m.ootb.each {
			t.Errorf("the address that %d peers listed got %d HEARTBEATs, want at most %d", n, got, 2*m.ootb.each)
		}
		w.mu.Unlock()
		end(y)
	})
}
