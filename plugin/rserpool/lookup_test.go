package rserpool

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/proxyproto"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// question is one of a client at 10.0.0.1.
type question struct {
	after time.Duration // since the start
	from  net.Addr
	qtype uint16
	want  int // element
}

func udpPort(p int) *net.UDPAddr { return &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: p} }
func tcpPort(p int) *net.TCPAddr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: p} }

// TestLookups: what belongs to one lookup is answered with one element, and what does not
// with the next.
func TestLookups(t *testing.T) {
	const a, aaaa, ms = dns.TypeA, dns.TypeAAAA, time.Millisecond
	dual := func(id rsp.PEID) *handlespace.Element {
		return element(id, 80, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id))
	}
	four := func(id rsp.PEID) *handlespace.Element { return element(id, 80, fmt.Sprintf("192.0.2.%d", id)) }
	both := []*handlespace.Element{dual(1), dual(2), dual(3)}
	only4 := []*handlespace.Element{four(1), four(2), four(3)}
	proxied := func(client net.Addr) net.Addr {
		return proxyproto.NewAddr(&net.TCPAddr{IP: net.IPv4(10, 9, 9, 9), Port: 9}, client, nil)
	}
	rest := udpPort(1001) // the request whose rest dns64 asks for
	tests := []struct {
		name      string
		elements  []*handlespace.Element
		questions []question
	}{
		{"two programs", both, []question{{0, udpPort(1), a, 1}, {1 * ms, udpPort(2), a, 2}, {2 * ms, udpPort(3), aaaa, 1}, {3 * ms, udpPort(4), aaaa, 2}, {4 * ms, udpPort(5), a, 3}}},
		{"two programs with a socket each", both, []question{{0, udpPort(1), a, 1}, {0, udpPort(2), a, 2}, {0, udpPort(2), aaaa, 2}, {0, udpPort(1), aaaa, 1}}},
		{"one socket within a second", both, []question{{0, udpPort(1), a, 1}, {999 * ms, udpPort(1), aaaa, 1}, {999 * ms, udpPort(1), a, 2}}},
		{"one socket after a second", both, []question{{0, udpPort(1), a, 1}, {1000 * ms, udpPort(1), aaaa, 2}}},
		{"another socket within 200 ms", both, []question{{0, udpPort(1), a, 1}, {199 * ms, udpPort(2), aaaa, 1}}},
		{"another socket after 200 ms", both, []question{{0, udpPort(1), a, 1}, {200 * ms, udpPort(2), aaaa, 2}}},
		{"one socket, A before without AAAA", both, []question{{0, udpPort(1), a, 1}, {500 * ms, udpPort(1), a, 2}, {501 * ms, udpPort(1), aaaa, 2}}},
		{"again by TCP", both, []question{{0, udpPort(1), a, 1}, {5 * ms, tcpPort(9), a, 1}, {9 * ms, udpPort(2), a, 2}, {20 * ms, tcpPort(8), a, 2}}},
		{"again by TCP within a second", both, []question{{0, udpPort(1), a, 1}, {999 * ms, tcpPort(9), a, 1}}},
		{"by TCP after a second", both, []question{{0, udpPort(1), a, 1}, {1000 * ms, tcpPort(9), a, 2}}},
		{"by TCP twice", both, []question{{0, udpPort(1), a, 1}, {5 * ms, tcpPort(9), a, 1}, {6 * ms, tcpPort(9), a, 2}}},
		{"pair again by TCP", both, []question{{0, udpPort(1), a, 1}, {5 * ms, tcpPort(9), a, 1}, {6 * ms, udpPort(1), aaaa, 1}, {7 * ms, tcpPort(9), aaaa, 1}, {8 * ms, tcpPort(9), a, 2}}},
		{"pairs by TCP only", both, []question{{0, tcpPort(1), a, 1}, {0, tcpPort(1), aaaa, 1}, {0, tcpPort(1), a, 2}, {0, tcpPort(1), aaaa, 2}}},
		{"two programs again by TCP", both, []question{{0, udpPort(1), a, 1}, {0, udpPort(2), a, 2}, {1 * ms, tcpPort(3), a, 1}, {1 * ms, tcpPort(4), a, 2}}},
		{"by the PROXY protocol", both, []question{{0, proxied(udpPort(1)), a, 1}, {1 * ms, proxied(udpPort(2)), a, 2}, {2 * ms, proxied(udpPort(2)), aaaa, 2}, {3 * ms, proxied(udpPort(1)), aaaa, 1}}},
		{"again by TCP, by the PROXY protocol", both, []question{{0, proxied(udpPort(1)), a, 1}, {5 * ms, proxied(tcpPort(9)), a, 1}, {9 * ms, proxied(udpPort(2)), a, 2}}},
		{"by the PROXY protocol, AAAA first", only4, []question{{0, proxied(rest), aaaa, 0}, {0, proxied(rest), a, 1}, {0, proxied(udpPort(1001)), a, 2}}},
		// dns64 gets NODATA for the AAAA, and asks for A in the same request.
		{"dns64, A first", only4, []question{{0, udpPort(1001), a, 1}, {0, rest, aaaa, 0}, {0, rest, a, 1}, {0, udpPort(1001), a, 2}}},
		{"dns64, AAAA first", only4, []question{{0, rest, aaaa, 0}, {0, rest, a, 1}, {0, udpPort(1001), a, 1}, {0, udpPort(1001), a, 2}}},
		{"no dns64, AAAA first", only4, []question{{0, udpPort(7), aaaa, 0}, {0, udpPort(7), a, 1}, {0, udpPort(7), aaaa, 0}, {0, udpPort(7), a, 2}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			put(t, f.space, "web", tt.elements...)
			h := newTestHandler(t, "rserpool pool.example.org", f)
			for i, q := range tt.questions {
				h.now = func() time.Time { return now.Add(q.after) }
				m := askFrom(t, h, &addrWriter{addr: q.from}, new(dns.Msg).SetQuestion("web."+zoneZ, q.qtype))
				if got := lastByte(m.Answer); got != q.want {
					t.Fatalf("question %d, %s from %v after %v: got element %d, want %d", i, dns.TypeToString[q.qtype], q.from, q.after, got, q.want)
				}
			}
		})
	}
}

