package network_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestOneOfTwoNetworksDies: registrar and element name their addresses on two
// networks. When the first network dies, no message tells them. The element is out of
// the answers for two seconds at most, and changes come through.
func TestOneOfTwoNetworksDies(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	n := network.New(t)
	second := n.NewLAN()
	r, e := machine(n, "registrar", "10.98.1.1"), machine(n, "element", "10.98.1.2")
	r.Link("eth1", second, "10.98.2.1/24")
	e.Link("eth1", second, "10.98.2.2/24")
	r.CoreDNS(site("asap 10.98.1.1 10.98.2.1", quick))
	r.Serving("127.0.0.1")
	register := []string{"register", "-p", "jobs", "-s", "sctp:5001",
		"-r", "10.98.1.1,10.98.2.1", "--local", "10.98.1.2", "--local", "10.98.2.2",
		"--address", "10.98.1.2", "--address", "10.98.2.2"}
	p := e.RSP(register...)
	r.Has("127.0.0.1", "jobs", 1)
	r.Eth0().Wire(network.Wire{Dead: true})
	died := time.Now()
	var out, since time.Duration // in all; when it went out
	for at := time.Duration(0); at < 10*time.Second; at = time.Since(died) {
		_, err := r.Lookup("127.0.0.1", "jobs."+network.Zone, dns.TypeSRV)
		switch {
		case err == nil && since > 0:
			t.Logf("out from %v to %v", since, at)
			out, since = out+at-since, 0
		case err != nil && since == 0:
			since = at
		}
		if since > 0 && at-since > limit {
			t.Fatalf("out for %v since %v after the death: %v", at-since, since, err)
		}
	}
	t.Logf("out for %v of %v", out, time.Since(died))
	if out > limit {
		t.Errorf("out for %v, want %v at most", out, limit)
	}
	start := time.Now()
	again := e.RSP(append(register, "--id", "0000002a")...)
	r.Has("127.0.0.1", "jobs", 2)
	t.Logf("another element is in DNS %v after its start", time.Since(start))
	again.Signal(syscall.SIGTERM)
	again.Wait()
	r.Has("127.0.0.1", "jobs", 1)
	p.Signal(syscall.SIGTERM)
	p.Wait()
	r.Has("127.0.0.1", "jobs", 0)
	if strings.Contains(p.Output(), "no registrar") {
		t.Error("the registrar was lost")
	}
}
