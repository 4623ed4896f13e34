package handlespace

import (
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/rserpool/coredns-rserpool/registrar/internal/slots"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Pool is a pool with the state of its policy. A Pool that has lost its last element
// stays empty forever: a new Pool takes its place in the Space.
type Pool struct {
	handle    rserpool.PoolHandle
	policy    rserpool.PolicyType
	transport rserpool.TransportType
	use       rserpool.TransportUse

	mu      sync.Mutex // guards what follows
	members members
	index   index
	work    *workspace // nil at first
	// captured is equal to the space's mark if no snapshot has to take the pool any more.
	captured bool
	// selections counts those that have moved the policy's state. As 32 bits, the pool
	// takes no more than 216 bytes.
	selections uint32
}

// members holds the elements of a pool in slots, numbered from 0 without gaps.
type members struct {
	slots slots.Index
	elems []*Element
	// at is the place of each slot in the index, among those of the same families, or
	// nowhere.
	at []uint32
	// notes are for the policy, if it needs any.
	notes    []note
	degraded degradation
}

// nowhere is the place of elements that an index leaves out.
const nowhere = ^uint32(0)

// elsewhere is the slot of an element outside of a set.
const elsewhere = nowhere - 1

// index is a policy's order or lottery over the slots of a pool. It keeps the elements
// of each set of address families apart, so that a selection for one family does not
// skip any.
type index interface {
	// insert adds the newest slot, whose element joins or comes back.
	insert(m *members, slot uint32, st *Standing)
	// standing notes the slot's turn.
	standing(m *members, slot uint32, st *Standing)
	// update: the slot's element has replaced old.
	update(m *members, slot uint32, old *Element)
	// remove leaves a slot out from now on. Its memory is kept if room is to be left.
	remove(m *members, slot uint32, room bool)
	// restore adds a slot that was removed, while its element stayed.
	restore(m *members, slot uint32)
	// hide takes a slot out during one selection, show puts it back where it was.
	hide(m *members, slot uint32) key
	show(m *members, slot uint32, k key)
	// renumber: the element in slot had another number.
	renumber(m *members, slot uint32)
	// pick is Pool.Select.
	pick(m *members, dst []Selected, n int, f Families) []Selected
	// peek is pick without moving the policy's state.
	peek(m *members, dst []Selected, n int, f Families) []Selected
	// candidate reports whether a selection may pick the slot.
	candidate(m *members, slot uint32, f Families) bool
	// arrange appends all of these candidates to dst in the policy's order. If first is
	// nowhere, it selects the first one. Otherwise nothing moves: first is the first one, or
	// elsewhere.
	arrange(m *members, dst []Selected, slots []uint32, first uint32) []Selected
}

// newPool returns an empty pool that fits e.
func newPool(h rserpool.PoolHandle, e *Element, seed *rand.Rand) *Pool {
	return &Pool{
		handle:    h,
		policy:    e.Policy.Type,
		transport: e.UserTransport.Type,
		use:       use(&e.UserTransport),
		index:     ruleOf(e.Policy.Type).index(seed),
	}
}

// Handle returns the pool's handle.
func (p *Pool) Handle() rserpool.PoolHandle { return p.handle }

// Policy returns the pool's policy type, that of its first element.
func (p *Pool) Policy() rserpool.PolicyType { return p.policy }

// Transport returns the type and use of the pool's user transport. The use of
// all but SCTP is DataOnly.
func (p *Pool) Transport() (rserpool.TransportType, rserpool.TransportUse) { return p.transport, p.use }

// Len returns the number of elements.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.members.elems)
}

// Usage returns the number of elements, and how many times elements were selected since the
// pool has elements, modulo 2^32.
func (p *Pool) Usage() (elements int, selections uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.members.elems), p.selections
}

// Element returns the element with that identifier, nil if there is none.
func (p *Pool) Element(id rserpool.PEID) *Element {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slot, ok := p.members.slots.Find(id); ok {
		return p.members.elems[slot]
	}
	return nil
}

// Elements appends all elements to dst, ordered by identifier.
func (p *Pool) Elements(dst []*Element) []*Element {
	had := len(dst)
	p.mu.Lock()
	dst = append(dst, p.members.elems...)
	p.mu.Unlock()
	slices.SortFunc(dst[had:], byID)
	return dst
}

