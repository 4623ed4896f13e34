package handlespace

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// smooth is the smooth weighted round robin: in every step all earn their
// weight, the richest is chosen and pays the sum.
func smooth(ws []uint32, n int) []int {
	credit := make([]int64, len(ws))
	var sum int64
	for _, w := range ws {
		sum += int64(w)
	}
	var chosen []int
	for range n {
		best := 0
		for i, w := range ws {
			credit[i] += int64(w)
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= sum
		chosen = append(chosen, best)
	}
	return chosen
}

// worstGap is the longest wait between two turns of the same element, as a
// multiple of what its weight promises. The list is circular.
func worstGap(ws []uint32, list []int) float64 {
	worst := 0.0
	for i, w := range ws {
		var places []int
		for place, id := range list {
			if id == i {
				places = append(places, place)
			}
		}
		for k, place := range places {
			next := places[0] + len(list)
			if k+1 < len(places) {
				next = places[k+1]
			}
			worst = max(worst, float64(next-place)*float64(w)/float64(len(list)))
		}
	}
	return worst
}

func weightedLists() map[string][]uint32 {
	lists := map[string][]uint32{
		"one":           {7},
		"equal":         {1, 1, 1, 1, 1},
		"equal large":   {100, 100, 100},
		"3 1":           {3, 1},
		"5 1 1":         {5, 1, 1},
		"7 3":           {7, 3},
		"4 2 1 1":       {4, 2, 1, 1},
		"1 to 5":        {1, 2, 3, 4, 5},
		"100 1":         {100, 1},
		"one double":    append([]uint32{2}, slices.Repeat([]uint32{1}, 99)...),
		"one heavy":     append([]uint32{50}, slices.Repeat([]uint32{1}, 50)...),
		"heavy at last": append(slices.Repeat([]uint32{1}, 50), 50),
		"two groups":    append(slices.Repeat([]uint32{10}, 10), slices.Repeat([]uint32{1}, 10)...),
	}
	r := rand.New(rand.NewPCG(11, 12))
	for i := range 6 {
		var small, powers []uint32
		for range 5 + 10*i {
			small = append(small, 1+r.Uint32N(100))
			powers = append(powers, 1<<r.Uint32N(7))
		}
		lists[fmt.Sprintf("random %d", i)] = small
		lists[fmt.Sprintf("powers %d", i)] = powers
	}
	return lists
}

// TestWeightedRoundRobin checks RFC 5356, Section 4.2.2: the ratio is exact in
// every window as long as the sum of weights, wherever it begins, and the
// turns of an element are as evenly spread as those of the smooth weighted
// round robin, or nearly so, or better.
func TestWeightedRoundRobin(t *testing.T) {
	for name, ws := range weightedLists() {
		t.Run(name, func(t *testing.T) {
			sum := 0
			for _, w := range ws {
				sum += int(w)
			}
			_, p := poolOf(t, weights(rserpool.WeightedRoundRobin, ws...)...)
			var list []int
			for range 3 * sum {
				got := p.Select(nil, 1, 0)[0]
				if got.Value != uint64(ws[got.ID]) {
					t.Fatalf("element %v has value %d, want %d", got.ID, got.Value, ws[got.ID])
				}
				list = append(list, int(got.ID))
			}
			if !slices.Equal(list[:sum], list[sum:2*sum]) || !slices.Equal(list[:sum], list[2*sum:]) {
				t.Fatal("rounds differ")
			}
			count := make([]uint32, len(ws))
			for _, id := range list[:sum] {
				count[id]++
			}
			if !slices.Equal(count, ws) {
				t.Errorf("turns in a round: %v, want %v", count, ws)
			}
			ours, theirs := worstGap(ws, list[:sum]), worstGap(ws, smooth(ws, sum))
			t.Logf("worst gap %.2f, smooth %.2f times the promised", ours, theirs)
			if ours > 2 || ours > 1.3*theirs {
				t.Errorf("worst gap %.2f times the promised, smooth weighted round robin has %.2f", ours, theirs)
			}
		})
	}
}

// TestWeightedRoundRobinNext: with n > 1 the others are those whose turns come
// next, each once.
func TestWeightedRoundRobinNext(t *testing.T) {
	_, p := poolOf(t, weights(rserpool.WeightedRoundRobin, 9, 3, 3, 1)...)
	var lists [][]int
	for range 48 {
		lists = append(lists, ids(p, 3, 1)[0])
	}
	for i := range 32 {
		var want []int
		for _, l := range lists[i:] {
			if len(want) < 3 && !slices.Contains(want, l[0]) {
				want = append(want, l[0])
			}
		}
		if !slices.Equal(lists[i], want) {
			t.Errorf("selection %d is %v, but the turns to come are %v", i, lists[i], want)
		}
	}
}

// TestWeightedRoundRobinJoin: newcomers and heavier weights make no burst, and
// the others wait no longer than their share demands.
func TestWeightedRoundRobinJoin(t *testing.T) {
	r := rand.New(rand.NewPCG(21, 22))
	s, p := poolOf(t, weights(rserpool.WeightedRoundRobin, 5, 3, 2)...)
	ids(p, 1, 10*r.IntN(1000)+7)
	put := func(id rserpool.PEID, w uint32) {
		mustPut(t, s, "p", newElement(id, IPv4, rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: w}))
	}
	window := func(want ...int) {
		t.Helper()
		sum := 0
		for _, w := range want {
			sum += w
		}
		got := make([]int, len(want))
		for range sum {
			got[p.Select(nil, 1, 0)[0].ID]++
		}
		if !slices.Equal(got, want) {
			t.Errorf("turns %v, want %v", got, want)
		}
	}
	window(5, 3, 2)
	put(3, 10)
	window(5, 3, 2, 10)
	put(0, 1) // less
	window(1, 3, 2, 10)
	put(1, 30) // more
	window(1, 30, 2, 10)
	put(1, 30) // a re-registration in the middle of a round
	window(1, 30, 2, 10)
	put(2, 0)
	window(1, 30, 0, 10)
	put(2, 2)
	window(1, 30, 2, 10)
	s.Remove("p", 3)
	window(1, 30, 2)
	put(3, 10)
	window(1, 30, 2, 10)
	for range 5 { // re-registering often gains nothing
		put(2, 2)
		put(2, 3)
		put(2, 2)
	}
	window(1, 30, 2, 10)
}

