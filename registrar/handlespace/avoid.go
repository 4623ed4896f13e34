package handlespace

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Avoid has selections leave out an element, which stays in its pool, or include it
// again. It is included again, too, when it is put again, or when a selection has only
// avoided elements to pick from, and it is one of these. Then it is treated like an
// element that joins: its turn is the last, and its sum of degradations the lowest of the
// pool. Avoid is no change of the handlespace.
func (s *Space) Avoid(h rserpool.PoolHandle, id rserpool.PEID, avoid bool) {
	if p := s.Pool(h); p != nil {
		p.avoid(id, avoid)
	}
}

func (p *Pool) avoid(id rserpool.PEID, avoid bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.members
	slot, ok := m.slots.Find(id)
	_, is := p.avoided()[id]
	switch {
	case !ok || is == avoid:
	case !avoid:
		p.restore(id)
	default:
		w := p.workspace()
		if w.avoided == nil {
			w.avoided = make(map[rserpool.PEID]struct{})
		}
		w.avoided[id] = struct{}{}
		p.index.remove(m, slot, true)
	}
}

// avoided are the elements that selections leave out.
func (p *Pool) avoided() map[rserpool.PEID]struct{} {
	if p.work == nil {
		return nil
	}
	return p.work.avoided
}

// restore has selections include an element again. The caller has the lock.
func (p *Pool) restore(id rserpool.PEID) {
	if _, is := p.avoided()[id]; is {
		delete(p.avoided(), id)
		slot, _ := p.members.slots.Find(id)
		p.members.degraded.rejoin(slot)
		p.index.restore(&p.members, slot)
	}
}

// restoreFor has selections include the avoided elements again that a selection for these
// families could pick, because it finds no other element: better these than none. It
// reports whether there are any.
func (p *Pool) restoreFor(f Families) bool {
	m, r := &p.members, ruleOf(p.policy)
	var back []uint32
	for id := range p.avoided() {
		slot, _ := m.slots.Find(id)
		if e := m.elems[slot]; f.admits(e.Families()) && r.serves(&e.Policy) {
			back = append(back, slot)
		}
	}
	slices.Sort(back) // so that the order is always the same
	for _, slot := range back {
		p.restore(m.elems[slot].ID)
	}
	return len(back) > 0
}

func (o *order) restore(m *members, slot uint32) {
	o.turn++
	o.push(m, slot, o.turn)
}

func (l *lottery) restore(m *members, slot uint32) { l.push(m, slot) }

// rejoin sets a slot's sum to the lowest of the others.
func (d *degradation) rejoin(slot uint32) {
	if len(d.at) > 0 {
		d.sums.remove(d.at[slot], d.at)
		d.sums.push(item{key{d.lowest(), 0}, slot}, d.at)
	}
}
