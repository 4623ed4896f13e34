package handlespace

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// checkSet tells what is wrong with a set, and advances the state. It computes the set in
// the most obvious way: all candidates, sorted by rank and by the way from the client on.
func (s *slowPool) checkSet(got []Selected, more bool, n int, f Families, view uint64) error {
	c := s.candidates(f)
	weighted := s.policy == rserpool.WeightedRoundRobin || s.policy == rserpool.WeightedRandom || s.policy == rserpool.RandomizedLeastUsed || s.policy == rserpool.WeightedRandomDPF
	if able := slices.DeleteFunc(slices.Clone(c), func(e *slowElement) bool { return weighted && s.value(e) == 0 }); len(able) > 0 || s.policy != rserpool.RandomizedLeastUsed {
		c = able
	}
	from := uint32(view) ^ uint32(view>>32)
	slices.SortFunc(c, func(a, b *slowElement) int {
		if d := int64(b.Policy.Priority) - int64(a.Policy.Priority); d != 0 && s.policy == rserpool.Priority {
			return int(d)
		}
		return int(int64(scatter(uint32(a.ID))-from) - int64(scatter(uint32(b.ID))-from))
	})
	if wantMore := len(c) > n && n > 0; more != wantMore {
		return fmt.Errorf("more is %t with %d candidates", more, len(c))
	}
	// The others are no candidates, and do not move.
	part := *s
	part.elems = c[:min(n, len(c))]
	had := make(map[*slowElement]slowElement)
	for _, e := range part.elems {
		copied := *e
		copied.added = new(big.Int).Set(e.added)
		had[e] = copied
	}
	check := part.checkOrder
	if part.random() {
		check = part.checkChance
	}
	if err := check(got, n, f); err != nil {
		return err
	}
	s.turn, s.now = part.turn, part.now
	for i, g := range got { // those behind the first have not moved
		j := slices.IndexFunc(c, func(e *slowElement) bool { return e.ID == g.ID })
		if i > 0 || s.random() {
			*c[j] = had[c[j]]
		}
		if i == 0 && s.random() && s.counts() {
			c[j].added.Add(c[j].added, new(big.Int).SetUint64(uint64(c[j].Policy.LoadDegradation)))
		}
	}
	if s.random() && len(got) > 0 {
		s.rebase()
	}
	return nil
}

// TestSetSlow compares the sets of every policy with those of its slow twin, while elements
// join, change and leave.
func TestSetSlow(t *testing.T) {
	for _, policy := range testPolicies() {
		t.Run(policyName(policy), func(t *testing.T) {
			for seed := range uint64(4) {
				testSetSlow(t, policy, seed)
			}
		})
	}
}

func testSetSlow(t *testing.T, policy rserpool.PolicyType, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(policy)))
	s, slow := newSpace(), newSlowPool(policy)
	ids := []int{3, 40, 400}[r.IntN(3)]
	put := func(id rserpool.PEID) {
		e := newElement(id, []Families{IPv4, IPv4 | IPv6}[r.IntN(2)], randomPolicy(r, policy))
		mustPut(t, s, "pool", e)
		slow.put(e)
	}
	put(0)
	for step := range 800 {
		switch op := r.IntN(10); {
		case op < 5:
			put(rserpool.PEID(r.IntN(ids)))
		case op < 6:
			id := rserpool.PEID(1 + r.IntN(ids))
			s.Remove("pool", id)
			slow.remove(id)
		default:
			n, f, view := r.IntN(6), Families(r.IntN(classes)), r.Uint64()
			if r.IntN(5) == 0 {
				n = r.IntN(1000)
			}
			got, more := s.Pool("pool").SelectSet(nil, n, f, view)
			if err := slow.checkSet(got, more, n, f, view); err != nil {
				t.Fatalf("seed %d, step %d: SelectSet(%d, %d, %x) = %v: %v", seed, step, n, f, view, brief(got), err)
			}
		}
		if step%8 != 0 {
			continue
		}
		if err := s.Pool("pool").sound(); err != nil {
			t.Fatalf("seed %d, step %d: %v", seed, step, err)
		}
	}
}

