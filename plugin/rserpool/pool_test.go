package rserpool

import (
	"bytes"
	"fmt"
	stdlog "log"
	"net"
	"slices"
	"strings"
	"testing"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// poolOf has a pool "web" of n elements.
func poolOf(t testing.TB, corefile string, n int, p rsp.Policy) *Handler {
	t.Helper()
	f := newFake()
	for id := 1; id <= n; id++ {
		put(t, f.space, "web", element(rsp.PEID(id), 80, fmt.Sprintf("192.0.2.%d", id%256), policy(p)))
	}
	return newTestHandler(t, "rserpool pool.example.org {\n"+corefile+"\n}", f)
}

// fromClient is a writer for the i-th client.
func fromClient(i int, tcp bool) dns.ResponseWriter {
	return &client{test.ResponseWriter{TCP: tcp}, &net.UDPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i)), Port: 5353}}
}

type client struct {
	test.ResponseWriter
	addr net.Addr
}

func (c *client) RemoteAddr() net.Addr {
	if a := c.addr.(*net.UDPAddr); c.TCP {
		return &net.TCPAddr{IP: a.IP, Port: a.Port}
	}
	return c.addr
}

// targets asks for SRV records and returns their targets.
func targets(t *testing.T, h *Handler, w dns.ResponseWriter, size uint16) (names []string, m *dns.Msg) {
	t.Helper()
	q := new(dns.Msg).SetQuestion("_http._tcp.web."+zoneZ, dns.TypeSRV)
	if size > 0 {
		q.SetEdns0(size, false)
	}
	m = serve(t, h, w, q)
	for _, rr := range m.Answer {
		names = append(names, rr.(*dns.SRV).Target)
	}
	return names, m
}

// TestSRVWholePool: an answer has the whole pool, up to the option answers.
func TestSRVWholePool(t *testing.T) {
	tests := []struct {
		name     string
		corefile string
		elements int
		want     int
	}{
		{"three", "", 3, 3},
		{"default", "", 60, 60},
		{"the most by default", "", 150, 100},
		{"fewer", "answers 3", 60, 3},
		{"more", "answers 150", 200, 150},
		{"all", "answers all", 700, 700},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := poolOf(t, tt.corefile, tt.elements, rsp.Policy{Type: rsp.RoundRobin})
			got, m := targets(t, h, fromClient(1, true), 0)
			if len(got) != tt.want || len(slices.Compact(sorted(got))) != tt.want || m.Truncated {
				t.Errorf("got %d records, %d different ones, TC %t; want %d", len(got), len(slices.Compact(sorted(got))), m.Truncated, tt.want)
			}
		})
	}
	t.Run("more than a message", func(t *testing.T) {
		got, m := targets(t, poolOf(t, "answers all", 2500, rsp.Policy{Type: rsp.RoundRobin}), fromClient(1, true), 0)
		if wire, err := m.Pack(); len(got) < 1200 || err != nil || m.Truncated {
			t.Errorf("got %d records, %d octets, %v, TC %t; want what fits, and no TC, for which resolvers answer SERVFAIL", len(got), len(wire), err, m.Truncated)
		}
	})
}

// TestSRVCountsOnce: an answer with the whole pool is one selection.
func TestSRVCountsOnce(t *testing.T) {
	for _, p := range []rsp.Policy{{Type: rsp.RoundRobin}, {Type: rsp.LeastUsedDegradation, LoadDegradation: 1000}} {
		h := poolOf(t, "", 20, p)
		for i := range 60 {
			got, _ := targets(t, h, fromClient(i, true), 0)
			if want := elementName(rsp.PEID(1+i%20), "web."+zoneZ); got[0] != want {
				t.Fatalf("policy %v: record 0 of answer %d is %s, want %s", p.Type, i, got[0], want)
			}
		}
	}
}

// TestSRVSetOfClient: where an answer does not hold the pool, because of the option answers
// or of the client's buffer, a client gets one set for as long as the pool does not change.
func TestSRVSetOfClient(t *testing.T) {
	tests := []struct {
		name     string
		corefile string
		size     uint16 // by UDP
		want     int
		wantTC   bool
	}{
		{"answers", "answers 20", 4096, 20, false},
		{"no EDNS", "", 0, 8, true},
		{"small buffer", "", 1232, 22, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, other := poolOf(t, tt.corefile, 150, rsp.Policy{Type: rsp.RoundRobin}), poolOf(t, tt.corefile, 150, rsp.Policy{Type: rsp.RoundRobin})
			sets, firsts := make(map[string]bool), make(map[string]bool)
			for c := range 30 {
				got, m := targets(t, h, fromClient(c, false), tt.size)
				if len(got) != tt.want || m.Truncated != tt.wantTC {
					t.Fatalf("got %d records, TC %t; want %d, %t", len(got), m.Truncated, tt.want, tt.wantTC)
				}
				want := sorted(got)
				sets[strings.Join(want, " ")] = true
				for range 5 {
					again, _ := targets(t, h, fromClient(c, false), tt.size)
					elsewhere, _ := targets(t, other, fromClient(c, false), tt.size)
					if !slices.Equal(sorted(again), want) || !slices.Equal(sorted(elsewhere), want) {
						t.Fatalf("client %d gets\n%v, then\n%v, from another registrar\n%v", c, want, sorted(again), sorted(elsewhere))
					}
					firsts[again[0]] = true
				}
			}
			if len(sets) < 20 || len(firsts) < 60 {
				t.Errorf("30 clients have %d sets, and %d elements first", len(sets), len(firsts))
			}
		})
	}
}

// TestSRVCutIsOneLookup: the policy selects once for an answer that is cut and asked for again
// by TCP, among the elements that the answer by TCP has.
func TestSRVCutIsOneLookup(t *testing.T) {
	for _, tt := range []struct {
		elements, want int
		corefile       string
	}{{60, 60, ""}, {60, 30, "answers 30"}} {
		h := poolOf(t, tt.corefile, tt.elements, rsp.Policy{Type: rsp.RoundRobin})
		firsts := make(map[string]int)
		for range 3 * tt.want {
			if got, m := targets(t, h, fromClient(1, false), 1232); !m.Truncated || len(got) != 22 {
				t.Fatalf("got %d records by UDP, TC %t; want a part", len(got), m.Truncated)
			}
			got, _ := targets(t, h, fromClient(1, true), 0)
			if len(got) != tt.want {
				t.Fatalf("got %d records by TCP, want %d", len(got), tt.want)
			}
			firsts[got[0]]++
		}
		for name, n := range firsts {
			if n != 3 {
				t.Errorf("of %d elements, %s is first %d times, want 3", tt.want, name, n)
			}
		}
	}
}

// counted returns what a metric has counted.
func counted(t *testing.T, c prometheus.Collector) (sum float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

// TestSRVCutNoEDNS: answers that are cut because the client does without EDNS have a metric,
// and the first one a line in the log.
func TestSRVCutNoEDNS(t *testing.T) {
	var log bytes.Buffer
	stdlog.SetOutput(&log)
	defer clog.Discard()
	h := poolOf(t, "", 60, rsp.Policy{Type: rsp.RoundRobin})
	before := counted(t, cutNoEDNSCount)
	for _, size := range []uint16{0, 4096, 512, 0} {
		targets(t, h, fromClient(1, false), size)
	}
	targets(t, h, fromClient(1, true), 0)
	if got := counted(t, cutNoEDNSCount) - before; got != 2 {
		t.Errorf("%v answers are counted, want 2", got)
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "the SRV answer to 10.0.0.1 has 8 of 60 elements") {
		t.Errorf("log has %q", got)
	}
}
