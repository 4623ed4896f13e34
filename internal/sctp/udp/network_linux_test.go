package udp

import (
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	netns "github.com/rserpool/coredns-rserpool/test/network"
)

// machineOn knows the addresses and routes of a host.
func machineOn(t testing.TB, h *netns.Host) *localaddr.View {
	m := localaddr.New(func(format string, args ...any) { t.Logf(h.Name+": "+format, args...) })
	m.Read = func() (s localaddr.State, err error) {
		err = h.Do(func() error { s, err = localaddr.Read(); return err })
		return s, err
	}
	m.Source = func(to netip.Addr) (a netip.Addr, err error) {
		err = h.Do(func() error { a, err = localaddr.Source(to); return err })
		return a, err
	}
	m.Inside = func(f func()) { _ = h.Do(func() error { f(); return nil }) }
	return m
}

// hostSite is SCTP in UDP on a host, at UDP port 9899.
func hostSite(t *testing.T, h *netns.Host, lim sctp.Limits, addrs ...string) *sctptest.Site {
	t.Helper()
	return siteOn(t, h, lim, sctp.ListenConfig{Addrs: to(addrs...).Addrs})
}

func siteOn(t *testing.T, h *netns.Host, lim sctp.Limits, cfg sctp.ListenConfig) *sctptest.Site {
	t.Helper()
	m := New(lim.WithDefaults(), sctp.EncapPort, machineOn(t, h))
	x := sctptest.NewSite(t)
	err := h.Do(func() (err error) {
		x.Endpoint, err = m.Listen(cfg, new(sctp.IDs), x.Handle)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(x) })
	return x
}

// TestNetworkDies takes the first of two networks away from two hosts, with
// their addresses named as the manual has it: requests get their responses
// within two seconds, both ways.
func TestNetworkDies(t *testing.T) {
	for _, tt := range []struct {
		name string
		die  func(x, y *netns.Link)
	}{
		{"silence", func(x, y *netns.Link) { x.Wire(netns.Wire{Dead: true}) }},
		{"the interface is taken down", func(x, y *netns.Link) { x.Down() }},
		{"the cable is pulled out", func(x, y *netns.Link) { x.Unplug() }},
		{"the peer's cable is pulled out", func(x, y *netns.Link) { y.Unplug() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := netns.New(t)
			second := n.NewLAN()
			hx, hy := n.Host("x", "10.98.1.1/24"), n.Host("y", "10.98.1.2/24")
			hx.Link("eth1", second, "10.98.2.1/24")
			hy.Link("eth1", second, "10.98.2.2/24")
			x := hostSite(t, hx, sctp.Limits{}, "10.98.1.1:3863", "10.98.2.1:3863")
			y := hostSite(t, hy, sctp.Limits{}, "10.98.1.2:3863", "10.98.2.2:3863")
			a := x.Connect(to("10.98.1.2:3863", "10.98.2.2:3863"))
			x.Next(sctp.Up)
			b := y.Next(sctp.Up).Assoc
			ask := func() time.Duration {
				start := time.Now()
				_ = x.Send(a, sctp.Message{Data: []byte("request")})
				get(t, y)
				_ = y.Send(b, sctp.Message{Data: []byte("response")})
				get(t, x)
				return time.Since(start)
			}
			for range 10 {
				ask()
			}
			tt.die(hx.Eth0(), hy.Eth0())
			var worst time.Duration
			for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
				worst = max(worst, ask())
			}
			t.Logf("out for %v", worst.Round(time.Millisecond))
			if worst > outage {
				t.Errorf("a request and its response took %v, want %v at most", worst, outage)
			}
		})
	}
}

// TestNetworkSecondIsCalled calls by the second network when the first is dead.
func TestNetworkSecondIsCalled(t *testing.T) {
	n := netns.New(t)
	second := n.NewLAN()
	hx, hy := n.Host("x", "10.98.1.1/24"), n.Host("y", "10.98.1.2/24")
	hx.Link("eth1", second, "10.98.2.1/24")
	hy.Link("eth1", second, "10.98.2.2/24")
	for _, h := range []*netns.Host{hx, hy} {
		h.Sysctl("net.ipv4.conf.all.rp_filter=1") // a source that is not by route does not arrive
	}
	x := hostSite(t, hx, sctp.Limits{}, "10.98.1.1:3863", "10.98.2.1:3863")
	y := hostSite(t, hy, sctp.Limits{}, "10.98.1.2:3863", "10.98.2.2:3863")
	hx.Eth0().Wire(netns.Wire{Dead: true})
	start := time.Now()
	x.Connect(to("10.98.1.2:3863", "10.98.2.2:3863"))
	up := x.Next(sctp.Up)
	y.Next(sctp.Up)
	t.Logf("up after %v by %v", time.Since(start).Round(time.Millisecond), up.Peer[0])
	if time.Since(start) > outage {
		t.Errorf("up after %v, want %v at most", time.Since(start), outage)
	}
}

