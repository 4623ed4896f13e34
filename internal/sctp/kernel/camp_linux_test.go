package kernel

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

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
