package interop

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/asap"
)

const (
	registrarIP = "10.99.0.1"
	atRegistrar = "-registrar=10.99.0.1:3863"
)

// corefile serves pool.example.org with the given rserpool options.
func corefile(options ...string) string { return corefileAt(registrarIP, options...) }

func corefileAt(ip string, options ...string) string {
	return `pool.example.org {
	rserpool {
		asap ` + ip + `
		ttl 0
		` + strings.Join(options, "\n\t\t") + `
	}
	errors
}
`
}

// rspserver starts a pool element of the reference implementation.
func (n *node) rspserver(pool, id string, args ...string) *proc {
	n.l.t.Helper()
	return n.rspserverAt(registrarIP, pool, id, args...)
}

func (n *node) rspserverAt(registrar, pool, id string, args ...string) *proc {
	n.l.t.Helper()
	args = append([]string{"stdbuf", "-oL", "rspserver", "-asapannounce=off", "-logcolor=off", "-loglevel=3",
		"-identifier=" + id, "-poolhandle=" + pool, "-registrar=" + registrar + ":3863"}, args...)
	return n.start(args...)
}

// rspregistrar starts a registrar of the reference implementation.
func (n *node) rspregistrar(ip string, args ...string) *proc {
	n.l.t.Helper()
	args = append([]string{"stdbuf", "-oL", "rspregistrar", "-asap=" + ip + ":3863", "-enrp=" + ip + ":9901",
		"-asapannounce=off", "-enrpannounce=off", "-logcolor=off", "-loglevel=3",
		"-endpointkeepalivetransmissioninterval=1000", "-endpointkeepalivetimeoutinterval=1000"}, args...)
	return n.start(args...)
}

// referencePolicies are the policies that rspserver registers, by the words
// of its command line, with what our TXT record must say of each.
var referencePolicies = []struct{ policy, want string }{
	{"RoundRobin", "RoundRobin"},
	{"WeightedRoundRobin:7", "WeightedRoundRobin"},
	{"Random", "Random"},
	{"WeightedRandom:13", "WeightedRandom"},
	{"Priority:5", "Priority"},
	{"LeastUsed", "LeastUsed"},
	{"LeastUsedDegradation:0.25", "LeastUsedDegradation"},
	{"PriorityLeastUsed:0.5", "PriorityLeastUsed"},
	{"RandomizedLeastUsed", "RandomizedLeastUsed"},
	{"RandomizedPriorityLeastUsed", "RandomizedPriorityLeastUsed"},
	{"LeastUsedDPF:0.5", "LeastUsedDPF"},
	{"LeastUsedDegradationDPF:0.25:0.5", "LeastUsedDegradationDPF"},
	{"WeightedRandomDPF:9:0.25", "WeightedRandomDPF"},
}

// TestReferenceElements: elements of RSPLIB register with us over kernel SCTP
// under each policy that rspserver offers, appear in the answers of dig, are
// kept alive, and deregister in good order.
func TestReferenceElements(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	c := l.capture()
	r.coredns(registrarIP, corefile("timer KEEP-ALIVE-INTERVAL 1s"))

	var elements []*proc
	for i, p := range referencePolicies {
		elements = append(elements, pe.rspserver("pool"+p.want, fmt.Sprintf("0x0a00000%x", i+1), "-echo", "-policy="+p.policy))
	}
	for i, p := range referencePolicies {
		name := "pool" + p.want
		l.registered(registrarIP, name, 1)
		srv, err := r.run("dig", "+short", "@"+registrarIP, "SRV", name+".pool.example.org")
		if err != nil {
			t.Error(err)
		}
		if target := fmt.Sprintf("pe-0a00000%x.%s.pool.example.org.", i+1, name); !strings.Contains(srv, target) {
			t.Errorf("dig SRV %s = %q, want target %s", name, srv, target)
		}
		a, err := r.run("dig", "+short", "@"+registrarIP, "A", name+".pool.example.org")
		if err != nil || a != "10.99.0.11\n" {
			t.Errorf("dig A %s = %q, %v, want 10.99.0.11", name, a, err)
		}
		txt, err := answers(registrarIP, "_rserpool."+name+".pool.example.org.", dns.TypeTXT)
		if err != nil || !strings.Contains(strings.Join(txt, " "), "\"policy="+p.want+"\"") {
			t.Errorf("TXT %s = %q, %v, want policy=%s", name, txt, err, p.want)
		}
	}

	n := len(elements)
	eventually(t, "every element acknowledges two keep-alives", func() error {
		if got := c.countOf(asap.TypeEndpointKeepAliveAck); got < 2*n {
			return fmt.Errorf("%d acknowledgements, want %d", got, 2*n)
		}
		return nil
	})
	for _, e := range elements {
		e.kill(syscall.SIGINT)
	}
	for _, p := range referencePolicies {
		l.gone(registrarIP, "pool"+p.want)
	}
	eventually(t, "every element deregisters", func() error {
		if got := c.countOf(asap.TypeDeregistrationResponse); got < n {
			return fmt.Errorf("%d deregistration responses, want %d", got, n)
		}
		return nil
	})
}

