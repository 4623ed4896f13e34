package clients

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/rserpool/coredns-rserpool/test/network"
)

// The addresses of name servers. Clients are in 198.51.100.0/24, elements in
// 203.0.113.0/24; all are neighbours on one LAN.
const (
	Server  = "192.0.2.53" // CoreDNS with rserpool
	Unbound = "192.0.2.1"
	BIND    = "192.0.2.2"
)

// elementsRouter is the address of the host of all elements.
const elementsRouter = "192.0.2.3"

// Zone is the zone of the pools, without the dot at the end.
const Zone = "pool.example.org"

// Corefile has a timer by which the death of an element is known after 6 s at most.
const Corefile = Zone + ` {
    bind ` + Server + `
    rserpool {
        asap ` + Server + `
        transport udp
        timer KEEP-ALIVE-INTERVAL 500ms
    }
}
`

// Site is a LAN with a registrar.
type Site struct {
	Net       *network.Network
	Registrar *network.Host
	CoreDNS   *network.Process

	t        testing.TB
	bridge   *network.Host // nil: the hosts are on Net.LAN
	clients  int
	elements *network.Host
	used     int // addresses of elements
}

// New starts CoreDNS with a Corefile, and waits until it serves.
func New(t testing.TB, corefile string) *Site {
	t.Helper()
	s := &Site{Net: network.New(t), t: t}
	s.run(corefile)
	return s
}

// NewBridged is New with a LAN that is a bridge in the kernel. It is faster than
// [Site.Net]'s own, and the test does not see the packets.
func NewBridged(t testing.TB, corefile string) *Site {
	t.Helper()
	s := &Site{Net: network.New(t), t: t}
	s.bridge = s.Net.Host("bridge")
	s.bridge.Bridge("br0")
	s.run(corefile)
	return s
}

func (s *Site) run(corefile string) {
	s.t.Helper()
	s.Registrar = s.Host("registrar", Server)
	s.CoreDNS = s.Registrar.CoreDNS(corefile)
	s.Registrar.Serving(Server)
}

// Host adds a host with an address of one of the three networks.
func (s *Site) Host(name, address string) *network.Host {
	s.t.Helper()
	var h *network.Host
	if s.bridge != nil {
		h = s.bridge.Container(name, "br0", address+"/24")
	} else {
		h = s.Net.Host(name, address+"/24")
	}
	for _, n := range []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"} {
		h.IP("route replace", n, "dev eth0 src", address)
	}
	if s.bridge != nil && address != elementsRouter {
		// The kernel keeps 1024 neighbours in all namespaces together.
		h.IP("route replace 203.0.113.0/24 via", elementsRouter, "src", address)
	}
	return h
}

// Client adds a host for a client.
func (s *Site) Client(name string) *network.Host {
	s.t.Helper()
	s.clients++
	return s.Host(name, fmt.Sprintf("198.51.100.%d", s.clients))
}

// Need leaves the test out where a program of a Debian package is missing.
func Need(t testing.TB, program, debian string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no test may be left out in CI: %s of Debian's package %s is missing (test/setup)", program, debian)
		}
		t.Skipf("LEFT OUT: %s is not installed (Debian package %s, see test/setup)", program, debian)
	}
}
