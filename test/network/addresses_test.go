package network

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// corefile is a registrar's, on all addresses of its host.
const corefile = `pool.example.org {
    rserpool {
        transport auto
        ttl 0
    }
    ready :8181
}
`

// registry starts a registrar on a host of its own.
func registry(t *testing.T, n *Network, addrs ...string) *Host {
	t.Helper()
	h := n.Host("registrar", addrs...)
	h.CoreDNS(corefile)
	h.Serving(ip(addrs[0]))
	return h
}

// ip is an address without its prefix length.
func ip(prefix string) string {
	a, _, _ := strings.Cut(prefix, "/")
	return a
}

// via is the transport of elements: in the kernel lab, the kernel's SCTP.
func via() string {
	if os.Getenv("IN_UML") != "" {
		return "kernel"
	}
	return "udp"
}

// register runs rsp on a host, with a command that says when it runs.
func register(h *Host, more ...string) *Process {
	return h.RSP(append(append([]string{"register", "--via", via(), "--pool", "web", "--serve", "tcp:8080"}, more...),
		"--", "sh", "-c", "echo COMMAND runs; exec sleep 1000")...)
}

// reached waits until the pool's elements have exactly these addresses, and
// tells how long that took.
func reached(t *testing.T, h *Host, server string, want ...string) time.Duration {
	t.Helper()
	return Eventually(t, fmt.Sprintf("%s names %q", server, want), func() error {
		var got []string
		for _, q := range []uint16{dns.TypeA, dns.TypeAAAA} {
			list, err := h.Lookup(server, "web."+Zone, q)
			if err != nil {
				return err
			}
			got = append(got, list...)
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("it names %q", got)
		}
		return nil
	})
}

// gaps counts the questions that a server answers without an address until stop
// is closed.
func gaps(h *Host, server string, stop <-chan struct{}) (without int) {
	for {
		select {
		case <-stop:
			return without
		case <-time.After(20 * time.Millisecond):
		}
		list, _ := h.Lookup(server, "web."+Zone, dns.TypeA)
		if len(list) == 0 {
			without++
		}
	}
}

// TestAddressReplaced: a new lease has another address, and the former one is
// gone with it.
func TestAddressReplaced(t *testing.T) {
	t.Parallel()
	n := New(t)
	r, s := registry(t, n, "10.98.1.53/24"), n.Host("server", "10.98.1.11/24")
	p := register(s, "--registrar", "10.98.1.53", "--id", "0d000001")
	reached(t, r, "10.98.1.53", "10.98.1.11")
	s.IP("addr del 10.98.1.11/24 dev eth0")
	s.IP("addr add 10.98.1.12/24 dev eth0")
	t.Logf("at the new address after %v", reached(t, r, "10.98.1.53", "10.98.1.12"))
	p.WaitFor("the addresses of this machine have changed; registering [10.98.1.12]")
}

// TestAddressRenumbered: the former address is still there. Clients are given an
// address all the time, but for the moment in which the registrar puts the element
// with the new address in the place of the former one.
func TestAddressRenumbered(t *testing.T) {
	t.Parallel()
	n := New(t)
	r, s := registry(t, n, "10.98.1.53/24"), n.Host("server", "10.98.1.11/24")
	register(s, "--registrar", "10.98.1.53")
	reached(t, r, "10.98.1.53", "10.98.1.11")
	stop, done := make(chan struct{}), make(chan int)
	go func() { done <- gaps(r, "10.98.1.53", stop) }()
	s.IP("addr add 10.98.1.12/24 dev eth0")
	s.IP("route change 10.98.1.0/24 dev eth0 src 10.98.1.12")
	t.Logf("at the new address after %v", reached(t, r, "10.98.1.53", "10.98.1.12"))
	close(stop)
	if got := <-done; got > 1 {
		t.Errorf("%d questions in a row are answered without an address, one each 20 ms", got)
	}
}

// TestAddressReplacedWildcard: a new lease where all addresses are bound, with a
// free port and with a given one.
func TestAddressReplacedWildcard(t *testing.T) {
	for name, local := range map[string]string{"free port": "0.0.0.0", "port": "0.0.0.0:5000"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := New(t)
			r, s := registry(t, n, "10.98.1.53/24"), n.Host("server", "10.98.1.11/24")
			register(s, "--registrar", "10.98.1.53", "--local", local)
			reached(t, r, "10.98.1.53", "10.98.1.11")
			s.IP("addr del 10.98.1.11/24 dev eth0")
			s.IP("addr add 10.98.1.12/24 dev eth0")
			t.Logf("at the new address after %v", reached(t, r, "10.98.1.53", "10.98.1.12"))
		})
	}
}

