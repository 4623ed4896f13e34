package rserpool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/hosts" // to compare with
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// sink is a ResponseWriter that costs next to nothing.
type sink struct {
	test.ResponseWriter
	client net.Addr
	last   *dns.Msg
}

func (s *sink) WriteMsg(m *dns.Msg) error { s.last = m; return nil }
func (s *sink) RemoteAddr() net.Addr      { return s.client }

func newSink() *sink { return &sink{client: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5353}} }

// sinkFor has TCP for answers that do not fit into 512 octets.
func sinkFor(elements int) *sink {
	s := newSink()
	if elements > 8 {
		s.client = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5353}
	}
	return s
}

// benchQueries are typical queries with the allocations they may take.
var benchQueries = []struct {
	name   string
	pool   string
	n      int // elements
	qname  string
	qtype  uint16
	allocs float64
}{
	{"A", "web", 8, "web." + zoneZ, dns.TypeA, 2}, // the response, the record
	{"A-mixed-case", "web", 8, "wEb." + strings.ToUpper(zoneZ), dns.TypeA, 2},
	{"AAAA", "web", 8, "web." + zoneZ, dns.TypeAAAA, 2},
	{"SRV", "web", 3, "_http._tcp.web." + zoneZ, dns.TypeSRV, 10},
	{"SRV-of-60", "web", 60, "_http._tcp.web." + zoneZ, dns.TypeSRV, 10},
	{"SRV-of-100", "web", 100, "_http._tcp.web." + zoneZ, dns.TypeSRV, 10},
	{"SRV-100-of-1000", "web", 1000, "_http._tcp.web." + zoneZ, dns.TypeSRV, 10},
	{"NXDOMAIN", "web", 8, "nowhere." + zoneZ, dns.TypeA, 3}, // the response, the SOA, its section
	{"encoded", "a..b", 8, encodeHandle("a..b") + "." + zoneZ, dns.TypeA, 8},
}

func benchHandler(t testing.TB, pool string, n int, options ...string) *Handler {
	f := newFake()
	for id := 1; id <= n; id++ {
		put(t, f.space, pool, element(rsp.PEID(id), 80, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id%256, id)))
	}
	return newTestHandler(t, "rserpool pool.example.org {\n"+strings.Join(options, "\n")+"\n}", f)
}

// TestAllocsHTTPS: an HTTPS or SVCB answer needs no more allocations than the SRV answer with
// the same elements.
func TestAllocsHTTPS(t *testing.T) {
	for _, n := range []int{1, 3, 16} {
		h := benchHandler(t, "web", n, fmt.Sprint("addresses ", n), "https alpn=h2,h3", "svcb foo")
		allocs := func(name string, qtype uint16) float64 {
			w := sinkFor(99)
			m := new(dns.Msg).SetQuestion(name+zoneZ, qtype)
			got := testing.AllocsPerRun(200, func() { h.ServeDNS(context.Background(), w, m) })
			if len(w.last.Answer) != n || len(w.last.Extra) != 2*n {
				t.Errorf("%s %s: got\n%s", name, dns.TypeToString[qtype], w.last)
			}
			return got
		}
		srv := allocs("web.", dns.TypeSRV)
		for name, qtype := range map[string]uint16{"web.": dns.TypeHTTPS, "_8443._https.web.": dns.TypeHTTPS, "_foo.web.": dns.TypeSVCB} {
			if got := allocs(name, qtype); got > srv {
				t.Errorf("%d elements: %s %s needs %v allocations, SRV %v", n, name, dns.TypeToString[qtype], got, srv)
			}
		}
	}
}

// BenchmarkHTTPS is to compare with SRV answers of the same elements.
func BenchmarkHTTPS(b *testing.B) {
	for _, n := range []int{1, 3} {
		h := benchHandler(b, "web", n, fmt.Sprint("addresses ", n), "https alpn=h2,h3")
		for _, qtype := range []uint16{dns.TypeHTTPS, dns.TypeSRV} {
			b.Run(fmt.Sprint(dns.TypeToString[qtype], "-of-", n), func(b *testing.B) {
				w := sinkFor(99)
				m := new(dns.Msg).SetQuestion("web."+zoneZ, qtype)
				b.ReportAllocs()
				for b.Loop() {
					h.ServeDNS(context.Background(), w, m)
				}
			})
		}
	}
}

func TestAllocs(t *testing.T) {
	for _, q := range benchQueries {
		h := benchHandler(t, q.pool, q.n)
		w := sinkFor(q.n)
		m := new(dns.Msg).SetQuestion(q.qname, q.qtype)
		got := testing.AllocsPerRun(200, func() {
			if _, err := h.ServeDNS(context.Background(), w, m); err != nil {
				t.Fatal(err)
			}
		})
		if got > q.allocs {
			t.Errorf("%s: got %v allocations, want at most %v", q.name, got, q.allocs)
		}
		want := map[uint16]int{dns.TypeA: 1, dns.TypeAAAA: 1, dns.TypeSRV: min(q.n, 100)}[q.qtype]
		if q.name != "NXDOMAIN" && len(w.last.Answer) != want {
			t.Errorf("%s: got %d records, want %d", q.name, len(w.last.Answer), want)
		}
	}
}

func BenchmarkServeDNS(b *testing.B) {
	for _, q := range benchQueries {
		b.Run(q.name, func(b *testing.B) {
			h := benchHandler(b, q.pool, q.n)
			w := sinkFor(q.n)
			m := new(dns.Msg).SetQuestion(q.qname, q.qtype)
			b.ReportAllocs()
			for b.Loop() {
				h.ServeDNS(context.Background(), w, m)
			}
		})
	}
}

// BenchmarkHosts is the yardstick: CoreDNS's hosts plugin with the same eight
// addresses.
func BenchmarkHosts(b *testing.B) {
	setup, err := caddy.DirectiveAction("dns", "hosts")
	if err != nil {
		b.Fatal(err)
	}
	var corefile strings.Builder
	corefile.WriteString("hosts /dev/null pool.example.org {\n")
	for id := 1; id <= 8; id++ {
		fmt.Fprintf(&corefile, "192.0.2.%d pe%d.pool.example.org\n", id, id)
	}
	c := caddy.NewTestController("dns", corefile.String()+"}")
	if err := setup(c); err != nil {
		b.Fatal(err)
	}
	h := dnsserver.GetConfig(c).Plugin[0](nil)
	w := newSink()
	m := new(dns.Msg).SetQuestion("pe1."+zoneZ, dns.TypeA)
	b.ReportAllocs()
	for b.Loop() {
		h.ServeDNS(context.Background(), w, m)
	}
	if len(w.last.Answer) != 1 {
		b.Fatalf("got %v, want one address", w.last)
	}
}

// BenchmarkClients has many clients at once ask for pairs of A and AAAA.
func BenchmarkClients(b *testing.B) {
	h := benchHandler(b, "web", 8)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		w := newSink()
		client := w.client.(*net.UDPAddr)
		m4, m6 := new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeA), new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeAAAA)
		for pb.Next() {
			client.IP = net.IPv4(10, byte(rand.Uint32()), byte(rand.Uint32()), 1)
			h.ServeDNS(context.Background(), w, m4)
			h.ServeDNS(context.Background(), w, m6)
		}
	})
}
