package handlespace

import (
	"math/rand/v2"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestUsage: every selection counts once, however many elements it has, and only if it
// moves the policy's state.
func TestUsage(t *testing.T) {
	for _, policy := range []rserpool.PolicyType{rserpool.RoundRobin, rserpool.Random, rserpool.LeastUsedDegradation} {
		s := New(rand.New(rand.NewPCG(1, 2)))
		usage := func(want uint32, what string) {
			t.Helper()
			if n, got := s.Pool("p").Usage(); n != s.Pool("p").Len() || got != want {
				t.Errorf("%v, %s: got %d elements, %d selections, want %d", policy, what, n, got, want)
			}
		}
		for id := range rserpool.PEID(3) {
			e := &Element{PoolElement: rserpool.PoolElement{ID: id + 1, Policy: rserpool.Policy{Type: policy}, UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 1}}}
			if _, err := s.Put("p", e); err != nil {
				t.Fatal(err)
			}
		}
		p := s.Pool("p")
		usage(0, "no selection")
		p.Select(nil, 2, 0)
		usage(1, "two elements")
		p.Select(nil, 2, IPv4)
		usage(1, "no candidate")
		set, _ := p.SelectSet(nil, 5, 0, 7)
		usage(2, "the whole pool")
		p.SelectSet(nil, 5, 0, 7, set[0].ID)
		usage(2, "the same lookup")
		p.SelectSet(nil, 2, 0, 7)
		usage(3, "a part")
		p.Pick(0)
		usage(4, "pick")
		s.Remove("p", 1)
		s.Remove("p", 2)
		other := &Element{PoolElement: rserpool.PoolElement{ID: 3, Policy: rserpool.Policy{Type: rserpool.Priority}, UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 1}}}
		if _, err := s.Renew("p", other); err != nil {
			t.Fatal(err)
		}
		usage(4, "another policy")
	}
}
