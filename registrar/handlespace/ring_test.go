package handlespace

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// soundRing tells what is wrong with a pool's ring.
func (p *Pool) soundRing() error {
	r := p.ringOf()
	if r == nil {
		return nil
	}
	spots, last := 0, uint64(0)
	for i, chunk := range r.chunks {
		if len(chunk) == 0 || cap(chunk) > chunkLen || i > 0 && len(chunk)+len(r.chunks[i-1]) <= chunkLen/2 {
			return fmt.Errorf("chunk %d has %d spots, room for %d", i, len(chunk), cap(chunk))
		}
		for _, s := range chunk {
			if spots++; spots > 1 && s.at <= last {
				return fmt.Errorf("spot %d is out of order", spots)
			}
			if last = s.at; int(s.slot) >= len(p.members.elems) || ruleOf(p.policy).spotOf(p.members.elems[s.slot]) != s.at {
				return fmt.Errorf("spot %d is not that of slot %d", spots, s.slot)
			}
		}
	}
	if spots != len(p.members.elems) {
		return fmt.Errorf("%d spots, %d elements", spots, len(p.members.elems))
	}
	return nil
}

// TestRing: the ring stays sound, and takes memory in proportion to the pool, while that
// grows and shrinks.
func TestRing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, policy := range []rserpool.PolicyType{rserpool.RoundRobin, rserpool.Priority} {
		s := newSpace()
		put := func() {
			mustPut(t, s, "p", newElement(rserpool.PEID(r.IntN(5000)), IPv4, rserpool.Policy{Type: policy, Priority: r.Uint32N(3) * (full / 2)}))
		}
		put()
		put()
		p := s.Pool("p")
		p.SelectSet(nil, 1, 0, 0)
		if got := cap(p.work.ring.chunks[0]); got > p.Len() {
			t.Errorf("policy %s: room for %d spots in a pool of %d", policyName(policy), got, p.Len())
		}
		for range 2 {
			for range 8000 {
				put()
			}
			if err := p.sound(); err != nil || p.Len() < 3000 {
				t.Fatalf("policy %s, %d elements: %v", policyName(policy), p.Len(), err)
			}
			for p.Len() > 10 {
				s.Remove("p", p.members.elems[r.IntN(p.Len())].ID)
			}
			if err := p.sound(); err != nil || len(p.work.ring.chunks) > 2 {
				t.Fatalf("policy %s, %d elements in %d chunks: %v", policyName(policy), p.Len(), len(p.work.ring.chunks), err)
			}
		}
	}
}
