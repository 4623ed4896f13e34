package handlespace

import (
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// poolOf returns a pool of elements 0, 1, 2, ... with the given policies.
func poolOf(t testing.TB, policies ...rserpool.Policy) (*Space, *Pool) {
	t.Helper()
	s := newSpace()
	for id, p := range policies {
		mustPut(t, s, "p", newElement(rserpool.PEID(id), IPv4, p))
	}
	return s, s.Pool("p")
}

// ids selects n elements, several times, and returns the identifiers.
func ids(p *Pool, n, times int) [][]int {
	var all [][]int
	for range times {
		var one []int
		for _, e := range p.Select(nil, n, 0) {
			one = append(one, int(e.ID))
		}
		all = append(all, one)
	}
	return all
}

func wantIDs(t *testing.T, got [][]int, want ...[]int) {
	t.Helper()
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("selected %v, want %v", got, want)
	}
}

func weights(t rserpool.PolicyType, ws ...uint32) []rserpool.Policy {
	var ps []rserpool.Policy
	for _, w := range ws {
		ps = append(ps, rserpool.Policy{Type: t, Weight: w})
	}
	return ps
}

func loads(t rserpool.PolicyType, degradation uint32, ls ...uint32) []rserpool.Policy {
	var ps []rserpool.Policy
	for _, l := range ls {
		ps = append(ps, rserpool.Policy{Type: t, Load: l, LoadDegradation: degradation})
	}
	return ps
}

// TestRoundRobin is RFC 5356, Section 4.1.2: the list begins at the head, which
// advances by one.
func TestRoundRobin(t *testing.T) {
	for _, typ := range []rserpool.PolicyType{rserpool.RoundRobin, 0, 0x99, 0x8badf00d, 0xb0002004, 0xb0002005} {
		t.Run(policyName(typ), func(t *testing.T) {
			s, p := poolOf(t, weights(typ, 0, 7, 7)...)
			wantIDs(t, ids(p, 2, 4), []int{0, 1}, []int{1, 2}, []int{2, 0}, []int{0, 1})
			wantIDs(t, ids(p, 9, 1), []int{1, 2, 0})

			// A re-registration keeps the place, a newcomer waits for a round.
			mustPut(t, s, "p", newElement(2, IPv6, rserpool.Policy{Type: typ}))
			mustPut(t, s, "p", newElement(3, IPv4, rserpool.Policy{Type: typ}))
			wantIDs(t, ids(p, 1, 5), []int{2}, []int{0}, []int{1}, []int{3}, []int{2})

			// Removing the head makes the next one the head.
			s.Remove("p", 0)
			wantIDs(t, ids(p, 1, 3), []int{1}, []int{3}, []int{2})
			if got := p.Select(nil, 1, 0)[0].Value; got != 0 {
				t.Errorf("Value = %d, want 0", got)
			}
		})
	}
}

// TestRoundRobinFamilies: each family goes round by itself, and what one family
// has used comes later for the others.
func TestRoundRobinFamilies(t *testing.T) {
	s := newSpace()
	for id, f := range []Families{IPv4, IPv6, IPv4 | IPv6, 0} {
		mustPut(t, s, "p", newElement(rserpool.PEID(id), f, rserpool.Policy{Type: rserpool.RoundRobin}))
	}
	p := s.Pool("p")
	steps := []struct {
		f    Families
		want []rserpool.PEID
	}{
		{IPv4, []rserpool.PEID{0, 2}},
		{IPv4, []rserpool.PEID{2, 0}},
		{IPv6, []rserpool.PEID{1, 2}},
		{IPv6, []rserpool.PEID{2, 1}},
		{0, []rserpool.PEID{3, 0, 1, 2}},
		{IPv4 | IPv6, []rserpool.PEID{0, 1, 2}},
	}
	for i, step := range steps {
		var got []rserpool.PEID
		for _, e := range p.Select(nil, 10, step.f) {
			got = append(got, e.ID)
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("step %d: Select(10, %d) = %v, want %v", i, step.f, got, step.want)
		}
	}
}

func TestPriority(t *testing.T) {
	var ps []rserpool.Policy
	for _, prio := range []uint32{5, 0xffffffff, 0, 5} {
		ps = append(ps, rserpool.Policy{Type: rserpool.Priority, Priority: prio})
	}
	_, p := poolOf(t, ps...)
	got := p.Select(nil, 4, 0)
	var values []uint64
	for _, e := range got {
		values = append(values, e.Value)
	}
	if want := []uint64{0xffffffff, 5, 5, 0}; !slices.Equal(values, want) {
		t.Errorf("values %v, want %v", values, want)
	}
	wantIDs(t, ids(p, 3, 2), []int{1, 0, 3}, []int{1, 0, 3})
}

// TestLeastUsed is RFC 5356, Section 5.1.2: ascending by load, equal ones in
// turn.
func TestLeastUsed(t *testing.T) {
	s, p := poolOf(t, loads(rserpool.LeastUsed, 0, 20, 10, 10, 0xffffffff)...)
	wantIDs(t, ids(p, 3, 3), []int{1, 2, 0}, []int{2, 1, 0}, []int{1, 2, 0})
	mustPut(t, s, "p", newElement(3, IPv4, rserpool.Policy{Type: rserpool.LeastUsed}))
	wantIDs(t, ids(p, 1, 2), []int{3}, []int{3})
	if got := p.Select(nil, 4, 0)[3]; got.ID != 0 || got.Value != 20 {
		t.Errorf("last is %v with load %d", got.ID, got.Value)
	}
}

