package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// TestUDPBehindNAT has a peer list addresses of which none is where its packets
// come from: it is behind a NAT, and they are not its own out here (RFC 6951,
// Section 5.7).
func TestUDPBehindNAT(t *testing.T) {
	inner := []netip.Addr{netip.MustParseAddr("192.168.1.5"), netip.MustParseAddr("2001:db8::5")}
	want := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.3:7777")}
	check := func(t *testing.T, w *ether, y *sctptest.Site) {
		t.Helper()
		if ev := y.Next(sctp.Up); !slices.Equal(ev.Peer, want) || !ev.Translated {
			t.Errorf("got peer %v, translated %v, want %v and true", ev.Peer, ev.Translated, want)
		}
		w.set(func(from, to netip.AddrPort, _ []byte) (time.Duration, bool) {
			if slices.Contains(inner, to.Addr()) {
				t.Errorf("a packet goes to %v", to)
			}
			return 0, false
		})
		y.Down(sctp.Lost)
	}
	t.Run("it calls", func(t *testing.T) {
		onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
			p.ours.Addrs = inner
			p.connect()
			check(t, w, y)
		})
	})
	t.Run("it is called", func(t *testing.T) {
		onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
			y.Connect(to("10.0.0.3:7777"))
			_, c := p.want(wire.ChunkInit)
			theirs, err := wire.ParseInit(c.Body)
			if err != nil {
				t.Fatal(err)
			}
			p.h.Tag = theirs.Tag
			p.ours.Addrs, p.ours.Cookie = inner, []byte("cookie")
			p.send(wire.Chunk{Type: wire.ChunkInitAck, Body: p.ours.Body()})
			p.want(wire.ChunkCookieEcho)
			p.send(wire.Chunk{Type: wire.ChunkCookieAck})
			check(t, w, y)
		})
	})
	t.Run("it restarts", func(t *testing.T) {
		onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
			p.ours.Addrs = inner[:1]
			p.connect()
			y.Next(sctp.Up)
			p.ours.Addrs, p.ours.Tag = inner, 0x4321 // has another address behind the NAT now
			p.connect()
			y.Down(sctp.PeerAbort)
			check(t, w, y)
		})
	})
}

// TestUDPNewPortForged sends packets of a living association from another UDP
// port, with a wrong verification tag: the peer has not moved.
func TestUDPNewPortForged(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		a := x.Connect(to(addrY))
		x.Next(sctp.Up)
		b := y.Next(sctp.Up).Assoc
		forger, _ := w.sock(netip.MustParseAddrPort("10.0.0.1:777"))
		defer forger.close()
		for tag := range uint32(100) {
			_ = forger.write(wire.PacketOf(wire.Header{Src: 3863, Dst: 3863, Tag: tag}, sctptest.Data(1, 0, 0, whole, []byte("x"))), netip.MustParseAddrPort("10.0.0.2:9899"), netip.Addr{})
		}
		time.Sleep(time.Second)
		_ = y.Send(b, sctp.Message{Data: []byte("are you still there?")})
		x.Next(sctp.Received)
		_ = x.Send(a, sctp.Message{Data: []byte("yes")})
		y.Next(sctp.Received)
		if p := muxOf(y).encap.Port(netip.MustParseAddrPort(addrX)); p != sctp.EncapPort {
			t.Errorf("got port %d remembered, want %d", p, sctp.EncapPort)
		}
	})
}

