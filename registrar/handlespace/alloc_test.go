package handlespace

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestAllocs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	dst := make([]Selected, 0, 200)
	for _, policy := range testPolicies() {
		s := newSpace()
		for id := range rserpool.PEID(100) {
			mustPut(t, s, "pool", newElement(id, Families(id%classes), randomPolicy(r, policy)))
		}
		p := s.Pool("pool")
		p.Select(dst, cap(dst), 0)
		p.Preview(dst, 99, 0)
		for _, n := range []int{0, 1, 3, 50, 200} {
			if got := testing.AllocsPerRun(100, func() { p.Preview(dst, n, uint64(n)<<24) }); got != 0 {
				t.Errorf("policy %v: Preview(%d): %v allocations, want 0", policyName(policy), n, got)
			}
			for f := range Families(classes) {
				if got := testing.AllocsPerRun(100, func() { p.Select(dst, n, f) }); got != 0 {
					t.Errorf("policy %v: Select(%d, %d): %v allocations, want 0", policyName(policy), n, f, got)
				}
			}
		}
	}
	s := newSpace()
	long := strings.Repeat("Long.", 100)
	mustPut(t, s, "a.b", roundRobin(1))
	mustPut(t, s, rserpool.PoolHandle(long), roundRobin(1))
	for _, name := range []string{"a.b", "A.B", "b", "none", long, strings.ToLower(long)} {
		b := []byte(name)
		if got := testing.AllocsPerRun(100, func() { s.Lookup(b) }); got != 0 {
			t.Errorf("Lookup(%q): %v allocations, want 0", name, got)
		}
		if got := testing.AllocsPerRun(100, func() { s.Pool(rserpool.PoolHandle(name)) }); got != 0 {
			t.Errorf("Pool(%q): %v allocations, want 0", name, got)
		}
	}
}
