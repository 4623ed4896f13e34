package pu

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestCacheDistribution: over several users, elements get their shares by the policy of
// the pool, whether each user selects once, a few times or often, and whether its window
// is the whole pool or not. The registrar is its handlespace, which gives each user the
// elements that its policy selects. The test is a chi-square test at a level of 0.0001.
func TestCacheDistribution(t *testing.T) {
	const quarter = 1 << 30
	uniform := func(rserpool.Policy) float64 { return 1 }
	byWeight := func(p rserpool.Policy) float64 { return float64(p.Weight) }
	for _, tt := range []struct {
		policy rserpool.PolicyType
		share  func(rserpool.Policy) float64
		window bool // also where the pool is greater than the window
	}{
		{rserpool.RoundRobin, uniform, true},
		{rserpool.Random, uniform, true},
		{rserpool.PolicyType(4711), uniform, true},
		{rserpool.WeightedRoundRobin, byWeight, false},
		{rserpool.WeightedRandom, byWeight, false},
		{rserpool.RandomizedLeastUsed, func(p rserpool.Policy) float64 { return float64(0xffffffff - p.Load) }, false},
		{rserpool.Priority, func(p rserpool.Policy) float64 { return float64(p.Priority / 4) }, false},
		{rserpool.LeastUsed, func(p rserpool.Policy) float64 { return float64(1 - min(p.Load, 1)) }, false},
	} {
		for _, c := range []struct{ elements, users, selections int }{
			{20, 1, 10000}, {20, 3000, 1}, {20, 1000, 7}, {20, 200, 63}, {300, 600, 1}, {300, 300, 50},
		} {
			if c.elements > 128 && !tt.window {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d elements, %d users select %d times", tt.policy, c.elements, c.users, c.selections), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(5, 6))
				var all []rserpool.PoolElement
				var shares []float64
				for i := range c.elements {
					p := rserpool.Policy{Type: tt.policy, Weight: uint32(1 + i%5), Priority: uint32(i % 5), Load: uint32(i%4) * quarter}
					all = append(all, elementAt(rserpool.PEID(i), p))
					shares = append(shares, tt.share(p))
				}
				seen := selectOften(t, all, c.users, c.selections, rnd)
				chiSquare(t, seen, shares)
			})
		}
	}
}

// selectOften counts what users select, each with a cache of its own.
func selectOften(t *testing.T, all []rserpool.PoolElement, users, selections int, rnd *rand.Rand) []int {
	t.Helper()
	space := handlespace.New(rnd)
	for i := range all {
		if _, err := space.Put(testPool, &handlespace.Element{PoolElement: all[i]}); err != nil {
			t.Fatal(err)
		}
	}
	seen := make([]int, len(all))
	now := time.Unix(1_000_000, 0)
	for range users {
		k := newCacheCore(CacheConfig{}, rand.New(rand.NewPCG(rnd.Uint64(), 1)))
		if _, v := k.pick(now, testPool, choice{}); v != awaiting {
			t.Fatal("a cold cache does not ask")
		}
		res := &Resolution{Pool: testPool, Policy: rserpool.Policy{Type: all[0].Policy.Type}, Subscribed: true}
		for _, s := range space.Pool(testPool).Select(nil, k.cfg.Elements, 0) {
			res.Elements = append(res.Elements, s.PoolElement)
		}
		k.answered(now, testPool, k.take()[0].id, result{res: res})
		for range selections {
			el, v := k.pick(now, testPool, choice{})
			if v != picked {
				t.Fatalf("verdict %v", v)
			}
			seen[el.ID]++
		}
	}
	return seen
}

// TestCacheDistributionOfUpdates: a user that selects once between any two updates takes its
// own turns. The registrar's turns are no measure then: with as many users as elements, each
// user's updates would always begin with the same element.
func TestCacheDistributionOfUpdates(t *testing.T) {
	for _, policy := range []rserpool.PolicyType{rserpool.RoundRobin, rserpool.WeightedRoundRobin, rserpool.Random, rserpool.WeightedRandom} {
		t.Run(policy.String(), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(7, 8))
			space := handlespace.New(rnd)
			const n = 12
			shares := make([]float64, n)
			for i := range n {
				e := elementAt(rserpool.PEID(i), rserpool.Policy{Type: policy, Weight: uint32(1 + i%3)})
				if _, err := space.Put(testPool, &handlespace.Element{PoolElement: e}); err != nil {
					t.Fatal(err)
				}
				shares[i] = 1
				if e.Policy.Type == rserpool.WeightedRoundRobin || e.Policy.Type == rserpool.WeightedRandom {
					shares[i] = float64(e.Policy.Weight)
				}
			}
			w := newCacheWorld(t, CacheConfig{})
			news := func() result {
				res := &Resolution{Pool: testPool, Policy: rserpool.Policy{Type: policy}, Subscribed: true}
				for range n { // an update for each user
					res.Elements = nil
					for _, s := range space.Pool(testPool).Select(nil, 128, 0) {
						res.Elements = append(res.Elements, s.PoolElement)
					}
				}
				return result{res: res}
			}
			w.pick(testPool, choice{})
			w.answer(news())
			seen := make([]int, n)
			for range 3000 {
				el, _ := w.c.pick(w.now, testPool, choice{})
				seen[el.ID]++
				w.news(news())
			}
			chiSquare(t, seen, shares)
		})
	}
}