// setSpace has a pool "p" of n elements with scattered identifiers.
func setSpace(t testing.TB, n int, policy func(i int) rserpool.Policy) *Space {
	s := newSpace()
	for i := range n {
		mustPut(t, s, "p", newElement(rserpool.PEID(1000+i), IPv4, policy(i)))
	}
	return s
}

func same(p rserpool.Policy) func(int) rserpool.Policy { return func(int) rserpool.Policy { return p } }

func idsOf(set []Selected) []rserpool.PEID {
	var ids []rserpool.PEID
	for _, s := range set {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

// TestSetCountsOnce: a set moves the state of every policy exactly as the selection of one
// element.
func TestSetCountsOnce(t *testing.T) {
	for _, r := range rules {
		if r.kind == uniform || r.kind == weighted {
			continue
		}
		t.Run(policyName(r.policy), func(t *testing.T) {
			policy := func(i int) rserpool.Policy {
				return rserpool.Policy{Type: r.policy, Weight: uint32(1 + i%3), Priority: uint32(i % 2), Load: uint32(i%5) * (full / 10), LoadDegradation: full / 50}
			}
			a, b := setSpace(t, 30, policy).Pool("p"), setSpace(t, 30, policy).Pool("p")
			for i := range 500 {
				one := a.Select(nil, 1, 0)
				set, more := b.SelectSet(nil, 30+i%2, 0, 7)
				if len(set) != 30 || more || set[0].ID != one[0].ID || set[0].Value != one[0].Value {
					t.Fatalf("selection %d: %d elements, more %t, the first %v; want all 30, the first %v", i, len(set), more, brief(set[:1]), brief(one))
				}
			}
		})
	}
	t.Run("chances", func(t *testing.T) {
		p := setSpace(t, 2, func(i int) rserpool.Policy {
			return rserpool.Policy{Type: rserpool.RandomizedLeastUsedDegradation, LoadDegradation: 1}
		}).Pool("p")
		for range 1000 {
			p.SelectSet(nil, 2, 0, 0)
		}
		if sum := p.members.degraded.of(0) + p.members.degraded.of(1); sum != 1000 {
			t.Errorf("1000 sets count as %d selections", sum)
		}
	})
}

// TestSetKnown: the lookup that has selected already gets the same first element, and
// nothing moves.
func TestSetKnown(t *testing.T) {
	for _, r := range rules {
		t.Run(policyName(r.policy), func(t *testing.T) {
			p := setSpace(t, 10, same(rserpool.Policy{Type: r.policy, Weight: 2, Load: 5, LoadDegradation: 9})).Pool("p")
			one := p.Select(nil, 1, 0)[0].ID
			for range 20 {
				if set, _ := p.SelectSet(nil, 100, 0, 7, 1, one); len(set) != 10 || set[0].ID != one {
					t.Fatalf("got %v, want all, and %v first", brief(set), one)
				}
			}
			if r.kind == uniform || r.kind == weighted {
				return
			}
			if next := p.Select(nil, 1, 0)[0].ID; next == one {
				t.Errorf("%v is selected twice in a row", next)
			}
		})
	}
	p := setSpace(t, 10, func(i int) rserpool.Policy { return rserpool.Policy{Type: rserpool.Priority, Priority: uint32(i)} }).Pool("p")
	if set, _ := p.SelectSet(nil, 5, 0, 0, 1006); set[0].ID != 1009 {
		t.Errorf("with a known element of lower priority, the first is %v, want 1009", set[0].ID)
	}
}

// TestSetKnownElsewhere: if the lookup's element is not in the client's part, nothing moves
// either, and elements that are as good as one another take turns to be the first.
func TestSetKnownElsewhere(t *testing.T) {
	for _, r := range rules {
		t.Run(policyName(r.policy), func(t *testing.T) {
			const n, part = 20, 4
			policy := same(rserpool.Policy{Type: r.policy, Weight: 2, LoadDegradation: 9})
			p, untouched := setSpace(t, n, policy).Pool("p"), setSpace(t, n, policy).Pool("p")
			firsts := make(map[rserpool.PEID]bool)
			for range 200 {
				one := p.Select(nil, 1, 0)[0].ID
				if want := untouched.Select(nil, 1, 0)[0].ID; r.kind != uniform && r.kind != weighted && one != want {
					t.Fatalf("%v is selected, want %v: sets have moved the state", one, want)
				}
				set, more := p.SelectSet(nil, part, 0, 7, one)
				if len(set) != part || !more {
					t.Fatalf("got %v, %t, want a part", brief(set), more)
				}
				firsts[set[0].ID] = true
			}
			if len(firsts) != part {
				t.Errorf("only %d of %d elements are first", len(firsts), part)
			}
		})
	}
}

// TestSetOfClient: a client gets one set, whatever is selected meanwhile, and from each
// registrar, in whatever order it has learned of the elements. Other clients get others.
func TestSetOfClient(t *testing.T) {
	for _, policy := range testPolicies() {
		p := setSpace(t, 300, same(rserpool.Policy{Type: policy, Weight: 1, LoadDegradation: 3})).Pool("p")
		o := newSpace()
		for i := range 300 {
			mustPut(t, o, "p", newElement(rserpool.PEID(1299-i), IPv4, rserpool.Policy{Type: policy, Weight: 1}))
		}
		sets := make(map[string]bool)
		for view := range uint64(50) {
			view *= 0x9e3779b97f4a7c15
			set, more := p.SelectSet(nil, 100, 0, view)
			want := idsOf(set)
			if len(want) != 100 || !more {
				t.Fatalf("policy %s: %d elements, more %t", policyName(policy), len(want), more)
			}
			sets[fmt.Sprint(want)] = true
			p.Select(nil, 7, 0)
			again, _ := p.SelectSet(nil, 100, 0, view)
			other, _ := o.Pool("p").SelectSet(nil, 100, 0, view)
			smaller, _ := p.SelectSet(nil, 9, 0, view)
			if !slices.Equal(idsOf(again), want) || !slices.Equal(idsOf(other), want) {
				t.Fatalf("policy %s: the client's set changes", policyName(policy))
			}
			for _, e := range smaller {
				if !slices.Contains(want, e.ID) {
					t.Fatalf("policy %s: %v is in the set of 9, but not in that of 100", policyName(policy), e.ID)
				}
			}
		}
		if len(sets) < 40 {
			t.Errorf("policy %s: 50 clients have %d sets", policyName(policy), len(sets))
		}
	}
}

// TestSetStable: one element that joins or leaves changes a set by one element at most, and
// only a share n/N of the sets.
func TestSetStable(t *testing.T) {
	const elements, n, clients = 1000, 100, 200
	s := setSpace(t, elements, same(rserpool.Policy{Type: rserpool.RoundRobin}))
	r := rand.New(rand.NewPCG(1, 2))
	views := make([]uint64, clients)
	for i := range views {
		views[i] = r.Uint64()
	}
	all := func() (sets [][]rserpool.PEID) {
		for _, v := range views {
			set, _ := s.Pool("p").SelectSet(nil, n, 0, v)
			sets = append(sets, idsOf(set))
		}
		return sets
	}
	before, changed := all(), 0
	const steps = 100
	for i := range steps {
		if i%2 == 0 {
			mustPut(t, s, "p", newElement(rserpool.PEID(r.Uint32()), IPv4, rserpool.Policy{Type: rserpool.RoundRobin}))
		} else {
			s.Remove("p", rserpool.PEID(1000+r.IntN(elements)))
		}
		after := all()
		for c := range after {
			gone := 0
			for _, id := range before[c] {
				if _, found := slices.BinarySearch(after[c], id); !found {
					gone++
				}
			}
			if gone > 1 || len(after[c]) != n {
				t.Fatalf("one change takes %d elements out of a set; it has %d", gone, len(after[c]))
			}
			changed += gone
		}
		before = after
	}
	if mean := float64(changed) / steps / clients; mean > 0.12 {
		t.Errorf("a change affects %.3f of the sets, want about %.1f", mean, float64(n)/elements)
	}
}

// TestSetEven: many clients spread over the pool, also if its identifiers follow each other.
func TestSetEven(t *testing.T) {
	const elements, n, clients = 500, 100, 20000
	p := setSpace(t, elements, same(rserpool.Policy{Type: rserpool.RoundRobin})).Pool("p")
	count := make(map[rserpool.PEID]int)
	r := rand.New(rand.NewPCG(1, 2))
	var set []Selected
	for range clients {
		set, _ = p.SelectSet(set[:0], n, 0, r.Uint64())
		for _, e := range set {
			count[e.ID]++
		}
	}
	const mean = clients * n / elements
	var squares float64
	for _, c := range count {
		squares += float64(c-mean) * float64(c-mean)
	}
	if dev := math.Sqrt(squares/elements) / mean; len(count) != elements || dev > 0.15 {
		t.Errorf("%d of %d elements are in sets, with a standard deviation of %.3f, want 0.1", len(count), elements, dev)
	}
}

// TestSetByRank: elements of the highest priorities are in every set, and only those of the
// last one in it differ by client.
func TestSetByRank(t *testing.T) {
	p := setSpace(t, 1000, func(i int) rserpool.Policy {
		priority := uint32(1)
		if i < 7 {
			priority = 9
		}
		return rserpool.Policy{Type: rserpool.Priority, Priority: priority}
	}).Pool("p")
	rest := make(map[string]bool)
	for view := range uint64(20) {
		set, _ := p.SelectSet(nil, 20, 0, view*0x9e3779b97f4a7c15)
		for i, e := range set {
			if (e.Value == 9) != (i < 7) {
				t.Fatalf("element %d has priority %d", i, e.Value)
			}
		}
		rest[fmt.Sprint(idsOf(set[7:]))] = true
	}
	if len(rest) < 15 {
		t.Errorf("20 clients have %d sets", len(rest))
	}
}

// fewAble has a pool of n elements, of which each step-th one serves, and has an IPv6 address.
func fewAble(t *testing.T, policy rserpool.PolicyType, n, step int) *Space {
	s := newSpace()
	for i := range n {
		f, p := IPv4, rserpool.Policy{Type: policy, Load: full}
		if i%step == 0 {
			f, p = IPv4|IPv6, rserpool.Policy{Type: policy, Weight: 1}
		}
		mustPut(t, s, "p", newElement(rserpool.PEID(1000+i), f, p))
	}
	return s
}

// TestSetOfFewAble: the few candidates of a large pool are in every set. If they are more than the
// set has, it is full.
func TestSetOfFewAble(t *testing.T) {
	const elements = 20000
	for _, policy := range testPolicies() {
		families := IPv6
		switch policy {
		case rserpool.WeightedRoundRobin, rserpool.WeightedRandom, rserpool.WeightedRandomDPF, rserpool.RandomizedLeastUsed:
			families = 0
		}
		for _, able := range []int{1, 5, 50, 200} {
			t.Run(fmt.Sprintf("%s/%d", policyName(policy), able), func(t *testing.T) {
				step := elements / able
				p := fewAble(t, policy, elements, step).Pool("p")
				for _, n := range []int{1, 5, 100} {
					for view := range uint64(20) {
						set, more := p.SelectSet(nil, n, families, view*0x9e3779b97f4a7c15)
						ids := slices.Compact(idsOf(set))
						if len(ids) != min(n, able) || more != (able > n) {
							t.Fatalf("a set for %d has %d elements, more %t; want %d of %d", n, len(ids), more, min(n, able), able)
						}
						if i := slices.IndexFunc(ids, func(id rserpool.PEID) bool { return int(id-1000)%step != 0 }); i >= 0 {
							t.Fatalf("the set has %v, which does not serve", ids[i])
						}
					}
				}
			})
		}
	}
}

// TestSetOfNoneAble: elements of weight 0 are in no set.
func TestSetOfNoneAble(t *testing.T) {
	s := setSpace(t, 5000, same(rserpool.Policy{Type: rserpool.WeightedRandom}))
	if set, more := s.Pool("p").SelectSet(nil, 5, 0, 1); len(set) != 0 || more {
		t.Errorf("%d elements of weight 0, more %t; want none", len(set), more)
	}
}

// TestSetAvoided: avoided elements come back only if no other element of the whole pool is left.
func TestSetAvoided(t *testing.T) {
	const n, elements = 5, 5000
	s := setSpace(t, elements, same(rserpool.Policy{Type: rserpool.RoundRobin}))
	for id := range rserpool.PEID(elements - 2) {
		s.Avoid("p", 1000+id, true)
	}
	for view := range uint64(10) {
		set, more := s.Pool("p").SelectSet(nil, n, 0, view*0x9e3779b97f4a7c15)
		if got := idsOf(set); !slices.Equal(got, []rserpool.PEID{1000 + elements - 2, 1000 + elements - 1}) || more {
			t.Fatalf("got %v, more %t, want the two that are not avoided", got, more)
		}
	}
	s = setSpace(t, 3, same(rserpool.Policy{Type: rserpool.RoundRobin}))
	for id := range rserpool.PEID(3) {
		s.Avoid("p", 1000+id, true)
	}
	if set, _ := s.Pool("p").SelectSet(nil, n, 0, 1); len(set) != 3 {
		t.Errorf("got %d elements, want all that are avoided, as nothing else is left", len(set))
	}
}

func TestSetAllocs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, policy := range testPolicies() {
		p := setSpace(t, 300, func(int) rserpool.Policy { return randomPolicy(r, policy) }).Pool("p")
		dst := make([]Selected, 0, 300)
		for _, n := range []int{300, 1, 3, 100} {
			p.SelectSet(dst, n, 0, 1)
			if got := testing.AllocsPerRun(100, func() { p.SelectSet(dst, n, 0, r.Uint64()) }); got != 0 {
				t.Errorf("policy %s: SelectSet(%d): %v allocations, want 0", policyName(policy), n, got)
			}
		}
		few := fewAble(t, policy, 5000, 50).Pool("p")
		few.SelectSet(dst, 101, IPv6, 1)
		for _, n := range []int{1, 3, 99} {
			if got := testing.AllocsPerRun(100, func() { few.SelectSet(dst, n, IPv6, r.Uint64()) }); got != 0 {
				t.Errorf("policy %s: SelectSet(%d) of few candidates: %v allocations, want 0", policyName(policy), n, got)
			}
		}
	}
}

// BenchmarkSet selects sets for many clients.
func BenchmarkSet(b *testing.B) {
	for _, policy := range benchPolicies {
		for _, elements := range []int{3, 100, 1000, 1000000} {
			for _, n := range []int{3, 100} {
				if elements > 1000 && policy.typ != rserpool.RoundRobin {
					continue
				}
				b.Run(fmt.Sprintf("%s/%d/%d", policy.name, elements, n), func(b *testing.B) {
					p := fill(b, shape{1, elements}, policy.typ).Pool(benchHandle(0))
					r := rand.New(rand.NewPCG(1, 2))
					dst, _ := p.SelectSet(nil, n, 0, 0)
					b.ReportAllocs()
					for b.Loop() {
						dst, _ = p.SelectSet(dst[:0], n, 0, r.Uint64())
					}
				})
			}
		}
	}
}
