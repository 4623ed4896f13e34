package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// TestKernelSharedAddress has two hosts with docker0, which has the same address
// on both, talk with no address named: a HEARTBEAT to that address would end the
// association, once a second.
func TestKernelSharedAddress(t *testing.T) {
	for _, tt := range []struct {
		name string
		all  bool // the peer tells of all of its addresses, as others do
	}{{"both are ours", false}, {"the peer tells of all", true}} {
		t.Run(tt.name, func(t *testing.T) {
			Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
			for _, h := range []string{"ha", "hb"} {
				Sh(t, "ip -n "+h+" link add docker0 type bridge forward_delay 0")
				Sh(t, "ip -n "+h+" addr add 172.17.0.1/16 dev docker0")
				Sh(t, "ip -n "+h+" link set docker0 up")
			}
			a := Side(t, "ha", sctp.Limits{}, "[::]:3863")
			var b *sctptest.Site
			if tt.all {
				b = Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000", "172.17.0.1:4000")
			} else {
				b = Side(t, "hb", sctp.Limits{}, "[::]:4000")
			}
			b.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: sctp.Kernel})
			ours, theirs := a.Up(), b.Up()
			if want := []netip.AddrPort{netip.MustParseAddrPort("10.99.0.2:4000")}; !slices.Equal(ours.Peer, want) {
				t.Errorf("peer %v, want %v", ours.Peer, want)
			}
			if slices.ContainsFunc(theirs.Peer, func(ap netip.AddrPort) bool { return ap.Addr().String() == "172.17.0.1" }) {
				t.Errorf("the peer is told of %v", theirs.Peer)
			}
			time.Sleep(8 * time.Second) // the kernel's clock: two or three HEARTBEATs to an unconfirmed address
			a.Say(ours.Assoc, "still there?")
			b.Received()
		})
	}
}

// TestKernelFollowsAddresses changes the addresses of a host whose endpoint has
// none named.
func TestKernelFollowsAddresses(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24,10.99.1.2/24,fd00:99::2/64"}})
	a := Side(t, "ha", sctp.Limits{}, "[::]:3863")
	b := Side(t, "hb", sctp.Limits{HandshakeTime: time.Second}, "10.99.0.2:0", "10.99.1.2:0", "[fd00:99::2]:0")
	call := func(addr string) bool {
		b.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(addr), 3863)}, Kind: sctp.Kernel})
		ev := b.Wait("an end", func(ev sctp.Event) bool { return ev.Type == sctp.Up || ev.Type == sctp.Down })
		if ev.Type == sctp.Up {
			b.Abort(ev.Assoc)
			b.Down(sctp.LocalClose)
		}
		return ev.Type == sctp.Up
	}
	within := func(addr string, want bool) {
		t.Helper()
		for end := time.Now().Add(4 * localaddr.Life); call(addr) != want; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%v is served: %v, want %v; endpoint has %v", addr, !want, want, a.LocalAddrs())
			}
		}
	}
	within("10.99.0.1", true)
	Sh(t, "ip -n ha addr add 10.99.1.1/24 dev eth0")
	Sh(t, "ip -n ha addr add fd00:99::1/64 dev eth0 nodad")
	within("10.99.1.1", true)
	within("fd00:99::1", true)
	Sh(t, "ip -n ha addr del 10.99.0.1/24 dev eth0")
	for end := time.Now().Add(4 * localaddr.Life); slices.Contains(a.LocalAddrs(), netip.MustParseAddrPort("10.99.0.1:3863")); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("endpoint still has %v", a.LocalAddrs())
		}
	}
	within("10.99.1.1", true)
	local := Side(t, "ha", sctp.Limits{}, "127.0.0.1:0")
	local.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:3863")}, Kind: sctp.Kernel})
	local.Up()
	local6 := Side(t, "ha", sctp.Limits{}, "[::1]:0")
	local6.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("[::1]:3863")}, Kind: sctp.Kernel})
	local6.Up()
}

// TestKernelCampedAddress has a peer list the address and port of another one, before
// and after that one has come (RFC 5062, Section 2): the other one is served.
func TestKernelCampedAddress(t *testing.T) {
	for _, first := range []bool{false, true} {
		t.Run(map[bool]string{false: "after", true: "before"}[first], func(t *testing.T) {
			Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
			Sh(t, "ip -n hc addr add 10.99.0.2/32 dev lo")
			a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:3863")
			dest := sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: sctp.Kernel}
			b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
			c := Side(t, "hc", sctp.Limits{}, "10.99.0.3:4000", "10.99.0.2:4000")
			honest := func() sctp.Event {
				b.Connect(dest)
				b.Up()
				return a.Wait("honest", func(ev sctp.Event) bool { return ev.Type == sctp.Up && ev.Peer[0].Addr().String() == "10.99.0.2" })
			}
			camp := func() {
				c.Connect(dest)
				ev := c.Wait("an end", func(ev sctp.Event) bool { return ev.Type == sctp.Up || ev.Type == sctp.Down })
				t.Logf("camper: %v", ev)
				if ev.Type == sctp.Up {
					ev := a.Up()
					t.Logf("camper at %v, claiming %v", ev.Peer, ev.Claimed)
				}
				time.Sleep(500 * time.Millisecond)
			}
			var ev sctp.Event
			if first {
				camp()
				ev = honest()
			} else {
				ev = honest()
				camp()
			}
			for range 3 {
				a.Say(ev.Assoc, "hello")
				got := b.Received()
				b.Say(got.Assoc, "hello back")
				a.Received()
				time.Sleep(time.Second)
			}
		})
	}
}

