package kernel

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
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
