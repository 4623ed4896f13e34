package udp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// victim is an address that is not the raw peer's, though the peer lists it.
const victim = "203.0.113.7"

// listVictim has the raw peer list the victim's address beside its own.
func (p *rawPeer) listVictim() {
	p.ours.Addrs = []netip.Addr{p.s.addr.Addr(), netip.MustParseAddr(victim)}
}

// wantPeer checks the addresses of an event.
func wantPeer(x *sctptest.Site, typ sctp.EventType, want string) {
	x.T.Helper()
	if ev := x.Next(typ); fmt.Sprint(ev.Peer, ev.Claimed) != want {
		x.T.Errorf("peer %v, claiming %v, want %s", ev.Peer, ev.Claimed, want)
	}
}

// TestUDPConfirmed: the second address of a peer counts as its own after a round
// trip.
func TestUDPConfirmed(t *testing.T) {
	onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
		n.x.Connect(to(y0, y1))
		wantPeer(n.x, sctp.Up, "[10.0.0.2:3863] [10.1.0.2:3863]")
		wantPeer(n.y, sctp.Up, "[10.0.0.1:3863] [10.1.0.1:3863]")
		start := time.Now()
		wantPeer(n.x, sctp.PeerAddrs, "[10.0.0.2:3863 10.1.0.2:3863] []")
		wantPeer(n.y, sctp.PeerAddrs, "[10.0.0.1:3863 10.1.0.1:3863] []")
		if took := time.Since(start); took > 10*time.Millisecond {
			t.Errorf("confirmed after %v, want 10 ms at most", took)
		}
		time.Sleep(10 * time.Minute)
		n.x.None()
		n.y.None()
	})
}

// TestUDPConfirmedLate: an address that does not answer at first is confirmed when
// it does.
func TestUDPConfirmedLate(t *testing.T) {
	onTwoNets(t, sctp.Limits{}, func(t *testing.T, n *twoNets) {
		n.kill(func(from, _ netip.AddrPort) bool { return !net0(from) })
		n.x.Connect(to(y0))
		n.x.Next(sctp.Up)
		n.y.Next(sctp.Up)
		time.Sleep(10 * time.Minute)
		n.x.None()
		n.live()
		start := time.Now()
		wantPeer(n.x, sctp.PeerAddrs, "[10.0.0.2:3863 10.1.0.2:3863] []")
		if took := time.Since(start); took > verifyMax+time.Second {
			t.Errorf("confirmed after %v, want %v at most", took, verifyMax+time.Second)
		}
		// Once confirmed, it stays so.
		n.y.Next(sctp.PeerAddrs)
		n.kill(func(from, _ netip.AddrPort) bool { return !net0(from) })
		time.Sleep(10 * time.Minute)
		n.x.None()
	})
}

// TestUDPForgedAddress has a peer list the address of a victim and do what it can
// to have it confirmed: it acknowledges HEARTBEATs, from its own address and in the
// victim's name, with what it has got at its own one.
func TestUDPForgedAddress(t *testing.T) {
	onRaw(t, sctp.Limits{Heartbeat: 10 * time.Second}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		forger, err := w.sock(netip.AddrPortFrom(netip.MustParseAddr(victim), sctp.EncapPort))
		if err != nil {
			t.Fatal(err)
		}
		defer forger.close()
		w.set(func(_, to netip.AddrPort, _ []byte) (time.Duration, bool) {
			return time.Millisecond, to.Addr() != netip.MustParseAddr(victim)
		})
		p.listVictim()
		p.connect()
		wantPeer(y, sctp.Up, "[10.0.0.3:7777] [203.0.113.7:7777]")
		own := p.s
		for range 5 {
			time.Sleep(9500 * time.Millisecond)
			for len(p.s.in) > 0 {
				<-p.s.in
			}
			_, c := p.want(wire.ChunkHeartbeat)
			p.send(wire.Chunk{Type: wire.ChunkHeartbeatAck, Body: c.Body})
			p.s = forger
			for i := range byte(4) {
				c.Body[4] = i // the index of the way
				p.send(wire.Chunk{Type: wire.ChunkHeartbeatAck, Body: c.Body})
			}
			p.send(sctptest.Data(100, 0, 0, whole, []byte("from the victim")))
			p.s = own
		}
		synctest.Wait()
		for len(y.Events) > 0 {
			if ev := <-y.Events; ev.Type == sctp.PeerAddrs {
				t.Errorf("peer %v", ev.Peer)
			}
		}
	})
}

