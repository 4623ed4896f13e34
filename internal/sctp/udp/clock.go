package udp

import "time"

// clock is the time of the SCTP in UDP of a Stack. Points in time that are kept as
// numbers (stamps) count nanoseconds from a little before the clock was made, by
// the monotonic clock: setting the wall clock changes no heartbeat, path or cookie.
// A stamp is greater than 0, which stands for never.
type clock struct {
	now   func() time.Time // time.Now, except in tests
	start time.Time
}

func newClock(now func() time.Time) clock { return clock{now, now().Add(-time.Second)} }

func (c *clock) stamp(t time.Time) int64 { return int64(t.Sub(c.start)) }

func (c *clock) stampNow() int64 { return c.stamp(c.now()) }

func (c *clock) at(stamp int64) time.Time { return c.start.Add(time.Duration(stamp)) }

func (c *clock) since(stamp int64) time.Duration { return c.now().Sub(c.at(stamp)) }