// TestLeastUsedDegradation is RFC 5356, Section 5.2.2: every entry returned
// counts. A re-registration with other values starts with the least that any
// element has by its selections.
func TestLeastUsedDegradation(t *testing.T) {
	typ := rserpool.LeastUsedDegradation
	s, p := poolOf(t, loads(typ, 10, 0, 5, 100)...)
	wantIDs(t, ids(p, 1, 5), []int{0}, []int{1}, []int{0}, []int{1}, []int{0})
	// Loads are 30, 25, 100 now; two of three count.
	wantIDs(t, ids(p, 2, 2), []int{1, 0}, []int{1, 0})
	check := func(want ...uint64) {
		t.Helper()
		var got []uint64
		for _, e := range p.Select(nil, 3, 0) {
			got = append(got, e.Value)
		}
		if !slices.Equal(got, want) {
			t.Errorf("loads %v, want %v", got, want)
		}
	}
	check(45, 50, 100)
	mustPut(t, s, "p", newElement(1, IPv4, rserpool.Policy{Type: typ, Load: 5, LoadDegradation: 10}))
	check(55, 60, 110) // the same values
	mustPut(t, s, "p", newElement(1, IPv4, rserpool.Policy{Type: typ, Load: 6, LoadDegradation: 10}))
	check(26, 70, 120) // element 2 has been selected twice
}

// TestPriorityLeastUsed is the example of RFC 5356, Section 5.3.1.
func TestPriorityLeastUsed(t *testing.T) {
	typ := rserpool.PriorityLeastUsed
	_, p := poolOf(t,
		rserpool.Policy{Type: typ, Load: percent(50), LoadDegradation: percent(50)},
		rserpool.Policy{Type: typ, Load: percent(50), LoadDegradation: percent(10)},
	)
	wantIDs(t, ids(p, 2, 2), []int{1, 0}, []int{1, 0})
	if got := p.Select(nil, 1, 0)[0].Value; got != uint64(percent(50)+percent(10)) {
		t.Errorf("value %d, want %d", got, percent(60))
	}
}

// TestNoService: weight 0 means that an element cannot serve (RFC 5356,
// Section 3.2).
func TestNoService(t *testing.T) {
	for _, typ := range []rserpool.PolicyType{rserpool.WeightedRoundRobin, rserpool.WeightedRandom, rserpool.WeightedRandomDPF} {
		t.Run(policyName(typ), func(t *testing.T) {
			s, p := poolOf(t, weights(typ, 0, 3, 0)...)
			for _, got := range ids(p, 5, 50) {
				wantIDs(t, [][]int{got}, []int{1})
			}
			if p.Len() != 3 {
				t.Errorf("Len = %d", p.Len())
			}
			mustPut(t, s, "p", newElement(1, IPv4, rserpool.Policy{Type: typ}))
			if got := ids(p, 5, 1)[0]; len(got) != 0 {
				t.Errorf("selected %v where nobody serves", got)
			}
			mustPut(t, s, "p", newElement(2, IPv4, rserpool.Policy{Type: typ, Weight: 1}))
			wantIDs(t, ids(p, 5, 1), []int{2})
			if s.Remove("p", 0) == nil || s.Remove("p", 2) == nil || s.Remove("p", 1) == nil {
				t.Error("Remove did not find them all")
			}
		})
	}
}

// TestFullLoad: with randomized least used, an element at 100 % is chosen only
// where all candidates are.
func TestFullLoad(t *testing.T) {
	typ := rserpool.RandomizedLeastUsed
	s, p := poolOf(t, loads(typ, 0, 0xffffffff, 0xffffffff, 0xfffffffe)...)
	for _, got := range ids(p, 3, 50) {
		wantIDs(t, [][]int{got}, []int{2})
	}
	mustPut(t, s, "p", newElement(2, IPv6, rserpool.Policy{Type: typ, Load: 0xfffffffe}))
	seen := make(map[rserpool.PEID]int)
	for range 1000 {
		got := p.Select(nil, 1, IPv4)
		if len(got) != 1 || got[0].Value != 0 {
			t.Fatalf("Select(1, IPv4) = %v", got)
		}
		seen[got[0].ID]++
	}
	if seen[0] < 400 || seen[1] < 400 {
		t.Errorf("chosen %v, want half each", seen)
	}
	if got := p.Select(nil, 3, IPv4); len(got) != 2 || got[0].ID == got[1].ID {
		t.Errorf("Select(3, IPv4) = %v", brief(got))
	}
}

// TestNearWeight has the limits of the weighted policy with distances.
func TestNearWeight(t *testing.T) {
	tests := []struct{ weight, dpf, distance, want uint32 }{
		{0, 0, 0, 0},
		{0, 0xffffffff, 0xffffffff, 0},
		{100, 0, 500, 100},
		{100, 0xffffffff, 0, 100},
		{100, 0xffffffff / 200, 100, 50},
		{100, 0xffffffff / 100, 100, 1},  // all but nothing left
		{100, 0xffffffff / 100, 1000, 1}, // less than nothing
		{1, 0xffffffff / 100, 99, 1},
		{0xffffffff, 1, 1, 0xfffffffe},
		{0xffffffff, 0, 0, 0xffffffff},
	}
	for _, tt := range tests {
		p := rserpool.Policy{Weight: tt.weight, DPF: tt.dpf, Distance: tt.distance}
		if got := nearWeight(&p); got != uint64(tt.want) {
			t.Errorf("nearWeight(%d, %d, %d) = %d, want %d", tt.weight, tt.dpf, tt.distance, got, tt.want)
		}
	}
}

// TestRules: each policy that is known has a rule of its own. A policy without one is
// served as round robin.
func TestRules(t *testing.T) {
	for _, p := range rserpool.Policies() {
		if ruleOf(p).policy != p {
			t.Errorf("policy %v has no row in rules", p)
		}
	}
}
