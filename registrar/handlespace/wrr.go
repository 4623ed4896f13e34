package handlespace

import "math/bits"

// position is how far a weighted round robin has come: hi counts rounds, lo
// is the fraction of the present one in units of 2^-64.
//
// In every round an element of weight w is due w times, at the fractions
// (k + phase) / w for k from 0 to w - 1: evenly spread, and exactly as often
// as its weight says. Whoever is due next is served next, so that a round is
// the circular list of RFC 5356, Section 4.2.2, without a list of that length.
//
// Phases keep elements of the same weight from being due all at once. The n-th
// element to join has n times the golden ratio, whose multiples spread evenly
// over the unit interval however many there are.
//
// An element that joins or changes its weight is due at its next fraction after
// the present position, and so is one that has just been served, be it late
// because family filters had left it out. So nobody is owed a burst, and nobody
// waits longer than one period of its weight.
type position key

func (p position) before(o position) bool { return key(p).before(key(o)) }

// phase returns the phase of the n-th element to join, in units of 2^-64.
func phase(n uint32) uint64 { return uint64(n) * 0x9e3779b97f4a7c15 }

// next returns the first position after p at which an element of weight w > 0
// is due.
func (p position) next(w uint32, phase uint64) position {
	// The least k with (k + phase) / w > p.lo is about p.lo * w - phase.
	// All fractions are rounded down, hence try from below.
	k, rest := bits.Mul64(p.lo, uint64(w))
	if rest > phase {
		k++
	}
	for ; k < uint64(w); k++ {
		if due, _ := bits.Div64(k, phase, uint64(w)); due > p.lo {
			return position{p.hi, due}
		}
	}
	due, _ := bits.Div64(0, phase, uint64(w))
	return position{p.hi + 1, due}
}
