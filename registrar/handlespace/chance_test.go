package handlespace

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// chances returns, for drawing n of the weighted elements without putting back,
// how probable each element is at each place.
func chances(ws []float64, n int) [][]float64 {
	at := make([][]float64, n)
	for i := range at {
		at[i] = make([]float64, len(ws))
	}
	var draw func(place int, left []float64, p float64)
	draw = func(place int, left []float64, p float64) {
		var sum float64
		for _, w := range left {
			sum += w
		}
		if place == n || sum == 0 {
			return
		}
		for i, w := range left {
			if w == 0 {
				continue
			}
			at[place][i] += p * w / sum
			rest := slices.Clone(left)
			rest[i] = 0
			draw(place+1, rest, p*w/sum)
		}
	}
	draw(0, ws, 1)
	return at
}

// TestFrequencies compares how often the random policies choose each element, at each
// place, with the exact chances. Candidates are of three classes.
func TestFrequencies(t *testing.T) {
	const draws = 40000
	quarter := uint32(1) << 30
	all := func(t rserpool.PolicyType) []rserpool.Policy {
		return []rserpool.Policy{
			{Type: t, Weight: 1, Load: 0},
			{Type: t, Weight: 2, Load: quarter, LoadDegradation: quarter},
			{Type: t, Weight: 0, Load: 0xffffffff},
			{Type: t, Weight: 40, Load: quarter, LoadDegradation: 2 * quarter, DPF: 1 << 22, Distance: 512},
			{Type: t, Weight: 10, Load: 3 * quarter},
			{Type: t, Weight: 7, Load: 2 * quarter, DPF: 1 << 20, Distance: 100},
		}
	}
	for _, typ := range []rserpool.PolicyType{
		rserpool.Random, rserpool.WeightedRandom, rserpool.RandomizedLeastUsed,
		rserpool.RandomizedPriorityLeastUsed, rserpool.WeightedRandomDPF,
	} {
		for _, n := range []int{1, 3, 5} {
			for _, f := range []Families{0, IPv4} {
				t.Run(fmt.Sprintf("%s/%d/%d", policyName(typ), n, f), func(t *testing.T) {
					s := newSpace()
					slow := newSlowPool(typ)
					for id, p := range all(typ) {
						e := newElement(rserpool.PEID(id), []Families{IPv4, IPv6, IPv4 | IPv6}[id%3], p)
						mustPut(t, s, "p", e)
						slow.put(e)
					}
					ws := make([]float64, len(slow.elems))
					for i, e := range slow.elems {
						if f.admits(e.Families()) {
							ws[i] = float64(slow.value(e))
							if typ == rserpool.Random {
								ws[i] = 1
							}
						}
					}
					seen := make([][]float64, n)
					for i := range seen {
						seen[i] = make([]float64, len(ws))
					}
					var dst []Selected
					for range draws {
						dst = s.Pool("p").Select(dst[:0], n, f)
						for place, e := range dst {
							seen[place][e.ID]++
						}
					}
					for place, want := range chances(ws, n) {
						compareChances(t, fmt.Sprintf("place %d", place), seen[place], want, draws)
					}
				})
			}
		}
	}
}

// compareChances allows five standard deviations: with a fixed seed that is a
// deterministic test, and a bias of 1 % of a common element would show.
func compareChances(t *testing.T, what string, seen, want []float64, draws float64) {
	t.Helper()
	for i, p := range want {
		limit := 5 * math.Sqrt(draws*p*(1-p))
		if math.Abs(seen[i]-draws*p) > limit+1e-9*draws {
			t.Errorf("%s: element %d chosen %v times, want %.1f, at most %.1f off", what, i, seen[i], draws*p, limit)
		}
	}
}

// TestDegradedFrequencies: with a degradation of half the load, the chances
// after the first selection depend on the selected element.
func TestDegradedFrequencies(t *testing.T) {
	for _, tt := range []struct {
		typ  rserpool.PolicyType
		want [2]float64 // chances of the second selection to repeat the first, and of others
	}{
		{rserpool.RandomizedLeastUsedDegradation, [2]float64{1.0 / 3, 2.0 / 3}}, // 1/2 against 1
		{rserpool.RandomizedPriorityLeastUsedDegradation, [2]float64{0, 1}},     // 0 against 1/2
	} {
		t.Run(policyName(tt.typ), func(t *testing.T) {
			const draws = 20000
			s := newSpace()
			seen := make([]float64, 2)
			for range draws {
				for id := range rserpool.PEID(2) { // a pool that gets empty loses its state
					s.Remove("p", id)
				}
				for id := range rserpool.PEID(2) {
					mustPut(t, s, "p", newElement(id, IPv4, loads(tt.typ, 1<<31, 0)[0]))
				}
				p := s.Pool("p")
				first := p.Select(nil, 1, 0)[0].ID
				if p.Select(nil, 1, 0)[0].ID == first {
					seen[0]++
				} else {
					seen[1]++
				}
			}
			compareChances(t, "second", seen, tt.want[:], draws)
		})
	}
}

// TestUniformPairs: every ordered pair is equally probable, also after many
// selections have shuffled the urns.
func TestUniformPairs(t *testing.T) {
	const n, draws = 6, 60000
	s := newSpace()
	for id := range rserpool.PEID(n) {
		mustPut(t, s, "p", newElement(id, Families(id%2)+1, rserpool.Policy{Type: rserpool.Random}))
	}
	seen := make([]float64, n*n)
	for range draws {
		got := s.Pool("p").Select(nil, 2, 0)
		seen[got[0].ID*n+got[1].ID]++
	}
	want := make([]float64, n*n)
	for i := range want {
		if i/n != i%n {
			want[i] = 1.0 / (n * (n - 1))
		}
	}
	compareChances(t, "pair", seen, want, draws)
}

// TestExactWeights draws every ticket of a small urn once.
func TestExactWeights(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for n := range 70 {
		var s sums
		var want []int
		for i := range n {
			w := r.IntN(4)
			s.push(uint64(w))
			for range w {
				want = append(want, i)
			}
		}
		for ticket, i := range want {
			if got := s.find(uint64(ticket)); got != i {
				t.Fatalf("find(%d) among %d numbers = %d, want %d", ticket, n, got, i)
			}
		}
	}
}
