// Package health decides by repeated probes whether a server is fit to serve.
package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/bounded"
)

// Probe tries a server once; nil says that it is fit.
type Probe func(ctx context.Context) error

// Checker probes a server again and again.
type Checker struct {
	Probe Probe
	// Interval is the time between two probes, Timeout how long one may take.
	// A probe that goes on after its time has failed, and the next one
	// begins when it ends.
	Interval, Timeout time.Duration
	// Fail probes in a row must fail for a fit server to be unfit, and Rise
	// succeed for an unfit one to be fit again. The very first success is
	// enough by itself.
	Fail, Rise int
	// Notify is told of each change, and of the very first failure; err is
	// the reason for being unfit.
	Notify func(fit bool, err error)
	// Warn is told of probes that could not be made, once for each reason in
	// a row. They say nothing of the server.
	Warn func(err error)
}

// notMade are the errors of a machine or a process that is out of something
// that a probe needs: processes, memory, files, ports.
var notMade = []error{
	syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.EADDRNOTAVAIL,
}

// made reports whether a probe with such a result has reached the server.
func made(err error) bool {
	return !slices.ContainsFunc(notMade, func(e error) bool { return errors.Is(err, e) })
}

// firstInterval is the most between two probes before the first success: a
// server that has just been started should not wait for its first user.
const firstInterval = 250 * time.Millisecond

// Run probes until ctx ends, and waits for no probe then.
func (c *Checker) Run(ctx context.Context) {
	v := verdict{fail: c.Fail, rise: c.Rise}
	probe := bounded.New(func(ctx context.Context) (struct{}, error) { return struct{}{}, c.Probe(ctx) })
	told, warned := false, ""
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
			changed := v.observe(err == nil)
			if changed || !told && err != nil {
				c.Notify(v.fit, err)
			}
			told, warned = true, ""
		}
		wait := c.Interval
		if !v.everFit {
			wait = min(wait, firstInterval)
		}
		timer.Reset(wait)
	}
}

// verdict counts successes and failures in a row.
type verdict struct {
	fail, rise int
	fit        bool
	everFit    bool
	streak     int // of results that speak against fit
}

// observe takes a result, and reports whether it changes the verdict.
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
