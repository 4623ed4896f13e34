package handlespace

// order is the index of the policies that serve elements in an order, one heap
// for each set of address families. A key's high part is what the policy
// compares; its low part is the element's turn among equals, a number that
// grows: who was first in an answer, and who joins, comes after all others of
// that value. Only the first one of an answer moves on, so that with round
// robin the head advances by one element (RFC 5356, Section 4.1.2).
//
// Weighted round robin has keys of its own, see position.
type order struct {
	rule  *rule
	heaps [classes]heap
	turn  uint64 // the last one given
	// now is how far weighted round robin has come, joined how many elements
	// it has ever had.
	now    position
	joined uint32

	// Working memory of pick.
	fringe fringe
	picks  []pick
}

// pick is a slot in one of the heaps.
type pick struct {
	slot  uint32
	class Families
}

func (o *order) insert(m *members, slot uint32) {
	if o.rule.counts {
		m.note = append(m.note, 0)
	}
	if o.rule.kind == inWeightedTurn {
		m.note = append(m.note, o.joined)
		o.joined++
	}
	o.turn++
	o.push(m, slot, o.turn)
}

// push enters a slot that is in no heap.
func (o *order) push(m *members, slot uint32, turn uint64) {
	e := m.elems[slot]
	if k, ok := o.key(m, slot, turn); ok {
		o.heaps[e.Families()].push(item{k, slot}, m.at)
	}
}

// update keeps the turn that the element had.
func (o *order) update(m *members, slot uint32, old *Element) {
	if o.rule.counts {
		m.note[slot] = 0
	}
	e := m.elems[slot]
	class, at := old.Families(), m.at[slot]
	if at == nowhere {
		o.push(m, slot, 0)
		return
	}
	k := o.heaps[class][at].key
	ok := true
	if o.rule.kind != inWeightedTurn || e.Policy.Weight != old.Policy.Weight {
		k, ok = o.key(m, slot, k.lo)
	}
	if ok && e.Families() == class {
		o.heaps[class].set(at, item{k, slot}, m.at)
		return
	}
	o.heaps[class].remove(at, m.at)
	if ok {
		o.heaps[e.Families()].push(item{k, slot}, m.at)
	}
}

func (o *order) remove(m *members, slot uint32) {
	if at := m.at[slot]; at != nowhere {
		o.heaps[m.elems[slot].Families()].remove(at, m.at)
	}
}

func (o *order) renumber(m *members, slot uint32) {
	if at := m.at[slot]; at != nowhere {
		o.heaps[m.elems[slot].Families()][at].slot = slot
	}
}

// key returns the key of an element with the given turn; false if the policy
// never selects it.
func (o *order) key(m *members, slot uint32, turn uint64) (key, bool) {
	p := &m.elems[slot].Policy
	switch o.rule.kind {
	case inWeightedTurn:
		if p.Weight == 0 {
			return key{}, false
		}
		return key(o.now.next(p.Weight, phase(m.note[slot]))), true
	case highest:
		return key{uint64(^o.rule.value(p, 0)), turn}, true
	case lowest:
		var n uint32
		if o.rule.counts {
			n = m.note[slot]
		}
		return key{uint64(o.rule.value(p, n)), turn}, true
	}
	return key{0, turn}, true
}

// value returns what Selected tells of an item.
func (o *order) value(e *Element, k key) uint32 {
	switch o.rule.kind {
	case inWeightedTurn:
		return e.Policy.Weight
	case highest:
		return ^uint32(k.hi)
	case lowest:
		return uint32(k.hi)
	}
	return 0
}

func (o *order) pick(m *members, dst []Selected, n int, f Families) []Selected {
	// The fringe holds those that may come next: at first the heaps' roots,
	// then the children of those that were taken.
	fr, picks := o.fringe[:0], o.picks[:0]
	for class := range Families(classes) {
		if h := o.heaps[class]; len(h) > 0 && f.admits(class) {
			fr.push(candidate{h[0].key, 0, class})
		}
	}
	for len(picks) < n && len(fr) > 0 {
		c := fr[0]
		h := o.heaps[c.class]
		slot := h[c.at].slot
		e := m.elems[slot]
		dst = append(dst, Selected{e, o.value(e, c.key)})
		picks = append(picks, pick{slot, c.class})
		if len(picks) == n {
			break
		}
		fr.pop()
		first := arity*c.at + 1
		for at := first; at < min(first+arity, uint32(len(h))); at++ {
			fr.push(candidate{h[at].key, at, c.class})
		}
	}
	o.fringe, o.picks = fr, picks
	for i, p := range picks {
		if i == 0 || o.rule.counts {
			o.selected(m, p, i == 0)
		}
	}
	return dst
}

// selected gives an element that was selected its new place.
func (o *order) selected(m *members, p pick, first bool) {
	h, at := o.heaps[p.class], m.at[p.slot]
	if o.rule.counts && m.note[p.slot] != ^uint32(0) {
		m.note[p.slot]++
	}
	k := h[at].key
	if o.rule.kind == inWeightedTurn && o.now.before(position(k)) {
		o.now = position(k)
	}
	turn := k.lo
	if first {
		o.turn++
		turn = o.turn
	}
	k, _ = o.key(m, p.slot, turn)
	h.set(at, item{k, p.slot}, m.at)
}

// candidate is the item at a place of one of the heaps.
type candidate struct {
	key
	at    uint32
	class Families
}

// fringe is a binary heap of candidates.
type fringe []candidate

func (f *fringe) push(c candidate) {
	*f = append(*f, c)
	s, i := *f, len(*f)-1
	for i > 0 && c.before(s[(i-1)/2].key) {
		s[i] = s[(i-1)/2]
		i = (i - 1) / 2
	}
	s[i] = c
}

// pop drops the first candidate.
func (f *fringe) pop() {
	s := (*f)[:len(*f)-1]
	c := (*f)[len(s)]
	*f = s
	if len(s) == 0 {
		return
	}
	i := 0
	for {
		child := 2*i + 1
		if child >= len(s) {
			break
		}
		if child+1 < len(s) && s[child+1].before(s[child].key) {
			child++
		}
		if !s[child].before(c.key) {
			break
		}
		s[i] = s[child]
		i = child
	}
	s[i] = c
}
