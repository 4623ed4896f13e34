package registrar

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

type noOwner struct{}

func (noOwner) due(*Registrar, *timer) {}

// The heap against a sorted list, under random changes.
func TestTimers(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var q timers
	list := make([]timer, 200)
	start := time.Unix(0, 0)
	for step := range 20000 {
		tm := &list[rng.IntN(len(list))]
		if rng.IntN(3) > 0 {
			q.arm(tm, noOwner{}, start.Add(time.Duration(rng.IntN(50))))
		} else {
			q.stop(tm)
		}
		var want *timer
		armed := 0
		for i := range list {
			c := &list[i]
			if !c.armed() {
				continue
			}
			armed++
			if want == nil || c.at.Before(want.at) || c.at.Equal(want.at) && c.seq < want.seq {
				want = c
			}
		}
		if got := q.first(); got != want || len(q.heap) != armed {
			t.Fatalf("step %d: first is %v of %d, want %v of %d", step, got, len(q.heap), want, armed)
		}
	}
}

func TestTimersOrder(t *testing.T) {
	var q timers
	list := make([]timer, 10)
	for i := range list {
		q.arm(&list[i], noOwner{}, time.Unix(0, 0)) // all at the same time
	}
	var got []int
	for q.first() != nil {
		tm := q.first()
		got = append(got, slices.IndexFunc(list, func(x timer) bool { return x.seq == tm.seq }))
		q.stop(tm)
	}
	if !slices.IsSorted(got) {
		t.Errorf("order of timers with one deadline: got %v, want the order of arming", got)
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	now := time.Unix(100, 0)
	n := 0
	for range 100 {
		if b.allow(now, 5) {
			n++
		}
	}
	if n != 10 {
		t.Errorf("at once: got %d, want 10", n)
	}
	for n = 0; now.Before(time.Unix(110, 0)); now = now.Add(time.Millisecond) {
		if b.allow(now, 5) {
			n++
		}
	}
	if n < 49 || n > 51 {
		t.Errorf("in 10 s: got %d, want 50", n)
	}
}
