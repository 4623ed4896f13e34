package handlespace

import (
	"math/bits"
	"math/rand/v2"

	"github.com/rserpool/coredns-rserpool/registrar/internal/slots"
)

// lottery is the index of the random policies, with one urn for each set of address
// families. Chances are exact: weights are integers, and random numbers are reduced
// without bias.
type lottery struct {
	rule  *rule
	rng   *rand.Rand
	urns  [classes]urn
	picks []pick // working memory of pick
	drawn urn    // working memory of arrange
}

// urn holds slots with their weights, in any order.
type urn struct {
	slots   []uint32
	weights []uint32 // as many as slots; none for the uniform policy
	sums    sums     // of the weights
	total   uint64   // of the weights
}

func (l *lottery) insert(m *members, slot uint32, st *Standing) {
	if l.rule.counts {
		m.notes = append(m.notes, note{step: m.elems[slot].Policy.LoadDegradation})
		m.degraded.insert(slot, st.aheadFor(m.elems[slot]))
	}
	l.push(m, slot)
}

// push adds a slot that is in no urn.
func (l *lottery) push(m *members, slot uint32) {
	u := &l.urns[m.elems[slot].Families()]
	m.at[slot] = uint32(len(u.slots))
	u.slots = append(u.slots, slot)
	if l.rule.kind == weighted {
		w := uint32(l.rule.value(m, slot))
		u.weights = append(u.weights, w)
		u.sums.push(uint64(w))
		u.total += uint64(w)
	}
}

func (l *lottery) update(m *members, slot uint32, old *Element) {
	if e := m.elems[slot]; l.rule.counts && e.Policy != old.Policy {
		m.notes[slot].step = e.Policy.LoadDegradation
		m.degraded.reset(slot)
	}
	class := old.Families()
	if m.elems[slot].Families() != class {
		l.take(m, class, m.at[slot])
		l.push(m, slot)
	} else if l.rule.kind == weighted {
		l.urns[class].set(m.at[slot], uint32(l.rule.value(m, slot)))
	}
}

func (l *lottery) remove(m *members, slot uint32, room bool) {
	class := m.elems[slot].Families()
	l.take(m, class, m.at[slot])
	if u := &l.urns[class]; !room {
		u.slots, u.weights, u.sums = slots.Shrink(u.slots), slots.Shrink(u.weights), slots.Shrink(u.sums)
	}
}

func (l *lottery) renumber(m *members, slot uint32) {
	if at := m.at[slot]; at != nowhere {
		l.urns[m.elems[slot].Families()].slots[at] = slot
	}
}

// take removes the slot at a place of an urn. The last one takes the place.
func (l *lottery) take(m *members, class Families, at uint32) {
	u := &l.urns[class]
	last := uint32(len(u.slots) - 1)
	m.at[u.slots[at]] = nowhere
	if l.rule.kind == weighted {
		w := u.weights[last]
		u.set(last, 0)
		if at != last {
			u.set(at, w)
		}
		u.weights, u.sums = u.weights[:last], u.sums[:last]
	}
	if at != last {
		u.slots[at] = u.slots[last]
		m.at[u.slots[at]] = at
	}
	u.slots = u.slots[:last]
}

func (l *lottery) pick(m *members, dst []Selected, n int, f Families) []Selected {
	return l.draw(m, dst, n, f, l.rule.counts)
}

func (l *lottery) peek(m *members, dst []Selected, n int, f Families) []Selected {
	return l.draw(m, dst, n, f, false)
}

// draw draws n elements. If it counts, that is a selection of each.
func (l *lottery) draw(m *members, dst []Selected, n int, f Families, counts bool) []Selected {
	if l.rule.kind == uniform {
		return l.pickUniform(m, dst, n, f)
	}
	total := l.total(f)
	if total == 0 && l.rule.rescue {
		return l.pickUniform(m, dst, n, f)
	}
	if n > few {
		dst, l.picks = l.pickWeighted(m, dst, n, f, total, l.picks, counts)
		return dst
	}
	var picks [few]pick
	dst, _ = l.pickWeighted(m, dst, n, f, total, picks[:], counts)
	return dst
}