// Select appends to dst at most n different elements that the pool's policy picks now,
// in the policy's order, and advances the policy's state. If families is not 0, only
// elements with an address of one of those families are candidates. Select takes O(n
// log N) for N elements. It allocates only if dst has to grow, or for more elements
// than in any selection before.
func (p *Pool) Select(dst []Selected, n int, families Families) []Selected {
	if n <= 0 {
		return dst
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	had := len(dst)
	dst = p.index.pick(&p.members, dst, n, families)
	if len(dst) == had && p.restoreFor(families) {
		dst = p.index.pick(&p.members, dst, n, families)
	}
	if len(dst) > had {
		p.selections++
	}
	return dst
}

// Fits returns why an element does not fit the pool, nil if it does (RFC 5352, Section
// 3.1).
func (p *Pool) Fits(e *Element) error {
	var cause rserpool.CauseCode
	switch {
	case e.Policy.Type != p.policy:
		cause = rserpool.CauseInconsistentPolicy
	case e.UserTransport.Type != p.transport:
		cause = rserpool.CauseInconsistentTransportType
	case use(&e.UserTransport) != p.use:
		cause = rserpool.CauseInconsistentDataControl
	default:
		return nil
	}
	return &InconsistentError{Cause: cause, Policy: p.policy, Transport: p.transport, Use: p.use, Element: e.Kind()}
}

// put adds or replaces an element and returns the one that it replaces. st is what an
// element that comes back had when it left.
func (p *Pool) put(e *Element, st Standing) (old *Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.members
	if slot, ok := m.slots.Find(e.ID); ok {
		p.restore(e.ID)
		old = m.elems[slot]
		m.elems[slot] = e
		p.index.update(m, slot, old)
		if r := p.ringOf(); r != nil {
			if was, is := ruleOf(p.policy).spotOf(old), ruleOf(p.policy).spotOf(e); was != is {
				r.remove(was)
				r.insert(spot{is, slot})
			}
		}
		return old
	}
	slot := uint32(len(m.elems))
	m.slots.Add(e.ID)
	m.elems = append(m.elems, e)
	m.at = append(m.at, nowhere)
	if st.pool != p {
		st.pool = nil
	}
	p.index.insert(m, slot, &st)
	if r := p.ringOf(); r != nil {
		r.insert(spot{ruleOf(p.policy).spotOf(e), slot})
	}
	return nil
}

// remove takes an element out and returns it, with what it needs to come back. It is nil if
// it is not there. The element of the last slot moves into the gap. The pool keeps its memory
// if room is to be left.
func (p *Pool) remove(id rserpool.PEID, room bool) (*Element, Standing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := &p.members
	slot, ok := m.slots.Find(id)
	if !ok {
		return nil, Standing{}
	}
	p.restore(id)
	e := m.elems[slot]
	st := Standing{pool: p, former: e}
	p.index.standing(m, slot, &st)
	p.index.remove(m, slot, room)
	st.ahead = m.degraded.remove(slot)
	m.slots.Remove(id, room)
	r := p.ringOf()
	if r != nil {
		r.remove(ruleOf(p.policy).spotOf(e))
	}
	last := uint32(len(m.elems) - 1)
	if slot != last {
		m.elems[slot], m.at[slot] = m.elems[last], m.at[last]
		if m.notes != nil {
			m.notes[slot] = m.notes[last]
		}
		m.degraded.renumber(last, slot)
		p.index.renumber(m, slot)
		if r != nil {
			r.renumber(ruleOf(p.policy).spotOf(m.elems[slot]), slot)
		}
	}
	m.elems[last] = nil
	m.cut(int(last), room)
	return e, st
}

// cut keeps n slots, and only the memory that they need, unless room is to be left.
func (m *members) cut(n int, room bool) {
	if room {
		m.elems, m.at = m.elems[:n], m.at[:n]
		if m.notes != nil {
			m.notes = m.notes[:n]
		}
		m.degraded.cut(n, true)
		return
	}
	m.elems, m.at = slots.Shrink(m.elems[:n]), slots.Shrink(m.at[:n])
	if m.notes != nil {
		m.notes = slots.Shrink(m.notes[:n])
	}
	m.degraded.cut(n, false)
}
