package services

import (
	"math"
	"time"
)

// Calculator models a computer that shares its capacity equally among its jobs, as
// RSPLIB's CalcApp does: nothing is calculated. It has no clock: callers tell the time,
// which must not go back. A Calculator is for one goroutine at a time.
type Calculator struct {
	capacity    float64 // calculations a second
	maxJobs     int
	cookieTime  time.Duration
	cookieCalcs float64
	jobs        map[*CalcJob]struct{}
	at          time.Time // until when all jobs are advanced
}

// CalcJob is a job that runs.
type CalcJob struct {
	job       uint32
	size      float64
	exact     uint64 // the size
	completed float64
	cookieAt  time.Time // of the last cookie
	cookieOf  float64   // completed then
}

// NewCalculator makes a Calculator that does capacity calculations a second, and runs at
// most maxJobs at a time. A job is due for a cookie after a time or after a number of
// calculations. All four must be positive.
func NewCalculator(capacity float64, maxJobs int, cookieTime time.Duration, cookieCalcs float64) *Calculator {
	return &Calculator{
		capacity: capacity, maxJobs: maxJobs, cookieTime: cookieTime, cookieCalcs: cookieCalcs,
		jobs: make(map[*CalcJob]struct{}),
	}
}

// Start starts a job, of which a part may be done already. It reports false if as many
// jobs run as are allowed.
func (c *Calculator) Start(now time.Time, state CalcCookie) (*CalcJob, bool) {
	if len(c.jobs) >= c.maxJobs {
		return nil, false
	}
	c.advance(now)
	j := &CalcJob{
		job: state.Job, size: float64(state.Size), exact: state.Size, completed: float64(state.Completed),
		cookieAt: now, cookieOf: float64(state.Completed),
	}
	c.jobs[j] = struct{}{}
	return j, true
}

// Stop ends a job, complete or not.
func (c *Calculator) Stop(now time.Time, j *CalcJob) {
	c.advance(now)
	delete(c.jobs, j)
}

// done is how near to its end a job counts as complete: it makes up for rounding.
const done = 0.5

// maxLook is the longest time until the next look at a job, so that no size overflows.
const maxLook = time.Hour

// Look returns the state of a job, which is complete if all of its calculations are done,
// whether a cookie is due, and when to look again if no job starts or stops. If
// a cookie is due, the caller must send it: the next one is due later.
func (c *Calculator) Look(now time.Time, j *CalcJob) (state CalcCookie, cookieDue bool, next time.Time) {
	c.advance(now)
	state = CalcCookie{Job: j.job, Size: j.exact, Completed: min(uint64(max(0, j.completed)), j.exact)}
	if j.size-j.completed < done {
		state.Completed = j.exact
		return state, false, now
	}
	cookieDue = now.Sub(j.cookieAt) >= c.cookieTime || j.completed-j.cookieOf >= c.cookieCalcs-done
	if cookieDue {
		j.cookieAt, j.cookieOf = now, j.completed
	}
	rate := c.capacity / float64(max(1, len(c.jobs)))
	after := func(calculations float64) time.Duration {
		s := math.Ceil(calculations / rate * float64(time.Second))
		return time.Duration(min(max(s, 1), float64(maxLook)))
	}
	wait := min(after(j.size-j.completed), after(j.cookieOf+c.cookieCalcs-j.completed), c.cookieTime-now.Sub(j.cookieAt))
	return state, cookieDue, now.Add(wait)
}

// advance has the jobs calculate until now.
func (c *Calculator) advance(now time.Time) {
	passed := now.Sub(c.at)
	c.at = now
	if len(c.jobs) == 0 || passed <= 0 {
		return
	}
	share := c.capacity * passed.Seconds() / float64(len(c.jobs))
	for j := range c.jobs {
		j.completed = min(j.completed+share, j.size)
	}
}
