package sctp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// victim is an address that is not the raw peer's, though the peer lists it.
const victim = "203.0.113.7"

// listVictim has the raw peer list the victim's address beside its own.
func (p *rawPeer) listVictim() {
	p.ours.addrs = []netip.Addr{p.s.addr.Addr(), netip.MustParseAddr(victim)}
}

// wantPeer checks the addresses of an event.
func (x *site) wantPeer(typ EventType, want string) {
	x.t.Helper()
	if ev := x.next(typ); fmt.Sprint(ev.Peer, ev.Claimed) != want {
		x.t.Errorf("peer %v, claiming %v, want %s", ev.Peer, ev.Claimed, want)
	}
}

// TestUDPConfirmed: the second address of a peer counts as its own after a round
// trip.
func TestUDPConfirmed(t *testing.T) {
	onTwoNets(t, Limits{}, func(t *testing.T, n *twoNets) {
		n.x.Connect(to(y0, y1))
		n.x.wantPeer(Up, "[10.0.0.2:3863] [10.1.0.2:3863]")
		n.y.wantPeer(Up, "[10.0.0.1:3863] [10.1.0.1:3863]")
		start := time.Now()
		n.x.wantPeer(PeerAddrs, "[10.0.0.2:3863 10.1.0.2:3863] []")
		n.y.wantPeer(PeerAddrs, "[10.0.0.1:3863 10.1.0.1:3863] []")
		if took := time.Since(start); took > 10*time.Millisecond {
			t.Errorf("confirmed after %v, want 10 ms at most", took)
		}
		time.Sleep(10 * time.Minute)
		n.x.none()
		n.y.none()
	})
}

// TestUDPConfirmedLate: an address that does not answer at first is confirmed when
// it does.
func TestUDPConfirmedLate(t *testing.T) {
	onTwoNets(t, Limits{}, func(t *testing.T, n *twoNets) {
		n.kill(func(from, _ netip.AddrPort) bool { return !net0(from) })
		n.x.Connect(to(y0))
		n.x.next(Up)
		n.y.next(Up)
		time.Sleep(10 * time.Minute)
		n.x.none()
		n.live()
		start := time.Now()
		n.x.wantPeer(PeerAddrs, "[10.0.0.2:3863 10.1.0.2:3863] []")
		if took := time.Since(start); took > verifyMax+time.Second {
			t.Errorf("confirmed after %v, want %v at most", took, verifyMax+time.Second)
		}
		// Once confirmed, it stays so.
		n.y.next(PeerAddrs)
		n.kill(func(from, _ netip.AddrPort) bool { return !net0(from) })
		time.Sleep(10 * time.Minute)
		n.x.none()
	})
}

// TestUDPForgedAddress has a peer list the address of a victim and do what it can
// to have it confirmed: it acknowledges HEARTBEATs, from its own address and in the
// victim's name, with what it has got at its own one.
func TestUDPForgedAddress(t *testing.T) {
	onRaw(t, Limits{Heartbeat: 10 * time.Second}, func(t *testing.T, w *wire, y *site, p *rawPeer) {
		forger, err := w.sock(netip.AddrPortFrom(netip.MustParseAddr(victim), EncapPort))
		if err != nil {
			t.Fatal(err)
		}
		defer forger.close()
		w.set(func(_, to netip.AddrPort, _ []byte) (time.Duration, bool) {
			return time.Millisecond, to.Addr() != netip.MustParseAddr(victim)
		})
		p.listVictim()
		p.connect()
		y.wantPeer(Up, "[10.0.0.3:7777] [203.0.113.7:7777]")
		own := p.s
		for range 5 {
			time.Sleep(9500 * time.Millisecond)
			for len(p.s.in) > 0 {
				<-p.s.in
			}
			_, c := p.want(chunkHeartbeat)
			p.send(chunk{typ: chunkHeartbeatAck, body: c.body})
			p.s = forger
			for i := range byte(4) {
				c.body[4] = i // the index of the way
				p.send(chunk{typ: chunkHeartbeatAck, body: c.body})
			}
			p.send(data(100, 0, 0, whole, []byte("from the victim")))
			p.s = own
		}
		synctest.Wait()
		for len(y.events) > 0 {
			if ev := <-y.events; ev.Type == PeerAddrs {
				t.Errorf("peer %v", ev.Peer)
			}
		}
	})
}

// TestUDPForgedCookieAck has a peer that is called answer in the name of a victim,
// which it lists: the association is with the address that was called.
func TestUDPForgedCookieAck(t *testing.T) {
	onRaw(t, Limits{}, func(t *testing.T, w *wire, y *site, p *rawPeer) {
		forger, err := w.sock(netip.AddrPortFrom(netip.MustParseAddr(victim), EncapPort))
		if err != nil {
			t.Fatal(err)
		}
		defer forger.close()
		y.Connect(to("10.0.0.3:7777"))
		_, c := p.want(chunkInit)
		p.h.tag = binary.BigEndian.Uint32(c.body)
		p.listVictim()
		p.ours.cookie = []byte("cookie")
		p.send(chunk{typ: chunkInitAck, body: p.ours.body()})
		p.want(chunkCookieEcho)
		p.s = forger
		p.send(chunk{typ: chunkCookieAck})
		y.wantPeer(Up, "[10.0.0.3:7777] [203.0.113.7:7777]")
	})
}

// TestUDPCampedAddress has a peer list the address, SCTP and UDP port of another one:
// the other one can call and be called (RFC 5062, Section 2).
func TestUDPCampedAddress(t *testing.T) {
	for _, called := range []bool{false, true} {
		t.Run(map[bool]string{false: "calls", true: "is called"}[called], func(t *testing.T) {
			onRaw(t, Limits{}, func(t *testing.T, w *wire, y *site, p *rawPeer) {
				x := w.mux(t, Limits{}, EncapPort).site(t, addrX)
				defer x.end()
				p.h.src = 3863
				p.ours.addrs = []netip.Addr{p.s.addr.Addr(), netip.MustParseAddr("10.0.0.1")}
				p.connect()
				y.wantPeer(Up, "[10.0.0.3:3863] [10.0.0.1:3863]")
				time.Sleep(time.Second) // the HEARTBEAT is out of the blue for x, which says so
				var a AssocID
				if called {
					a = y.Connect(to(addrX))
					x.next(Up)
				} else {
					x.Connect(to(addrY))
					x.next(Up)
				}
				for ev := range y.events {
					if ev.Type == Up {
						a = ev.Assoc
						break
					}
					t.Logf("of the camper: %v", ev)
				}
				_ = y.Send(a, Message{Data: []byte("hello")})
				x.next(Received)
			})
		})
	}
}
