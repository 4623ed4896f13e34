package network_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestAddressChanges: a new lease gives the element's host another address. rsp,
// which names none, registers the new one, and the old one is in no answer.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	r, e := machine(n, "registrar", "10.98.1.1"), machine(n, "element", "10.98.1.2")
	r.CoreDNS(site(quick))
	r.Serving("127.0.0.1")
	p := e.RSP("register", "-p", "web", "-s", "tcp:80", "-r", "10.98.1.1")
	namesOnly(t, r, "127.0.0.1", "web", "10.98.1.2")
	start := time.Now()
	e.IP("addr del 10.98.1.2/24 dev eth0")
	e.IP("addr add 10.98.1.77/24 dev eth0")
	e.IP("route add default via 10.98.1.254")
	namesOnly(t, r, "127.0.0.1", "web", "10.98.1.77")
	t.Logf("the new address is in DNS after %v", time.Since(start))
	select {
	case <-p.Exited():
		t.Error("rsp has ended")
	default:
	}
}

// TestLateNetwork: at boot there is no network yet. COMMAND runs, and the element
// is registered soon after the network has come.
func TestLateNetwork(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	r, e := machine(n, "registrar", "10.98.1.1"), n.Host("element")
	r.CoreDNS(site(quick))
	r.Serving("127.0.0.1")
	p := e.RSP("register", "-p", "web", "-s", "tcp:80", "-r", "10.98.1.1", "--", "sh", "-c", "echo the server runs; exec sleep 1000")
	p.WaitFor("the server runs")
	e.Link("eth0", n.LAN, "10.98.1.2/24")
	start := time.Now()
	namesOnly(t, r, "127.0.0.1", "web", "10.98.1.2")
	t.Logf("in DNS %v after the network has come", time.Since(start))
}

// TestTentativeAddress: at boot the IPv6 address is still checked for duplicates.
func TestTentativeAddress(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	r, e := n.Host("registrar", "fd98:1::1/64", "10.98.1.1/24"), n.Host("element")
	r.CoreDNS(site(quick))
	r.Serving("127.0.0.1")
	eth0 := e.Link("eth0", n.LAN)
	eth0.Down()
	e.Sysctl("net.ipv6.conf.eth0.accept_dad=1", "net.ipv6.conf.eth0.dad_transmits=3")
	eth0.Up()
	e.IP("addr add fd98:1::2/64 dev eth0")
	start := time.Now()
	p := e.RSP("register", "-p", "web", "-s", "tcp:80", "-r", "[fd98:1::1]")
	r.Has("127.0.0.1", "web", 1)
	t.Logf("in DNS %v after the start, %s", time.Since(start), p.Output())
}

// TestStableAddress: a host has a temporary IPv6 address (RFC 8981), which the
// kernel prefers as a source, and which will expire. DNS has the stable one.
func TestStableAddress(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	r, e := n.Host("registrar", "10.98.1.1/24", "fd98:1::1/64"), n.Host("element", "10.98.1.2/24")
	r.CoreDNS(site(quick))
	r.Serving("127.0.0.1")
	e.Sysctl("net.ipv6.conf.eth0.use_tempaddr=2")
	e.IP("addr add fd98:1::2/64 dev eth0 mngtmpaddr nodad")
	network.Eventually(t, "a temporary address is preferred", func() error {
		route := e.IP("route get fd98:1::1")
		if strings.Contains(route, "src fd98:1::2 ") {
			return fmt.Errorf("%s", route)
		}
		return nil
	})
	e.RSP("register", "-p", "web", "-s", "tcp:80", "-r", "[fd98:1::1]")
	network.Eventually(t, "the stable address is in DNS", func() error {
		list, err := r.Lookup("127.0.0.1", "web."+network.Zone, dns.TypeAAAA)
		if err == nil && (len(list) != 1 || list[0] != "fd98:1::2") {
			err = fmt.Errorf("%q", list)
		}
		return err
	})
}
