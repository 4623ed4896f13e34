package localaddr

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReachable sorts the addresses of machines as they are.
func TestReachable(t *testing.T) {
	lo := netLink{index: 1, name: "lo", up: true, loopback: true}
	eth0 := netLink{index: 2, name: "eth0", up: true}
	docker := netLink{index: 3, name: "docker0", kind: "bridge", up: true}
	veth := netLink{index: 4, name: "veth1", kind: "veth", master: 3, up: true}
	link := func(index int, name, kind string, master int) netLink {
		return netLink{index: index, name: name, kind: kind, master: master, up: true}
	}
	addr := func(link int, prefix string) netAddr {
		return netAddr{link: link, prefix: netip.MustParsePrefix(prefix)}
	}
	home := []netAddr{addr(1, "127.0.0.1/8"), addr(1, "::1/128")}
	tests := []struct {
		name  string
		links []netLink
		addrs []netAddr
		world string
		want  string
	}{
		{"a host with docker", []netLink{lo, eth0, docker, veth},
			append(home, addr(2, "192.0.2.2/24"), addr(2, "2001:db8::2/64"), addr(2, "fe80::1/64"), addr(3, "172.17.0.1/16")),
			"192.0.2.2 2001:db8::2", "192.0.2.2 2001:db8::2"},
		{"docker without containers, no default route", []netLink{lo, eth0, docker},
			append(home, addr(3, "172.17.0.1/16"), addr(2, "192.0.2.2/24")), "", "192.0.2.2"},
		{"virtual machines on a bridge of their own", []netLink{lo, eth0, link(5, "virbr0", "bridge", 0), link(6, "vnet0", "tun", 5)},
			append(home, addr(2, "192.0.2.2/24"), addr(5, "192.168.122.1/24")), "192.0.2.2", "192.0.2.2"},
		{"a bridge with a network card", []netLink{lo, link(2, "eth0", "", 5), link(5, "br0", "bridge", 0), link(6, "vnet0", "tun", 5)},
			append(home, addr(5, "192.0.2.2/24")), "", "192.0.2.2"},
		{"a bridge with a VLAN of a bond", []netLink{lo, link(2, "eth0", "", 3), link(3, "bond0", "bond", 0), link(4, "bond0.7", "vlan", 5), link(5, "br7", "bridge", 0)},
			append(home, addr(5, "192.0.2.2/24")), "", "192.0.2.2"},
		{"a bridge of veths with the default route", []netLink{lo, link(5, "br0", "bridge", 0), link(6, "v0", "veth", 5)},
			append(home, addr(5, "192.0.2.2/24")), "192.0.2.2", "192.0.2.2"},
		{"two networks, the default route by the second", []netLink{lo, eth0, link(3, "eth1", "", 0)},
			append(home, addr(2, "10.0.0.2/24"), addr(3, "10.1.0.2/24")), "10.1.0.2", "10.1.0.2 10.0.0.2"},
		{"a container with two networks", []netLink{lo, link(2, "eth0", "veth", 0), link(3, "eth1", "veth", 0)},
			append(home, addr(2, "172.18.0.2/16"), addr(3, "172.19.0.2/16")), "172.18.0.2", "172.18.0.2 172.19.0.2"},
		{"VPN, macvlan, VLAN, bond", []netLink{lo, link(2, "wg0", "wireguard", 0), link(3, "tun0", "tun", 0), link(4, "mv0", "macvlan", 0), link(5, "eth0.5", "vlan", 0), link(6, "bond0", "bond", 0)},
			append(home, addr(2, "10.8.0.2/24"), addr(3, "10.9.0.2/32"), addr(4, "10.1.0.2/24"), addr(5, "10.5.0.2/24"), addr(6, "10.6.0.2/24")),
			"", "10.8.0.2 10.9.0.2 10.1.0.2 10.5.0.2 10.6.0.2"},
		{"a virtual address, and one in the same network", []netLink{lo, eth0},
			append(home, addr(2, "192.0.2.2/24"), addr(2, "192.0.2.100/32"), netAddr{link: 2, prefix: netip.MustParsePrefix("192.0.2.101/24"), secondary: true}),
			"", "192.0.2.2"},
		{"an address of its own without a network", []netLink{lo, eth0},
			append(home, addr(2, "192.0.2.2/32")), "192.0.2.2", "192.0.2.2"},
		{"an anycast address", []netLink{lo, eth0, link(3, "dummy0", "dummy", 0)},
			append(home, addr(1, "192.0.2.53/32"), addr(3, "192.0.2.54/32"), addr(2, "10.0.0.2/24")), "10.0.0.2", "10.0.0.2"},
		{"a routed host with its address on lo", []netLink{lo, eth0},
			append(home, addr(1, "192.0.2.2/32"), addr(2, "fe80::1/64")), "192.0.2.2", "192.0.2.2"},
		{"IPv6 addresses that do not last", []netLink{lo, eth0},
			append(home, addr(2, "2001:db8::2/64"),
				netAddr{link: 2, prefix: netip.MustParsePrefix("2001:db8::7:7/64"), secondary: true},
				netAddr{link: 2, prefix: netip.MustParsePrefix("2001:db8:1::2/64"), deprecated: true},
				netAddr{link: 2, prefix: netip.MustParsePrefix("2001:db8:2::2/64"), tentative: true}),
			"2001:db8::7:7", "2001:db8::2"},
		{"no network", []netLink{lo, {index: 2, name: "eth0"}}, append(home, addr(2, "192.0.2.2/24"), addr(2, "169.254.1.1/16")), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := sortAddrs(tt.links, tt.addrs, addrList(tt.world))
			if got := joinAddrs(s.Offered); got != tt.want {
				t.Errorf("got %s offered, want %s; left out: %v", got, tt.want, s.Other)
			}
			if got := joinAddrs(s.loopback); got != "127.0.0.1 ::1" {
				t.Errorf("got loopback addresses %s", got)
			}
			for _, a := range tt.addrs {
				if !s.Own(a.prefix.Addr()) {
					t.Errorf("%v is not taken for one of the machine's own", a.prefix)
				}
			}
		})
	}
}

