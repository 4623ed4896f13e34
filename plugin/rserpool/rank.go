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
	highest  uint64 // Value
	rank     uint16 // of the record before
}

func newRanking(mode srvMode, policy rsp.PolicyType, selected []handlespace.Selected) ranking {
	r := ranking{mode: mode, values: handlespace.ValuesOf(policy), selected: selected}
	for _, s := range selected {
		r.highest = max(r.highest, s.Value)
	}
	return r
}

// of returns priority and weight of record i. It must be called for the records in
// order. Equal weights are 1, not 0: RFC 2782 does not ask clients to choose at random
// among records of weight 0.
func (r *ranking) of(i int) (priority, weight uint16) {
	if r.mode == srvRank {
		return clamp(i), 0
	}
	switch r.values {
	case handlespace.Weights:
		return 0, r.weight(r.selected[i].Value)
	case handlespace.Priorities, handlespace.Loads:
		// The selection is ordered by the value.
		if i > 0 && r.selected[i].Value != r.selected[i-1].Value {
			r.rank++
		}
		return r.rank, 1
	case handlespace.NoValues:
	}
	return 0, 1
}

// weight scales the values of a selection in proportion to the 65535 that SRV allows. A
// small value becomes 1, because the policy does select the element.
func (r *ranking) weight(v uint64) uint16 {
	w := v
	if r.highest > math.MaxUint16 {
		w = (w*math.MaxUint16 + r.highest/2) / r.highest
	}
	return uint16(max(1, w))
}

func clamp(i int) uint16 { return uint16(min(i, math.MaxUint16)) }
