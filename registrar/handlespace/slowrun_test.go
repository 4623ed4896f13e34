package handlespace

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

func newElement(id rserpool.PEID, f Families, p rserpool.Policy) *Element {
	return &Element{PoolElement: rserpool.PoolElement{
		ID:            id,
		UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: addrsOf[f]},
		Policy:        p,
	}}
}

// testPolicies are all there are, and one that is not.
func testPolicies() []rserpool.PolicyType {
	var all []rserpool.PolicyType
	for _, r := range rules {
		all = append(all, r.policy)
	}
	return append(all, 0x8badf00d)
}

func policyName(t rserpool.PolicyType) string { return fmt.Sprintf("%08x", uint32(t)) }

// randomPolicy has values that often are equal, and often at a limit.
func randomPolicy(r *rand.Rand, t rserpool.PolicyType) rserpool.Policy {
	value := func() uint32 {
		switch r.IntN(4) {
		case 0:
			return uint32(r.IntN(3))
		case 1:
			return uint32(r.IntN(10))
		case 2:
			return 0xffffffff - uint32(r.IntN(3))
		}
		return r.Uint32()
	}
	return rserpool.Policy{
		Type: t, Weight: value(), Priority: value(), Load: value(), LoadDegradation: value(),
		DPF: value(), Distance: value(),
	}
}

// TestSlow compares every policy with its slow twin, step by step.
func TestSlow(t *testing.T) {
	for _, policy := range testPolicies() {
		t.Run(policyName(policy), func(t *testing.T) {
			for seed := range uint64(16) {
				testSlow(t, policy, seed)
			}
		})
	}
}

func testSlow(t *testing.T, policy rserpool.PolicyType, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, uint64(policy)))
	s := New(rand.New(rand.NewPCG(seed, 0)))
	slow := newSlowPool(policy)
	ids := 1 + r.IntN(40)
	mixed := r.IntN(2) == 0
	family := func() Families {
		if mixed {
			return Families(r.IntN(classes))
		}
		return IPv4
	}
	put := func(id rserpool.PEID) {
		e := newElement(id, family(), randomPolicy(r, policy))
		if _, err := s.Put("pool", e); err != nil {
			t.Fatalf("seed %d: Put: %v", seed, err)
		}
		slow.put(e)
	}
	type suspended struct {
		e    *Element
		st   Standing
		slow slowStanding
	}
	var away []suspended
	// The pool never gets empty, for it would lose its state.
	put(0)
	for step := range 1000 {
		switch op := r.IntN(13); {
		case op == 12:
			n := r.IntN(6)
			if r.IntN(4) == 0 {
				n = 1000
			}
			got := s.Pool("pool").Preview(nil, n, r.Uint64())
			if err := slow.checkPreview(got, n); err != nil {
				t.Fatalf("seed %d, step %d: Preview(%d) = %v: %v", seed, step, n, brief(got), err)
			}
		case op == 10:
			id := rserpool.PEID(1 + r.IntN(ids))
			if e, st := s.Suspend("pool", id); e != nil {
				away = append(away, suspended{e, st, slow.suspend(id)})
			}
		case op == 11 && len(away) > 0:
			i := r.IntN(len(away))
			a := away[i]
			away = slices.Delete(away, i, i+1)
			if s.Pool("pool").Element(a.e.ID) != nil {
				break // has joined anew
			}
			if r.IntN(3) == 0 {
				a.e = newElement(a.e.ID, family(), randomPolicy(r, policy))
			}
			if err := s.Resume("pool", a.e, a.st); err != nil {
				t.Fatalf("seed %d: Resume: %v", seed, err)
			}
			slow.resume(a.e, a.slow)
		case op < 2:
			put(rserpool.PEID(r.IntN(ids)))
		case op < 3:
			id := rserpool.PEID(1 + r.IntN(ids))
			s.Remove("pool", id)
			slow.remove(id)
		default:
			n, f := r.IntN(6), Families(r.IntN(classes))
			if r.IntN(20) == 0 {
				n = 1000
			}
			got := s.Pool("pool").Select(nil, n, f)
			check := slow.checkOrder
			if slow.random() {
				check = slow.checkChance
			}
			if err := check(got, n, f); err != nil {
				t.Fatalf("seed %d, step %d: Select(%d, %d) = %v: %v", seed, step, n, f, brief(got), err)
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

func brief(s []Selected) []string {
	var b []string
	for _, x := range s {
		b = append(b, fmt.Sprintf("%v=%d", x.ID, x.Value))
	}
	return b
}

// sound tells what is wrong with a pool's inner order.
func (p *Pool) sound() error {
	m := &p.members
	if len(m.degraded.at) != len(m.degraded.sums) || len(m.degraded.at) != 0 && len(m.degraded.at) != len(m.elems) {
		return fmt.Errorf("%d elements, %d sums, %d places of sums", len(m.elems), len(m.degraded.sums), len(m.degraded.at))
	}
	for i, it := range m.degraded.sums {
		if m.degraded.at[it.slot] != uint32(i) || i > 0 && it.before(m.degraded.sums[m.degraded.sums.parent(i)]) {
			return fmt.Errorf("sum %d: out of order, or slot %d has place %d", i, it.slot, m.degraded.at[it.slot])
		}
	}
	if len(m.at) != len(m.elems) || m.notes != nil && len(m.notes) != len(m.elems) {
		return fmt.Errorf("%d elements, %d places, %d notes", len(m.elems), len(m.at), len(m.notes))
	}
	for slot, e := range m.elems {
		if got, ok := m.slots.Find(e.ID); !ok || got != uint32(slot) {
			return fmt.Errorf("element %v in slot %d, identifier says %d", e.ID, slot, got)
		}
	}
	if err := p.soundRing(); err != nil {
		return err
	}
	placed := 0
	for _, at := range m.at {
		if at != nowhere {
			placed++
		}
	}
	switch x := p.index.(type) {
	case *order:
		for class, h := range x.heaps {
			for i, it := range h {
				placed--
				if m.at[it.slot] != uint32(i) || m.elems[it.slot].Families() != Families(class) {
					return fmt.Errorf("heap %d, place %d: slot %d has place %d, families %d", class, i, it.slot, m.at[it.slot], m.elems[it.slot].Families())
				}
				if i > 0 && it.before(h[h.parent(i)]) {
					return fmt.Errorf("heap %d, place %d: before its parent", class, i)
				}
			}
		}
	case *lottery:
		for class, u := range x.urns {
			var total uint64
			for i, slot := range u.slots {
				placed--
				if m.at[slot] != uint32(i) || m.elems[slot].Families() != Families(class) {
					return fmt.Errorf("urn %d, place %d: slot %d has place %d, families %d", class, i, slot, m.at[slot], m.elems[slot].Families())
				}
				if x.rule.kind == uniform {
					continue
				}
				if w := x.rule.value(m, slot); uint64(u.weights[i]) != w {
					return fmt.Errorf("urn %d, place %d: weight %d, want %d", class, i, u.weights[i], w)
				}
				if u.weights[i] > 0 && (u.sums.find(total) != i || u.sums.find(total+uint64(u.weights[i])-1) != i) {
					return fmt.Errorf("urn %d, place %d: not found from %d to %d", class, i, total, total+uint64(u.weights[i])-1)
				}
				total += uint64(u.weights[i])
			}
			if total != u.total {
				return fmt.Errorf("urn %d: total %d, want %d", class, u.total, total)
			}
		}
	}
	if placed != 0 {
		return fmt.Errorf("%d elements more placed than indexed", placed)
	}
	return nil
}
