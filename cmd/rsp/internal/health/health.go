// Package health probes a server repeatedly and decides whether it is fit to serve.
package health

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/bounded"
)

// Probe checks a server once; nil means that the server is fit.
type Probe func(ctx context.Context) error

// Checker probes a server repeatedly.
type Checker struct {
	Probe Probe
	// Interval is the time between two probes. A probe that takes longer than Timeout
	// has failed; the next probe starts when it ends.
	Interval, Timeout time.Duration
	// Fail failures in a row make a fit server unfit, and Rise successes in a row make
	// an unfit one fit again. The first success of all makes the server fit at once.
	Fail, Rise int
	// Notify is called at each change, at the first failure if there was no success
	// before, and while the server is unfit, as [reasons] says; err is the reason for
	// being unfit.
	Notify func(fit bool, err error)
	// Warn is called if a probe could not be made, once for each reason in a row. Such a
	// probe says nothing about the server.
	Warn func(err error)
}

// notMade are the errors of a machine or a process without the resources for a probe:
// processes, memory, files, ports.
var notMade = []error{
	syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EADDRNOTAVAIL,
}

// made reports whether a probe with this result says something about the server.
func made(err error) bool {
	return !slices.ContainsFunc(notMade, func(e error) bool { return errors.Is(err, e) })
}

// firstInterval is the longest time between two probes before the first success, so that
// a server that has just started is registered soon.
const firstInterval = 250 * time.Millisecond

// Run probes until ctx ends. It does not wait for a probe that hangs then.
func (c *Checker) Run(ctx context.Context) {
	v := verdict{fail: c.Fail, rise: c.Rise}
	probe := bounded.New(func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Probe(ctx) })
	var told reasons
	warned := ""
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		once, cancel := context.WithTimeout(ctx, c.Timeout)
		_, err := probe.Call(once)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no result within %v", c.Timeout)
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case !made(err):
			if text := err.Error(); text != warned {
				warned = text
				c.Warn(err)
			}
		default:
			warned = ""
			changed := v.observe(err == nil)
			switch {
			case changed && v.fit:
				told = reasons{}
				c.Notify(true, nil)
			case !v.fit && err != nil && told.news(err, time.Now()):
				c.Notify(false, err)
			}
		}
		wait := c.Interval
		if !v.everFit {
			wait = min(wait, firstInterval)
		}
		timer.Reset(wait)
	}
}

// The times of [reasons].
const (
	minPause = time.Second
	maxPause = time.Minute
)

// reasons limits what is told of a server that stays unfit: at once the first reason, then
// each one of another kind after a pause, and the same one each maxPause. The pause grows from
// minPause to maxPause. The zero value is for a server that has just become unfit.
type reasons struct {
	kind  string
	at    time.Time
	pause time.Duration
}

// digits differ between two failures of one kind, such as those of ports and times.
var digits = regexp.MustCompile(`[0-9]+`)

// news reports whether to tell a reason.
func (r *reasons) news(err error, now time.Time) bool {
	kind, since := digits.ReplaceAllString(err.Error(), ""), now.Sub(r.at)
	if since < r.pause || kind == r.kind && since < maxPause {
		return false
	}
	r.kind, r.at, r.pause = kind, now, min(max(2*r.pause, minPause), maxPause)
	return true
}

// verdict counts successes and failures in a row.
type verdict struct {
	fail, rise int
	fit        bool
	everFit    bool
	streak     int // of results that contradict fit
}

// observe adds a result, and reports whether it changes the verdict.
func (v *verdict) observe(ok bool) bool {
	if ok == v.fit {
		v.streak = 0
		return false
	}
	v.streak++
	if v.everFit && (ok && v.streak < v.rise || !ok && v.streak < v.fail) {
		return false
	}
	v.fit, v.everFit, v.streak = ok, true, 0
	return true
}