// TestUDPLearnsConfirmed: the UDP port of an address is remembered for later calls when the
// address is confirmed. A peer that lists the address of another host, and sends in its name,
// does not set the port at which that host is called.
func TestUDPLearnsConfirmed(t *testing.T) {
	onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		sock := func(at string) *etherSock {
			s, err := w.sock(netip.MustParseAddrPort(at))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.close() })
			return s
		}
		remembered := func(addr string, want uint16) {
			t.Helper()
			if got := muxOf(y).encap.Port(netip.MustParseAddrPort(addr)); got != want {
				t.Errorf("%s is called at UDP port %d, want %d", addr, got, want)
			}
		}
		own, second := sock("10.0.0.3:12345"), sock("10.0.0.9:12345")
		p.s, p.h.Src = own, 9901
		p.ours.Addrs = []netip.Addr{own.addr.Addr(), second.addr.Addr()}
		p.connect()
		y.Next(sctp.Up)
		p.s = second
		p.send(sctptest.Data(100, 0, 0, whole, []byte("from the second address")))
		y.Next(sctp.Received)
		remembered("10.0.0.3:9901", 12345)
		remembered("10.0.0.9:9901", sctp.EncapPort)
		p.answer()
		y.Next(sctp.PeerAddrs)
		remembered("10.0.0.9:9901", 12345)
	})
}

// TestUDPForgedCookieAck has a peer that is called answer in the name of a victim,
// which it lists: the association is with the address that was called.
func TestUDPForgedCookieAck(t *testing.T) {
	onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		forger, err := w.sock(netip.AddrPortFrom(netip.MustParseAddr(victim), sctp.EncapPort))
		if err != nil {
			t.Fatal(err)
		}
		defer forger.close()
		y.Connect(to("10.0.0.3:7777"))
		_, c := p.want(wire.ChunkInit)
		p.h.Tag = binary.BigEndian.Uint32(c.Body)
		p.listVictim()
		p.ours.Cookie = []byte("cookie")
		p.send(wire.Chunk{Type: wire.ChunkInitAck, Body: p.ours.Body()})
		p.want(wire.ChunkCookieEcho)
		p.s = forger
		p.send(wire.Chunk{Type: wire.ChunkCookieAck})
		wantPeer(y, sctp.Up, "[10.0.0.3:7777] [203.0.113.7:7777]")
	})
}

// TestUDPCampedAddress has a peer list the address, SCTP and UDP port of another one:
// the other one can call and be called (RFC 5062, Section 2).
func TestUDPCampedAddress(t *testing.T) {
	for _, called := range []bool{false, true} {
		t.Run(map[bool]string{false: "calls", true: "is called"}[called], func(t *testing.T) {
			onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
				x := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, addrX)
				defer end(x)
				p.h.Src = 3863
				p.ours.Addrs = []netip.Addr{p.s.addr.Addr(), netip.MustParseAddr("10.0.0.1")}
				p.connect()
				wantPeer(y, sctp.Up, "[10.0.0.3:3863] [10.0.0.1:3863]")
				time.Sleep(time.Second) // the HEARTBEAT is out of the blue for x, which says so
				var a sctp.AssocID
				if called {
					a = y.Connect(to(addrX))
					x.Next(sctp.Up)
				} else {
					x.Connect(to(addrY))
					x.Next(sctp.Up)
				}
				for ev := range y.Events {
					if ev.Type == sctp.Up {
						a = ev.Assoc
						break
					}
					t.Logf("of the camper: %v", ev)
				}
				_ = y.Send(a, sctp.Message{Data: []byte("hello")})
				x.Next(sctp.Received)
			})
		})
	}
}
