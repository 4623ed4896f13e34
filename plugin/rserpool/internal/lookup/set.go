package lookup

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// PickSet is Pick for a question about the pool as a set.
func (s *Memory) PickSet(c *Origin, k Kind, want *Wanted, now time.Time) (selected []handlespace.Selected, more, reused bool) {
	if !c.Addr.IsValid() {
		selected, _, more = want.arrange(nil)
		return selected, more, false
	}
	id := s.id(c, want.Pool)
	b := s.bucket(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	at := int64(now.Sub(s.start))
	o := b.find(id, at)
	old, shared := b.share(o, c, k, at)
	var known []rsp.PEID
	if shared {
		known = b.of(old)
	}
	selected, fresh, more := want.arrange(known)
	if len(selected) == 0 {
		return nil, more, false
	}
	if len(fresh) == 0 {
		b.answer(old, c, k)
		return selected, more, true
	}
	w := b.add(o, fresh[:min(len(fresh), b.width)], c.Port, at)
	if shared {
		b.replace(old, w, c, k)
	}
	b.answer(w, c, k)
	return selected, more, false
}

// Wanted is the set that a question is about.
type Wanted struct {
	Pool *handlespace.Pool
	Room []handlespace.Selected // for the set
	View uint64                 // says which part of a larger pool it is, see handlespace.Pool.SelectSet
	N    uint16                 // elements
	// Whole is the number of elements in the answer by TCP, for which the client comes
	// again; 0 if it does not.
	Whole    uint16
	Families handlespace.Families
}

// arrange selects the set. The elements of the lookup are known. If none of them
// serves, the policy has selected others now, which are fresh. more: the pool has more.
func (q *Wanted) arrange(known []rsp.PEID) (set, fresh []handlespace.Selected, more bool) {
	if q.Whole > 0 && len(known) == 0 {
		fresh, known = q.selectWhole()
	}
	set, more = q.Pool.SelectSet(q.Room, int(q.N), q.Families, q.View, known...)
	if len(fresh) == 0 && !stands(known, set, q.Pool, q.Families) {
		fresh = set
	}
	return set, fresh, more
}

// selectWhole selects from the set of the answer by TCP, so that both begin with the same
// element.
func (q *Wanted) selectWhole() (fresh []handlespace.Selected, first []rsp.PEID) {
	fresh, _ = q.Pool.SelectSet(nil, int(q.Whole), q.Families, q.View)
	for _, s := range fresh[:min(1, len(fresh))] {
		first = append(first, s.ID)
	}
	return fresh, first
}

// stands reports whether a lookup's elements serve for a set of the pool: one of them is the
// first, or is registered and no element of the set.
func stands(known []rsp.PEID, set []handlespace.Selected, p *handlespace.Pool, f handlespace.Families) bool {
	for _, id := range known {
		at := slices.IndexFunc(set, func(s handlespace.Selected) bool { return s.ID == id })
		if at == 0 {
			return true
		}
		if e := p.Element(id); at < 0 && e != nil && e.Families()&f != 0 {
			return true
		}
	}
	return false
}
