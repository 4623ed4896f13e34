package handlespace

import (
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// rule is what distinguishes the policies. To add a policy, add a line to rules and a
// case to slow_test.go.
type rule struct {
	policy rserpool.PolicyType
	kind   kind
	// base is the value that the policy compares or weighs; nil if there is none. If
	// the policy weighs, it is at most full.
	base func(p *rserpool.Policy) uint64
	// counts tells that every selection adds the Load Degradation to base, which is a
	// load then.
	counts bool
	// rescue tells that a pool in which all weights are 0 is served with equal chances
	// rather than not at all.
	rescue bool
}

// kind is how a policy uses its values.
type kind uint8

const (
	inTurn         kind = iota // round robin
	inWeightedTurn             // weighted round robin
	lowest                     // lowest value first, equal ones in turn
	highest                    // highest value first, equal ones in turn
	uniform                    // equal chances
	weighted                   // chances in proportion to the values
)

// rules are the policies of RFC 5356 and those of RSPLIB. The first one also serves
// unknown policies.
var rules = [...]rule{
	{policy: rserpool.RoundRobin, kind: inTurn},
	{policy: rserpool.WeightedRoundRobin, kind: inWeightedTurn, base: weight},
	{policy: rserpool.Random, kind: uniform},
	{policy: rserpool.WeightedRandom, kind: weighted, base: weight},
	{policy: rserpool.Priority, kind: highest, base: priority},
	{policy: rserpool.LeastUsed, kind: lowest, base: load},
	{policy: rserpool.LeastUsedDegradation, kind: lowest, base: load, counts: true},
	{policy: rserpool.PriorityLeastUsed, kind: lowest, base: nextLoad},
	{policy: rserpool.RandomizedLeastUsed, kind: weighted, base: unload, rescue: true},
	{policy: rserpool.RandomizedPriorityLeastUsed, kind: weighted, base: nextUnload},
	{policy: rserpool.RandomizedLeastUsedDegradation, kind: weighted, base: load, counts: true},
	{policy: rserpool.PriorityLeastUsedDegradation, kind: lowest, base: nextLoad, counts: true},
	{policy: rserpool.RandomizedPriorityLeastUsedDegradation, kind: weighted, base: nextLoad, counts: true},
	{policy: rserpool.WeightedRandomDPF, kind: weighted, base: nearWeight},
	{policy: rserpool.LeastUsedDPF, kind: lowest, base: distantLoad},
	{policy: rserpool.LeastUsedDegradationDPF, kind: lowest, base: distantLoad, counts: true},
}

// Values says what the values of a selection are ([Selected]).
type Values uint8

// What the values of a selection are.
const (
	// NoValues: the policy takes turns or draws by equal chances.
	NoValues Values = iota
	// Weights: the policy selects in proportion to them.
	Weights
	// Priorities: the policy selects the highest, equal ones in turn.
	Priorities
	// Loads: the policy selects the lowest, equal ones in turn.
	Loads
	// Sums: like Loads, but each selection adds to them, so that they may exceed 100 % and
	// only their differences say something.
	Sums
)

// ValuesOf says what the values of a selection are under a policy.
func ValuesOf(t rserpool.PolicyType) Values {
	r := ruleOf(t)
	switch r.kind {
	case inWeightedTurn, weighted:
		return Weights
	case highest:
		return Priorities
	case lowest:
		if r.counts {
			return Sums
		}
		return Loads
	case inTurn, uniform:
	}
	return NoValues
}

// ruleOf returns the rule of a policy type.
func ruleOf(t rserpool.PolicyType) *rule {
	for i := range rules {
		if rules[i].policy == t {
			return &rules[i]
		}
	}
	return &rules[0]
}

// index returns an empty index for a pool of the policy.
func (r *rule) index(seed *rand.Rand) index {
	if r.kind == uniform || r.kind == weighted {
		return &lottery{rule: r, rng: rand.New(rand.NewPCG(seed.Uint64(), seed.Uint64()))}
	}
	return &order{rule: r}
}

// note is what a policy that counts, or takes turns by weight, keeps for an element.
// The notes are in one block, so that a selection need not read the elements, which are
// spread over the memory.
type note struct {
	step uint32 // the Load Degradation, if the policy counts
	// Weighted round robin: the weight, and the number of the element among all that
	// have ever joined.
	weight, joined uint32
}

// value returns what the policy compares or weighs now.
func (r *rule) value(m *members, slot uint32) uint64 {
	base := r.base(&m.elems[slot].Policy)
	if !r.counts {
		return base
	}
	load := sum(base, m.degraded.of(slot))
	if r.kind == weighted {
		return spare(load)
	}
	return load
}

// serves reports whether the policy may select an element with these values, for example
// if there is no other.
func (r *rule) serves(p *rserpool.Policy) bool {
	byWeight := r.kind == inWeightedTurn || r.kind == weighted && !r.counts && !r.rescue
	return !byWeight || r.base(p) > 0
}

// full is a load of 100 % (RFC 5356, Section 3.1). Sums of loads may exceed it. If they
// were cut, all elements would be equal as soon as all had reached it.
const full = 0xffffffff

func weight(p *rserpool.Policy) uint64   { return uint64(p.Weight) }
func priority(p *rserpool.Policy) uint64 { return uint64(p.Priority) }
func load(p *rserpool.Policy) uint64     { return uint64(p.Load) }

// nextLoad is the load with one user more (RFC 5356, Section 5.3.2).
func nextLoad(p *rserpool.Policy) uint64 { return uint64(p.Load) + uint64(p.LoadDegradation) }

// unload is RFC 5356, Section 5.4.2. An element without any capacity left is
// not chosen.
func unload(p *rserpool.Policy) uint64 { return full - uint64(p.Load) }

// spare is the weight for a load in RSPLIB's randomized policies, in which every
// element has a chance.
func spare(load uint64) uint64 { return full - min(load, full-1) }

func nextUnload(p *rserpool.Policy) uint64 { return spare(nextLoad(p)) }

// nearWeight is Weight * (1 - Distance * Weight DPF), rounded. An element that can
// serve keeps a chance, whatever its distance.
func nearWeight(p *rserpool.Policy) uint64 {
	if p.Weight == 0 {
		return 0
	}
	near := full - min(distance(p), full)
	return max(1, (uint64(p.Weight)*near+full/2)/full)
}

func distantLoad(p *rserpool.Policy) uint64 { return sum(uint64(p.Load), distance(p)) }

// distance is what the distance adds to the load: DPF is the fraction of full for one
// unit of it.
func distance(p *rserpool.Policy) uint64 { return uint64(p.Distance) * uint64(p.DPF) }

// sum is limited to the largest number, which is enough for distances of a million
// times full.
func sum(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return math.MaxUint64
	}
	return s
}
