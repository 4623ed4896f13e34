package handlespace

import (
	"cmp"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// slowPool does what Pool does in the most obvious way: a plain list, sorted
// anew for every selection.
type slowPool struct {
	policy rserpool.PolicyType
	elems  []*slowElement
	turn   int
	now    *big.Rat // weighted round robin: rounds so far
	joined int64
}

type slowElement struct {
	*Element
	turn  int
	added *big.Int // by selections
	phase *big.Rat
	due   *big.Rat
}

func newSlowPool(policy rserpool.PolicyType) *slowPool {
	return &slowPool{policy: policy, now: new(big.Rat)}
}

func (s *slowPool) put(e *Element) {
	i := slices.IndexFunc(s.elems, func(o *slowElement) bool { return o.ID == e.ID })
	if i < 0 {
		s.turn++
		n := &slowElement{Element: e, turn: s.turn, added: s.leastAdded(), phase: slowPhase(s.joined)}
		s.joined++
		s.plan(n)
		s.elems = append(s.elems, n)
		return
	}
	o := s.elems[i]
	replan := o.Policy.Weight != e.Policy.Weight
	if o.Policy != e.Policy {
		o.added = s.leastAdded()
	}
	o.Element = e
	if replan {
		s.plan(o)
	}
}

// leastAdded is what a new element starts with.
func (s *slowPool) leastAdded() *big.Int {
	least := new(big.Int)
	for i, e := range s.elems {
		if i == 0 || e.added.Cmp(least) < 0 {
			least = e.added
		}
	}
	return new(big.Int).Set(least)
}

// rebase takes the least addition from all where RSPLIB's randomized policies
// would have no weight left.
func (s *slowPool) rebase() {
	least := s.leastAdded()
	if !s.random() || least.Cmp(big.NewInt(0x7fffffff)) <= 0 {
		return
	}
	for _, e := range s.elems {
		e.added.Sub(e.added, least)
	}
}

func (s *slowPool) remove(id rserpool.PEID) {
	s.elems = slices.DeleteFunc(s.elems, func(o *slowElement) bool { return o.ID == id })
}

func slowPhase(n int64) *big.Rat {
	unit := new(big.Int).Lsh(big.NewInt(1), 64)
	return new(big.Rat).SetFrac(new(big.Int).SetUint64(phase(uint32(n))), unit)
}

// plan finds the first (k + phase) / weight after now, all rounded down to
// 40 binary places.
func (s *slowPool) plan(e *slowElement) {
	if e.Policy.Weight == 0 {
		return
	}
	w := new(big.Rat).SetUint64(uint64(e.Policy.Weight))
	k := floor(new(big.Rat).Sub(new(big.Rat).Mul(s.now, w), e.phase))
	for {
		e.due = new(big.Rat).SetInt(k)
		e.due.Add(e.due, e.phase)
		e.due.Quo(e.due, w)
		e.due = roundDown(e.due)
		if e.due.Cmp(s.now) > 0 {
			return
		}
		k.Add(k, big.NewInt(1))
	}
}

func floor(r *big.Rat) *big.Int {
	return new(big.Int).Div(r.Num(), r.Denom()) // Euclidean, and denominators are positive
}

func roundDown(r *big.Rat) *big.Rat {
	unit := new(big.Int).Lsh(big.NewInt(1), 40)
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt(unit))
	return new(big.Rat).SetFrac(floor(scaled), unit)
}

func (s *slowPool) candidates(f Families) []*slowElement {
	var c []*slowElement
	for _, e := range s.elems {
		if f == 0 || e.Families()&f != 0 {
			c = append(c, e)
		}
	}
	return c
}

// value is policies as the RFC and RSPLIB's documentation write them, in big
// numbers.
func (s *slowPool) value(e *slowElement) uint64 {
	const maxLoad = 0xffffffff
	i := func(u uint32) *big.Int { return new(big.Int).SetUint64(uint64(u)) }
	mul := func(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }
	add := func(a ...*big.Int) uint64 {
		t := new(big.Int)
		for _, x := range a {
			t.Add(t, x)
		}
		if !t.IsUint64() {
			return 1<<64 - 1
		}
		return t.Uint64()
	}
	spare := func(load uint64) uint64 {
		if load >= maxLoad {
			return 1
		}
		return maxLoad - load
	}
	p := e.Policy
	load, deg := i(p.Load), i(p.LoadDegradation)
	acc := e.added
	far := mul(i(p.Distance), i(p.DPF))
	switch s.policy {
	case rserpool.WeightedRoundRobin, rserpool.WeightedRandom:
		return uint64(p.Weight)
	case rserpool.Priority:
		return uint64(p.Priority)
	case rserpool.LeastUsed:
		return uint64(p.Load)
	case rserpool.LeastUsedDegradation:
		return add(load, acc)
	case rserpool.PriorityLeastUsed:
		return add(load, deg)
	case rserpool.RandomizedLeastUsed:
		return maxLoad - uint64(p.Load)
	case rserpool.RandomizedPriorityLeastUsed:
		return spare(add(load, deg))
	case rserpool.RandomizedLeastUsedDegradation:
		return spare(add(load, acc))
	case rserpool.PriorityLeastUsedDegradation:
		return add(load, deg, acc)
	case rserpool.RandomizedPriorityLeastUsedDegradation:
		return spare(add(load, deg, acc))
	case rserpool.WeightedRandomDPF:
		if p.Weight == 0 {
			return 0
		}
		// weight * (1 - distance * dpf / max), to the nearest, at least 1
		r := new(big.Rat).SetFrac(far, i(maxLoad))
		r.Sub(big.NewRat(1, 1), r)
		r.Mul(r, new(big.Rat).SetInt(i(p.Weight)))
		r.Add(r, big.NewRat(1, 2))
		if r.Sign() < 0 {
			return 1
		}
		return max(1, new(big.Int).Div(r.Num(), r.Denom()).Uint64())
	case rserpool.LeastUsedDPF:
		return add(load, far)
	case rserpool.LeastUsedDegradationDPF:
		return add(load, far, acc)
	}
	return 0
}