// TestNetworkNarrowPath has a router with a narrow way between two hosts, who
// never hear of it since ICMP is dropped.
func TestNetworkNarrowPath(t *testing.T) {
	n := netns.New(t)
	far := n.NewLAN()
	r := n.Host("r", "10.98.1.254/24", "fd98:1::254/64")
	r.Link("eth1", far, "10.98.2.254/24", "fd98:2::254/64")
	r.Sysctl("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	hx, hy := n.Host("x", "10.98.1.1/24", "fd98:1::1/64"), n.Host("y")
	hy.Link("eth0", far, "10.98.2.2/24", "fd98:2::2/64")
	hx.IP("route add default via 10.98.1.254")
	hx.IP("-6 route add default via fd98:1::254")
	hy.IP("route add default via 10.98.2.254")
	hy.IP("-6 route add default via fd98:2::254")
	for _, lan := range []*netns.LAN{n.LAN, far} {
		lan.Watch(func(frame []byte) bool {
			const etherType, protocol, next, icmpType = 12, 14 + 9, 14 + 6, 14 + 20
			switch {
			case len(frame) < icmpType+1:
			case frame[etherType] == 8 && frame[etherType+1] == 0 && frame[protocol] == 1:
				return frame[icmpType] != 3 // destination unreachable: fragmentation needed
			case frame[etherType] == 0x86 && frame[next] == 58:
				return frame[14+40] != 2 // packet too big
			}
			return true
		})
	}
	for _, tt := range []struct{ name, mtu, x, y string }{
		{"IPv6", "1280", "[fd98:1::1]:3863", "[fd98:2::2]:3863"}, // the least that there is
		{"IPv4", "1000", "10.98.1.1:3863", "10.98.2.2:3863"},     // takes IPv6 away
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.IP("link set eth1 mtu", tt.mtu)
			x, y := hostSite(t, hx, sctp.Limits{}, tt.x), hostSite(t, hy, sctp.Limits{}, tt.y)
			a := x.Connect(to(tt.y))
			x.Next(sctp.Up)
			b := y.Next(sctp.Up).Assoc
			for _, n := range []int{1000, 1232, 1500, 20000, 65535} {
				start := time.Now()
				_ = x.Send(a, sctp.Message{Data: sctptest.Message(n, 1)})
				y.Next(sctp.Received)
				_ = y.Send(b, sctp.Message{Data: sctptest.Message(n, 2)})
				x.Next(sctp.Received)
				t.Logf("%d bytes and back took %v", n, time.Since(start).Round(time.Millisecond))
				if took := time.Since(start); took > 5*time.Second {
					t.Fatalf("%d bytes and back took %v", n, took)
				}
			}
			x.Close()
			y.Close()
		})
	}
}

// TestNetworkBridge has two hosts with docker0, and nothing named: neither tells
// the other of it, and a container on docker0 is served all the same.
func TestNetworkBridge(t *testing.T) {
	n := netns.New(t)
	hx, hy := n.Host("x", "10.98.1.1/24", "fd98:1::1/64"), n.Host("y", "10.98.1.2/24", "fd98:1::2/64")
	for _, h := range []*netns.Host{hx, hy} {
		h.Bridge("docker0", "172.17.0.1/16")
	}
	c := hy.Container("c", "docker0", "172.17.0.2/16")
	x, y := hostSite(t, hx, sctp.Limits{}, "[::]:3863"), hostSite(t, hy, sctp.Limits{}, "[::]:3863")
	x.Connect(to("10.98.1.2:3863"))
	for _, ev := range []sctp.Event{x.Confirmed(x.Next(sctp.Up), 2), y.Confirmed(y.Next(sctp.Up), 2)} {
		if len(ev.Peer) != 2 || ev.Translated {
			t.Errorf("got peer %v, translated %v, want its two addresses on the network", ev.Peer, ev.Translated)
		}
	}
	z := hostSite(t, c, sctp.Limits{}, "[::]:5000")
	z.Connect(to("172.17.0.1:3863"))
	if ev := z.Next(sctp.Up); ev.Translated {
		t.Errorf("got peer %v behind a NAT", ev.Peer)
	}
	if ev := y.Next(sctp.Up); ev.Peer[0] != netip.MustParseAddrPort("172.17.0.2:5000") || ev.Translated {
		t.Errorf("got peer %v, want the container", ev.Peer)
	}
}

// TestNetworkStableSource calls from a host that prefers temporary IPv6
// addresses, with nothing named: the call comes from the stable one, which lasts.
func TestNetworkStableSource(t *testing.T) {
	n := netns.New(t)
	hx, hy := n.Host("x", "10.98.1.1/24"), n.Host("y", "10.98.1.2/24", "fd98:1::2/64")
	hx.Sysctl("net.ipv6.conf.eth0.use_tempaddr=2")
	hx.IP("addr add fd98:1::1/64 dev eth0 mngtmpaddr valid_lft 4000 preferred_lft 3000")
	for end := time.Now().Add(sctptest.WaitFor); hx.IP("-6 -br addr show dev eth0 temporary") == "" || hx.IP("-6 -br addr show dev eth0 tentative") != ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("there is no temporary address that is known to be unique")
		}
	}
	if out := hx.IP("route get fd98:1::2"); strings.Contains(out, "src fd98:1::1 ") {
		t.Fatalf("the system does not prefer the temporary address: %s", out)
	}
	x, y := hostSite(t, hx, sctp.Limits{}, "[::]:3863"), hostSite(t, hy, sctp.Limits{}, "[fd98:1::2]:3863")
	x.Connect(to("[fd98:1::2]:3863"))
	x.Next(sctp.Up)
	if ev := y.Next(sctp.Up); ev.Peer[0] != netip.MustParseAddrPort("[fd98:1::1]:3863") || ev.Translated {
		t.Errorf("got peer %v, translated %v, want the stable address", ev.Peer, ev.Translated)
	}
}

