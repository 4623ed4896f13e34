package handlespace

import (
	"cmp"
	"fmt"
	"math/big"
	"net/netip"
	"slices"

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

// slowStanding is an element that was suspended.
type slowStanding struct {
	*slowElement
	ahead *big.Int // of the lowest addition of the others
}

func (s *slowPool) suspend(id rserpool.PEID) slowStanding {
	i := slices.IndexFunc(s.elems, func(o *slowElement) bool { return o.ID == id })
	e := s.elems[i]
	s.remove(id)
	return slowStanding{e, new(big.Int).Sub(e.added, s.leastAdded())}
}

func (s *slowPool) resume(e *Element, st slowStanding) {
	n := st.slowElement
	n.added = s.leastAdded()
	if n.Policy == e.Policy {
		n.added.Add(n.added, st.ahead)
		if n.added.Sign() < 0 {
			n.added.SetInt64(0)
		}
	}
	replan := n.Policy.Weight != e.Policy.Weight || n.due == nil || n.due.Cmp(s.now) <= 0
	n.Element = e
	if replan {
		s.plan(n)
	}
	s.elems = append(s.elems, n)
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
	c, err := s.compareOrder(got, n, f)
	if err != nil {
		return err
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

// compareOrder tells what is wrong with a selection without chance. It returns all candidates,
// the selected ones first.
func (s *slowPool) compareOrder(got []Selected, n int, f Families) ([]*slowElement, error) {
	c := s.candidates(f)
	if s.policy == rserpool.WeightedRoundRobin {
		c = slices.DeleteFunc(c, func(e *slowElement) bool { return e.Policy.Weight == 0 })
	}
	slices.SortFunc(c, s.compare)
	if want := min(n, len(c)); len(got) != want {
		return nil, fmt.Errorf("%d elements, want %d", len(got), want)
	}
	for i, g := range got {
		j := slices.IndexFunc(c, func(e *slowElement) bool { return e.ID == g.ID })
		if j < 0 || s.compare(c[i], c[j]) != 0 {
			return nil, fmt.Errorf("element %v at place %d, want %v", g.ID, i, c[i].ID)
		}
		c[i], c[j] = c[j], c[i]
		if want := s.value(c[i]); g.Element != c[i].Element || g.Value != want {
			return nil, fmt.Errorf("element %v has value %d, want %d", g.ID, g.Value, want)
		}
	}
	return c, nil
}

// checkChance tells what is wrong with a selection by chance, and counts it.
func (s *slowPool) checkChance(got []Selected, n int, f Families) error {
	c, err := s.compareChance(got, n, f)
	if err != nil {
		return err
	}
	if s.counts() {
		for _, e := range c {
			e.added.Add(e.added, new(big.Int).SetUint64(uint64(e.Policy.LoadDegradation)))
		}
	}
	if n > 0 {
		s.rebase()
	}
	return nil
}

// compareChance tells what is wrong with a selection by chance, and returns what it has.
func (s *slowPool) compareChance(got []Selected, n int, f Families) (drawn []*slowElement, err error) {
	c := s.candidates(f)
	if s.policy == rserpool.WeightedRandom || s.policy == rserpool.RandomizedLeastUsed || s.policy == rserpool.WeightedRandomDPF {
		able := slices.DeleteFunc(slices.Clone(c), func(e *slowElement) bool { return s.value(e) == 0 })
		if len(able) > 0 || s.policy != rserpool.RandomizedLeastUsed {
			c = able
		}
	}
	if want := min(n, len(c)); len(got) != want {
		return nil, fmt.Errorf("%d elements, want %d", len(got), want)
	}
	for _, g := range got {
		i := slices.IndexFunc(c, func(e *slowElement) bool { return e.Element == g.Element })
		if i < 0 {
			return nil, fmt.Errorf("element %v is no candidate, or twice there", g.ID)
		}
		if want := s.value(c[i]); g.Value != want {
			return nil, fmt.Errorf("element %v has value %d, want %d", g.ID, g.Value, want)
		}
		drawn = append(drawn, c[i])
		c = slices.Delete(c, i, i+1)
	}
	return drawn, nil
}

// checkPreview tells what is wrong with elements that were not selected. Those that depend
// on the client may be any of the pool, in the policy's order.
func (s *slowPool) checkPreview(got []Selected, n int) error {
	var err error
	switch {
	case s.random():
		_, err = s.compareChance(got, n, 0)
	case s.lowest() || n >= len(s.elems):
		_, err = s.compareOrder(got, n, 0)
	case len(got) > n:
		err = fmt.Errorf("%d elements, want at most %d", len(got), n)
	case len(got) == 0 && n > 0 && slices.ContainsFunc(s.elems, func(e *slowElement) bool { return s.policy != rserpool.WeightedRoundRobin || e.Policy.Weight > 0 }):
		err = fmt.Errorf("no element")
	}
	return err
}

// lowest reports whether the policy prefers low values.
func (s *slowPool) lowest() bool {
	switch s.policy {
	case rserpool.LeastUsed, rserpool.LeastUsedDegradation, rserpool.PriorityLeastUsed, rserpool.PriorityLeastUsedDegradation,
		rserpool.LeastUsedDPF, rserpool.LeastUsedDegradationDPF:
		return true
	}
	return false
}

// addrsOf are the addresses of the four classes of elements.
var addrsOf = [classes][]netip.Addr{
	0:           nil,
	IPv4:        {netip.MustParseAddr("192.0.2.1")},
	IPv6:        {netip.MustParseAddr("2001:db8::1")},
	IPv4 | IPv6: {netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
}