// TestWeightedRoundRobinBacklog: those that a family filter has left out for
// long are served once each, and then by weight again.
func TestWeightedRoundRobinBacklog(t *testing.T) {
	s := newSpace()
	ws := []uint32{4, 4, 1, 1}
	for id, w := range ws {
		f := IPv4
		if id%2 == 1 {
			f = IPv6
		}
		mustPut(t, s, "p", newElement(rserpool.PEID(id), f, rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: w}))
	}
	p := s.Pool("p")
	for range 1003 {
		p.Select(nil, 1, IPv4)
	}
	backlog := map[rserpool.PEID]bool{p.Select(nil, 1, 0)[0].ID: true, p.Select(nil, 1, 0)[0].ID: true}
	if !backlog[1] || !backlog[3] {
		t.Errorf("after a long time for IPv4 alone: %v, want elements 1 and 3", backlog)
	}
	got := make([]uint32, len(ws))
	for range 10 {
		got[p.Select(nil, 1, 0)[0].ID]++
	}
	if !slices.Equal(got, ws) {
		t.Errorf("turns %v, want %v", got, ws)
	}
}

// TestPhase: the multiples of the golden ratio leave no gap of more than three
// times the mean, whichever element is the last to join.
func TestPhase(t *testing.T) {
	for _, first := range []uint32{0, 1, 12345, 0xfffff000} {
		for n := 4; n <= 4096; n = n*3/2 + 1 {
			var ps []uint64
			for i := range n {
				ps = append(ps, phase(first+uint32(i)))
			}
			slices.Sort(ps)
			mean := ^uint64(0) / uint64(n)
			for i, p := range ps {
				if gap := ps[(i+1)%n] - p; gap > 3*mean {
					t.Errorf("%d phases from %d on: gap of %.2f times the mean", n, first, float64(gap)/float64(mean))
				}
			}
		}
	}
}

// TestPosition walks through the turns of extreme weights.
func TestPosition(t *testing.T) {
	for _, w := range []uint32{1, 2, 3, 1 << 16, 1<<31 + 1, 0xffffffff} {
		for _, ph := range []uint64{0, 1, phase(1), phase(0xffffffff), 1<<64 - 1} {
			t.Run(fmt.Sprintf("%d/%x", w, ph), func(t *testing.T) {
				// As many turns between two rounds as the weight says:
				// seen at the ends, for the large ones.
				var at position
				for range 3 {
					first := at.next(w, ph)
					for i := range min(w, 1000) {
						next := at.next(w, ph)
						if !at.key().before(next.key()) {
							t.Fatalf("turn %d is at %v, after %v", i, next, at)
						}
						if w > 1 && next.round > at.round+1 {
							t.Fatalf("turn %d is at %v, after %v", i, next, at)
						}
						at = next
					}
					if w <= 1000 {
						if again := at.next(w, ph); again.round != first.round+1 || again.fraction != first.fraction {
							t.Fatalf("%v after %d turns from %v", again, w, first)
						}
					}
					at = position{at.round, 1<<fractionBits - 1}
					if next := at.next(w, ph); next.round != at.round+1 {
						t.Fatalf("%v follows the end of round %d", next, at.round)
					}
				}
				if got := positionOf(at.key()); got != at {
					t.Errorf("%v as a key and back is %v", at, got)
				}
			})
		}
	}
}
