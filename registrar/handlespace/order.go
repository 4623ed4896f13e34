package handlespace

import "github.com/rserpool/coredns-rserpool/registrar/internal/slots"

// order is the index of the policies that serve elements in an order, one heap for each
// set of address families. The high part of a key is what the policy compares. The low
// part is the element's turn among equals, a number that grows: the first element of an
// answer, and an element that joins, go behind all others of that value. Only the first
// one of an answer moves, so that with round robin the head advances by one element
// (RFC 5356, Section 4.1.2).
//
// Weighted round robin has other keys, see position.
type order struct {
	rule  *rule
	heaps [classes]heap
	turn  uint64 // the last one
	// now is the position of weighted round robin, joined how many elements have ever
	// joined.
	now    position
	joined uint32

	// Working memory of pickMany.
	fringe fringe
	picks  []pick
	items  []item // working memory of arrange
}

// pick is a slot in one of the heaps.
type pick struct {
	slot  uint32
	class Families
}

func (o *order) insert(m *members, slot uint32, st *Standing) {
	p := &m.elems[slot].Policy
	switch {
	case o.rule.counts:
		m.notes = append(m.notes, note{step: p.LoadDegradation})
		m.degraded.insert(slot, st.aheadFor(m.elems[slot]))
	case o.rule.kind == inWeightedTurn:
		o.insertDue(m, slot, st)
		return
	}
	if st.holds() {
		o.push(m, slot, st.key.lo)
		return
	}
	o.turn++
	o.push(m, slot, o.turn)
}

// insertDue is insert for weighted round robin. An element that comes back keeps its phase,
// and is due when it was before, unless that is over.
func (o *order) insertDue(m *members, slot uint32, st *Standing) {
	e := m.elems[slot]
	n := note{weight: e.Policy.Weight, joined: o.joined}
	if st.pool != nil {
		n.joined = st.joined
	} else {
		o.joined++
	}
	m.notes = append(m.notes, n)
	if st.holds() && st.former.Policy.Weight == n.weight && o.now.key().before(st.key) {
		o.heaps[e.Families()].push(item{st.key, slot}, m.at)
		return
	}
	o.push(m, slot, 0)
}

// push adds a slot that is in no heap.
func (o *order) push(m *members, slot uint32, turn uint64) {
	if k, ok := o.key(m, slot, turn); ok {
		o.heaps[m.elems[slot].Families()].push(item{k, slot}, m.at)
	}
}

