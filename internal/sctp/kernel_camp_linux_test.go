package sctp

import (
	"net/netip"
	"testing"
	"time"
)

// TestKernelCampedAddress has a peer list the address and port of another one, before
// and after that one has come (RFC 5062, Section 2): the other one is served.
func TestKernelCampedAddress(t *testing.T) {
	for _, first := range []bool{false, true} {
		t.Run(map[bool]string{false: "after", true: "before"}[first], func(t *testing.T) {
			network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
			sh(t, "ip -n hc addr add 10.99.0.2/32 dev lo")
			a := kernelSide(t, "ha", Limits{}, "10.99.0.1:3863")
			dest := Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: Kernel}
			b := kernelSide(t, "hb", Limits{}, "10.99.0.2:4000")
			c := kernelSide(t, "hc", Limits{}, "10.99.0.3:4000", "10.99.0.2:4000")
			honest := func() Event {
				b.Connect(dest)
				b.up()
				return a.wait("honest", func(ev Event) bool { return ev.Type == Up && ev.Peer[0].Addr().String() == "10.99.0.2" })
			}
			camp := func() {
				c.Connect(dest)
				ev := c.wait("an end", func(ev Event) bool { return ev.Type == Up || ev.Type == Down })
				t.Logf("camper: %v", ev)
				if ev.Type == Up {
					ev := a.up()
					t.Logf("camper at %v, claiming %v", ev.Peer, ev.Claimed)
				}
				time.Sleep(500 * time.Millisecond)
			}
			var ev Event
			if first {
				camp()
				ev = honest()
			} else {
				ev = honest()
				camp()
			}
			for range 3 {
				a.send(ev.Assoc, "hello")
				got := b.received()
				b.send(got.Assoc, "hello back")
				a.received()
				time.Sleep(time.Second)
			}
		})
	}
}

// TestKernelCallPastCamper calls a peer whose address another one lists as well.
func TestKernelCallPastCamper(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
	sh(t, "ip -n hc addr add 10.99.0.2/32 dev lo")
	a := kernelSide(t, "ha", Limits{}, "10.99.0.1:3863")
	b := kernelSide(t, "hb", Limits{}, "10.99.0.2:4000")
	c := kernelSide(t, "hc", Limits{}, "10.99.0.3:4000", "10.99.0.2:4000")
	c.Connect(Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: Kernel})
	ev := a.up()
	t.Logf("camper at %v, claiming %v", ev.Peer, ev.Claimed)
	id := a.Connect(Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.2:4000")}, Kind: Kernel})
	ev = a.wait("an end", func(ev Event) bool { return ev.Assoc == id && ev.Type != PeerAddrs })
	if ev.Type != Up {
		t.Fatalf("the call failed: %v", ev)
	}
	b.up()
	a.send(id, "hello")
	b.received()
}
