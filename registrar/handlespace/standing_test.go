package handlespace

import (
	"slices"
	"testing"
	"unsafe"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// firsts selects n times one element.
func firsts(p *Pool, n int) (got []rserpool.PEID) {
	for range n {
		for _, e := range p.Select(nil, 1, 0) {
			got = append(got, e.ID)
		}
	}
	return got
}

// TestResume: what an element that comes back continues with.
func TestResume(t *testing.T) {
	least := func(id rserpool.PEID, degradation uint32) *Element {
		return newElement(id, IPv4, rserpool.Policy{Type: rserpool.LeastUsedDegradation, LoadDegradation: degradation})
	}
	t.Run("turn", func(t *testing.T) {
		s := newSpace()
		for id := range rserpool.PEID(4) {
			mustPut(t, s, "p", roundRobin(id))
		}
		p := s.Pool("p")
		firsts(p, 1) // 1 is the next one
		e1, st1 := s.Suspend("p", 1)
		e2, st2 := s.Suspend("p", 2)
		if got := firsts(p, 5); !slices.Equal(got, []rserpool.PEID{3, 0, 3, 0, 3}) {
			t.Errorf("without 1 and 2: got %v", got)
		}
		for _, x := range []struct {
			e  *Element
			st Standing
		}{{e2, st2}, {e1, st1}} {
			if err := s.Resume("p", x.e, x.st); err != nil {
				t.Fatal(err)
			}
		}
		if got := firsts(p, 6); !slices.Equal(got, []rserpool.PEID{1, 2, 0, 3, 1, 2}) {
			t.Errorf("got %v, want first those whose turns have come, once, in their former order", got)
		}
	})
	t.Run("sum", func(t *testing.T) {
		s := newSpace()
		mustPut(t, s, "p", least(1, 10))
		mustPut(t, s, "p", least(2, 10))
		mustPut(t, s, "p", least(3, 30))
		p := s.Pool("p")
		firsts(p, 3) // each once
		e, st := s.Suspend("p", 3)
		firsts(p, 100) // each 50 times
		if err := s.Resume("p", e, st); err != nil {
			t.Fatal(err)
		}
		if got := firsts(p, 5); !slices.Equal(got, []rserpool.PEID{1, 2, 1, 2, 3}) {
			t.Errorf("got %v, want 3 when the others have caught up with its 20", got)
		}
		_, st = s.Suspend("p", 3)
		if err := s.Resume("p", least(3, 31), st); err != nil {
			t.Fatal(err)
		}
		if got := p.Select(nil, 3, 0); got[2].ID != 3 && got[2].Value != got[0].Value {
			t.Errorf("another value has not set the sum to the lowest: %v", brief(got))
		}
	})
	t.Run("another pool", func(t *testing.T) {
		s := newSpace()
		mustPut(t, s, "p", least(1, 1))
		e, st := s.Suspend("p", 1)
		if s.Pool("p") != nil {
			t.Fatal("the pool is left")
		}
		mustPut(t, s, "p", roundRobin(2))
		if err := s.Resume("p", e, st); err == nil {
			t.Error("an element has come back to a pool of another policy")
		}
		s.Remove("p", 2)
		if err := s.Resume("p", e, st); err != nil || s.Pool("p").Element(1) != e {
			t.Errorf("it is not the pool: %v", err)
		}
	})
}

// TestDoubt: readers see what the writer has told, until the pool is gone.
func TestDoubt(t *testing.T) {
	s := newSpace()
	s.SetDoubt("p", 1, true) // no such pool
	mustPut(t, s, "p", roundRobin(1))
	want := func(suspects int, guarded bool) {
		t.Helper()
		if n, g := s.Pool("p").Doubt(); n != suspects || g != guarded {
			t.Errorf("got %d, %v, want %d, %v", n, g, suspects, guarded)
		}
	}
	want(0, false)
	before := s.Changes()
	s.SetDoubt("p", 3, true)
	if s.Changes() != before {
		t.Error("a doubt has changed the handlespace")
	}
	if _, err := s.Renew("p", newElement(1, IPv4, rserpool.Policy{Type: rserpool.Random})); err != nil {
		t.Fatal(err)
	}
	want(3, true)
	s.SetDoubt("p", 0, false)
	want(0, false)
	if !Serves(&rserpool.Policy{Type: rserpool.LeastUsed}) || Serves(&rserpool.Policy{Type: rserpool.WeightedRandom}) || !Serves(&rserpool.Policy{Type: rserpool.RandomizedLeastUsed, Load: full}) {
		t.Error("weight 0 alone does not serve")
	}
}

// TestPoolSize: a pool without suspects takes what it did before there were any.
func TestPoolSize(t *testing.T) {
	if got := unsafe.Sizeof(Pool{}); got > 216 {
		t.Errorf("a pool takes %d bytes, want 216 at most", got)
	}
	s := newSpace()
	mustPut(t, s, "p", roundRobin(1))
	s.SetDoubt("p", 0, false)
	if s.Pool("p").Doubt(); s.Pool("p").work != nil {
		t.Error("a pool without suspects has memory for them")
	}
}

// TestSuspendedRoom: a pool keeps the room for suspended elements until one is removed.
func TestSuspendedRoom(t *testing.T) {
	for _, policy := range []rserpool.PolicyType{rserpool.LeastUsedDegradation, rserpool.RandomizedLeastUsedDegradation} {
		const n = 2000
		s := newSpace()
		for id := range rserpool.PEID(n) {
			mustPut(t, s, "p", newElement(id, IPv4, rserpool.Policy{Type: policy}))
		}
		p := s.Pool("p")
		room := func() []int {
			m := &p.members
			sizes := []int{cap(m.elems), cap(m.at), cap(m.notes), cap(m.degraded.at), cap(m.degraded.sums)}
			switch x := p.index.(type) {
			case *order:
				sizes = append(sizes, cap(x.heaps[IPv4]))
			case *lottery:
				sizes = append(sizes, cap(x.urns[IPv4].slots), cap(x.urns[IPv4].weights), cap(x.urns[IPv4].sums))
			}
			return sizes
		}
		before := room()
		for id := range rserpool.PEID(n - 10) {
			s.Suspend("p", id)
		}
		if got := room(); !slices.Equal(got, before) {
			t.Errorf("policy %v: the room is %d after %d", policy, got, before)
		}
		s.Remove("p", n-1)
		if got := room(); slices.Max(got) > 64 {
			t.Errorf("policy %v: the room is %d for 9 elements", policy, got)
		}
		if err := p.sound(); err != nil {
			t.Error(err)
		}
	}
}
