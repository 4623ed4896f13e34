package handlespace

import "github.com/rserpool/coredns-rserpool/rserpool"

// Pick selects one element as [Pool.Select] does, but none of those in except, and none
// that [Space.Avoid] leaves out; false if there is no other. The elements of except keep
// their turns and their sums of degradations. A pool user looks for the next candidate
// in this way when an element has failed. Pick takes O(log N) for each element of
// except, and does not allocate for up to 16 of them.
func (p *Pool) Pick(families Families, except ...rserpool.PEID) (Selected, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.members
	var room [16]hidden
	aside := room[:0]
	for _, id := range except {
		if slot, ok := m.slots.Find(id); ok && m.at[slot] != nowhere {
			aside = append(aside, hidden{slot, p.index.hide(m, slot)})
		}
	}
	picked := p.index.pick(m, p.workspace().picked[:0], 1, families)
	for _, h := range aside {
		p.index.show(m, h.slot, h.key)
	}
	if len(picked) == 0 {
		return Selected{}, false
	}
	p.selections++
	return picked[0], true
}

// hidden is a slot that is out of the index during one selection, and its key there.
type hidden struct {
	slot uint32
	key  key
}

func (o *order) hide(m *members, slot uint32) key {
	h := &o.heaps[m.elems[slot].Families()]
	k := (*h)[m.at[slot]].key
	h.remove(m.at[slot], m.at)
	return k
}

// show computes the sum of a policy that counts anew: rebase may have lowered it.
func (o *order) show(m *members, slot uint32, k key) {
	if o.rule.counts {
		k.hi = o.rule.value(m, slot)
	}
	o.heaps[m.elems[slot].Families()].push(item{k, slot}, m.at)
}

func (l *lottery) hide(m *members, slot uint32) key {
	l.remove(m, slot, true)
	return key{}
}

func (l *lottery) show(m *members, slot uint32, _ key) { l.push(m, slot) }