// TestReferenceElementStops: what SIGTERM, kill -9 and a hang of an element do
// to the answers. A killed one must be out of them within 200 ms.
func TestReferenceElementStops(t *testing.T) {
	l := newLab(t)
	r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
	l.capture()
	r.coredns(registrarIP, corefile("timer KEEP-ALIVE-INTERVAL 1s", "timer KEEP-ALIVE-TIMEOUT 1s"))

	e := pe.rspserver("echo", "0x0b000001", "-echo")
	l.registered(registrarIP, "echo", 1)
	e.kill(syscall.SIGTERM)
	t.Logf("gone %v after SIGTERM", l.gone(registrarIP, "echo"))
	e.wait()

	l.killed(registrarIP, "echo", func() *proc { return pe.rspserver("echo", "0x0b000002", "-echo") })

	// Another one runs on: a pool all of whose elements hang stays as it is.
	e = pe.rspserver("echo", "0x0b000003", "-echo")
	pe.rspserver("echo", "0x0b000004", "-echo")
	l.registered(registrarIP, "echo", 2)
	start := time.Now()
	e.kill(syscall.SIGSTOP)
	l.registered(registrarIP, "echo", 1)
	hung := time.Since(start)
	t.Logf("gone %v after it hung", hung)
	if limit := 2600*time.Millisecond + l.paced(500*time.Millisecond); hung > limit {
		t.Errorf("a hung element was served for %v, want at most 1.5 intervals and a timeout (%v)", hung, limit)
	}
}