// TestNetworkAddressGone takes the address from a host that its peer has called,
// as a virtual address that moves does. Messages go from another one that the peer
// knows.
func TestNetworkAddressGone(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	hx, hy := n.Host("x", "10.98.1.1/24", "10.98.1.100/24"), n.Host("y", "10.98.1.2/24")
	x, y := hostSite(t, hx, sctp.Limits{}, "0.0.0.0:3863"), hostSite(t, hy, sctp.Limits{}, "10.98.1.2:3863")
	a := y.Connect(to("10.98.1.100:3863"))
	y.Next(sctp.Up)
	b := x.Next(sctp.Up).Assoc
	hx.IP("addr del 10.98.1.100/24 dev eth0")
	start := time.Now()
	_ = x.Send(b, sctp.Message{Data: []byte("request")})
	y.Next(sctp.Received)
	_ = y.Send(a, sctp.Message{Data: []byte("response")})
	x.Next(sctp.Received)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("request and response took %v", took)
	}
}

// TestNetworkMobile takes addresses from the host of a mobile endpoint.
func TestNetworkMobile(t *testing.T) {
	mobile := func(addrs ...string) sctp.ListenConfig {
		return sctp.ListenConfig{Addrs: to(addrs...).Addrs, Mobile: true}
	}
	t.Run("the only one", func(t *testing.T) {
		t.Parallel()
		n := netns.New(t)
		hx, hy := n.Host("x", "10.98.1.1/24"), n.Host("y", "10.98.1.2/24")
		x, y := siteOn(t, hx, sctp.Limits{}, mobile("0.0.0.0:3863")), hostSite(t, hy, sctp.Limits{}, "10.98.1.2:3863")
		x.Connect(to("10.98.1.2:3863"))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		hx.IP("addr del 10.98.1.1/24 dev eth0")
		hx.IP("addr add 10.98.1.9/24 dev eth0") // unknown to the peer
		start := time.Now()
		ev := x.Down(sctp.Lost)
		if took := time.Since(start); !errors.Is(ev.Err, sctp.ErrAddrGone) || took > time.Second {
			t.Errorf("Got %v after %v, want %v at once", ev, took, sctp.ErrAddrGone)
		}
		x.Connect(to("10.98.1.2:3863"))
		x.Next(sctp.Up)
	})
	t.Run("link", func(t *testing.T) {
		t.Parallel()
		n := netns.New(t)
		hx, hy := n.Host("x", "10.98.1.1/24"), n.Host("y", "10.98.1.2/24")
		x, y := siteOn(t, hx, sctp.Limits{}, mobile("10.98.1.1:3863")), hostSite(t, hy, sctp.Limits{}, "10.98.1.2:3863")
		y.Connect(to("10.98.1.1:3863"))
		x.Next(sctp.Up)
		hx.IP("link set eth0 down")
		x.Down(sctp.Lost)
	})
	t.Run("another is left", func(t *testing.T) {
		t.Parallel()
		n := netns.New(t)
		hx, hy := n.Host("x", "10.98.1.1/24", "10.98.1.100/24"), n.Host("y", "10.98.1.2/24")
		x, y := siteOn(t, hx, sctp.Limits{}, mobile("0.0.0.0:3863")), hostSite(t, hy, sctp.Limits{}, "10.98.1.2:3863")
		a := y.Connect(to("10.98.1.100:3863"))
		y.Next(sctp.Up)
		b := x.Next(sctp.Up).Assoc
		hx.IP("addr del 10.98.1.100/24 dev eth0")
		for range 5 {
			_ = x.Send(b, sctp.Message{Data: []byte("request")})
			y.Next(sctp.Received)
			_ = y.Send(a, sctp.Message{Data: []byte("response")})
			x.Next(sctp.Received)
			time.Sleep(20 * time.Millisecond) // while the address is noticed to be gone
		}
		x.None()
	})
}

// TestNetworkReceiveBuffer: the socket of all peers has room for the packets of thousands
// that call at the same time, as far as the machine allows it.
func TestNetworkReceiveBuffer(t *testing.T) {
	s, err := listenUDP(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	raw, err := s.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	want := receiveBuffer
	if text, err := os.ReadFile("/proc/sys/net/core/rmem_max"); err == nil {
		most, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		want = min(want, most)
	}
	_ = raw.Control(func(fd uintptr) {
		got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
		if err != nil || got < want {
			t.Errorf("a receive buffer of %d bytes, %v, want %d", got, err, want)
		}
	})
}
