package deadline

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

type noOwner struct{}

func (noOwner) Due(int, *Timer[int]) {}

// The heap against a sorted list, under random changes.
func TestTimers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var q Queue[int]
	list := make([]Timer[int], 200)
	start := time.Unix(0, 0)
	for step := range 20000 {
		tm := &list[rng.IntN(len(list))]
		if rng.IntN(3) > 0 {
			q.Arm(tm, noOwner{}, start.Add(time.Duration(rng.IntN(50))))
		} else {
			q.Stop(tm)
		}
		var want *Timer[int]
		armed := 0
		for i := range list {
			c := &list[i]
			if !c.Armed() {
				continue
			}
			armed++
			if want == nil || c.at < want.at || c.at == want.at && q.heap[c.place-1].seq < q.heap[want.place-1].seq {
				want = c
			}
		}
		for i, h := range q.heap {
			if tm := q.timers[h.slot]; tm.place != uint32(i+1) || tm.slot != h.slot || tm.owner == nil || i > 0 && h.before(q.heap[(i-1)/2]) {
				t.Fatalf("step %d: timer %d has place %d, or is before its parent", step, i, tm.place)
			}
		}
		if len(q.timers) != armed+len(q.free) || len(q.timers) > len(list) {
			t.Fatalf("step %d: %d armed timers and %d free slots of %d", step, armed, len(q.free), len(q.timers))
		}
		if got := q.First(); got != want || len(q.heap) != armed {
			t.Fatalf("step %d: first is %v of %d, want %v of %d", step, got, len(q.heap), want, armed)
		}
	}
}

func TestTimersOrder(t *testing.T) {
	var q Queue[int]
	list := make([]Timer[int], 10)
	for i := range list {
		q.Arm(&list[i], noOwner{}, time.Unix(0, 0)) // all at the same time
	}
	var got []int
	for q.First() != nil {
		tm := q.First()
		got = append(got, slices.IndexFunc(list, func(x Timer[int]) bool { return x.place == tm.place }))
		q.Stop(tm)
	}
	if !slices.IsSorted(got) {
		t.Errorf("order of timers with one deadline: got %v, want the order of arming", got)
	}
}