// TestReferenceUser: rspterminal resolves and uses a pool through us.
func TestReferenceUser(t *testing.T) {
	l := newLab(t)
	r, pe, pu := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24"), l.node("pu", "10.99.0.21/24")
	l.capture()
	r.coredns(registrarIP, corefile())
	pe.rspserver("echo", "0x0c000001", "-echo")
	l.registered(registrarIP, "echo", 1)

	u := pu.start("stdbuf", "-oL", "rspterminal", atRegistrar, "-poolhandle=echo", "-asapannounce=off", "-logcolor=off", "-loglevel=3")
	eventually(t, "the echo comes back", func() error {
		if _, err := fmt.Fprintln(u.stdin, "hello pool"); err != nil {
			return err
		}
		if got := u.out.String(); !strings.Contains(got, "hello pool") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
}

// TestReferenceRegistrar: rsp registers with RSPLIB's registrar, stays
// registered and is found there, by rsp and by rspterminal alike.
func TestReferenceRegistrar(t *testing.T) {
	for _, via := range []string{"kernel", "udp"} {
		t.Run(via, func(t *testing.T) {
			l := newLab(t)
			r, pe, pu := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24"), l.node("pu", "10.99.0.21/24")
			if via == "udp" {
				r.sysctl("net.sctp.udp_port=9899", "net.sctp.encap_port=9899")
			}
			l.capture()
			r.rspregistrar(registrarIP)
			e := pe.start(l.bin("rsp"), "register", "--registrar", registrarIP, "--pool", "echo", "--serve", "sctp:7777", "--via", via, "--id", "0x0d000001")

			resolve := func() (string, error) {
				return pu.run(l.bin("rsp"), "resolve", "--registrar", registrarIP, "--via", via, "echo")
			}
			found := func() error {
				out, err := resolve()
				if err == nil && !strings.Contains(out, "0d000001") {
					err = fmt.Errorf("resolved to %q", out)
				}
				return err
			}
			eventually(t, "the reference's registrar knows the element", found)
			// Keep-alives come every second and must be answered.
			time.Sleep(5 * time.Second)
			if err := found(); err != nil {
				t.Errorf("after five keep-alive intervals: %v", err)
			}
			e.kill(syscall.SIGTERM)
			if code := e.wait(); code != 0 {
				t.Errorf("rsp register ended with code %d", code)
			}
			eventually(t, "the element is deregistered", func() error {
				if out, err := resolve(); err == nil {
					return fmt.Errorf("still resolved: %q", out)
				}
				return nil
			})
		})
	}
}

// TestEncapsulation: the kernel's encapsulation and ours (RFC 6951) talk both
// ways: an element of RSPLIB with our user-space registrar, and ours with our
// registrar on kernel SCTP that serves the encapsulation port.
func TestEncapsulation(t *testing.T) {
	t.Run("kernel element, user-space registrar", func(t *testing.T) {
		l := newLab(t)
		r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
		pe.sysctl("net.sctp.udp_port=9899", "net.sctp.encap_port=9899")
		c := l.capture()
		r.coredns(registrarIP, corefile("transport udp", "timer KEEP-ALIVE-INTERVAL 1s"))
		e := pe.rspserver("echo", "0x0e000001", "-echo")
		l.registered(registrarIP, "echo", 1)
		eventually(t, "keep-alives are acknowledged", func() error {
			if n := c.countOf(asap.TypeEndpointKeepAliveAck); n < 2 {
				return fmt.Errorf("%d acknowledgements", n)
			}
			return nil
		})
		if n := c.count(packet.isPlain); n > 0 {
			t.Errorf("%d packets of SCTP straight over IP, want none", n)
		}
		e.kill(syscall.SIGTERM)
		l.gone(registrarIP, "echo")
		l.killed(registrarIP, "echo", func() *proc { return pe.rspserver("echo", "0x0e000002", "-echo") })
	})
	t.Run("user-space element, kernel registrar", func(t *testing.T) {
		l := newLab(t)
		r, pe := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24")
		r.sysctl("net.sctp.udp_port=9899", "net.sctp.encap_port=9899")
		c := l.capture()
		r.coredns(registrarIP, corefile("transport kernel", "timer KEEP-ALIVE-INTERVAL 1s"))
		e := pe.start(l.bin("rsp"), "register", "--registrar", registrarIP, "--pool", "echo", "--serve", "tcp:80", "--via", "udp")
		l.registered(registrarIP, "echo", 1)
		eventually(t, "keep-alives are acknowledged", func() error {
			if n := c.countOf(asap.TypeEndpointKeepAliveAck); n < 2 {
				return fmt.Errorf("%d acknowledgements", n)
			}
			return nil
		})
		e.kill(syscall.SIGTERM)
		l.gone(registrarIP, "echo")
		e.wait()
	})
	t.Run("both kinds in one pool", func(t *testing.T) {
		l := newLab(t)
		r, pe1, pe2 := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24"), l.node("pe2", "10.99.0.12/24")
		l.capture()
		r.coredns(registrarIP, corefile())
		pe1.start(l.bin("rsp"), "register", "--registrar", registrarIP, "--pool", "echo", "--serve", "tcp:80", "--via", "udp")
		pe2.start(l.bin("rsp"), "register", "--registrar", registrarIP, "--pool", "echo", "--serve", "tcp:80", "--via", "kernel")
		l.registered(registrarIP, "echo", 2)
	})
}
