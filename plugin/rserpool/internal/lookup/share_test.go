package lookup

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// TestOvertake: two programs on a host each ask A and AAAA from one port, and the
// questions come in any order. Each program gets the addresses of one element. Later
// questions are new lookups.
func TestOvertake(t *testing.T) {
	space := newSpace()
	for id := rsp.PEID(1); id <= 9; id++ {
		put(t, space, "web", element(id, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id)))
	}
	p := space.Pool("web")
	type question struct {
		port uint16
		k    Kind
	}
	orders := [][4]question{
		{{1, A}, {1, AAAA}, {2, A}, {2, AAAA}},
		{{1, A}, {2, A}, {1, AAAA}, {2, AAAA}},
		{{1, A}, {2, A}, {2, AAAA}, {1, AAAA}},
		{{1, A}, {2, AAAA}, {1, AAAA}, {2, A}},
		{{1, A}, {2, AAAA}, {2, A}, {1, AAAA}},
		{{1, AAAA}, {2, A}, {1, A}, {2, AAAA}},
		{{1, AAAA}, {2, A}, {2, AAAA}, {1, A}},
	}
	for _, order := range orders {
		s := New(1, 1)
		ask := func(q question, at time.Duration) rsp.PEID {
			c := &Origin{Addr: netip.MustParseAddr("10.0.0.1"), Port: q.port}
			list, _ := s.Pick(nil, c, p, q.k, handlespace.IPv4|handlespace.IPv6, 1, s.start.Add(at))
			return list[0].ID
		}
		got := map[uint16][]rsp.PEID{}
		for _, q := range order {
			got[q.port] = append(got[q.port], ask(q, 0))
		}
		lost := ask(question{3, A}, 0) // its AAAA comes from port 4
		if id := ask(question{4, AAAA}, 0); id != lost {
			t.Errorf("got A of element %d with AAAA of element %d", lost, id)
		}
		for port, ids := range got {
			if ids[0] != ids[1] {
				t.Errorf("order %v: port %d gets the elements %v, want one", order, port, ids)
			}
		}
		if id := ask(question{3, AAAA}, raceTime); id == lost {
			t.Errorf("a later lookup gets element %d again", id)
		}
		if next := ask(order[0], raceTime); slices.Contains(got[1], next) || slices.Contains(got[2], next) {
			t.Errorf("order %v: a later lookup gets element %d, want another than %v", order, next, got)
		}
	}
}

// TestLargeResolver: of more than maxOpen selections the newest is shared.
func TestLargeResolver(t *testing.T) {
	for _, n := range []int{1, maxOpen, maxOpen + 1, 100} {
		a := newAsker(t, 1, 128)
		c := Origin{Addr: netip.MustParseAddr("10.0.0.1")}
		var all []rsp.PEID
		for range n {
			c.Port++
			all = append(all, a.ask(c, 0, A, 0))
		}
		want := all[0]
		if n > maxOpen {
			want = all[n-1]
		}
		c.Port++
		if got := a.ask(c, 0, AAAA, time.Millisecond); got != want {
			t.Errorf("%d questions for A, then AAAA: got element %d, want %d", n, got, want)
		}
	}
}

// TestApart: a large resolver does not make the server forget another client of the
// same set.
func TestApart(t *testing.T) {
	a := newAsker(t, 1, 128)
	b := a.memory.bucket(0)
	ask := func(c Origin, k Kind, f handlespace.Families) rsp.PEID {
		got, _ := b.pick(nil, &c, a.memory.id(&c, a.pools[0]), a.pools[0], k, f, 1, 0)
		return got[0].ID
	}
	small := Origin{Addr: netip.MustParseAddr("10.0.0.1"), Port: 1}
	large := Origin{Addr: netip.MustParseAddr("10.0.0.2")}
	want := ask(small, A, handlespace.IPv4)
	for range 1000 {
		large.Port++
		ask(large, A, handlespace.IPv4)
	}
	if got := ask(small, AAAA, handlespace.IPv6); got != want {
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
	from   Origin
	kind   Kind
}

// TestRandom: in any interleaving of clients, the policy moves once for each lookup,
// and all its questions get one element. Each client has a habit: one socket for each
// lookup, or one for each question; and it may come again by TCP.
func TestRandom(t *testing.T) {
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
	orders := [...][]Kind{{A, AAAA}, {AAAA, A}, {A, SRV}, {A, AAAA, SRV}, {SRV}, {NAPTR, SRV}, {NAPTR, A, AAAA}}
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
				from := Origin{Addr: addr, Port: port}
				e := event{at: at + time.Duration(i)*gap, order: len(events), lookup: l, from: from, kind: k}
				events = append(events, e)
				if retries {
					e.at, e.order, e.from = e.at+30*ms, len(events), Origin{Addr: addr, Port: 1, TCP: true}
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
