package rserpool

import (
	"math"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// srvMode is the meaning of priority and weight in SRV records.
type srvMode uint8

const (
	// srvPolicy: what the pool's policy does.
	srvPolicy srvMode = iota
	// srvRank: the order of selection.
	srvRank
)

// ranking gives the SRV priorities and weights of a selection.
type ranking struct {
	mode     srvMode
	values   handlespace.Values
	selected []handlespace.Selected
	shared   uint64 // the part of Sums that all have
	highest  uint64 // capacity
	rank     uint16 // of the record before
}

func newRanking(mode srvMode, policy rsp.PolicyType, selected []handlespace.Selected) ranking {
	r := ranking{mode: mode, values: handlespace.ValuesOf(policy), selected: selected}
	if r.values == handlespace.Sums {
		r.shared = math.MaxUint64
		for _, s := range selected {
			r.shared = min(r.shared, s.Value-min(s.Value, uint64(s.Policy.Load)))
		}
	}
	for i := range selected {
		r.highest = max(r.highest, r.capacity(i))
	}
	return r
}

// of returns priority and weight of record i. It must be called for the records in
// order. Equal weights are 1, not 0: RFC 2782 does not ask clients to choose at random
// among records of weight 0.
//
// Loads become weights, not ranks: all clients that hold the same cached answer would use
// the element of the first rank.
func (r *ranking) of(i int) (priority, weight uint16) {
	if r.mode == srvRank {
		return clamp(i), 0
	}
	switch r.values {
	case handlespace.Weights, handlespace.Loads, handlespace.Sums:
		return 0, r.weight(i)
	case handlespace.Priorities:
		// The selection is ordered by the value.
		if i > 0 && r.selected[i].Value != r.selected[i-1].Value {
			r.rank++
		}
		return r.rank, 1
	case handlespace.NoValues:
	}
	return 0, 1
}

// weighs reports whether the weights differ by the capacity of the elements.
func (r *ranking) weighs() bool {
	return r.mode == srvPolicy && r.values != handlespace.NoValues && r.values != handlespace.Priorities
}

// capacity is what the weight of record i is in proportion to.
func (r *ranking) capacity(i int) uint64 {
	v := r.selected[i].Value
	switch r.values {
	case handlespace.Loads, handlespace.Sums:
		return math.MaxUint32 - min(v-r.shared, math.MaxUint32) // of a load of 100 %
	case handlespace.Weights:
		return v
	case handlespace.Priorities, handlespace.NoValues:
	}
	return 0
}

// weight scales the capacities of a selection so that the greatest is 65535, the most that
// SRV allows: HAProxy divides weights by 256. A small one becomes 1, because the policy does
// select the element.
func (r *ranking) weight(i int) uint16 {
	if r.highest == 0 {
		return 1
	}
	return uint16(max(1, (r.capacity(i)*math.MaxUint16+r.highest/2)/r.highest))
}

func clamp(i int) uint16 { return uint16(min(i, math.MaxUint16)) }
