package rserpool

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/test"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// lastByte tells elements apart: the last byte of the first address.
func lastByte(rrs []dns.RR) int {
	if len(rrs) == 0 {
		return 0
	}
	switch rr := rrs[0].(type) {
	case *dns.A:
		return int(rr.A[3])
	case *dns.AAAA:
		return int(rr.AAAA[15])
	}
	return -1
}

func TestSiblings(t *testing.T) {
	const a, aaaa = dns.TypeA, dns.TypeAAAA
	type step struct {
		client string
		qtype  uint16
		before func(*handlespace.Space, *time.Time)
		want   int // element
	}
	dual := func(id rsp.PEID) *handlespace.Element {
		return element(id, 80, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id))
	}
	four := func(id rsp.PEID) *handlespace.Element { return element(id, 80, fmt.Sprintf("192.0.2.%d", id)) }
	tests := []struct {
		name     string
		elements []*handlespace.Element
		steps    []step
	}{
		{"pairs in turn", []*handlespace.Element{dual(1), dual(2)}, []step{
			{"c", a, nil, 1}, {"c", aaaa, nil, 1}, {"c", a, nil, 2}, {"c", aaaa, nil, 2}, {"c", a, nil, 1},
		}},
		{"either order", []*handlespace.Element{dual(1), dual(2)}, []step{
			{"c", aaaa, nil, 1}, {"c", a, nil, 1}, {"c", a, nil, 2}, {"c", aaaa, nil, 2},
		}},
		{"one type alone", []*handlespace.Element{dual(1), dual(2)}, []step{
			{"c", a, nil, 1}, {"c", a, nil, 2}, {"c", a, nil, 1},
		}},
		{"clients apart", []*handlespace.Element{dual(1), dual(2)}, []step{
			{"c", a, nil, 1}, {"d", a, nil, 2}, {"c", aaaa, nil, 1}, {"d", aaaa, nil, 2},
		}},
		{"a second at most", []*handlespace.Element{dual(1), dual(2)}, []step{
			{"c", a, nil, 1},
			{"c", aaaa, func(_ *handlespace.Space, now *time.Time) { *now = now.Add(time.Second) }, 2},
		}},
		{"just within the second", []*handlespace.Element{dual(1), dual(2)}, []step{
			{"c", a, nil, 1},
			{"c", aaaa, func(_ *handlespace.Space, now *time.Time) { *now = now.Add(time.Second - 1) }, 1},
		}},
		{"element gone meanwhile", []*handlespace.Element{dual(1), dual(2)}, []step{
			{"c", a, nil, 1},
			{"c", aaaa, func(s *handlespace.Space, _ *time.Time) { s.Remove("web", 1) }, 2},
		}},
		{"pool gone and back", []*handlespace.Element{dual(1)}, []step{
			{"c", a, nil, 1},
			{"c", aaaa, func(s *handlespace.Space, _ *time.Time) {
				s.Remove("web", 1)
				s.Put("web", dual(3))
			}, 3},
		}},
		{"element has new addresses", []*handlespace.Element{dual(1), dual(2)}, []step{
			{"c", a, nil, 1},
			{"c", aaaa, func(s *handlespace.Space, _ *time.Time) {
				s.Put("web", element(1, 80, "192.0.2.1 2001:db8::99"))
			}, 0x99},
		}},
		// Were the AAAA of element 2 remembered for the next A, element 1
		// would never be asked for again.
		{"element without the other family", []*handlespace.Element{four(1), dual(2)}, []step{
			{"c", a, nil, 1}, {"c", aaaa, nil, 2}, {"c", a, nil, 1}, {"c", aaaa, nil, 2}, {"c", a, nil, 1},
		}},
		{"nobody has the other family", []*handlespace.Element{four(1), four(2)}, []step{
			{"c", a, nil, 1}, {"c", aaaa, nil, 0}, {"c", a, nil, 2}, {"c", aaaa, nil, 0}, {"c", a, nil, 1},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			put(t, f.space, "web", tt.elements...)
			h := newTestHandler(t, "rserpool pool.example.org", f)
			clock := now
			h.now = func() time.Time { return clock }
			for i, s := range tt.steps {
				if s.before != nil {
					s.before(f.space, &clock)
				}
				ip := map[string]string{"c": "10.0.0.1", "d": "10.0.0.2"}[s.client]
				m := askFrom(t, h, &test.ResponseWriter{RemoteIP: ip}, new(dns.Msg).SetQuestion("web."+zoneZ, s.qtype))
				if got := lastByte(m.Answer); got != s.want {
					t.Fatalf("step %d, client %s asks for %s: got element %d, want %d", i, s.client, dns.TypeToString[s.qtype], got, s.want)
				}
			}
		})
	}
}

