package kernel

import (
	"net/netip"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// Encapsulate lets a host's kernel speak SCTP in UDP.
func Encapsulate(t testing.TB, host string) {
	t.Helper()
	// The kernel leaves the segmenting of SCTP to the interface, and a virtual
	// one leaves it to the receiver, which cannot do it in user space.
	Sh(t, "ip -n "+host+" link set eth0 gso_max_size 1500")
	Sysctl(t, host, "net.sctp.udp_port=9899", "net.sctp.encap_port=9899")
}

// Talk sends a short and a long message each way.
func Talk(a *sctptest.Site, toB sctp.AssocID, b *sctptest.Site, toA sctp.AssocID) {
	a.T.Helper()
	for _, size := range []int{10, 60 << 10} {
		for _, way := range []struct {
			from, to *sctptest.Site
			assoc    sctp.AssocID
		}{{a, b, toB}, {b, a, toA}} {
			if err := way.from.Send(way.assoc, sctp.Message{Data: make([]byte, size), PPID: 11}); err != nil {
				a.T.Fatal(err)
			}
			if got := way.to.Received().Message; len(got.Data) != size || got.PPID != 11 {
				a.T.Fatalf("%d bytes with PPID %d came, want %d with 11", len(got.Data), got.PPID, size)
			}
		}
	}
}

// TestKernelEncapsulated: two kernels speak SCTP in UDP (RFC 6951).
func TestKernelEncapsulated(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	Encapsulate(t, "ha")
	Encapsulate(t, "hb")
	a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:3863")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:0")
	ours, theirs := Call(b, a)
	Talk(b, ours.Assoc, a, theirs.Assoc)
	if theirs.EncapPort != 9899 {
		t.Errorf("the kernel does not tell that %v is at UDP port 9899", theirs.Peer[0])
	}
}

// TestKernelLearnsConfirmed: a peer that lists the address of another host does not set the
// UDP port at which that host is called.
func TestKernelLearnsConfirmed(t *testing.T) {
	const victim = "203.0.113.7"
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24,10.99.0.3/24"}})
	Sh(t, "ip -n hb addr add "+victim+"/32 dev lo")
	Encapsulate(t, "ha")
	Encapsulate(t, "hb")
	Sysctl(t, "hb", "net.sctp.udp_port=12345")
	a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:3863")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000", "10.99.0.3:4000", victim+":4000")
	b.Connect(sctp.Dest{Addrs: a.LocalAddrs(), Kind: sctp.Kernel})
	ev := a.Confirmed(a.Up(), 2)
	for addr, want := range map[string]uint16{"10.99.0.2": 12345, "10.99.0.3": 12345, victim: sctp.EncapPort} {
		peer := netip.AddrPortFrom(netip.MustParseAddr(addr), 4000)
		if got := a.Endpoint.(*endpoint).encap.Port(peer); got != want {
			t.Errorf("%v is called at UDP port %d, want %d; the peer is at %v, claiming %v", peer, got, want, ev.Peer, ev.Claimed)
		}
	}
}