// pickWeighted draws in proportion to the candidates' weights, without replacement.
// Then it puts the drawn ones back. It returns its working memory, too.
func (l *lottery) pickWeighted(m *members, dst []Selected, n int, f Families, total uint64, picks []pick, counts bool) ([]Selected, []pick) {
	picks = picks[:0]
	for ; n > 0 && total > 0; n-- {
		ticket := l.rng.Uint64N(total)
		class := Families(0)
		for ; !f.admits(class) || ticket >= l.urns[class].total; class++ {
			if f.admits(class) {
				ticket -= l.urns[class].total
			}
		}
		u := &l.urns[class]
		at := uint32(u.sums.find(ticket))
		slot, w := u.slots[at], u.weights[at]
		dst = append(dst, Selected{m.elems[slot], uint64(w)})
		picks = append(picks, pick{slot, class})
		if n > 1 {
			u.set(at, 0)
			total -= uint64(w)
		}
	}
	drawn := dst[len(dst)-len(picks):]
	for i, p := range picks {
		w := uint32(drawn[i].Value)
		if counts {
			m.degraded.add(p.slot, m.notes[p.slot].step)
			w = uint32(l.rule.value(m, p.slot))
		}
		if u, at := &l.urns[p.class], m.at[p.slot]; w != u.weights[at] {
			u.set(at, w)
		}
	}
	if counts {
		l.rebase(m)
	}
	return dst, picks
}

// rebase lowers the sums when they have used half of every element's weight, so that
// loads still make a difference.
func (l *lottery) rebase(m *members) {
	if m.degraded.lowest() <= full/2 {
		return
	}
	m.degraded.rebase()
	for c := range l.urns {
		for at, slot := range l.urns[c].slots {
			l.urns[c].set(uint32(at), uint32(l.rule.value(m, slot)))
		}
	}
}

// pickUniform shuffles as many slots to the front of the urns as it selects (Fisher and
// Yates). The weights are all equal and stay in place.
func (l *lottery) pickUniform(m *members, dst []Selected, n int, f Families) []Selected {
	var taken [classes]uint32
	left := 0
	for class := range Families(classes) {
		if f.admits(class) {
			left += len(l.urns[class].slots)
		}
	}
	for ; n > 0 && left > 0; n-- {
		ticket := uint32(l.rng.Uint64N(uint64(left)))
		class := Families(0)
		for ; ; class++ {
			if f.admits(class) {
				rest := uint32(len(l.urns[class].slots)) - taken[class]
				if ticket < rest {
					break
				}
				ticket -= rest
			}
		}
		slots, a := l.urns[class].slots, taken[class]
		b := a + ticket
		slots[a], slots[b] = slots[b], slots[a]
		m.at[slots[a]], m.at[slots[b]] = a, b
		dst = append(dst, Selected{m.elems[slots[a]], 0})
		taken[class]++
		left--
	}
	return dst
}

// set changes the weight at a place.
func (u *urn) set(at, w uint32) {
	delta := uint64(w) - uint64(u.weights[at])
	u.weights[at] = w
	u.total += delta
	u.sums.add(int(at), delta)
}

// sums holds partial sums of a list of numbers (a Fenwick tree): at place i the sum of
// the numbers from i &^ trailing ones of i, to i.
type sums []uint64

// push appends a number to the list. Cutting the slice drops the last one.
func (s *sums) push(v uint64) {
	i := len(*s)
	for bit := 1; i&bit != 0; bit <<= 1 {
		v += (*s)[i-bit]
	}
	*s = append(*s, v)
}

// add adds to the i-th number, modulo 2^64.
func (s sums) add(i int, delta uint64) {
	for ; i < len(s); i |= i + 1 {
		s[i] += delta
	}
}

// find returns the place of the number that contains v if the numbers are laid end to
// end. v must be less than their sum.
func (s sums) find(v uint64) int {
	i := 0
	for bit := 1 << bits.Len(uint(len(s))) >> 1; bit > 0; bit >>= 1 {
		if end := i + bit; end <= len(s) && s[end-1] <= v {
			v -= s[end-1]
			i = end
		}
	}
	return i
}