// TestKernelCallPastCamper calls a peer whose address another one lists as well.
func TestKernelCallPastCamper(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
	Sh(t, "ip -n hc addr add 10.99.0.2/32 dev lo")
	a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:3863")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
	c := Side(t, "hc", sctp.Limits{}, "10.99.0.3:4000", "10.99.0.2:4000")
	c.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: sctp.Kernel})
	ev := a.Up()
	t.Logf("camper at %v, claiming %v", ev.Peer, ev.Claimed)
	id := a.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.2:4000")}, Kind: sctp.Kernel})
	ev = a.Wait("an end", func(ev sctp.Event) bool { return ev.Assoc == id && ev.Type != sctp.PeerAddrs })
	if ev.Type != sctp.Up {
		t.Fatalf("the call failed: %v", ev)
	}
	b.Up()
	a.Say(id, "hello")
	b.Received()
}

// TestKernelForgedInitAck calls a peer that answers in the name of a victim: its
// INIT ACK has the victim's address as its source, and lists its own, by which the
// kernel finds the association. It knows both verification tags, so that it can
// complete the handshake without a packet that came to the victim.
func TestKernelForgedInitAck(t *testing.T) {
	for _, lists := range []bool{false, true} {
		t.Run(fmt.Sprintf("lists the victim %v", lists), func(t *testing.T) {
			a := kernelTarget(t, sctp.Limits{})
			own, victim := netip.MustParseAddr("127.0.0.5"), netip.MustParseAddr("127.9.9.9")
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: own.AsSlice()})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			encap := conn.LocalAddr().(*net.UDPAddr).Port
			forger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: victim.AsSlice(), Port: encap})
			if err != nil {
				t.Fatal(err)
			}
			defer forger.Close()
			a.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.AddrPortFrom(own, 4000)}, Kind: sctp.UDP, EncapPort: uint16(encap)})

			buf := make([]byte, 65536)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				t.Fatal(err)
			}
			h, b, err := wire.ParsePacket(buf[:n])
			first, _, ok := wire.NextChunk(b)
			if err != nil || !ok || first.Type != wire.ChunkInit {
				t.Fatalf("no INIT: %v", err)
			}
			theirs, err := wire.ParseInit(first.Body)
			if err != nil {
				t.Fatal(err)
			}
			ours := wire.InitParams{Tag: 0x1234, RWND: 100000, Out: 10, In: 10, TSN: 100, Cookie: []byte("cookie"), Addrs: []netip.Addr{own}}
			if lists {
				ours.Addrs = append(ours.Addrs, victim)
			}
			to := wire.Header{Src: h.Dst, Dst: h.Src, Tag: theirs.Tag}
			if _, err := forger.WriteToUDP(wire.PacketOf(to, wire.Chunk{Type: wire.ChunkInitAck, Body: ours.Body()}), from); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // for the kernel
			_, _ = conn.WriteToUDP(wire.PacketOf(to, wire.Chunk{Type: wire.ChunkCookieAck}), from)
			ev := a.Wait("an end", func(ev sctp.Event) bool { return ev.Type == sctp.Up || ev.Type == sctp.Down })
			if ev.Type == sctp.Up && fmt.Sprint(ev.Peer) != fmt.Sprint([]netip.AddrPort{netip.AddrPortFrom(own, 4000)}) {
				t.Errorf("peer %v, claiming %v, want only %v", ev.Peer, ev.Claimed, own)
			}
			t.Logf("%v, claiming %v", ev, ev.Claimed)
		})
	}
}

// TestKernelTellsAddresses: which of the machine's addresses peers are told of is logged if
// they are, and not if addresses are named.
func TestKernelTellsAddresses(t *testing.T) {
	needKernel(t)
	for _, tt := range []struct {
		at   string
		told int
	}{{"127.0.0.1:0", 0}, {"0.0.0.0:0", 1}} {
		t.Run(tt.at, func(t *testing.T) {
			var lines []string
			machine := localaddr.New(func(f string, args ...any) { lines = append(lines, fmt.Sprintf(f, args...)) })
			cfg := sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(tt.at)}}
			e, err := Listen(cfg, sctp.Limits{}, new(sctp.IDs), new(sctp.Counters), machine, func(sctp.Event) {})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Close(); err != nil { // it follows the addresses no more
				t.Fatal(err)
			}
			if len(lines) != tt.told {
				t.Errorf("logged %q, want %d lines", lines, tt.told)
			}
		})
	}
}
