package handlespace

import (
	"math/bits"
	"math/rand/v2"

	"github.com/rserpool/coredns-rserpool/asap/param"
)

// rule is what the policies do not have in common. To add a policy, give it a
// line in rules and a case in slow_test.go.
type rule struct {
	policy param.PolicyType
	kind   kind
	// value is what the policy compares or weighs of an element that was
	// selected n times since its last registration; nil for 0.
	value func(p *param.Policy, n uint32) uint32
	// counts tells that the policy counts selections.
	counts bool
	// rescue tells that a pool where every candidate weighs 0 is served by
	// uniform chance rather than not at all.
	rescue bool
}

// kind tells how a policy uses its values.
type kind uint8

const (
	inTurn         kind = iota // round robin
	inWeightedTurn             // weighted round robin
	lowest                     // lowest value first, equal ones in turn
	highest                    // highest value first, equal ones in turn
	uniform                    // equal chances
	weighted                   // chances in proportion to the values
)

// rules are the policies of RFC 5356 and those of RSPLIB. The first one is for
// all others, too.
var rules = [...]rule{
	{policy: param.RoundRobin, kind: inTurn},
	{policy: param.WeightedRoundRobin, kind: inWeightedTurn, value: weight},
	{policy: param.Random, kind: uniform},
	{policy: param.WeightedRandom, kind: weighted, value: weight},
	{policy: param.Priority, kind: highest, value: priority},
	{policy: param.LeastUsed, kind: lowest, value: load},
	{policy: param.LeastUsedDegradation, kind: lowest, value: degradedLoad, counts: true},
	{policy: param.PriorityLeastUsed, kind: lowest, value: nextLoad},
	{policy: param.RandomizedLeastUsed, kind: weighted, value: unload, rescue: true},
	{policy: param.RandomizedPriorityLeastUsed, kind: weighted, value: nextUnload},
	{policy: param.RandomizedLeastUsedDegradation, kind: weighted, value: degradedUnload, counts: true},
	{policy: param.PriorityLeastUsedDegradation, kind: lowest, value: degradedNextLoad, counts: true},
	{policy: param.RandomizedPriorityLeastUsedDegradation, kind: weighted, value: degradedNextUnload, counts: true},
	{policy: param.WeightedRandomDPF, kind: weighted, value: nearWeight},
	{policy: param.LeastUsedDPF, kind: lowest, value: distantLoad},
	{policy: param.LeastUsedDegradationDPF, kind: lowest, value: degradedDistantLoad, counts: true},
}

// ruleOf returns the rule of a policy type.
func ruleOf(t param.PolicyType) *rule {
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

// full is a load of 100 % (RFC 5356, Section 3.1).
const full = 0xffffffff

func weight(p *param.Policy, _ uint32) uint32   { return p.Weight }
func priority(p *param.Policy, _ uint32) uint32 { return p.Priority }
func load(p *param.Policy, _ uint32) uint32     { return p.Load }

// degradedLoad is RFC 5356, Section 5.2.2.
func degradedLoad(p *param.Policy, n uint32) uint32 { return sum(p.Load, degradation(p, n)) }

// nextLoad is the load with one user more (RFC 5356, Section 5.3.2).
func nextLoad(p *param.Policy, _ uint32) uint32 { return sum(p.Load, p.LoadDegradation) }

// unload is RFC 5356, Section 5.4.2. An element without any capacity left is
// not chosen.
func unload(p *param.Policy, _ uint32) uint32 { return full - p.Load }

// What follows is RSPLIB's. Its randomized policies keep every element within
// reach.

func nextUnload(p *param.Policy, n uint32) uint32 { return max(1, full-nextLoad(p, n)) }

func degradedUnload(p *param.Policy, n uint32) uint32 { return max(1, full-degradedLoad(p, n)) }

func degradedNextLoad(p *param.Policy, n uint32) uint32 {
	return sum(nextLoad(p, n), degradation(p, n))
}

func degradedNextUnload(p *param.Policy, n uint32) uint32 {
	return max(1, full-degradedNextLoad(p, n))
}

// nearWeight is Weight * (1 - Distance * Weight DPF), rounded. An element that
// can serve stays within reach, however far it is.
func nearWeight(p *param.Policy, _ uint32) uint32 {
	if p.Weight == 0 {
		return 0
	}
	near := uint64(full - distance(p))
	return max(1, uint32((uint64(p.Weight)*near+full/2)/full))
}

func distantLoad(p *param.Policy, _ uint32) uint32 { return sum(p.Load, distance(p)) }

func degradedDistantLoad(p *param.Policy, n uint32) uint32 {
	return sum(distantLoad(p, n), degradation(p, n))
}

// degradation is what n selections add to the load.
func degradation(p *param.Policy, n uint32) uint32 { return product(n, p.LoadDegradation) }

// distance is what the distance adds to the load: DPF is the fraction of full
// for a unit of it.
func distance(p *param.Policy) uint32 { return product(p.Distance, p.DPF) }

// sum and product end at full.
func sum(a, b uint32) uint32 {
	s, carry := bits.Add32(a, b, 0)
	if carry != 0 {
		return full
	}
	return s
}

func product(a, b uint32) uint32 { return uint32(min(uint64(a)*uint64(b), full)) }
