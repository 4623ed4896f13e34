package endpoint

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// TestAnnounceGroup: announces sent to the group on loopback are heard; what
// is sent to the port itself is not.
func TestAnnounceGroup(t *testing.T) {
	group := netip.AddrPortFrom(netip.MustParseAddr("239.255.77.77"), freePort(t))
	tr, err := Open(TransportConfig{Via: UDP, Local: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, AnnounceGroup: group})
	if err != nil {
		t.Skipf("no multicast here: %v", err)
	}
	defer tr.Close()
	other, err := Open(TransportConfig{Via: UDP, Local: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, AnnounceGroup: group})
	if err != nil {
		t.Fatalf("a second process cannot listen: %v", err)
	}
	defer other.Close()

	send := func(to netip.AddrPort, text string) netip.AddrPort {
		t.Helper()
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Skipf("no multicast here: %v", err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Skipf("no multicast here: %v", err)
		}
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	send(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), group.Port()), "unicast")
	from := send(group, "announce")
	for _, tr := range []*Transport{tr, other} {
		select {
		case ev := <-tr.Events():
			if string(ev.Announce) != "announce" || ev.From != from {
				t.Errorf("heard %q from %v, want the announce from %v", ev.Announce, ev.From, from)
			}
		case <-time.After(5 * time.Second):
			t.Error("the announce is not heard within 5 s")
		}
	}
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port)
}

func TestOpenErrors(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  TransportConfig
		want string
	}{
		"foreign address": {TransportConfig{Via: UDP, Local: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}}, "192.0.2.1"},
		"no multicast":    {TransportConfig{Via: UDP, AnnounceGroup: netip.MustParseAddrPort("192.0.2.1:1")}, "not a multicast address"},
	} {
		t.Run(name, func(t *testing.T) {
			tr, err := Open(c.cfg)
			if err == nil {
				tr.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestDownError(t *testing.T) {
	for want, ev := range map[string]sctp.Event{
		"the peer has aborted the association": {Reason: sctp.PeerAbort},
		"refused":                              {Reason: sctp.ConnectFailed, Err: errors.New("refused")},
		"the association has ended":            {},
		"x":                                    {Err: errors.New("x")},
	} {
		if got := DownError(ev).Error(); got != want {
			t.Errorf("%+v is %q, want %q", ev, got, want)
		}
	}
}
