package host

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/multicast"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// multicastGroup is a group with a free port, in which datagrams are looped
// back. Without that the test is skipped.
func multicastGroup(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	group := netip.AddrPortFrom(netip.MustParseAddr(addr), here.FreePort(t))
	if group.Addr().Is6() {
		here.IPv6(t)
	}
	heard := make(chan struct{}, 1)
	g, err := multicast.Join(group, func(netip.AddrPort, []byte) {
		select {
		case heard <- struct{}{}:
		default:
		}
	}, func(bool, string) {})
	if err != nil {
		t.Skipf("LEFT OUT: no multicast here: %v", err)
	}
	defer g.Close()
	g.Send([]byte("x"))
	select {
	case <-heard:
	case <-time.After(2 * time.Second):
		t.Skip("LEFT OUT: no interface sends multicast here")
	}
	return group
}

// TestDiscovery: registrars on one machine that know nothing of one another but
// a group share a handlespace; two that start at the same time, one that comes
// later, and one that comes in the place of another.
func TestDiscovery(t *testing.T) {
	for _, tt := range []struct{ name, group, first, second string }{
		{"IPv4", "239.255.42.43", "127.0.0.1:0", "127.0.0.2:0"},
		{"IPv6", "ff01::43", "[::1]:0", "[::1]:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			group := multicastGroup(t, tt.group)
			encaps := [2]uint16{here.FreePort(t), here.FreePort(t)}
			start := func(i int, at string) *Host {
				return loopbackHost(t, func(c *Config) {
					c.ASAP = []netip.AddrPort{netip.MustParseAddrPort(at)}
					c.ENRP, c.ENRPAnnounceGroup = c.ASAP, group
					c.EncapPort, c.PeerEncapPort = encaps[i], encaps[1-i]
					c.Timers = registrar.Timers{
						PeerHeartbeat: 200 * time.Millisecond, KeepAliveInterval: 100 * time.Millisecond, PeerCallGap: 50 * time.Millisecond,
						MaxTimeLastHeard: time.Second, MaxTimeNoResponse: 500 * time.Millisecond, MentorDiscovery: 500 * time.Millisecond,
					}
					c.Logger = logTo(func(_ bool, text string) { t.Logf("%d: %s", i, text) })
				})
			}
			active := func(h *Host, n uint64) func() bool {
				return func() bool { return h.Ready() && h.Stats().Peers[registrar.PeerActive] == n }
			}
			first, second := start(0, tt.first), start(1, tt.second)
			if first.Ready() || second.Ready() {
				t.Error("ready at once: nobody has looked for others")
			}
			eventually(t, "the first has the second", active(first, 1))
			eventually(t, "the second has the first", active(second, 1))

			stack, err := stack.New(stack.Config{Only: sctp.UDP})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = stack.Close() })
			at := netip.MustParseAddrPort(tt.first).Addr()
			pe := newPeer(t, stack, netip.AddrPortFrom(at, 0).String())
			pe.assoc = pe.Connect(sctp.Dest{Addrs: first.LocalAddrs(), Kind: sctp.UDP, EncapPort: encaps[0]})
			pe.sendSoon(registration("p", 1, at.String()))
			if m := last[*asap.RegistrationResponse](pe); m.Reject {
				t.Fatalf("registration is refused: %v", m.Causes)
			}
			has := func(h *Host) bool { _, n := h.Space().Len(); return n == 1 }
			eventually(t, "the second has the first one's element", func() bool { return has(second) })

			_ = second.Close()
			eventually(t, "the second is gone", active(first, 0))
			third := start(1, tt.second)
			eventually(t, "the third is ready", third.Ready)
			if !has(third) {
				t.Error("the third is ready without the handlespace of the first")
			}
			eventually(t, "the first has the third", active(first, 1))
			for _, h := range []*Host{first, third} {
				eventually(t, "presences are counted", func() bool {
					s := h.Stats()
					return s.AnnouncesSent.ENRP > 0 && s.AnnouncesReceived.ENRP > 0
				})
				if s := h.Stats(); s.AnnouncesMalformed.ENRP+s.AnnouncesDuplicate.ENRP+s.AnnouncesReceived.ASAP != 0 {
					t.Errorf("stats: %+v", s)
				}
			}
		})
	}
}

// TestMulticastMalformed: a message that is no presence is counted, and what was not sent
// to the group is not looked at.
func TestMulticastMalformed(t *testing.T) {
	group := multicastGroup(t, "239.255.42.44")
	h := loopbackHost(t, func(c *Config) {
		c.ENRP, c.ENRPAnnounceGroup = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, group
	})
	b, err := (&enrp.ListRequest{Sender: 1}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	direct, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(group.Port())})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	for range 10 {
		_, _ = direct.Write(b)
	}
	g, err := multicast.Join(group, func(netip.AddrPort, []byte) {}, func(bool, string) {})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	g.Send(b)
	eventually(t, "it is counted", func() bool { return h.Stats().AnnouncesMalformed.ENRP >= 1 })
	first := h.Stats().AnnouncesMalformed.ENRP
	g.Send(make([]byte, 3000))
	eventually(t, "they are counted", func() bool { return h.Stats().AnnouncesMalformed.ENRP > first })
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	if n := int(h.Stats().AnnouncesMalformed.ENRP); n > 2*len(interfaces) {
		t.Errorf("%d are counted, want at most the %d sent to the group", n, 2*len(interfaces))
	}
}
