package handlespace

import "math/bits"

// position is how far a weighted round robin has come: the number of rounds and the
// fraction of the present one, in units of 2^-fractionBits. As a key it has room for
// all rounds that can be counted: a million of them a second take 500,000 years.
//
// In every round an element of weight w is due w times, at the fractions (k + phase) /
// w for k from 0 to w - 1: evenly spread, and exactly as often as its weight says. The
// element that is due next is served next. So a round is the circular list of RFC 5356,
// Section 4.2.2, without a list of that length.
//
// Phases keep elements of the same weight from being due at the same time. The n-th
// element to join has n times the golden ratio, whose multiples spread evenly over the
// unit interval, however many there are.
//
// An element that joins or changes its weight is due at its next fraction after the
// present position. So is one that was just served, even if it was late because family
// filters had left it out. So no element is served several times in a row to catch up,
// and none waits longer than one period of its weight.
type position struct {
	round    uint64
	fraction uint64
}

const fractionBits = 40

func (p position) key() key {
	return key{p.round >> (64 - fractionBits), p.round<<fractionBits | p.fraction}
}

func positionOf(k key) position {
	return position{
		round:    k.hi<<(64-fractionBits) | k.lo>>fractionBits,
		fraction: k.lo & (1<<fractionBits - 1),
	}
}

// phase returns the phase of the n-th element to join, in units of 2^-64. A jitter of
// less than 2^-20 is added. Without it, elements whose weights have a simple ratio
// would often be due at the same moment, and be served in one order in one round and in
// the other order in the next.
func phase(n uint32) uint64 {
	const golden = 0x9e3779b97f4a7c15
	jitter := n * 0x85ebca6b // mixed as by MurmurHash3
	jitter ^= jitter >> 13
	jitter *= 0xc2b2ae35
	return uint64(n)*golden + uint64(jitter)<<12
}

// next returns the first position after p at which an element of weight w > 0
// is due.
func (p position) next(w uint32, phase uint64) position {
	// The least k with (k + phase) / w > fraction is about fraction * w -
	// phase. All fractions are rounded down, hence try from below.
	k, rest := bits.Mul64(p.fraction<<(64-fractionBits), uint64(w))
	if rest > phase {
		k++
	}
	for ; k < uint64(w); k++ {
		if due := due(k, phase, w); due > p.fraction {
			return position{p.round, due}
		}
	}
	return position{p.round + 1, due(0, phase, w)}
}

// due returns (k + phase) / w for k < w.
func due(k, phase uint64, w uint32) uint64 {
	due, _ := bits.Div64(k, phase, uint64(w))
	return due >> (64 - fractionBits)
}