// TestLookupMinimised: a resolver that minimises names asks for A of the pool, then for SRV
// of the service below it, from another port.
func TestLookupMinimised(t *testing.T) {
	f := newFake()
	for id := 1; id <= 2; id++ {
		put(t, f.space, "web", element(rsp.PEID(id), uint16(id), fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id)))
	}
	h := newTestHandler(t, "rserpool pool.example.org", f)
	first := func(at time.Duration, from net.Addr, name string, qtype uint16) int {
		h.now = func() time.Time { return now.Add(at) }
		m := askFrom(t, h, &addrWriter{addr: from}, new(dns.Msg).SetQuestion(name+zoneZ, qtype))
		if srv, ok := m.Answer[0].(*dns.SRV); ok {
			return int(srv.Port)
		}
		return lastByte(m.Answer)
	}
	const ms = time.Millisecond
	for i := range 12 {
		at := time.Duration(i) * 300 * ms
		got := []int{
			first(at, udpPort(5*i+1), "web.", dns.TypeA),
			first(at+20*ms, udpPort(5*i+2), "_http._tcp.web.", dns.TypeSRV),
			first(at+40*ms, tcpPort(5*i+3), "_http._tcp.web.", dns.TypeSRV), // if it was cut
			first(at+60*ms, udpPort(5*i+4), "web.", dns.TypeAAAA),
		}
		if want := slices.Repeat([]int{i%2 + 1}, 4); !slices.Equal(got, want) {
			t.Errorf("lookup %d: got A, SRV, SRV by TCP and AAAA of elements %v, want %v", i, got, want)
		}
	}
}
