package handlespace

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestConcurrent has one writer and many readers. An element's weight and load
// are derived from its version, so that a torn one would show, and a reader
// that begins after an element was removed must not see it.
func TestConcurrent(t *testing.T) {
	const pools, ids, readers, steps = 8, 16, 4, 20000
	policies := testPolicies()
	handle := func(i int) rserpool.PoolHandle { return rserpool.PoolHandle(fmt.Sprintf("Pool%d.zone", i)) }
	name := func(i int) []byte { return fmt.Appendf(nil, "pool%d.ZONE", i) }
	s := newSpace()
	// removed holds, for each element, the version up to which all have been
	// removed, as far as the writer has said so.
	var removed [pools][ids]atomic.Int32
	var stop atomic.Bool
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop.Store(true)
	for reader := range readers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(reader), 9))
			var dst []Selected
			for !stop.Load() {
				i := r.IntN(pools)
				var gone [ids]int32
				for id := range gone {
					gone[id] = removed[i][id].Load()
				}
				p, _ := s.Lookup(name(i))
				if p == nil {
					continue
				}
				if p.Handle() != handle(i) {
					t.Errorf("Lookup(%q) = %q", name(i), p.Handle())
				}
				f := Families(r.IntN(classes))
				dst = p.Select(dst[:0], r.IntN(5), f)
				for _, e := range dst {
					if e.Life <= gone[e.ID] {
						t.Errorf("element %v of version %d selected, gone up to %d", e.ID, e.Life, gone[e.ID])
					}
					if e.Policy.Weight != uint32(e.Life)+1 || e.Policy.Type != p.Policy() || !f.admits(e.Families()) {
						t.Errorf("element %v of version %d has policy %+v in a pool of %v", e.ID, e.Life, e.Policy, p.Policy())
					}
				}
				switch r.IntN(20) {
				case 0:
					last := int64(-1)
					for _, e := range p.Elements(nil) {
						if int64(e.ID) <= last {
							t.Errorf("elements out of order: %v after %v", e.ID, last)
						}
						last = int64(e.ID)
					}
				case 1:
					for p := range s.Pools() {
						p.Len()
						p.Element(3)
					}
					s.Len()
					s.Changes()
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 1))
	var present [pools][ids]int32
	for version := int32(1); version <= steps; version++ {
		i, id := r.IntN(pools), r.IntN(ids)
		if r.IntN(2) == 0 {
			if (s.Remove(handle(i), rserpool.PEID(id)) != nil) != (present[i][id] != 0) {
				t.Fatalf("Remove(%d, %d) disagrees with what was put", i, id)
			}
			removed[i][id].Store(version)
			present[i][id] = 0
			continue
		}
		policy := policies[r.IntN(len(policies))]
		if p := s.Pool(handle(i)); p != nil {
			policy = p.Policy()
		}
		e := newElement(rserpool.PEID(id), Families(r.IntN(classes)), rserpool.Policy{Type: policy, Weight: uint32(version) + 1, Load: uint32(version)})
		e.Life = version
		mustPut(t, s, handle(i), e)
		present[i][id] = version
	}
}

// TestRenew: a pool of one element that gets another policy, again and again, is never
// found without it.
func TestRenew(t *testing.T) {
	s := newSpace()
	mustPut(t, s, "p", roundRobin(1))
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if p := s.Pool("p"); p == nil || len(p.Select(nil, 1, 0)) != 1 {
					t.Error("a pool without an element")
					return
				}
			}
		})
	}
	for i := range 2000 {
		policy := []rserpool.PolicyType{rserpool.LeastUsed, rserpool.RoundRobin}[i%2]
		old, err := s.Renew("p", newElement(1, IPv4, rserpool.Policy{Type: policy}))
		if old == nil || err != nil || s.Pool("p").Policy() != policy {
			t.Fatalf("Renew: %v, %v, policy %v", old, err, s.Pool("p").Policy())
		}
	}
	close(stop)
	readers.Wait()
	if pools, elements := s.Len(); pools != 1 || elements != 1 || s.Changes() != 2001 {
		t.Errorf("%d pools, %d elements, %d changes", pools, elements, s.Changes())
	}
	for _, e := range []*Element{newElement(2, IPv4, rserpool.Policy{Type: rserpool.LeastUsed}), roundRobin(2)} { // another one, or not alone
		old, err := s.Renew("p", e)
		if old != nil || (err == nil) != (e.Policy.Type == rserpool.RoundRobin) {
			t.Errorf("Renew(%v): %v, %v", e.Policy, old, err)
		}
	}
	if _, err := s.Renew("p", newElement(1, IPv4, rserpool.Policy{Type: rserpool.LeastUsed})); err == nil {
		t.Error("an element that is not alone has made the pool another one")
	}
}
