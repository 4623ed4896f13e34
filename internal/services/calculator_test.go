package services

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestCalculator: two jobs share the capacity; each gets cookies by time and by
// calculations, and ends when it should.
func TestCalculator(t *testing.T) {
	c := NewCalculator(1000, 2, 2*time.Second, 1500)
	now := start
	a, ok := c.Start(now, CalcCookie{Job: 1, Size: 4000})
	if !ok {
		t.Fatal("the first job does not start")
	}
	look := func(j *CalcJob, want CalcCookie, wantCookie bool, wait time.Duration) {
		t.Helper()
		got, cookie, next := c.Look(now, j)
		if got != want || cookie != wantCookie || next.Sub(now) != wait {
			t.Errorf("after %v: %+v, cookie %v, next in %v, want %+v, %v, %v", now.Sub(start), got, cookie, next.Sub(now), want, wantCookie, wait)
		}
	}
	look(a, CalcCookie{1, 4000, 0}, false, 1500*time.Millisecond)
	now = start.Add(time.Second)
	b, _ := c.Start(now, CalcCookie{Job: 7, Size: 1000, Completed: 500})
	if _, ok := c.Start(now, CalcCookie{Job: 8, Size: 1}); ok {
		t.Error("a third of two jobs starts")
	}
	look(a, CalcCookie{1, 4000, 1000}, false, time.Second)
	now = start.Add(2 * time.Second)
	look(a, CalcCookie{1, 4000, 1500}, true, 2*time.Second)
	look(b, CalcCookie{7, 1000, 1000}, false, 0) // complete
	c.Stop(now, b)
	now = start.Add(4500 * time.Millisecond)
	look(a, CalcCookie{1, 4000, 4000}, false, 0)
	c.Stop(now, a)
	if len(c.jobs) != 0 {
		t.Errorf("%d jobs are left", len(c.jobs))
	}
}

// TestCalculatorExtremes: sizes that overflow nothing, and time that stands still.
func TestCalculatorExtremes(t *testing.T) {
	c := NewCalculator(1, 9, time.Minute, math.MaxFloat64)
	j, _ := c.Start(start, CalcCookie{Size: math.MaxUint64})
	if _, _, next := c.Look(start, j); next.Sub(start) != time.Minute {
		t.Errorf("next look in %v", next.Sub(start))
	}
	if s, cookie, _ := c.Look(start.Add(100*365*24*time.Hour), j); !cookie || s.Completed >= s.Size {
		t.Errorf("%+v, cookie %v", s, cookie)
	}
	k, _ := c.Start(start, CalcCookie{Size: 0})
	if s, _, _ := c.Look(start, k); s.Completed != s.Size {
		t.Errorf("%+v, want a job of size 0 to be complete", s)
	}
}

// TestCalculatorWork: whatever the jobs, the work done is what the capacity allows, and
// looking when told to finds each end within a millisecond.
func TestCalculatorWork(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		c := NewCalculator(1000, 5, time.Second, 1e9)
		now := start
		jobs := map[*CalcJob]time.Time{} // when to look
		var work float64
		for len(jobs) > 0 || work == 0 {
			if j, ok := c.Start(now, CalcCookie{Size: uint64(rnd.IntN(5000) + 1)}); ok && rnd.IntN(3) > 0 && now.Sub(start) < time.Minute {
				jobs[j] = now
				work += j.size
			} else if ok {
				c.Stop(now, j)
			}
			next := now.Add(time.Hour)
			for j := range jobs {
				s, _, at := c.Look(now, j)
				if s.Completed == s.Size {
					c.Stop(now, j)
					delete(jobs, j)
					continue
				}
				if !at.After(now) {
					t.Fatalf("seed %d: look again at once", seed)
				}
				next = at
			}
			for j := range jobs {
				if _, _, at := c.Look(now, j); at.Before(next) {
					next = at
				}
			}
			if len(jobs) > 0 {
				now = next
			}
		}
		// The calculator was never idle in between.
		if got := now.Sub(start).Seconds() * 1000; math.Abs(got-work) > 5 {
			t.Errorf("seed %d: %v calculations took as long as %v", seed, work, got)
		}
	}
}
