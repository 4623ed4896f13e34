package network

import (
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/miekg/dns"
)

// names is a name server that a test changes. It does not answer for a name that
// is not set: see unset.
type names struct {
	mu    sync.Mutex
	addrs map[string]string
}

// unset is a name that does not exist.
const unset = "NXDOMAIN"

// newNames starts the name server on a host.
func newNames(t *testing.T, h *Host) *names {
	t.Helper()
	conn, err := h.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	x := &names{addrs: map[string]string{}}
	s := &dns.Server{PacketConn: conn, Handler: x}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return x
}

func (x *names) set(name, addr string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.addrs[name] = addr
}

// ServeDNS implements dns.Handler.
func (x *names) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	x.mu.Lock()
	addr, ok := x.addrs[q.Question[0].Name]
	x.mu.Unlock()
	if !ok {
		return
	}
	m := new(dns.Msg).SetReply(q)
	switch {
	case addr == unset:
		m.Rcode = dns.RcodeNameError
	case q.Question[0].Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
			A:   net.ParseIP(addr),
		}}
	}
	_ = w.WriteMsg(m)
}

// TestRegistrarName: a name that cannot be looked up when rsp starts; that the
// name server knows later; and that then stands for another registrar.
func TestRegistrarName(t *testing.T) {
	t.Parallel()
	n := New(t)
	first, second := n.Host("first", "10.98.1.53/24"), n.Host("second", "10.98.1.54/24")
	serving := first.CoreDNS(strings.Replace(corefile, "ttl 0", "ttl 0\n        enrp 10.98.1.53", 1))
	second.CoreDNS(corefile)
	first.Serving("10.98.1.53")
	second.Serving("10.98.1.54")
	s := n.Host("server", "10.98.1.11/24")
	s.File("/etc/resolv.conf", "nameserver 10.98.1.9\noptions timeout:1 attempts:1\n")
	p := register(s, "--registrar", "registrar.example.org")
	p.WaitFor("COMMAND runs")
	p.WaitFor("registrar.example.org:3863: cannot look up its name: ") // no route, no name server

	x := newNames(t, n.Host("names", "10.98.1.9/24"))
	x.set("registrar.example.org.", unset)
	p.Next("no such host")
	if out, err := s.RunRSP("resolve", "--via", "udp", "--timeout", "3s", "--registrar", "registrar.example.org", "web"); err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("rsp resolve: %q, %v, want the reason", out, err)
	}
	x.set("registrar.example.org.", "10.98.1.53")
	p.WaitFor("at registrar 10.98.1.53:3863")
	reached(t, first, "10.98.1.53", "10.98.1.11")
	for _, command := range [][]string{{"resolve", "web"}, {"peers"}, {"dump"}} {
		if out, err := s.RunRSP(append(command, "--via", "udp", "--registrar", "registrar.example.org")...); err != nil {
			t.Errorf("rsp %v: %q, %v", command, out, err)
		}
	}

	x.set("registrar.example.org.", "10.98.1.54")
	serving.Signal(syscall.SIGKILL)
	reached(t, second, "10.98.1.54", "10.98.1.11")
}
