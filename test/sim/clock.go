package sim

import "time"

// clock is a host's own. It is wrong by an offset, and runs too fast or too slow
// by some millionths. It does not jump: what a registrar is given for the time is
// monotonic, whatever the operator sets the host's clock to.
type clock struct {
	epoch time.Time // what it shows at the start
	ppm   int64
}

// maxDrift is how wrong clocks run, in millionths: some hundred times what real
// ones do.
const maxDrift = 20000

// at is what the clock shows. It is exact for five days.
func (c clock) at(now time.Duration) time.Time {
	return c.epoch.Add(now + now*time.Duration(c.ppm)/1e6)
}

// when is the first time at which the clock shows t, or more.
func (c clock) when(t time.Time) time.Duration {
	now := c.real(t.Sub(c.epoch)) - 2
	for c.at(now).Before(t) {
		now++
	}
	return now
}

// real is about how long the clock takes to show that d has passed.
func (c clock) real(d time.Duration) time.Duration {
	return time.Duration(float64(d) / (1 + float64(c.ppm)/1e6))
}