// TestUDPListsWhereItIs calls and is called at an address that is not offered,
// such as docker0's: a peer there is told of it beside the others, or it would
// take us for a host behind a NAT.
func TestUDPListsWhereItIs(t *testing.T) {
	w := newEther()
	m := w.mux(t, sctp.Limits{}, sctp.EncapPort)
	m.machine.Read = func() (localaddr.State, error) {
		return localaddr.State{Offered: ips("192.0.2.2 192.0.2.66"), Other: []localaddr.LeftOut{{Addr: netip.MustParseAddr("172.17.0.1"), Why: "docker0"}}}, nil
	}
	e := &endpoint{m: m, bound: ips("0.0.0.0")}
	for _, tt := range []struct{ peer, from, want string }{
		{"192.0.2.9", "192.0.2.2", "192.0.2.2 192.0.2.66"},
		{"172.17.0.2", "172.17.0.1", "172.17.0.1 192.0.2.2 192.0.2.66"},
	} {
		if got := strings.Trim(fmt.Sprint(e.listed(netip.MustParseAddr(tt.peer), netip.MustParseAddr(tt.from))), "[]"); got != tt.want {
			t.Errorf("%s is told of %q, want %q", tt.peer, got, tt.want)
		}
	}
}

// TestUDPCallSharedAddress calls a peer at several addresses, of which one is
// ours as well, and another is somebody else's who refuses: the others are
// called all the same.
func TestUDPCallSharedAddress(t *testing.T) {
	for _, tt := range []struct{ name, first string }{
		{"our own address", addrX},
		{"an address of this machine", "172.17.0.1:3863"},
		{"who refuses", "10.0.0.9:3863"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
				muxOf(x).machine.Read = func() (localaddr.State, error) {
					return localaddr.State{Offered: ips("10.0.0.1"), Other: []localaddr.LeftOut{{Addr: netip.MustParseAddr("172.17.0.1"), Why: "docker0"}}}, nil
				}
				other := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, "10.0.0.9:1")
				defer end(other)
				docker := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, "172.17.0.1:3863")
				defer end(docker)
				x.Connect(to(tt.first, addrY))
				if ev := x.Next(sctp.Up); ev.Peer[0].String() != addrY {
					t.Errorf("got peer %v, want %v", ev.Peer, addrY)
				}
				synctest.Wait()
				docker.None()
			})
		})
	}
}

// TestUDPNetworkBack takes the network away for half a minute, in all the ways
// in which a machine notices: associations live through it.
func TestUDPNetworkBack(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
	}{{"packets are lost", nil}, {"packets cannot be sent", errors.New("network is unreachable")}} {
		t.Run(tt.name, func(t *testing.T) {
			onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
				a := x.Connect(to(addrY))
				x.Next(sctp.Up)
				y.Next(sctp.Up)
				w.cut(tt.err)
				if tt.err == nil {
					w.cutOff()
				}
				_ = x.Send(a, sctp.Message{Data: []byte("when it is back")})
				time.Sleep(30 * time.Second)
				w.cut(nil)
				w.set(nil)
				back := time.Now()
				y.Next(sctp.Received)
				if took := time.Since(back); took > rtoMax {
					t.Errorf("the message came %v after the network was back, want %v at most", took, rtoMax)
				}
				time.Sleep(time.Minute)
				x.None()
			})
		})
	}
}

// TestUDPSocketError has a socket fail to read, for a reason that nobody has
// thought of: it is read on.
func TestUDPSocketError(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		sock := w.socks[netip.MustParseAddrPort("10.0.0.2:9899")]
		for range 3 {
			sock.in <- etherPacket{err: errors.New("input/output error")}
		}
		x.Connect(to(addrY))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
	})
}

// TestUDPTranslated: a peer whose packets come from an address that it does not list
// is behind an address translation. One that lists none has the address that they
// come from.
func TestUDPTranslated(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lists []netip.Addr
		want  bool
	}{
		{"lists none", nil, false},
		{"lists it", []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("10.0.0.3")}, false},
		{"lists others", []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("fd00::2")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, sctp.Limits{}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) {
				p.ours.Addrs = tt.lists
				p.connect()
				if ev := y.Next(sctp.Up); ev.Translated != tt.want || ev.Peer[0].Addr() != p.s.addr.Addr() {
					t.Errorf("Got %v, translated %v, want %v", ev.Peer, ev.Translated, tt.want)
				}
			})
		})
	}
}

func ips(s string) (out []netip.Addr) {
	for f := range strings.FieldsSeq(s) {
		out = append(out, netip.MustParseAddr(f))
	}
	return out
}
