package handlespace

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

func percent(n uint32) uint32 { return 0xffffffff / 100 * n }

func degrading(t rserpool.PolicyType, load, degradation uint32) rserpool.Policy {
	return rserpool.Policy{Type: t, Load: percent(load), LoadDegradation: percent(degradation)}
}

// counted tells how often each of n elements is selected, one at a time.
func counted(p *Pool, n, selections int) []int {
	times := make([]int, n)
	var dst []Selected
	for range selections {
		dst = p.Select(dst[:0], 1, 0)
		times[dst[0].ID]++
	}
	return times
}

// TestDegradationBeyondFullLoad: sums of load and degradation have no ceiling
// (RFC 5356, Sections 5.2.2 and 5.3.2), so that degradations of 10 % and 30 %
// mean 3 to 1 forever.
func TestDegradationBeyondFullLoad(t *testing.T) {
	for _, typ := range []rserpool.PolicyType{rserpool.LeastUsedDegradation, rserpool.LeastUsedDegradationDPF} {
		t.Run(policyName(typ), func(t *testing.T) {
			_, p := poolOf(t, degrading(typ, 0, 10), degrading(typ, 0, 30))
			for round := range 50 {
				if got := counted(p, 2, 40); got[0] < 29 || got[0] > 31 {
					t.Fatalf("selections %d to %d: %v, want 30 and 10", 40*round, 40*round+39, got)
				}
			}
		})
	}
	t.Run("PLU", func(t *testing.T) {
		typ := rserpool.PriorityLeastUsed
		_, p := poolOf(t, degrading(typ, 90, 50), degrading(typ, 80, 70), degrading(typ, 90, 30))
		wantIDs(t, ids(p, 3, 3), []int{2, 0, 1}, []int{2, 0, 1}, []int{2, 0, 1})
		if got, want := p.Select(nil, 3, 0)[2].Value, uint64(percent(80))+uint64(percent(70)); got != want {
			t.Errorf("value %d, want %d", got, want)
		}
	})
	t.Run("PLUD", func(t *testing.T) { // the second one starts 20 % behind
		typ := rserpool.PriorityLeastUsedDegradation
		_, p := poolOf(t, degrading(typ, 90, 10), degrading(typ, 90, 30))
		counted(p, 2, 2)
		for range 50 {
			if got := counted(p, 2, 40); got[0] < 29 || got[0] > 31 {
				t.Fatalf("%v of 40, want 30 and 10", got)
			}
		}
	})
}

// TestRandomDegradationBeyondFullLoad: the randomized policies continue to tell
// loads apart, too.
func TestRandomDegradationBeyondFullLoad(t *testing.T) {
	typ := rserpool.RandomizedLeastUsedDegradation
	_, p := poolOf(t, degrading(typ, 0, 10), degrading(typ, 0, 30))
	counted(p, 2, 1000)
	if got := counted(p, 2, 10000); got[0] < 6500 {
		t.Errorf("%v of 10000, want the element with a third of the degradation to have far more than half", got)
	}
}

// TestDegradationForMillions: sums are set back before they end, and the order
// stays.
func TestDegradationForMillions(t *testing.T) {
	typ := rserpool.LeastUsedDegradation
	_, p := poolOf(t, degrading(typ, 0, 100), degrading(typ, 50, 100), degrading(typ, 99, 50))
	counted(p, 3, 1000)
	before := counted(p, 3, 400)
	m, o := &p.members, p.index.(*order)
	for i := range m.degraded.sums { // as after 2^30 selections of 100 %
		m.degraded.sums[i].hi += maxSum
	}
	for c := range o.heaps {
		for i := range o.heaps[c] {
			o.heaps[c][i].hi += maxSum
		}
	}
	if after := counted(p, 3, 400); !slices.Equal(after, before) {
		t.Errorf("selections %v, want %v as before", after, before)
	}
	if got := m.degraded.lowest(); got >= maxSum {
		t.Errorf("the lowest sum is %d, want less than %d", got, uint64(maxSum))
	}
	if err := p.sound(); err != nil {
		t.Error(err)
	}
}

// TestDegradationOfNewcomers: an element that joins late, or returns, gets no more than its
// share.
func TestDegradationOfNewcomers(t *testing.T) {
	typ := rserpool.LeastUsedDegradation
	s, p := poolOf(t, degrading(typ, 0, 5), degrading(typ, 0, 5))
	counted(p, 2, 10000)
	mustPut(t, s, "p", newElement(2, IPv4, degrading(typ, 0, 5)))
	if got := counted(p, 3, 300); slices.Max(got) > 102 || slices.Min(got) < 98 {
		t.Errorf("selections %v of 300 with one that has just joined, want 100 each", got)
	}
	s.Remove("p", 0)
	mustPut(t, s, "p", newElement(0, IPv4, degrading(typ, 0, 5)))
	if got := counted(p, 3, 300); slices.Max(got) > 102 || slices.Min(got) < 98 {
		t.Errorf("selections %v of 300 with one that has come back, want 100 each", got)
	}
}

// TestDegradationDoesNotHerd has two elements that report a load every two
// seconds, in turn, which is the part of the requests of the last two seconds
// that they got. With the RFC's counter, which every registration sets to 0,
// the one that has just reported gets every request at the higher rates.
func TestDegradationDoesNotHerd(t *testing.T) {
	for _, rate := range []int{1, 10, 1000} { // selections a second
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			typ := rserpool.LeastUsedDegradation
			s, p := poolOf(t, degrading(typ, 0, 5), degrading(typ, 0, 5))
			var share [2]int // since the last report
			var all [2]int
			longest, run, last := 0, 0, -1
			gap := time.Second / time.Duration(rate)
			next := time.Second
			reporter := 0
			for now := time.Duration(0); now < time.Minute; now += gap {
				for ; next <= now; next += time.Second {
					load := uint32(0)
					if n := share[0] + share[1]; n > 0 {
						load = uint32(50 * share[reporter] / n)
					}
					mustPut(t, s, "p", newElement(rserpool.PEID(reporter), IPv4, degrading(typ, load, 5)))
					share[reporter] = 0
					reporter = 1 - reporter
				}
				id := int(p.Select(nil, 1, 0)[0].ID)
				share[id]++
				all[id]++
				if id != last {
					run, last = 0, id
				}
				run++
				longest = max(longest, run)
			}
			total := all[0] + all[1]
			if all[0] < total*4/10 || all[0] > total*6/10 {
				t.Errorf("selections %v, want about half each", all)
			}
			if longest > 12 { // a load of 50 % is worth ten selections
				t.Errorf("%d selections of one element in a row, want 12 at most", longest)
			}
		})
	}
}
