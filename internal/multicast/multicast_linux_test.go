package multicast

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/rserpool/coredns-rserpool/test/here"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// groupOn joins a group on a host.
func groupOn(t *testing.T, h *network.Host, addr netip.AddrPort) (g *Group, heard chan datagram) {
	t.Helper()
	err := h.Do(func() error {
		g, heard = join(t, addr)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return g, heard
}

// changed calls Changed on a host.
func changed(t *testing.T, h *network.Host, g *Group) {
	t.Helper()
	if err := h.Do(func() error { g.Changed(); return nil }); err != nil {
		t.Fatal(err)
	}
}

// reaches sends datagrams until one is heard: a new interface may lose the first ones.
func reaches(t *testing.T, from *Group, heard chan datagram) {
	t.Helper()
	network.Eventually(t, "a datagram", func() error {
		from.Send([]byte("hello"))
		select {
		case <-heard:
			return nil
		default:
			return errors.New("none is heard")
		}
	})
}

// families are a group of each address family.
var families = []struct{ name, group string }{{"IPv4", "239.255.42.46:12346"}, {"IPv6", "[ff02::4246]:12346"}}

// TestInterfacesComeAndGo: more interfaces come and go than a socket can be a member on at
// the same time, such as those of containers.
func TestInterfacesComeAndGo(t *testing.T) {
	for _, tt := range families {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "IPv6" {
				here.IPv6(t)
			}
			n := network.New(t)
			h := n.Host("host")
			h.Sysctl("net.ipv4.igmp_max_memberships=3") // lo and both ends of a veth
			g, _ := groupOn(t, h, netip.MustParseAddrPort(tt.group))
			for i := range 4 {
				h.IP(fmt.Sprintf("link add a%d up type veth peer name b%[1]d", i))
				h.IP(fmt.Sprintf("link set b%d up", i))
				changed(t, h, g)
				if n := len(g.joined); n != 3 {
					t.Errorf("after %d interfaces: joined on %d, want 3", 2*i, n)
				}
				if i == 1 { // gone while it was down
					h.IP("link set a1 down")
					changed(t, h, g)
				}
				h.IP(fmt.Sprintf("link del a%d", i))
				changed(t, h, g)
			}
		})
	}
}

// TestInterfaceComesBack: an interface that was in another network namespace for a while has
// the index that it had before, and hears the group again, also if it was not missed.
func TestInterfaceComesBack(t *testing.T) {
	for _, tt := range families {
		for _, noticed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, noticed %t", tt.name, noticed), func(t *testing.T) {
				if tt.name == "IPv6" {
					here.IPv6(t)
				}
				n := network.New(t)
				h, other := n.Host("host"), n.Host("other")
				h.Bridge("br0", "172.17.0.1/16")
				c := h.Container("container", "br0", "172.17.0.2/16")
				addr := netip.MustParseAddrPort(tt.group)
				from, _ := groupOn(t, h, addr)
				g, heard := groupOn(t, c, addr)
				reaches(t, from, heard)
				c.IP("link set eth0 netns", other.Namespace())
				if noticed {
					changed(t, c, g)
				}
				other.IP("link set eth0 netns", c.Namespace())
				changed(t, c, g) // it is down
				c.IP("addr add 172.17.0.2/16 dev eth0")
				c.IP("link set eth0 up")
				changed(t, c, g)
				for len(heard) > 0 {
					<-heard
				}
				reaches(t, from, heard)
			})
		}
	}
}