// TestAddressFlaps: an address that changes time and again. One element is left,
// and the sockets of one.
func TestAddressFlaps(t *testing.T) {
	t.Parallel()
	n := New(t)
	r, s := registry(t, n, "10.98.1.53/24"), n.Host("server", "10.98.1.11/24", "10.98.1.12/24")
	p := register(s, "--registrar", "10.98.1.53")
	p.WaitFor("registered as")
	for i := range 6 {
		ip := fmt.Sprintf("10.98.1.%d", 12-i%2)
		s.IP("route change 10.98.1.0/24 dev eth0 src", ip)
		p.Next("registering [" + ip + "]")
	}
	reached(t, r, "10.98.1.53", "10.98.1.11")
	r.Has("10.98.1.53", "web", 1)
	Eventually(t, "the former sockets are closed", func() error {
		if out := s.Run("ss", "-Hlun"); via() == "udp" && strings.Count(out, "\n") != 1 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// TestEndWithoutNetwork: rsp and its command end at once where nothing is
// registered, and after --stop-timeout if no registrar can be reached.
func TestEndWithoutNetwork(t *testing.T) {
	t.Parallel()
	n := New(t)
	s := n.Host("server")
	p := register(s, "--registrar", "registrar.example.org")
	p.WaitFor("COMMAND runs")
	p.Signal(syscall.SIGTERM)
	if code := p.Wait(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want that of the command", code)
	}
	r, s := registry(t, n, "10.98.1.53/24"), n.Host("other", "10.98.1.11/24")
	p = register(s, "--registrar", "10.98.1.53", "--stop-timeout", "1s")
	reached(t, r, "10.98.1.53", "10.98.1.11")
	s.IP("addr del 10.98.1.11/24 dev eth0")
	since := time.Now()
	p.Signal(syscall.SIGTERM)
	p.Wait()
	if took := time.Since(since); took > 15*time.Second {
		t.Errorf("it ends after %v", took)
	}
}

// TestNetworkLate: the network comes up after rsp and its command.
func TestNetworkLate(t *testing.T) {
	t.Parallel()
	n := New(t)
	r, s := registry(t, n, "10.98.1.53/24"), n.Host("server")
	p := register(s, "--registrar", "10.98.1.53")
	p.WaitFor("COMMAND runs")
	for range 3 { // with growing pauses
		p.Next("no registrar could be reached: 10.98.1.53:3863: ")
	}
	s.Link("eth0", n.LAN, "10.98.1.11/24")
	if d := reached(t, r, "10.98.1.53", "10.98.1.11"); d > 30*time.Second {
		t.Errorf("registered %v after the network was up", d)
	}
}

// TestAnnounceLate: the same with a registrar that announces itself.
func TestAnnounceLate(t *testing.T) {
	t.Parallel()
	n := New(t)
	r := n.Host("registrar", "10.98.1.53/24")
	r.CoreDNS(strings.Replace(corefile, "ttl 0", "ttl 0\n        announce 239.0.0.1", 1))
	r.Serving("10.98.1.53")
	s := n.Host("server")
	p := register(s, "--announce=239.0.0.1:3863")
	p.WaitFor("COMMAND runs")
	s.Link("eth0", n.LAN, "10.98.1.11/24")
	s.Bridge("docker0", "172.17.0.1/16")
	if d := reached(t, r, "10.98.1.53", "10.98.1.11"); d > 30*time.Second {
		t.Errorf("registered %v after the network was up", d)
	}
}

// TestNamedAddressLate: an address that is named and not there yet.
func TestNamedAddressLate(t *testing.T) {
	t.Parallel()
	n := New(t)
	r, s := registry(t, n, "10.98.1.53/24"), n.Host("server", "10.98.1.11/24")
	p := register(s, "--registrar", "10.98.1.53", "--address", "10.98.1.20")
	p.WaitFor("COMMAND runs")
	p.WaitFor("cannot listen on [10.98.1.20:0]")
	s.IP("addr add 10.98.1.20/24 dev eth0")
	if d := reached(t, r, "10.98.1.53", "10.98.1.20"); d > 30*time.Second {
		t.Errorf("registered %v after the address was there", d)
	}
}

// TestDuplicateAddressDetection: while IPv6 addresses are tentative, only the
// loopback one can be used. It must not be.
func TestDuplicateAddressDetection(t *testing.T) {
	t.Parallel()
	n := New(t)
	r, s := registry(t, n, "fd98:1::53/64"), n.Host("server")
	l := s.link("eth0", n.LAN)
	s.Sysctl("net.ipv6.conf.eth0.accept_dad=1", "net.ipv6.conf.eth0.dad_transmits=5")
	l.Up()
	s.IP("addr add fd98:1::11/64 dev eth0")
	p := register(s, "--registrar", "[fd98:1::53]:3863")
	p.WaitFor("COMMAND runs")
	if out := s.IP("-6 addr show dev eth0 tentative"); !strings.Contains(out, "fd98:1::11") {
		t.Fatalf("the address is not tentative: %q", out)
	}
	p.WaitFor("no registrar could be reached")
	if d := reached(t, r, "fd98:1::53", "fd98:1::11"); d > 30*time.Second {
		t.Errorf("registered after %v", d)
	}
}

// TestTemporaryAddress: the stable IPv6 address is registered, though the system
// prefers a temporary one. When its prefix is deprecated, the new one is.
func TestTemporaryAddress(t *testing.T) {
	t.Parallel()
	n := New(t)
	r, s := registry(t, n, "fd98:1::53/64"), n.Host("server")
	l := s.link("eth0", n.LAN)
	s.Sysctl("net.ipv6.conf.eth0.use_tempaddr=2")
	l.Up()
	s.IP("addr add fd98:1::11/64 dev eth0 mngtmpaddr valid_lft 4000 preferred_lft 3000")
	Eventually(t, "there is a temporary address", func() error {
		if out := s.IP("-6 addr show dev eth0 temporary"); !strings.Contains(out, "fd98:1:") {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
	if out := s.IP("route get fd98:1::53"); strings.Contains(out, "src fd98:1::11 ") {
		t.Fatalf("the system does not prefer the temporary address: %s", out)
	}
	register(s, "--registrar", "fd98:1::53")
	reached(t, r, "fd98:1::53", "fd98:1::11")
	s.IP("addr add fd98:1::12/64 dev eth0 nodad")
	s.IP("addr change fd98:1::11/64 dev eth0 valid_lft 4000 preferred_lft 0")
	t.Logf("at the new address after %v", reached(t, r, "fd98:1::53", "fd98:1::12"))
}

// TestWatchAddressReplaced: a client that watches a pool goes on from its new
// address.
func TestWatchAddressReplaced(t *testing.T) {
	t.Parallel()
	n := New(t)
	registry(t, n, "10.98.1.53/24")
	c := n.Host("client", "10.98.1.21/24")
	w := c.RSP("resolve", "--watch", "--via", via(), "--registrar", "10.98.1.53", "web")
	w.WaitFor("knows no pool")
	register(n.Host("first", "10.98.1.11/24"), "--registrar", "10.98.1.53")
	w.WaitFor("10.98.1.11")
	c.IP("addr del 10.98.1.21/24 dev eth0")
	c.IP("addr add 10.98.1.22/24 dev eth0")
	register(n.Host("second", "10.98.1.12/24"), "--registrar", "10.98.1.53")
	since := time.Now()
	w.WaitFor("10.98.1.12")
	took := time.Since(since)
	t.Logf("the watch goes on after %v", took)
	if took > 20*time.Second {
		t.Error("that is as long as it takes SCTP to miss the registrar")
	}
}

// TestAdvertise: from behind NAT, the address of the host in front is registered.
func TestAdvertise(t *testing.T) {
	t.Parallel()
	n := New(t)
	r, h := registry(t, n, "10.98.1.53/24"), n.Host("host", "10.98.1.2/24")
	h.Bridge("docker0", "172.17.0.1/16")
	c := h.Container("container", "docker0", "172.17.0.2/16")
	h.Masquerade("eth0")
	p := register(c, "--registrar", "10.98.1.53", "--advertise", "10.98.1.2")
	p.WaitFor("registered as")
	reached(t, r, "10.98.1.53", "10.98.1.2")
}