func (s *slowPool) counts() bool {
	switch s.policy {
	case rserpool.LeastUsedDegradation, rserpool.PriorityLeastUsedDegradation, rserpool.LeastUsedDegradationDPF,
		rserpool.RandomizedLeastUsedDegradation, rserpool.RandomizedPriorityLeastUsedDegradation:
		return true
	}
	return false
}

func (s *slowPool) random() bool {
	switch s.policy {
	case rserpool.Random, rserpool.WeightedRandom, rserpool.RandomizedLeastUsed, rserpool.RandomizedPriorityLeastUsed,
		rserpool.RandomizedLeastUsedDegradation, rserpool.RandomizedPriorityLeastUsedDegradation, rserpool.WeightedRandomDPF:
		return true
	}
	return false
}

// compare orders the candidates of policies without chance.
func (s *slowPool) compare(a, b *slowElement) int {
	switch s.policy {
	case rserpool.WeightedRoundRobin:
		return a.due.Cmp(b.due) // equal ones are due in any order
	case rserpool.Priority:
		if d := cmp.Compare(b.Policy.Priority, a.Policy.Priority); d != 0 {
			return d
		}
	default:
		if d := cmp.Compare(s.value(a), s.value(b)); d != 0 {
			return d
		}
	}
	return cmp.Compare(a.turn, b.turn)
}

// checkOrder tells what is wrong with a selection without chance, and advances
// the state.
func (s *slowPool) checkOrder(got []Selected, n int, f Families) error {
	c := s.candidates(f)
	if s.policy == rserpool.WeightedRoundRobin {
		c = slices.DeleteFunc(c, func(e *slowElement) bool { return e.Policy.Weight == 0 })
	}
	slices.SortFunc(c, s.compare)
	if want := min(n, len(c)); len(got) != want {
		return fmt.Errorf("%d elements, want %d", len(got), want)
	}
	for i, g := range got {
		j := slices.IndexFunc(c, func(e *slowElement) bool { return e.ID == g.ID })
		if j < 0 || s.compare(c[i], c[j]) != 0 {
			return fmt.Errorf("element %v at place %d, want %v", g.ID, i, c[i].ID)
		}
		c[i], c[j] = c[j], c[i]
		if want := s.value(c[i]); g.Element != c[i].Element || g.Value != want {
			return fmt.Errorf("element %v has value %d, want %d", g.ID, g.Value, want)
		}
	}
	for i, e := range c[:len(got)] {
		if s.counts() {
			e.added.Add(e.added, new(big.Int).SetUint64(uint64(e.Policy.LoadDegradation)))
		}
		if i > 0 {
			continue
		}
		s.turn++
		e.turn = s.turn
		if s.policy == rserpool.WeightedRoundRobin {
			if s.now.Cmp(e.due) < 0 {
				s.now = e.due
			}
			s.plan(e)
		}
	}
	return nil
}

// checkChance tells what is wrong with a selection by chance, and counts it.
func (s *slowPool) checkChance(got []Selected, n int, f Families) error {
	c := s.candidates(f)
	if s.policy == rserpool.WeightedRandom || s.policy == rserpool.RandomizedLeastUsed || s.policy == rserpool.WeightedRandomDPF {
		able := slices.DeleteFunc(slices.Clone(c), func(e *slowElement) bool { return s.value(e) == 0 })
		if len(able) > 0 || s.policy != rserpool.RandomizedLeastUsed {
			c = able
		}
	}
	if want := min(n, len(c)); len(got) != want {
		return fmt.Errorf("%d elements, want %d", len(got), want)
	}
	for _, g := range got {
		i := slices.IndexFunc(c, func(e *slowElement) bool { return e.Element == g.Element })
		if i < 0 {
			return fmt.Errorf("element %v is no candidate, or twice there", g.ID)
		}
		if want := s.value(c[i]); g.Value != want {
			return fmt.Errorf("element %v has value %d, want %d", g.ID, g.Value, want)
		}
		if s.counts() {
			c[i].added.Add(c[i].added, new(big.Int).SetUint64(uint64(c[i].Policy.LoadDegradation)))
		}
		c = slices.Delete(c, i, i+1)
	}
	if n > 0 {
		s.rebase()
	}
	return nil
}

// addrsOf are the addresses of the four classes of elements.
var addrsOf = [classes][]netip.Addr{
	0:           nil,
	IPv4:        {netip.MustParseAddr("192.0.2.1")},
	IPv6:        {netip.MustParseAddr("2001:db8::1")},
	IPv4 | IPv6: {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
}

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
	// The pool never gets empty, for it would lose its state.
	put(0)
	for step := range 1000 {
		switch op := r.IntN(10); {
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
	if len(m.slots) != len(m.elems) || len(m.at) != len(m.elems) || m.notes != nil && len(m.notes) != len(m.elems) {
		return fmt.Errorf("%d identifiers, %d elements, %d places, %d notes", len(m.slots), len(m.elems), len(m.at), len(m.notes))
	}
	for slot, e := range m.elems {
		if m.slots[e.ID] != uint32(slot) {
			return fmt.Errorf("element %v in slot %d, identifier says %d", e.ID, slot, m.slots[e.ID])
		}
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
