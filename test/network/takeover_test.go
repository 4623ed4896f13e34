package network_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestTakeoverWithSharedAddress: registrars and elements are on hosts that all have
// docker0 and an anycast address with the same addresses, and name none. One of the
// registrars is killed; another one takes its element over, which stays in the
// answers.
func TestTakeoverWithSharedAddress(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	shared := func(name, addr string) *network.Host {
		h := machine(n, name, addr)
		h.Bridge("docker0", "172.17.0.1/16")
		h.IP("addr add 192.0.2.53/32 dev lo")
		return h
	}
	var hosts []*network.Host
	var servers, elements []*network.Process
	for i := range 3 {
		addr := fmt.Sprintf("10.98.1.%d", i+1)
		h := shared(fmt.Sprint("registrar", i), addr)
		servers = append(servers, h.CoreDNS(site("enrp_announce", quick)))
		hosts = append(hosts, h)
	}
	for i, h := range hosts {
		h.Serving("127.0.0.1")
		e := shared(fmt.Sprint("element", i), fmt.Sprintf("10.98.1.1%d", i+1))
		elements = append(elements, e.RSP("register", "-p", "web", "-s", "tcp:80", "-r", fmt.Sprintf("10.98.1.%d", i+1)))
	}
	for _, h := range hosts {
		h.Has("127.0.0.1", "web", len(hosts))
	}
	servers[2].Signal(syscall.SIGKILL)
	servers[2].Wait()
	start := time.Now()
	elements[2].WaitFor("has taken over as home registrar")
	t.Logf("the killed registrar's element has another home after %v", time.Since(start))
	for _, h := range hosts[:2] {
		h.Has("127.0.0.1", "web", len(hosts))
	}
}
