package handlespace

import "github.com/rserpool/coredns-rserpool/rserpool"

// Standing is what the policy has noted of an element that was suspended. The zero Standing
// is that of an element that joins.
//
// The turn, or the position of weighted round robin, holds as long as the pool has not been
// without an element and has not become another one. An element whose turn has come in the
// meantime is the next one, once. The sum of degradations keeps its distance from the lowest
// sum of the others, so that the element does not get all requests until its sum has caught
// up. As after Put, another value of the policy sets the sum to the lowest, and another weight
// makes the element due at its next position.
type Standing struct {
	pool   *Pool    // that has noted it; nil if the turn does not hold
	former *Element // as it was in the pool
	key    key      // its place in the order; the zero key if it had none
	joined uint32   // see note
	ahead  int64    // how far its sum of degradations is ahead of the lowest of the others
}

// holds reports whether the element continues with its turn.
func (st *Standing) holds() bool { return st.pool != nil && st.key != key{} }

// aheadFor returns how far the sum of an element that comes back as e is ahead.
func (st *Standing) aheadFor(e *Element) int64 {
	if st.former == nil || st.former.Policy != e.Policy {
		return 0
	}
	return st.ahead
}

func (o *order) standing(m *members, slot uint32, st *Standing) {
	if at := m.at[slot]; at != nowhere {
		st.key = o.heaps[m.elems[slot].Families()][at].key
	}
	if o.rule.kind == inWeightedTurn {
		st.joined = m.notes[slot].joined
	}
}

func (l *lottery) standing(*members, uint32, *Standing) {}

// SetDoubt has Pool.Doubt return these values for a pool. It is no change of the handlespace.
func (s *Space) SetDoubt(h rserpool.PoolHandle, suspects int, guarded bool) {
	if p := s.Pool(h); p != nil {
		p.setDoubt(suspects, guarded)
	}
}

func (p *Pool) setDoubt(suspects int, guarded bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.work == nil && suspects == 0 && !guarded {
		return
	}
	w := p.workspace()
	w.suspects, w.guarded = int32(suspects), guarded
}

// Doubt returns how many elements of the pool are suspect: silent, but not known to be gone.
// They are in the pool only if it is guarded, because it would have too few elements without
// them.
func (p *Pool) Doubt() (suspects int, guarded bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.work == nil {
		return 0, false
	}
	return int(p.work.suspects), p.work.guarded
}

// Serves reports whether selections by the policy can pick an element with these values: one
// of weight 0 does not serve.
func Serves(p *rserpool.Policy) bool {
	switch r := ruleOf(p.Type); r.kind {
	case inWeightedTurn, weighted:
		return r.rescue || r.counts || r.base(p) > 0
	case inTurn, lowest, highest, uniform:
	}
	return true
}