// TestSiblingsCountOnce: a pair of queries degrades a least used element once.
func TestSiblingsCountOnce(t *testing.T) {
	f := newFake()
	for id := rsp.PEID(1); id <= 2; id++ {
		put(t, f.space, "web", element(id, 80, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id),
			policy(rsp.Policy{Type: rsp.LeastUsedDegradation, LoadDegradation: 10, Load: uint32(id-1) * 25})))
	}
	h := newTestHandler(t, "rserpool pool.example.org", f)
	var got []int
	for range 5 {
		got = append(got, lastByte(ask(t, h, "web."+zoneZ, dns.TypeA).Answer))
		if pair := lastByte(ask(t, h, "web."+zoneZ, dns.TypeAAAA).Answer); pair != got[len(got)-1] {
			t.Fatalf("got A of element %d with AAAA of element %d", got[len(got)-1], pair)
		}
	}
	// Loads 0, 10, 20, then 30 against 25, then 30 against 35.
	if diff := cmp.Diff([]int{1, 1, 1, 2, 1}, got); diff != "" {
		t.Errorf("elements selected (-want +got):\n%s", diff)
	}
}

func TestSeveralElements(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1 2001:db8::1"), element(2, 80, "192.0.2.2 192.0.2.22"), element(3, 80, "2001:db8::3"), element(4, 80, "192.0.2.4"))
	h := newTestHandler(t, "rserpool pool.example.org {\n addresses 2\n}", f)
	tests := []struct {
		qtype uint16
		want  []string
	}{
		{dns.TypeA, []string{"192.0.2.1", "192.0.2.2", "192.0.2.22"}},
		{dns.TypeAAAA, []string{"2001:db8::1"}}, // of these two elements
		{dns.TypeA, []string{"192.0.2.2", "192.0.2.22", "192.0.2.4"}},
	}
	for i, tt := range tests {
		var got []string
		for _, rr := range ask(t, h, "web."+zoneZ, tt.qtype).Answer {
			got = append(got, strings.Fields(rr.String())[4])
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("query %d, %s (-want +got):\n%s", i, dns.TypeToString[tt.qtype], diff)
		}
	}
}

// TestSiblingsAtOnce: a client's A and AAAA queries may come in either order
// and at the same time. Every pair names one element, and each element gets
// its share.
func TestSiblingsAtOnce(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1 2001:db8::1"), element(2, 80, "192.0.2.2 2001:db8::2"))
	h := newTestHandler(t, "rserpool pool.example.org", f)
	const pairs = 1000
	count := map[int]int{}
	for i := range pairs {
		var got [2]int
		var wg sync.WaitGroup
		for j, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			wg.Go(func() {
				got[j] = lastByte(askFrom(t, h, &test.ResponseWriter{}, new(dns.Msg).SetQuestion("web."+zoneZ, qtype)).Answer)
			})
		}
		wg.Wait()
		if got[0] != got[1] {
			t.Fatalf("pair %d: got A of element %d with AAAA of element %d", i, got[0], got[1])
		}
		count[got[0]]++
	}
	if count[1] != pairs/2 || count[2] != pairs/2 {
		t.Errorf("got %v pairs by element, want %d each", count, pairs/2)
	}
}

type addrWriter struct {
	test.ResponseWriter
	addr net.Addr
}

func (w *addrWriter) RemoteAddr() net.Addr { return w.addr }

type otherAddr string

func (a otherAddr) Network() string { return "quic" }
func (a otherAddr) String() string  { return string(a) }

func TestOrigin(t *testing.T) {
	tests := []struct {
		addr net.Addr
		want string
	}{
		{&net.UDPAddr{IP: net.ParseIP("192.0.2.1"), Port: 1}, "192.0.2.1"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}, "2001:db8::1"},
		{otherAddr("192.0.2.1:443"), "192.0.2.1"},
		{otherAddr("[::ffff:192.0.2.1]:443"), "192.0.2.1"},
		{otherAddr("pipe"), "invalid IP"},
		{nil, "invalid IP"},
	}
	for _, tt := range tests {
		if got := originOf(&addrWriter{addr: tt.addr}).Addr.String(); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.addr, got, tt.want)
		}
	}
	// Without an address there are no siblings, but answers.
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"))
	h := newTestHandler(t, "rserpool pool.example.org", f)
	var got []int
	for range 3 {
		m := askFrom(t, h, &addrWriter{addr: otherAddr("pipe")}, new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeA))
		got = append(got, lastByte(m.Answer))
	}
	if !slices.Equal(got, []int{1, 2, 1}) {
		t.Errorf("got elements %v, want 1 2 1", got)
	}
}
