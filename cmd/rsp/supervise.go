package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/param"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/health"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/load"
)

// supervisor keeps an element registered while its server is there and fit.
type supervisor struct {
	pool    string
	element *pe.Element
	command []string // empty without one
	log     *logger
	policy  param.Policy // with the values given

	checker *health.Checker // nil without a check

	source        load.Source // nil with a fixed load
	loadInterval  time.Duration
	loadThreshold float64

	hinted bool // what to try is said once
}

// passedOn are the signals that reach the command.
var passedOn = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP,
	syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH, syscall.SIGCONT,
}

// run registers the element until a signal ends it, or the command ends.
func (s *supervisor) run(ctx context.Context) error {
	take := passedOn
	if len(s.command) == 0 {
		take = passedOn[:2] // the others do what they do to any process
	}
	defer child.KillProbes()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, take...)
	defer signal.Stop(signals)
	if len(s.command) == 0 {
		return s.alone(ctx, signals)
	}
	return s.withCommand(ctx, signals)
}

// alone keeps the element registered until SIGTERM or SIGINT.
func (s *supervisor) alone(ctx context.Context, signals <-chan os.Signal) error {
	r := s.start(ctx)
	select {
	case err := <-r.ended:
		return err
	case sig := <-signals:
		s.log.log(verbose, "%v: deregistering", sig)
		r.stop()
	}
	select {
	case err := <-r.ended:
		return err
	case sig := <-signals:
		return fmt.Errorf("%v again: ended before the deregistration was confirmed", sig)
	}
}

// withCommand keeps the element registered while the command runs.
func (s *supervisor) withCommand(ctx context.Context, signals <-chan os.Signal) error {
	// The files themselves: no goroutine of rsp stands between them and the
	// command.
	c, err := child.Start(s.command, os.Stdout, os.Stderr)
	if err != nil {
		s.log.log(quiet, "%v", err)
		return &statusError{child.StartStatus(err)}
	}
	r := s.start(ctx)
	ended, stopping := r.ended, false
	var failure error
	var forward os.Signal // once the element is deregistered
	for {
		select {
		case sig := <-signals:
			terminal := sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT
			if !terminal || stopping {
				c.Signal(sig)
				break
			}
			stopping, forward = true, sig
			r.stop()
		case err := <-ended:
			ended = nil
			switch {
			case forward != nil:
				if err != nil {
					s.log.log(quiet, "%v", err)
				}
				c.Signal(forward)
			case err != nil:
				// Nothing to run the command for.
				failure, stopping = err, true
				c.Signal(syscall.SIGTERM)
			}
		case <-c.Done():
			r.stop()
			if ended != nil {
				if err := <-ended; err != nil {
					s.log.log(quiet, "%v", err)
				}
			}
			if failure != nil {
				return failure
			}
			if status := c.Status(); status != exitOK {
				return &statusError{status}
			}
			return nil
		}
	}
}

// running is an element that runs, with its check and its load.
type running struct {
	stop  context.CancelFunc
	ended chan error // the element's end
}

// firstLoad is how long the first registration waits for a load source.
const firstLoad = 2 * time.Second

// start runs the element, its check and its load. At the end it waits for the
// element alone: a check or a load may hang.
func (s *supervisor) start(ctx context.Context) running {
	ctx, stop := context.WithCancel(ctx)
	r := running{stop: stop, ended: make(chan error, 1)}
	if s.checker != nil {
		s.element.SetAvailable(false)
		go s.checker.Run(ctx)
	}
	loadKnown := s.followLoad(ctx)
	go func() {
		// An element that is busy must not be registered as an idle one.
		select {
		case <-loadKnown:
		case <-time.After(firstLoad):
			s.log.log(quiet, "load: no value after %v: registering with the load of --policy", firstLoad)
		case <-ctx.Done():
		}
		err := s.element.Run(ctx)
		stop()
		r.ended <- err
	}()
	return r
}

// followLoad follows the load source, if there is one. The channel is closed
// when the source has given a load or has failed.
func (s *supervisor) followLoad(ctx context.Context) <-chan struct{} {
	loadKnown := make(chan struct{})
	known := sync.OnceFunc(func() { close(loadKnown) })
	if s.source == nil {
		known()
		return loadKnown
	}
	go load.Follow(ctx, s.source, s.loadInterval, s.loadThreshold,
		func(f float64) { s.onLoad(f); known() },
		func(err error) { s.log.log(quiet, "load: %v", err); known() })
	return loadKnown
}

// onCheck takes the verdict of the check.
func (s *supervisor) onCheck(fit bool, err error) {
	switch {
	case fit:
		s.log.log(normal, "check passes")
	default:
		s.log.log(quiet, "check fails: %v", err)
	}
	s.element.SetAvailable(fit)
}

// onLoad takes a load that has changed.
func (s *supervisor) onLoad(f float64) {
	p := s.policy
	p.Load = load.ToWire(f)
	s.log.log(verbose, "load %.1f%%", f*100)
	if err := s.element.Update(p); err != nil {
		s.log.log(quiet, "load: %v", err)
	}
}

// notify writes down what happens to the element.
func (s *supervisor) notify(ev pe.Event) {
	at := normal
	switch ev.Type {
	case pe.Reregistered:
		at = verbose
	case pe.Rejected:
		return // it is what rsp ends with
	case pe.HomeLost, pe.Refused, pe.DeregistrationRefused:
		s.hinted = true // somebody is there
		at = quiet
	case pe.NoRegistrar, pe.Warning, pe.AdoptionFailed:
		at = quiet
	}
	s.log.log(at, "pool %q: %v", s.pool, ev)
	if ev.Type == pe.NoRegistrar && !s.hinted {
		s.hinted = true
		s.log.log(normal, "%s", hint(ev.Err))
	}
}