func addrList(s string) (out []netip.Addr) {
	for f := range strings.FieldsSeq(s) {
		out = append(out, netip.MustParseAddr(f))
	}
	return out
}

func joinAddrs(addrs []netip.Addr) string {
	var s []string
	for _, a := range addrs {
		s = append(s, a.String())
	}
	return strings.Join(s, " ")
}

// TestMachineTold checks what is logged, and that it is once.
func TestMachineTold(t *testing.T) {
	var told []string
	m := New(func(f string, args ...any) { told = append(told, args[0].(string)) })
	s := State{
		Offered: addrList("192.0.2.2 2001:db8::2"),
		Other:   []LeftOut{{Addr: netip.MustParseAddr("172.17.0.1"), Why: "docker0 is a bridge without an uplink"}, {Addr: netip.MustParseAddr("fe80::1"), Why: "link-local"}},
	}
	m.Read = func() (State, error) { return s, nil }
	again := func() { m.asked = m.asked.Add(-Life); m.List() }
	again()
	again()
	s = State{}
	again()
	want := []string{
		"sctp: no address is named, so peers are told of 192.0.2.2, 2001:db8::2; name the addresses to listen on to use one of 172.17.0.1 (docker0 is a bridge without an uplink)",
		"sctp: this machine has only loopback addresses: other machines cannot connect to it",
	}
	if d := cmp.Diff(want, told); d != "" {
		t.Errorf("logged (-want +got):\n%s", d)
	}
}

// TestNoRoute: the reason is told in words, and without the port that was dialed.
func TestNoRoute(t *testing.T) {
	for _, c := range []struct{ to, want string }{
		{"fe80::1%nosuch", "this machine has no interface nosuch"},
		{"fe80::1", "no route to fe80::1: name the interface of a link-local address, as in fe80::1%eth0"},
	} {
		if a, err := Source(netip.MustParseAddr(c.to)); err == nil || err.Error() != c.want {
			t.Errorf("SourceAddr(%s): got %v, %v, want %q", c.to, a, err, c.want)
		}
	}
	err := &net.OpError{Op: "dial", Net: "udp", Addr: &net.UDPAddr{Port: 9}, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	if got := noRoute(netip.MustParseAddr("192.0.2.1"), err).Error(); got != "no route to 192.0.2.1" {
		t.Errorf("got %q", got)
	}
}

// TestForeign checks which addresses a call may go to.
func TestForeign(t *testing.T) {
	s := State{Offered: addrList("192.0.2.2"), Other: []LeftOut{{Addr: netip.MustParseAddr("172.17.0.1")}}}
	for _, tt := range [][2]string{
		{"192.0.2.3 172.17.0.1 127.0.0.1", "192.0.2.3"},
		{"192.0.2.2 172.17.0.1", "192.0.2.2 172.17.0.1"},
		{"127.0.0.1", "127.0.0.1"},
		{"", ""},
	} {
		var peer []netip.AddrPort
		for _, a := range addrList(tt[0]) {
			peer = append(peer, netip.AddrPortFrom(a, 1))
		}
		var foreign []netip.Addr
		for _, ap := range s.Foreign(peer) {
			foreign = append(foreign, ap.Addr())
		}
		if got := joinAddrs(foreign); got != tt[1] {
			t.Errorf("foreign(%s): got %s, want %s", tt[0], got, tt[1])
		}
	}
}

// TestReachableHere asks the machine that the test runs on.
func TestReachableHere(t *testing.T) {
	s, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(s)
	if !slices.Equal(Reachable(), s.Offered) {
		t.Errorf("ReachableAddrs: got %v, want %v", Reachable(), s.Offered)
	}
	if a, err := Source(netip.MustParseAddr("127.0.0.1")); err != nil || !a.IsLoopback() {
		t.Errorf("SourceAddr(127.0.0.1): got %v, %v", a, err)
	}
}
