package network_test

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestBehindNAT: rsp runs in a container behind docker0, and names no addresses.
// DNS has the address by which the container's host is known outside, and not the
// private one.
func TestBehindNAT(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	r, h := machine(n, "registrar", "10.98.1.1"), machine(n, "host", "10.98.1.2")
	h.Bridge("docker0", "172.17.0.1/16")
	c := h.Container("container", "docker0", "172.17.0.2/16")
	h.Masquerade("eth0")
	r.CoreDNS(site(quick))
	r.Serving("127.0.0.1")
	start := time.Now()
	c.RSP("register", "-p", "web", "-s", "tcp:80", "-r", "10.98.1.1")
	namesOnly(t, r, "127.0.0.1", "web", "10.98.1.2")
	t.Logf("in DNS with its host's address after %v", time.Since(start))
}

// TestPublishedRegistrar: the registrar runs in a container, of which the host
// publishes the ports, as `docker run -p 9899:9899/udp -p 53:53/udp` does.
func TestPublishedRegistrar(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	h, e := machine(n, "host", "10.98.1.1"), machine(n, "element", "10.98.1.2")
	h.Bridge("docker0", "172.17.0.1/16")
	c := h.Container("container", "docker0", "172.17.0.2/16")
	h.Masquerade("eth0")
	h.Publish("eth0", "udp dport 9899", "172.17.0.2:9899")
	h.Publish("eth0", "udp dport 53", "172.17.0.2:53")
	c.CoreDNS(site(quick))
	c.Serving("127.0.0.1")
	e.RSP("register", "-p", "web", "-s", "tcp:80", "-r", "10.98.1.1")
	namesOnly(t, e, "10.98.1.1", "web", "10.98.1.2")
	inner := c.RSP("register", "-p", "inner", "-s", "tcp:80")
	inner.WaitFor("registered as")
	t.Logf("%s", inner.Output())
}

// TestNATAddressChanges: the NAT gets another address (a new lease of a router at
// home). rsp behind it sees no change, except that its registrar does not know the
// association any more. DNS has the new address soon.
func TestNATAddressChanges(t *testing.T) {
	t.Parallel()
	const limit = 15 * time.Second
	n := network.New(t)
	r, h := machine(n, "registrar", "10.98.1.1"), machine(n, "host", "10.98.1.2")
	h.Bridge("docker0", "172.17.0.1/16")
	c := h.Container("container", "docker0", "172.17.0.2/16")
	h.Masquerade("eth0")
	r.CoreDNS(site(quick))
	r.Serving("127.0.0.1")
	c.RSP("register", "-p", "web", "-s", "tcp:80", "-r", "10.98.1.1")
	namesOnly(t, r, "127.0.0.1", "web", "10.98.1.2")
	h.IP("addr del 10.98.1.2/24 dev eth0")
	h.IP("addr add 10.98.1.77/24 dev eth0")
	h.IP("route add default via 10.98.1.254")
	took := namesOnly(t, r, "127.0.0.1", "web", "10.98.1.77")
	t.Logf("the new address is in DNS after %v", took)
	if took > limit {
		t.Errorf("the new address is in DNS after %v, want %v at most", took, limit)
	}
}
