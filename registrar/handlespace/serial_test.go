package handlespace

import (
	"testing"
	"time"
)

// newer reports whether serial a is greater than b (RFC 1982, Section 3.2).
func newer(a, b uint32) bool { return int32(a-b) > 0 }

// changer changes a handlespace over time.
type changer struct {
	t   *testing.T
	s   *Space
	now time.Time
	n   uint32
}

func (c *changer) change() {
	c.n++
	e := roundRobin(1)
	e.Life = int32(c.n)
	mustPut(c.t, c.s, "p", e)
}

func (c *changer) serial() uint32 { return c.s.Serial(c.now) }

// TestSerialOverRestart: the serial does not go back over a restart, whatever the
// program did before: with more than one change a second, each of them read.
func TestSerialOverRestart(t *testing.T) {
	c := &changer{t: t, s: newSpace(), now: time.Unix(1<<32-30, 0)} // it wraps around
	for range 60 * 1000 {
		before := c.serial()
		c.change()
		if after := c.serial(); after != before && !newer(after, before) {
			t.Fatalf("from %d to %d", before, after)
		}
		c.now = c.now.Add(time.Millisecond)
	}
	last := c.serial()
	if ahead := int32(last - uint32(c.now.Unix())); ahead > 0 {
		t.Errorf("serial is %d s ahead of the clock", ahead)
	}
	c.s = newSpace() // in the same second
	first := c.serial()
	if first != last && !newer(first, last) {
		t.Errorf("from %d to %d over a restart", last, first)
	}
	c.now = c.now.Add(time.Second) // without a change since, which the former program may have missed
	if next := c.serial(); !newer(next, last) {
		t.Errorf("from %d to %d a second after a restart", last, next)
	}
}

// TestSerialOfChange: a change that a reader may not have seen has a new serial a
// second later, and nothing else has.
func TestSerialOfChange(t *testing.T) {
	c := &changer{t: t, s: newSpace(), now: time.Unix(1e9, 0)}
	c.change()
	c.serial()
	c.now = c.now.Add(time.Second)
	c.serial() // the first one of a program stands for no change
	for _, quiet := range []time.Duration{time.Second, time.Hour, 60 * 365 * 24 * time.Hour} {
		c.now = c.now.Add(quiet)
		earlier := c.serial()
		c.change()
		before := c.serial()
		if !newer(before, earlier) {
			t.Errorf("%v: from %d to %d after a change", quiet, earlier, before)
		}
		c.change() // in the same second
		if got := c.serial(); got != before {
			t.Errorf("%v: from %d to %d, ahead of the clock", quiet, before, got)
		}
		c.now = c.now.Add(time.Second)
		after := c.serial()
		if !newer(after, before) {
			t.Errorf("%v: from %d to %d after a change", quiet, before, after)
		}
		c.now = c.now.Add(time.Second)
		if got := c.serial(); got != after {
			t.Errorf("%v: from %d to %d without a change", quiet, after, got)
		}
	}
}

// TestSerialOfClock: if the clock is set while the program runs, the serial grows all the
// same, one step a second, and follows the clock forward.
func TestSerialOfClock(t *testing.T) {
	c := &changer{t: t, s: newSpace(), now: time.Unix(1e9, 0)}
	c.serial()
	c.now = c.now.Add(time.Second)
	last := c.serial()
	// Without a monotonic clock, the difference of two times is that of the wall clock. So
	// since stands for the time that the clock was set back.
	c.s.serial.since = c.s.serial.since.Add(-time.Hour)
	c.now = c.now.Add(-time.Hour)
	for step := range 10 {
		for range 9 {
			c.now = c.now.Add(100 * time.Millisecond)
			c.change()
			if got := c.serial(); got != last {
				t.Fatalf("step %d: from %d to %d within a second", step, last, got)
			}
		}
		c.now = c.now.Add(100 * time.Millisecond)
		if got := c.serial(); got != last+1 {
			t.Fatalf("step %d: from %d to %d, want one more after a second", step, last, got)
		}
		last++
	}
	c.change()
	c.now = c.now.Add(2 * time.Hour)
	if got := c.serial(); got != uint32(c.now.Unix()) {
		t.Errorf("got %d after the clock was set forward to %d", got, c.now.Unix())
	}
}

// TestSerialRestored: with the last serial of a former process, the first one is greater, even
// if the clock was set back, and not ahead of the clock otherwise.
func TestSerialRestored(t *testing.T) {
	c := &changer{t: t, s: newSpace(), now: time.Unix(1e9, 0)}
	restart := func() uint32 {
		kept := c.s.KeepSerial(c.now)
		c.s = newSpace()
		c.s.RestoreSerial(kept)
		return c.serial()
	}
	first := c.serial()
	if got := restart(); got != first+1 {
		t.Errorf("from %d to %d over a restart in the same second, want one more", first, got)
	}
	c.now = c.now.Add(time.Hour)
	if got := restart(); got != uint32(c.now.Unix()) {
		t.Errorf("got %d after an hour, want the time %d", got, c.now.Unix())
	}
	last := c.serial()
	c.now = c.now.Add(-24 * time.Hour)
	kept := c.s.KeepSerial(c.now)
	for range 25 { // steps that a killed process could not keep any more
		c.s.serial.since = c.s.serial.since.Add(-48 * time.Hour)
		c.change()
		last = c.serial()
	}
	c.s = newSpace()
	c.s.RestoreSerial(kept)
	if got := c.serial(); !newer(got, last) {
		t.Errorf("from %d to %d over a restart after the clock was set back", last, got)
	}
	c.s = newSpace()
	c.s.RestoreSerial(1e9 + 100)
	if got := c.s.KeepSerial(c.now); got != 1e9+100 {
		t.Errorf("a process that was not asked keeps %d, want what it has got", got)
	}
}
