package trust

import (
	"fmt"
	"os"
	"slices"
	"time"
)

const (
	// lookInterval is how long handshakes rely on files without looking at them.
	lookInterval = time.Second
	// warnInterval is the time between two warnings of the certificate's end, and
	// warnLead the most time before it.
	warnInterval = 24 * time.Hour
	warnLead     = 30 * 24 * time.Hour
)

// Reload reads the files again if they have changed, and keeps what it has on errors. changed
// says that they were read since the last call, here or at a handshake: then the peers must
// be identified again. Call it each minute: it also warns of the certificate's end. Of an error, it
// warns as a handshake does, and once for both.
func (c *Credentials) Reload() (changed bool, err error) { return c.reload(false) }

// ReloadAsked is Reload on demand: it tells an error also if that was told before.
func (c *Credentials) ReloadAsked() (changed bool, err error) { return c.reload(true) }

func (c *Credentials) reload(asked bool) (changed bool, err error) {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	if asked {
		c.failed = ""
	}
	err = c.readAgain()
	c.spare.retry(c)
	c.warnOfEnd()
	c.warnOfClock()
	changed, c.changed = c.changed, false
	return changed, err
}

// look is Reload at a handshake. It waits while others read, as what they replace may be about
// to end.
func (c *Credentials) look() {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	if now := c.now(); now.Sub(c.looked) < lookInterval && !now.Before(c.looked) {
		return
	}
	_ = c.readAgain()
}

// readAgain reads the files if they have changed, and warns of each error once.
func (c *Credentials) readAgain() error {
	c.looked = c.now()
	if !slices.ContainsFunc(c.loaded.Load().stamps, stamp.stale) {
		c.failed = ""
		return nil
	}
	l, err := load(c.files, c.looked)
	if err != nil {
		if which := mistake(err); which != c.failed {
			c.failed = which
			c.warn("the former certificates stay in use: " + err.Error())
		}
		return err
	}
	c.failed = ""
	c.spare.keep(c.loaded.Load(), l, c.looked)
	c.loaded.Store(l)
	c.changed, c.warned = true, time.Time{}
	return nil
}

// stale reports whether a file is another one now. Kubernetes changes symbolic links, so that
// time and size may be the same.
func (s stamp) stale() bool {
	info, err := os.Stat(s.path)
	return err != nil || !os.SameFile(info, s.info) || !info.ModTime().Equal(s.info.ModTime()) || info.Size() != s.info.Size()
}

// warnOfEnd warns daily in the last sixth of the certificate's life.
func (c *Credentials) warnOfEnd() {
	l, now := c.loaded.Load(), c.now()
	if l.end.IsZero() {
		return
	}
	left := l.end.Sub(now)
	if left > min(l.end.Sub(l.begin)/6, warnLead) || now.Sub(c.warned) < warnInterval {
		return
	}
	c.warned = now
	if left <= 0 {
		c.warn(fmt.Sprintf("%s ended at %s, and our clock says %s: issue a new one, or set the clock: %s", l.ends.what, clock(l.end), clock(now), l.ends.path))
		return
	}
	c.warn(fmt.Sprintf("%s ends in %s: %s", l.ends.what, rough(left), l.ends.path))
}

// warnOfClock warns daily of a certificate that has not begun, as when the clock was set back.
func (c *Credentials) warnOfClock() {
	l, now := c.loaded.Load(), c.now()
	if !now.Before(l.begin) || now.Sub(c.warned) < warnInterval {
		return
	}
	c.warned = now
	c.warn(fmt.Sprintf("our certificate begins at %s, and our clock says %s: set the clock, or issue a new one: %s", clock(l.begin), clock(now), c.files.Cert))
}

// rough is a duration in its largest unit.
func rough(d time.Duration) string {
	for _, u := range []struct {
		of   time.Duration
		name string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}} {
		switch n := int64(d / u.of); n {
		case 0:
		case 1:
			return "1 " + u.name
		default:
			return fmt.Sprintf("%d %ss", n, u.name)
		}
	}
	return "less than a minute"
}
