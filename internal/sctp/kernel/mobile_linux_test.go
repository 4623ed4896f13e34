package kernel

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// mobileSide is a mobile endpoint at all addresses of a host.
func mobileSide(t *testing.T, host string) *sctptest.Site {
	t.Helper()
	s := sctptest.NewSite(t)
	var err error
	OnHost(t, host, func() {
		s.Endpoint, err = Listen(sctp.ListenConfig{Mobile: true}, sctp.Limits{}, new(sctp.IDs), new(sctp.Counters), machineOf(t, host), s.Handle)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestKernelAddrGone takes the only address from the host of a mobile endpoint, or its
// link: its association ends at once, and another one begins from a new address.
func TestKernelAddrGone(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a, b := mobileSide(t, "ha"), Side(t, "hb", sctp.Limits{}, "10.99.0.2:3863")
	gone := func(line string) {
		t.Helper()
		a.Connect(sctp.Dest{Addrs: b.LocalAddrs(), Kind: sctp.Kernel})
		a.Up()
		Sh(t, line)
		start := time.Now()
		ev := a.Down(sctp.Lost)
		took := time.Since(start)
		if !errors.Is(ev.Err, sctp.ErrAddrGone) || took > here.Paced(t, 2*time.Second) {
			t.Errorf("Got %v after %v, want %v at once", ev, took, sctp.ErrAddrGone)
		}
	}
	gone("ip -n ha addr del 10.99.0.1/24 dev eth0")
	Sh(t, "ip -n ha addr add 10.99.0.9/24 dev eth0")
	for a.LocalAddrs()[0].Addr() != netip.MustParseAddr("10.99.0.9") { // the socket follows
		time.Sleep(10 * time.Millisecond)
	}
	gone("ip -n ha link set eth0 down")
}

// TestKernelReconfigured changes the addresses of a host whose kernel does dynamic address
// reconfiguration (RFC 5061): its association gets a new address, loses the former one,
// and lives on.
func TestKernelReconfigured(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24", "10.99.1.1/24"}, "hb": {"10.99.0.2/24,10.99.1.2/24"}})
	Sh(t, "ip -n ha addr del 10.99.1.1/24 dev eth1")
	for _, h := range []string{"ha", "hb"} {
		Sysctl(t, h, "net.sctp.addip_enable=1", "net.sctp.addip_noauth_enable=1")
	}
	a, b := mobileSide(t, "ha"), Side(t, "hb", sctp.Limits{}, "10.99.0.2:3863", "10.99.1.2:3863")
	x := a.Connect(sctp.Dest{Addrs: b.LocalAddrs(), Kind: sctp.Kernel})
	a.Up()
	y := b.Up()
	peer := func(addr string, want bool) {
		t.Helper()
		start := time.Now()
		defer func() { t.Logf("the peer knows %v: %v, after %v", addr, want, time.Since(start)) }()
		b.Wait(addr, func(ev sctp.Event) bool {
			return ev.Type == sctp.PeerAddrs && want == slices.ContainsFunc(ev.Peer, func(p netip.AddrPort) bool { return p.Addr().String() == addr })
		})
	}
	Sh(t, "ip -n ha addr add 10.99.1.1/24 dev eth1")
	peer("10.99.1.1", true)
	Sh(t, "ip -n ha addr del 10.99.0.1/24 dev eth0")
	peer("10.99.0.1", false)
	start := time.Now()
	for range 3 {
		a.Say(x, "from the new address")
		b.Received()
		b.Say(y.Assoc, "to the new address")
		a.Received()
	}
	t.Logf("three exchanges took %v", time.Since(start))

	// A HEARTBEAT goes to the new address: the host there no longer knows the association.
	Sh(t, "ip -n ha link set eth1 down")
	a.Down(sctp.Lost)
	Sh(t, "ip -n ha link set eth1 up")
	b.Heartbeat(y.Assoc)
	asked := time.Now()
	ev := b.Wait("Down", func(ev sctp.Event) bool { return ev.Type == sctp.Down })
	if d := time.Since(asked); d > 5*time.Second { // the kernel's own HEARTBEAT follows after 10 s
		t.Errorf("Down after %v, want it at once: %v", d, ev)
	}
	if got := ev.Peer[0].Addr().String(); got != "10.99.1.1" {
		t.Errorf("Down of a peer at %s, want the new address", got)
	}
}
