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
			if want == nil || c.at.Before(want.at) || c.at.Equal(want.at) && c.seq < want.seq {
				want = c
			}
		}
		for i, h := range q.heap {
			if h.place != i+1 || h.owner == nil || i > 0 && q.less(i, (i-1)/2) {
				t.Fatalf("step %d: timer %d has place %d, or is before its parent", step, i, h.place)
			}
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
		got = append(got, slices.IndexFunc(list, func(x Timer[int]) bool { return x.seq == tm.seq }))
		q.Stop(tm)
	}
	if !slices.IsSorted(got) {
		t.Errorf("order of timers with one deadline: got %v, want the order of arming", got)
	}
}
