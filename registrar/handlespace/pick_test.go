package handlespace

import (
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestPick: without exceptions, Pick selects what Select does. Exceptions are never
// selected and keep their turns: all policies continue afterwards as if there had been no
// exception.
func TestPick(t *testing.T) {
	for _, r := range rules {
		t.Run(policyName(r.policy), func(t *testing.T) {
			const n = 30
			a, b := newSpace(), newSpace()
			for id := range rserpool.PEID(n) {
				e := newElement(id, Families(1+id%3), rserpool.Policy{
					Type: r.policy, Weight: uint32(id % 4), Priority: uint32(id % 3),
					Load: uint32(id%5) * (full / 10), LoadDegradation: full / 50, DPF: 1 << 20, Distance: uint32(id),
				})
				mustPut(t, a, "p", e)
				mustPut(t, b, "p", e)
			}
			for i := range 1000 {
				want := a.Pool("p").Select(nil, 1, 0)
				got, ok := b.Pool("p").Pick(0)
				if !ok || len(want) != 1 || r.kind != uniform && r.kind != weighted && got != want[0] {
					t.Fatalf("selection %d: Pick %v %v, Select %v", i, got.ID, ok, want[0].ID)
				}
			}
			p, seen := a.Pool("p"), make(map[rserpool.PEID]int)
			var tried []rserpool.PEID
			for {
				got, ok := p.Pick(0, tried...)
				if !ok {
					break
				}
				if slices.Contains(tried, got.ID) {
					t.Fatalf("Pick selects %v, which is excepted", got.ID)
				}
				tried = append(tried, got.ID)
			}
			want := n
			if r.base != nil && (r.kind == inWeightedTurn || r.kind == weighted && !r.counts) {
				want = 0
				for _, e := range p.Elements(nil) {
					if r.base(&e.Policy) > 0 || r.rescue {
						want++
					}
				}
			}
			if len(tried) != want {
				t.Errorf("%d elements are selected in all, want %d", len(tried), want)
			}
			for range 3000 {
				got, _ := p.Pick(0, tried[0], tried[0], 999)
				seen[got.ID]++
			}
			if seen[tried[0]] > 0 || len(seen) < 2 && r.kind != highest && (r.kind != lowest || r.counts) {
				t.Errorf("selected %v, want many, and none of %v", seen, tried[0])
			}
		})
	}
}

// TestPickKeepsTurns: an exception is the next one as soon as it is none any more.
func TestPickKeepsTurns(t *testing.T) {
	for _, policy := range []rserpool.Policy{
		{Type: rserpool.RoundRobin}, {Type: rserpool.WeightedRoundRobin, Weight: 1}, {Type: rserpool.Priority},
		{Type: rserpool.LeastUsed}, {Type: rserpool.LeastUsedDegradation, LoadDegradation: 1},
	} {
		t.Run(policyName(policy.Type), func(t *testing.T) {
			s := newSpace()
			for id := range rserpool.PEID(20) {
				mustPut(t, s, "p", newElement(id, IPv4, policy))
			}
			p := s.Pool("p")
			var order []rserpool.PEID
			for range 40 {
				e, _ := p.Pick(0)
				order = append(order, e.ID)
			}
			if !slices.Equal(order[:20], order[20:]) {
				t.Fatalf("the order changes: %v", order)
			}
			if e, _ := p.Pick(0, order[0], order[1]); e.ID != order[2] {
				t.Errorf("selected %v after two exceptions, want %v", e.ID, order[2])
			}
			for _, want := range append([]rserpool.PEID{order[0], order[1]}, order[3:20]...) {
				if e, _ := p.Pick(0); e.ID != want {
					t.Errorf("selected %v, want %v", e.ID, want)
				}
			}
		})
	}
}

// TestPickAvoided: what is avoided is not selected, even if nothing else is left.
func TestPickAvoided(t *testing.T) {
	s := newSpace()
	for id := range rserpool.PEID(2) {
		mustPut(t, s, "p", newElement(id, IPv4, rserpool.Policy{Type: rserpool.Random}))
	}
	s.Avoid("p", 0, true)
	if e, ok := s.Pool("p").Pick(0); !ok || e.ID != 1 {
		t.Errorf("selected %v, %v, want 1", e.ID, ok)
	}
	if _, ok := s.Pool("p").Pick(0, 1); ok {
		t.Error("an avoided element is selected")
	}
	if _, ok := s.Pool("p").Pick(IPv6); ok {
		t.Error("an element of another family is selected")
	}
	if n := testing.AllocsPerRun(100, func() { s.Pool("p").Pick(0, 0, 7) }); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