// update keeps the element's turn.
func (o *order) update(m *members, slot uint32, old *Element) {
	e := m.elems[slot]
	switch {
	case o.rule.counts && e.Policy != old.Policy:
		m.notes[slot].step = e.Policy.LoadDegradation
		m.degraded.reset(slot)
	case o.rule.kind == inWeightedTurn:
		m.notes[slot].weight = e.Policy.Weight
	}
	class, at := old.Families(), m.at[slot]
	if at == nowhere {
		o.push(m, slot, 0)
		return
	}
	k, ok := o.heaps[class][at].key, true
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

func (o *order) remove(m *members, slot uint32, room bool) {
	if at := m.at[slot]; at != nowhere {
		h := &o.heaps[m.elems[slot].Families()]
		if h.remove(at, m.at); !room {
			*h = slots.Shrink(*h)
		}
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
	switch o.rule.kind {
	case inWeightedTurn:
		n := &m.notes[slot]
		if n.weight == 0 {
			return key{}, false
		}
		return o.now.next(n.weight, phase(n.joined)).key(), true
	case highest:
		return key{^o.rule.value(m, slot), turn}, true
	case lowest:
		return key{o.rule.value(m, slot), turn}, true
	default: // inTurn
		return key{0, turn}, true
	}
}

// selected returns the result of a selection of the item.
func (o *order) selected(m *members, it item) Selected {
	e := m.elems[it.slot]
	switch o.rule.kind {
	case inWeightedTurn:
		return Selected{e, uint64(m.notes[it.slot].weight)}
	case highest:
		return Selected{e, ^it.hi}
	default:
		return Selected{e, it.hi}
	}
}

func (o *order) pick(m *members, dst []Selected, n int, f Families) []Selected {
	switch {
	case n == 1:
		return o.pickOne(m, dst, f)
	case n <= few:
		if class, ok := o.oneList(f); ok {
			return o.pickList(m, dst, n, class)
		}
		return o.pickFew(m, dst, n, f)
	}
	return o.pickMany(m, dst, n, f)
}

// pickOne is pickMany for one element.
func (o *order) pickOne(m *members, dst []Selected, f Families) []Selected {
	var first item
	class := Families(classes)
	for c := range Families(classes) {
		if h := o.heaps[c]; len(h) > 0 && f.admits(c) && (class == classes || h[0].before(first)) {
			first, class = h[0], c
		}
	}
	if class == classes {
		return dst
	}
	dst = append(dst, o.selected(m, first))
	o.moveOn(m, pick{first.slot, class}, true)
	o.rebase(m)
	return dst
}

// oneList returns the class of all candidates, if there is only one and its heap is a
// list.
func (o *order) oneList(f Families) (class Families, ok bool) {
	for c := range Families(classes) {
		if h := o.heaps[c]; len(h) > 0 && f.admits(c) {
			if ok || len(h) > small {
				return 0, false
			}
			class, ok = c, true
		}
	}
	return class, ok
}

// pickList is pickFew for one class, whose heap is a list.
func (o *order) pickList(m *members, dst []Selected, n int, class Families) []Selected {
	var picks [few]pick
	list := o.heaps[class]
	list = list[:min(n, len(list))]
	for i, it := range list {
		dst = append(dst, o.selected(m, it))
		picks[i] = pick{it.slot, class}
	}
	o.moveAllOn(m, picks[:len(list)])
	return dst
}

// few is the usual size of an answer.
const few = 4

// pickFew is pickMany for a small number: the fringe fits on the stack, and a linear
// search for its least item is faster than an order.
func (o *order) pickFew(m *members, dst []Selected, n int, f Families) []Selected {
	var fringe [classes + (few-1)*arity]candidate
	var picks [few]pick
	left, taken := 0, 0
	for class := range Families(classes) {
		if h := o.heaps[class]; len(h) > 0 && f.admits(class) {
			fringe[left] = candidate{h[0], 0, class}
			left++
		}
	}
	for left > 0 {
		least := 0
		for i := 1; i < left; i++ {
			if fringe[i].before(fringe[least].item) {
				least = i
			}
		}
		c := fringe[least]
		left--
		fringe[least] = fringe[left]
		dst = append(dst, o.selected(m, c.item))
		picks[taken] = pick{c.slot, c.class}
		if taken++; taken == n {
			break
		}
		first, items := o.heaps[c.class].children(c.at)
		for i, it := range items {
			fringe[left] = candidate{it, uint32(first + i), c.class}
			left++
		}
	}
	o.moveAllOn(m, picks[:taken])
	return dst
}

// pickMany goes through the heaps from their roots. The fringe holds the candidates for
// the next place: the children of those that were picked.
func (o *order) pickMany(m *members, dst []Selected, n int, f Families) []Selected {
	dst = o.list(m, dst, n, f)
	o.moveAllOn(m, o.picks)
	return dst
}

func (o *order) peek(m *members, dst []Selected, n int, f Families) []Selected {
	return o.list(m, dst, n, f)
}

// list is pickMany, but the elements keep their places. They are in o.picks as well.
func (o *order) list(m *members, dst []Selected, n int, f Families) []Selected {
	fr, picks := o.fringe[:0], o.picks[:0]
	for class := range Families(classes) {
		if h := o.heaps[class]; len(h) > 0 && f.admits(class) {
			fr.push(candidate{h[0], 0, class})
		}
	}
	for len(fr) > 0 && len(picks) < n {
		c := fr.pop()
		dst = append(dst, o.selected(m, c.item))
		picks = append(picks, pick{c.slot, c.class})
		first, items := o.heaps[c.class].children(c.at)
		for i, it := range items {
			fr.push(candidate{it, uint32(first + i), c.class})
		}
	}
	o.fringe, o.picks = fr, picks
	return dst
}

// moveAllOn gives the selected elements their new places.
func (o *order) moveAllOn(m *members, picks []pick) {
	for i, p := range picks {
		if i == 0 || o.rule.counts {
			o.moveOn(m, p, i == 0)
		}
	}
	o.rebase(m)
}

// rebase lowers all sums before they overflow, without a change of the order.
func (o *order) rebase(m *members) {
	if m.degraded.lowest() < maxSum {
		return
	}
	m.degraded.rebase()
	for c := range o.heaps {
		h := o.heaps[c]
		for i := range h {
			h[i].hi = o.rule.value(m, h[i].slot)
		}
		h.sort(m.at)
	}
}

func (o *order) moveOn(m *members, p pick, first bool) {
	h, at := o.heaps[p.class], m.at[p.slot]
	k := h[at].key
	if o.rule.kind == inWeightedTurn {
		if o.now.key().before(k) {
			o.now = positionOf(k)
		}
		k, _ = o.key(m, p.slot, 0)
	} else {
		if first {
			o.turn++
			k.lo = o.turn
		}
		if o.rule.counts {
			step := m.notes[p.slot].step
			m.degraded.add(p.slot, step)
			k.hi = sum(k.hi, uint64(step))
		}
	}
	h.down(at, item{k, p.slot}, m.at)
}

// candidate is an item of one of the heaps, and its place there.
type candidate struct {
	item
	at    uint32
	class Families
}

// fringe is a binary heap of candidates.
type fringe []candidate

func (f *fringe) push(c candidate) {
	*f = append(*f, c)
	s, i := *f, len(*f)-1
	for i > 0 && c.before(s[(i-1)/2].item) {
		s[i] = s[(i-1)/2]
		i = (i - 1) / 2
	}
	s[i] = c
}

// pop removes the first candidate.
func (f *fringe) pop() candidate {
	first := (*f)[0]
	s := (*f)[:len(*f)-1]
	c := (*f)[len(s)]
	*f = s
	if len(s) == 0 {
		return first
	}
	i := 0
	for child := 1; child < len(s); child = 2*i + 1 {
		if child+1 < len(s) && s[child+1].before(s[child].item) {
			child++
		}
		if !s[child].before(c.item) {
			break
		}
		s[i] = s[child]
		i = child
	}
	s[i] = c
	return first
}