// chiSquare compares counts with shares.
func chiSquare(t *testing.T, seen []int, shares []float64) {
	t.Helper()
	total, sum, free := 0, 0.0, -1.0
	for i := range seen {
		total += seen[i]
		sum += shares[i]
		if shares[i] > 0 {
			free++
		}
	}
	var chi float64
	for i, n := range seen {
		want := float64(total) * shares[i] / sum
		if want == 0 {
			if n > 0 {
				t.Errorf("element %d was selected %d times, want never", i, n)
			}
			continue
		}
		chi += (float64(n) - want) * (float64(n) - want) / want
	}
	// Wilson and Hilferty: 3.72 standard deviations are a level of 0.0001.
	limit := free * math.Pow(1-2/(9*free)+3.72*math.Sqrt(2/(9*free)), 3)
	if chi > limit {
		t.Errorf("chi-square is %.1f for %v degrees of freedom, want less than %.1f: %v", chi, free, limit, seen)
	}
}

// TestCacheDegradation: the user counts its own selections on top of the loads (RFC 5356,
// Sections 5.2 and 5.3), so that loads and selections are balanced until new loads come.
func TestCacheDegradation(t *testing.T) {
	const percent = 0xffffffff / 100
	for _, policy := range []rserpool.PolicyType{rserpool.LeastUsedDegradation, rserpool.PriorityLeastUsedDegradation} {
		t.Run(policy.String(), func(t *testing.T) {
			w := newCacheWorld(t, CacheConfig{})
			w.pick(testPool, choice{})
			loads := []uint32{0, 10, 30}
			answer := func() result {
				r := resolution(true)
				r.res.Policy.Type = policy
				for i, load := range loads {
					p := rserpool.Policy{Type: policy, Load: load * percent, LoadDegradation: percent}
					r.res.Elements = append(r.res.Elements, elementAt(rserpool.PEID(i+1), p))
				}
				return r
			}
			w.answer(answer())
			counts := map[string]int{}
			for range 80 {
				counts[w.pick(testPool, choice{})]++
			}
			// 40 % for each: 40, 30 and 10 selections.
			if fmt.Sprint(counts) != "map[1:40 2:30 3:10]" {
				t.Errorf("selected %v, want up to a load of 40 %% each", counts)
			}
			loads = []uint32{40, 40, 20} // what was selected counts in the loads now
			w.news(answer())
			clear(counts)
			for range 80 {
				counts[w.pick(testPool, choice{})]++
			}
			if counts["3"] < 39 || counts["3"] > 41 {
				t.Errorf("selected %v, want 40 times the third", counts)
			}
		})
	}
}

// TestCachePolicyOfPool: the values of an element whose policy is not that of the pool do
// not decide (RFC 5352, Section 2.2.6).
func TestCachePolicyOfPool(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	r := resolution(true, 1, 2)
	for i := range r.res.Elements {
		r.res.Elements[i].Policy = rserpool.Policy{Type: rserpool.Priority, Priority: uint32(i)}
	}
	w.answer(r)
	w.want(testPool, choice{}, "1", "2", "1")
}

// TestCacheWeightless: elements of weight 0 do not serve.
func TestCacheWeightless(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	r := resolution(true, 1, 2)
	r.res.Policy.Type = rserpool.WeightedRoundRobin
	r.res.Elements[0].Policy = rserpool.Policy{Type: rserpool.WeightedRoundRobin}
	r.res.Elements[1].Policy = rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: 1}
	w.answer(r)
	w.want(testPool, choice{}, "2", "2")
	w.wait(time.Second)
	r.res.Elements = r.res.Elements[:1]
	w.news(r)
	w.want(testPool, choice{}, "wait")
}
