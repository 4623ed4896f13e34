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
