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
	"github.com/rserpool/coredns-rserpool/test/here"
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

// benchQueries are typical queries, with the records of their answers and the allocations that
// they may take.
var benchQueries = []struct {
	name    string
	pool    string
	n       int    // elements
	options string // lines of the Corefile
	qname   string
	qtype   uint16
	records int
	allocs  float64
}{
	{"A", "web", 8, "", "web." + zoneZ, dns.TypeA, 1, 2}, // the response, the record
	{"A-mixed-case", "web", 8, "", "wEb." + strings.ToUpper(zoneZ), dns.TypeA, 1, 2},
	{"A-by-rule", "web", 8, "pool web ttl 9\npool w* ttl 7", "web." + zoneZ, dns.TypeA, 1, 2},
	{"AAAA", "web", 8, "", "web." + zoneZ, dns.TypeAAAA, 1, 2},
	// The response, two sections, names, and the records of three types.
	{"SRV", "web", 3, "", "_http._tcp.web." + zoneZ, dns.TypeSRV, 3, 7},
	{"SRV-of-60", "web", 60, "", "_http._tcp.web." + zoneZ, dns.TypeSRV, 60, 7},
	{"SRV-of-100", "web", 100, "", "_http._tcp.web." + zoneZ, dns.TypeSRV, 100, 7},
	{"SRV-100-of-1000", "web", 1000, "", "_http._tcp.web." + zoneZ, dns.TypeSRV, 100, 7},
	{"SRV-of-element", "web", 3, "", "pe-00000001.web." + zoneZ, dns.TypeSRV, 1, 7},
	{"HTTPS", "web", 3, "https alpn=h2,h3", "web." + zoneZ, dns.TypeHTTPS, 1, 6},
	{"SVCB", "web", 3, "svcb foo", "_foo.web." + zoneZ, dns.TypeSVCB, 1, 6},
	{"NAPTR-to-SRV", "web", 3, "naptr x-web:x-http s _http", "web." + zoneZ, dns.TypeNAPTR, 1, 17},
	{"NAPTR-to-A", "web", 3, "naptr x-web:x-http a", "web." + zoneZ, dns.TypeNAPTR, 3, 15},
	{"TXT", "web", 3, "txt hello", "web." + zoneZ, dns.TypeTXT, 1, 3},
	{"TXT-of-_rserpool", "web", 3, "", "_rserpool.web." + zoneZ, dns.TypeTXT, 1, 7},
	{"ANY", "web", 3, "", "web." + zoneZ, dns.TypeANY, 1, 2},
	{"DNS-SD-instances", "web", 3, "dnssd http", "_http._tcp." + zoneZ, dns.TypePTR, 1, 4},
	{"DNS-SD-SRV", "web", 3, "dnssd http", "web._http._tcp." + zoneZ, dns.TypeSRV, 3, 9},
	{"PTR", "web", 3, "reverse 192.0.2.0/24", "1.2.0.192.in-addr.arpa.", dns.TypePTR, 1, 7},
	{"SOA", "web", 3, "", zoneZ, dns.TypeSOA, 1, 2},
	{"NS", "web", 3, "", zoneZ, dns.TypeNS, 1, 5},
	{"NXDOMAIN", "web", 8, "", "nowhere." + zoneZ, dns.TypeA, 0, 3}, // the response, the SOA, its section
	{"NODATA", "web", 8, "", "web." + zoneZ, dns.TypeMX, 0, 3},
	{"encoded", "a..b", 8, "", encodeHandle("a..b") + "." + zoneZ, dns.TypeA, 1, 8},
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
	if here.Race() {
		t.Skip("the race detector allocates too")
	}
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
	if here.Race() {
		t.Skip("the race detector allocates too")
	}
	for _, q := range benchQueries {
		h := benchHandler(t, q.pool, q.n, q.options)
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
		if len(w.last.Answer) != q.records {
			t.Errorf("%s: got %d records, want %d", q.name, len(w.last.Answer), q.records)
		}
	}
}

func BenchmarkServeDNS(b *testing.B) {
	for _, q := range benchQueries {
		b.Run(q.name, func(b *testing.B) {
			h := benchHandler(b, q.pool, q.n, q.options)
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
