package network_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestPathMTU: behind a router is a link that takes packets of 1,200 bytes, and a
// firewall drops the ICMP messages that would say so. A resolution that is larger
// arrives, and another registrar gets the handlespace.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	const limit, elements = 5 * time.Second, 5
	n := network.New(t)
	tunnel := n.NewLAN()
	first, router := n.Host("first", "10.98.1.1/24"), n.Host("router", "10.98.1.254/24")
	second, u := n.Host("second"), n.Host("user")
	router.Sysctl("net.ipv4.ip_forward=1")
	router.Link("eth1", tunnel, "10.98.2.254/24")
	router.IP("link set eth1 mtu 1200")
	router.Eth0().Wire(network.Wire{NoICMP: true})
	first.IP("route add default via 10.98.1.254")
	second.Link("eth0", tunnel, "10.98.2.2/24")
	second.IP("route add default via 10.98.2.254")
	u.Link("eth0", tunnel, "10.98.2.3/24")
	u.IP("route add default via 10.98.2.254")
	first.CoreDNS(site("asap 10.98.1.1", "enrp 10.98.1.1", quick))
	first.Serving("127.0.0.1")
	for i := range elements { // each about 400 bytes in a message
		args := []string{"register", "-p", "jobs", "-s", "sctp:5001", "-r", "10.98.1.1", "--local", "10.98.1.1"}
		for a := range 30 {
			addr := fmt.Sprintf("10.98.%d.%d", 100+i, 1+a)
			first.IP("addr add", addr+"/32", "dev lo")
			args = append(args, "--address", addr, "--local", addr)
		}
		first.RSP(args...)
	}
	first.Has("127.0.0.1", "jobs", elements)
	start := time.Now()
	out, err := u.RunRSP("resolve", "--json", "--via", "udp", "--timeout", "50s", "-n", "100", "-r", "10.98.1.1", "jobs")
	var got struct{ Elements []any }
	if err == nil {
		err = json.Unmarshal([]byte(out), &got)
	}
	took := time.Since(start)
	t.Logf("a resolution of %d bytes of JSON took %v", len(out), took)
	if err != nil || len(got.Elements) != elements || took > limit {
		t.Errorf("%d elements after %v, %v; want %d within %v", len(got.Elements), took, err, elements, limit)
	}
	start = time.Now()
	second.CoreDNS(site("asap 10.98.2.2", "enrp 10.98.2.2", "peer 10.98.1.1", quick))
	second.Serving("127.0.0.1")
	ready := time.Since(start)
	list, err := second.Lookup("127.0.0.1", "jobs."+network.Zone, dns.TypeSRV)
	t.Logf("the second registrar was ready after %v, with %d elements", ready, len(list))
	if err != nil || len(list) != elements {
		t.Errorf("it has %d elements, %v, want %d", len(list), err, elements)
	}
}
