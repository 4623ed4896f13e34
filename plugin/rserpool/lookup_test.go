package rserpool

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

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

// asker asks siblings, without DNS.
type asker struct {
	siblings *siblings
	pools    []*handlespace.Pool
	moved    int // selections of the policies
}

func newAsker(t testing.TB, pools, elements int) *asker {
	f := newFake()
	a := &asker{siblings: newSiblings(256, 1)}
	for i := range pools {
		name := fmt.Sprint("pool", i)
		for id := 1; id <= elements; id++ {
			put(t, f.space, name, element(rsp.PEID(id), 80, fmt.Sprintf("192.0.2.%d 2001:db8::%x", id, id)))
		}
		a.pools = append(a.pools, f.space.Pool(rsp.PoolHandle(name)))
	}
	return a
}

func (a *asker) ask(c origin, pool int, k kind, at time.Duration) rsp.PEID {
	var buf [1]*handlespace.Element
	families := [kinds]handlespace.Families{handlespace.IPv4, handlespace.IPv6, bothFamilies, bothFamilies}[k]
	got, reused := a.siblings.pick(buf[:0], &c, a.pools[pool], k, families, 1, now.Add(at))
	if !reused {
		a.moved++
	}
	return got[0].ID
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

// TestLookupsOfLargeResolver: of more than maxOpen selections the newest is shared.
func TestLookupsOfLargeResolver(t *testing.T) {
	for _, n := range []int{1, maxOpen, maxOpen + 1, 100} {
		a := newAsker(t, 1, 128)
		c := origin{addr: netip.MustParseAddr("10.0.0.1")}
		var all []rsp.PEID
		for range n {
			c.port++
			all = append(all, a.ask(c, 0, kindA, 0))
		}
		want := all[0]
		if n > maxOpen {
			want = all[n-1]
		}
		c.port++
		if got := a.ask(c, 0, kindAAAA, time.Millisecond); got != want {
			t.Errorf("%d questions for A, then AAAA: got element %d, want %d", n, got, want)
		}
	}
}

// TestLookupsApart: a large resolver does not make the server forget another client of the
// same set.
func TestLookupsApart(t *testing.T) {
	a := newAsker(t, 1, 128)
	set := a.siblings.set(0)
	ask := func(c origin, k kind, f handlespace.Families) rsp.PEID {
		got, _ := set.pick(nil, &c, a.siblings.id(&c, a.pools[0]), a.pools[0], k, f, 1, 0)
		return got[0].ID
	}
	small := origin{addr: netip.MustParseAddr("10.0.0.1"), port: 1}
	large := origin{addr: netip.MustParseAddr("10.0.0.2")}
	want := ask(small, kindA, handlespace.IPv4)
	for range 1000 {
		large.port++
		ask(large, kindA, handlespace.IPv4)
	}
	if got := ask(small, kindAAAA, handlespace.IPv6); got != want {
		t.Errorf("got A of element %d with AAAA of element %d", want, got)
	}
}

// lookup is one lookup of a simulated client.
type lookup struct {
	client, pool int
	got          []rsp.PEID
}

// event is a question of a lookup.
type event struct {
	at     time.Duration
	order  int
	lookup *lookup
	from   origin
	kind   kind
}

// TestLookupsRandom: in any interleaving of clients, the policy moves once for each lookup,
// and all its questions get one element. Each client has a habit: one socket for each
// lookup, or one for each question; and it may come again by TCP.
func TestLookupsRandom(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		events, lookups := randomLookups(rnd)
		a := newAsker(t, 2, 60)
		for _, e := range events {
			e.lookup.got = append(e.lookup.got, a.ask(e.from, e.lookup.pool, e.kind, e.at))
		}
		for i, l := range lookups {
			if len(slices.Compact(l.got)) != 1 {
				t.Errorf("seed %d, lookup %d of client %d: got elements %v", seed, i, l.client, l.got)
			}
		}
		if a.moved != len(lookups) {
			t.Errorf("seed %d: got %d selections in %d lookups", seed, a.moved, len(lookups))
		}
		if t.Failed() {
			return
		}
	}
}

func randomLookups(rnd *rand.Rand) (events []event, lookups []*lookup) {
	const ms = time.Millisecond
	orders := [...][]kind{{kindA, kindAAAA}, {kindAAAA, kindA}, {kindA, kindSRV}, {kindA, kindAAAA, kindSRV}, {kindSRV}, {kindNAPTR, kindSRV}, {kindNAPTR, kindA, kindAAAA}}
	addr, port := netip.MustParseAddr("10.0.0.1"), uint16(1)
	for c := range 16 {
		addr = addr.Next()
		order := orders[rnd.IntN(len(orders))]
		oneSocket, retries := rnd.IntN(2) == 0, rnd.IntN(3) == 0
		gap := time.Duration(rnd.IntN(60)) * ms // between a lookup's questions
		if oneSocket && !retries {
			gap = time.Duration(rnd.IntN(450)) * ms
		}
		for at := time.Duration(0); at < 3*time.Second; at += time.Duration(40+rnd.IntN(200)) * ms {
			l := &lookup{client: c, pool: c % 2}
			lookups = append(lookups, l)
			port++
			for i, k := range order {
				if i > 0 && !oneSocket {
					port++
				}
				from := origin{addr: addr, port: port}
				e := event{at: at + time.Duration(i)*gap, order: len(events), lookup: l, from: from, kind: k}
				events = append(events, e)
				if retries {
					e.at, e.order, e.from = e.at+30*ms, len(events), origin{addr: addr, port: 1, tcp: true}
					events = append(events, e)
				}
			}
		}
	}
	slices.SortFunc(events, func(a, b event) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return a.order - b.order
	})
	return events, lookups
}
