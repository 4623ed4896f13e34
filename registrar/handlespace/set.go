package handlespace

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// SelectSet appends to dst at most n different elements for a client that wants the pool
// as a set, in the policy's order. In contrast to [Pool.Select], the policy's state moves
// as by the selection of one element: set[0] is what the policy selects now, the others
// follow in an order that moves nothing. If one of known is in the set, elements that were
// selected for the same client before, it is the first one and nothing moves. With the
// policy Priority, it must have the highest priority in the set to be the first.
//
// If the pool has more than n candidates, more is true and the set depends on their
// identifiers and on view, a hash of the client, but not on the state: a client gets one
// set until the pool changes, whichever registrar it asks, and different clients get
// different sets. With the policy Priority, the set has the elements of the highest
// priorities, and only those of the last one depend on view. The set for a smaller n is a
// part of that for a larger one. set[0] is then what the policy selects of the set. If one
// of known is a candidate outside of the set, set[0] is what the policy would select, and
// nothing moves: the selection was made before.
//
// The set is what follows view on a circle on which the identifiers are scattered. An
// element that joins or leaves changes only the sets that it is or was in, by one element.
// It is in a share of all sets in proportion to the n gaps before it: n/N with a standard
// deviation of 1/sqrt(n) of that, 10 % for 100. To rate every identifier by hash(client,
// identifier) would be as stable and a little more even, but takes a scan of the pool. So
// many elements from a place by number would be exactly even, but each join and leave
// would move most of the places.
//
// Only elements with an address of one of the families are candidates, as in Select. Others
// are avoided, or have the weight 0. If most of a large pool are no candidates, the circle is
// followed for 256 elements, or 8 for each one of the set if that is more. Then the set has all candidates of the pool if those are not more than n.
// Otherwise the policy selects the rest of the set, so that this part depends on the state.
//
// SelectSet takes O(n log N) for N elements, and does not allocate but for dst, or for more
// elements than in any selection before. The first call that finds the pool larger than n
// sorts it, once: 0.3 s for 1,000,000 elements. From then on the pool takes about 22 bytes
// more for each element, and keeps them sorted.
func (p *Pool) SelectSet(dst []Selected, n int, families Families, view uint64, known ...rserpool.PEID) (set []Selected, more bool) {
	if n <= 0 {
		return dst, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if o, ok := p.index.(*order); ok && len(p.members.elems) <= n {
		if class, ok := o.oneList(families); ok { // the usual pool, in a third of the time
			items := append(o.items[:0], o.heaps[class]...)
			first := p.members.firstOf(known, func(slot uint32) bool {
				return p.members.at[slot] != nowhere && p.members.elems[slot].Families() == class
			})
			p.count(first)
			return o.arrangeItems(&p.members, dst, items, first), false
		}
	}
	w := p.workspace()
	more = p.candidates(w, n, families, view)
	if len(w.slots) == 0 && p.restoreFor(families) {
		more = p.candidates(w, n, families, view)
	}
	if len(w.slots) == 0 {
		return dst, more
	}
	first := p.members.firstOf(known, func(slot uint32) bool { return slices.Contains(w.slots, slot) })
	if first == nowhere && more && p.members.firstOf(known, func(slot uint32) bool { return p.index.candidate(&p.members, slot, families) }) != nowhere {
		first = elsewhere
	}
	p.count(first)
	return p.index.arrange(&p.members, dst, w.slots, first), more
}

// Preview appends to dst at most n different elements for a client that is told of the
// pool without a selection, in the policy's order. It moves nothing of the policy's state.
//
// If the pool has more than n elements, those of least used policies have the lowest loads
// now, and random policies draw. Under the other policies the elements are those that
// [Pool.SelectSet] has for view, so that different clients know different parts of the pool
// although its head stays where it is.
//
// Preview takes as much time and memory as SelectSet.
func (p *Pool) Preview(dst []Selected, n int, view uint64) []Selected {
	if n <= 0 {
		return dst
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	had := len(dst)
	dst = p.preview(dst, n, view)
	if len(dst) == had && p.restoreFor(0) {
		dst = p.preview(dst, n, view)
	}
	return dst
}

func (p *Pool) preview(dst []Selected, n int, view uint64) []Selected {
	m := &p.members
	if o, ok := p.index.(*order); ok && o.rule.kind != lowest && len(m.elems) > n {
		w := p.workspace()
		p.candidates(w, n, 0, view)
		if len(w.slots) == 0 {
			return dst
		}
		return o.arrange(m, dst, w.slots, elsewhere)
	}
	return p.index.peek(m, dst, n, 0)
}

// count counts the selection of a set, unless its first element was selected before.
func (p *Pool) count(first uint32) {
	if first == nowhere {
		p.selections++
	}
}

// firstOf returns the slot of the first of these elements that is in a set, or nowhere.
func (m *members) firstOf(known []rserpool.PEID, in func(slot uint32) bool) uint32 {
	for _, id := range known {
		if slot, ok := m.slots.Find(id); ok && in(slot) {
			return slot
		}
	}
	return nowhere
}

// workspace is what only some pools need.
type workspace struct {
	picked [1]Selected // working memory of Pick
	slots  []uint32    // working memory of SelectSet
	others []Selected  // working memory of fill
	ring   ring        // of all slots; empty until a set is smaller than the pool

	avoided map[rserpool.PEID]struct{} // see Avoid; nil at first

	suspects int32 // see Doubt
	guarded  bool
}

func (p *Pool) workspace() *workspace {
	if p.work == nil {
		p.work = new(workspace)
	}
	return p.work
}

// The search for candidates ends after so many elements for each one of the set, but not
// before leastSearch.
const (
	patience    = 8
	leastSearch = 256
)

// candidates puts the slots of a set into w. They are in no certain order.
func (p *Pool) candidates(w *workspace, n int, f Families, view uint64) (more bool) {
	m, slots := &p.members, w.slots[:0]
	if len(m.elems) <= n {
		for slot := range uint32(len(m.elems)) {
			if p.index.candidate(m, slot, f) {
				slots = append(slots, slot)
			}
		}
		w.slots = slots
		return false
	}
	if len(w.ring.chunks) == 0 {
		w.ring.build(m, ruleOf(p.policy))
	}
	left := max(patience*(n+1), leastSearch)
	w.ring.walk(uint32(view^view>>32), func(slot uint32) bool {
		left--
		if left < 0 {
			return false
		}
		if !p.index.candidate(m, slot, f) {
			return true
		}
		if more = len(slots) == n; more {
			return false
		}
		slots = append(slots, slot)
		return true
	})
	w.slots = slots
	if left < 0 {
		return p.fill(w, n, f)
	}
	return more
}

// fill adds candidates to w from all over the pool, which the index finds in O(n log N), so
// that there are n of them, or all.
func (p *Pool) fill(w *workspace, n int, f Families) (more bool) {
	m := &p.members
	w.others = p.index.peek(m, w.others[:0], n+1, f)
	found := len(w.slots)
	slices.Sort(w.slots)
	for _, s := range w.others[:min(n, len(w.others))] {
		slot, _ := m.slots.Find(s.ID)
		if _, has := slices.BinarySearch(w.slots[:found], slot); !has && len(w.slots) < n {
			w.slots = append(w.slots, slot)
		}
	}
	more = len(w.others) > n
	clear(w.others) // elements that leave should not be kept from the collector
	return more
}

// ringOf returns the pool's ring, nil if it has none.
func (p *Pool) ringOf() *ring {
	if p.work == nil || len(p.work.ring.chunks) == 0 {
		return nil
	}
	return &p.work.ring
}

func (o *order) candidate(m *members, slot uint32, f Families) bool {
	return m.at[slot] != nowhere && f.admits(m.elems[slot].Families())
}

func (o *order) arrange(m *members, dst []Selected, slots []uint32, first uint32) []Selected {
	items := o.items[:0]
	for _, slot := range slots {
		items = append(items, o.heaps[m.elems[slot].Families()][m.at[slot]])
	}
	sortItems(items)
	return o.arrangeItems(m, dst, items, first)
}

// arrangeItems is arrange for items in the policy's order.
func (o *order) arrangeItems(m *members, dst []Selected, items []item, first uint32) []Selected {
	o.items = items
	if i := o.placeOf(first, items); i > 0 && (o.rule.kind != highest || items[i].hi == items[0].hi) {
		it := items[i]
		copy(items[1:], items[:i])
		items[0] = it
	}
	dst = slices.Grow(dst, len(items))
	for _, it := range items {
		dst = append(dst, o.selected(m, it))
	}
	if first == nowhere {
		o.moveOn(m, pick{items[0].slot, m.elems[items[0].slot].Families()}, true)
		o.rebase(m)
	}
	return dst
}

// placeOf returns the place of the first element among the items. If it is elsewhere, those
// that are as good as the first item take turns.
func (o *order) placeOf(first uint32, items []item) int {
	switch first {
	case nowhere:
		return 0
	case elsewhere:
		equals := slices.IndexFunc(items, func(it item) bool { return it.hi != items[0].hi })
		if equals < 0 {
			equals = len(items)
		}
		return int(o.turn % uint64(equals))
	}
	return slices.IndexFunc(items, func(it item) bool { return it.slot == first })
}

func (l *lottery) candidate(m *members, slot uint32, f Families) bool {
	class, at := m.elems[slot].Families(), m.at[slot]
	return at != nowhere && f.admits(class) && (l.rule.kind == uniform || l.urns[class].weights[at] > 0 || l.rule.rescue && l.total(f) == 0)
}

// total returns the weight of all candidates.
func (l *lottery) total(f Families) (total uint64) {
	for class := range Families(classes) {
		if f.admits(class) {
			total += l.urns[class].total
		}
	}
	return total
}

// arrange draws all slots, one after the other: with equal chances if none has a weight.
func (l *lottery) arrange(m *members, dst []Selected, slots []uint32, first uint32) []Selected {
	dst = slices.Grow(dst, len(slots))
	u := &l.drawn
	*u = urn{slots: slots, weights: u.weights[:0], sums: u.sums[:0]}
	for _, slot := range slots {
		w := uint32(0)
		if l.rule.kind == weighted {
			w = l.urns[m.elems[slot].Families()].weights[m.at[slot]]
		}
		u.weights = append(u.weights, w)
		u.sums.push(uint64(w))
		u.total += uint64(w)
	}
	if u.total == 0 {
		return l.shuffle(m, dst, slots, first)
	}
	at := slices.Index(slots, first)
	if at < 0 {
		at = u.sums.find(l.rng.Uint64N(u.total))
		if l.rule.counts && first == nowhere {
			l.count(m, slots[at])
		}
	}
	for {
		dst = append(dst, Selected{m.elems[slots[at]], uint64(u.weights[at])})
		u.set(uint32(at), 0)
		if u.total == 0 {
			break
		}
		at = u.sums.find(l.rng.Uint64N(u.total))
	}
	u.slots = nil
	l.rebase(m)
	return dst
}

// count adds a selection to a slot's sum, and changes its weight.
func (l *lottery) count(m *members, slot uint32) {
	m.degraded.add(slot, m.notes[slot].step)
	l.urns[m.elems[slot].Families()].set(m.at[slot], uint32(l.rule.value(m, slot)))
}

// shuffle appends the slots in a random order.
func (l *lottery) shuffle(m *members, dst []Selected, slots []uint32, first uint32) []Selected {
	fixed := slices.Index(slots, first)
	for i := range slots {
		j := i + int(l.rng.Uint64N(uint64(len(slots)-i)))
		if i == 0 && fixed >= 0 {
			j = fixed
		}
		slots[i], slots[j] = slots[j], slots[i]
		dst = append(dst, Selected{m.elems[slots[i]], 0})
	}
	return dst
}
