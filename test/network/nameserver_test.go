package network_test

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestNameServerBridge: the zone's name server is not at the address of docker0,
// where each client with docker0 would find itself.
func TestNameServerBridge(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	h, c := n.Host("h", "10.98.1.1/24"), n.Host("c", "10.98.1.2/24")
	h.Bridge("docker0", "172.17.0.1/16")
	h.CoreDNS(corefile("")).WaitFor("CoreDNS-")
	list, err := c.Lookup("10.98.1.1", "ns.dns."+network.Zone, dns.TypeA)
	if err != nil || len(list) != 1 || list[0] != "10.98.1.1" {
		t.Errorf("got the name server at %q, %v, want 10.98.1.1", list, err)
	}
}
