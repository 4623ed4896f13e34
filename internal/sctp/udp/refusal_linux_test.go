package udp

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	netns "github.com/rserpool/coredns-rserpool/test/network"
)

// TestNetworkRefusals calls a host that answers in many ways: only its own word that nobody
// serves the port is a refusal. All else is what a network says, or silence.
func TestNetworkRefusals(t *testing.T) {
	t.Parallel()
	const v4, v6 = "10.98.1.2:3863", "[fd98:1::2]:3863"
	reject := func(with string) func(*testing.T, *netns.Host) {
		return func(_ *testing.T, y *netns.Host) { y.Reject("udp dport 9899", with) }
	}
	serve := func(t *testing.T, y *netns.Host) { hostSite(t, y, sctp.Limits{}, "10.98.1.2:1", "[fd98:1::2]:1") }
	for _, tt := range []struct {
		name    string
		to      []string
		at      func(*testing.T, *netns.Host)
		refused bool
	}{
		{"port unreachable", []string{v4}, nil, true},
		{"port unreachable, IPv6", []string{v6}, nil, true},
		{"ABORT", []string{v4}, serve, true},
		{"ABORT, IPv6", []string{v6}, serve, true},
		{"both addresses refuse", []string{v4, v6}, nil, true},
		{"protocol unreachable", []string{v4}, reject("icmp prot-unreachable"), true},
		{"prohibited", []string{v4}, reject("icmp admin-prohibited"), false},
		{"prohibited, IPv6", []string{v6}, reject("icmpv6 admin-prohibited"), false},
		{"host unreachable", []string{v4}, reject("icmp host-unreachable"), false},
		{"address unreachable, IPv6", []string{v6}, reject("icmpv6 addr-unreachable"), false},
		{"net unreachable", []string{v4}, reject("icmp net-unreachable"), false},
		{"no route, IPv6", []string{v6}, reject("icmpv6 no-route"), false},
		{"no such host", []string{"10.98.1.3:3863"}, nil, false},
		{"no route here", []string{"192.0.2.1:3863"}, nil, false},
		{"one address refuses, the other is silent", []string{v4, "10.98.1.3:3863"}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			n := netns.New(t)
			hx, hy := n.Host("x", "10.98.1.1/24", "fd98:1::1/64"), n.Host("y", "10.98.1.2/24", "fd98:1::2/64")
			if tt.at != nil {
				tt.at(t, hy)
			}
			x := hostSite(t, hx, sctp.Limits{HandshakeTime: 3 * time.Second}, "10.98.1.1:3863", "[fd98:1::1]:3863")
			x.Connect(to(tt.to...))
			ev := x.Down(sctp.ConnectFailed)
			if got := errors.Is(ev.Err, sctp.ErrRefused); got != tt.refused {
				t.Errorf("refused %t, want %t: %v", got, tt.refused, ev.Err)
			}
		})
	}
}

// TestRefusals: which ICMP errors say that nobody listens, and come from the host itself.
func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name      string
		is6       bool
		typ, code uint8
		want      bool
	}{
		{"net unreachable", false, 3, 0, false},
		{"host unreachable", false, 3, 1, false},
		{"protocol unreachable", false, 3, 2, true},
		{"port unreachable", false, 3, 3, true},
		{"host prohibited", false, 3, 10, false},
		{"prohibited", false, 3, 13, false},
		{"time exceeded", false, 11, 0, false},
		{"no route, IPv6", true, 1, 0, false},
		{"prohibited, IPv6", true, 1, 1, false},
		{"address unreachable, IPv6", true, 1, 3, false},
		{"port unreachable, IPv6", true, 1, 4, true},
		{"unrecognized next header, IPv6", true, 4, 1, true},
		{"erroneous header field, IPv6", true, 4, 0, false},
	} {
		level, typ, origin := unix.IPPROTO_IP, unix.IP_RECVERR, uint8(unix.SO_EE_ORIGIN_ICMP)
		if tt.is6 {
			level, typ, origin = unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.SO_EE_ORIGIN_ICMP6
		}
		ext := binary.NativeEndian.AppendUint32(nil, uint32(unix.ECONNREFUSED))
		ext = append(ext, origin, tt.typ, tt.code, 0)
		oob := make([]byte, unix.CmsgSpace(16))
		binary.NativeEndian.PutUint64(oob, uint64(unix.CmsgLen(16)))
		binary.NativeEndian.PutUint32(oob[8:], uint32(level))
		binary.NativeEndian.PutUint32(oob[12:], uint32(typ))
		copy(oob[16:], ext)
		e := parseUnreachable(oob, &unix.SockaddrInet4{Port: 9899, Addr: [4]byte{10, 0, 0, 2}})
		if (e != nil) != tt.want {
			t.Errorf("%s: taken for a refusal: %t, want %t", tt.name, e != nil, tt.want)
		}
		if want := netip.MustParseAddrPort("10.0.0.2:9899"); e != nil && (e.to != want || !errors.Is(e, sctp.ErrRefused)) {
			t.Errorf("%s: got %v at %v, want ErrRefused at %v", tt.name, e, e.to, want)
		}
	}
}

// TestUDPRefusedLater: a refusal while an association is up ends it as a silence does. One
// call finds out whether anybody listens.
func TestUDPRefusedLater(t *testing.T) {
	s1 := newMux(t, sctp.Limits{Heartbeat: 50 * time.Millisecond, Misses: 100}, 0)
	s2 := newMux(t, sctp.Limits{}, 0)
	x, y := muxSite(t, s1, sctptest.On("127.0.0.1:0")), muxSite(t, s2, sctptest.On("127.0.0.1:0"))
	to := destOfMux(y)
	x.Connect(to)
	x.Next(sctp.Up)
	y.Next(sctp.Up)
	s2.mu.Lock()
	for _, b := range s2.socks {
		b.close()
	}
	s2.mu.Unlock()
	x.Down(sctp.Lost)
	x.Connect(to)
	if ev := x.Down(sctp.ConnectFailed); !errors.Is(ev.Err, sctp.ErrRefused) {
		t.Errorf("got %v, want %v", ev, sctp.ErrRefused)
	}
}

// TestUDPFullIsNoRefusal calls a peer that takes no more associations: it serves the port. An
// address that nobody serves does not change that, whichever answers first.
func TestUDPFullIsNoRefusal(t *testing.T) {
	const full, empty = "10.0.0.9:3863", "10.0.0.8:3863"
	for _, tt := range []struct {
		to      []string
		refused bool
	}{
		{[]string{full}, false},
		{[]string{empty}, true},
		{[]string{full, empty}, false},
		{[]string{empty, full}, false},
	} {
		onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
			z := w.mux(t, sctp.Limits{Associations: 1}, sctp.EncapPort).site(t, full)
			defer end(z)
			other := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, "10.0.0.8:1")
			defer end(other)
			y.Connect(to(full))
			y.Next(sctp.Up)
			z.Next(sctp.Up)
			x.Connect(to(tt.to...))
			if ev := x.Down(sctp.ConnectFailed); errors.Is(ev.Err, sctp.ErrRefused) != tt.refused {
				t.Errorf("%v: got %v, refused: %t", tt.to, ev.Err, tt.refused)
			}
		})
	}
}
