package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/child"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/health"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/load"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// supervisor keeps an element registered while its server runs and passes the check.
type supervisor struct {
	registration *registration
	command      []string // empty without one
	log          *logger

	checker *health.Checker // nil without a check

	source        load.Source // nil with a fixed load
	loadName      string      // as --load has it
	loadInterval  time.Duration
	loadThreshold float64

	drain time.Duration // between the deregistration and the end of the command

	notifies bool // rsp tells the service manager when it is ready, not the command

	teller teller
}

// run registers the element until a signal ends it, or the command ends.
func (s *supervisor) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer child.KillProbes()
	reserveThreads()
	s.takeManager()
	if child.AdoptsOrphans() {
		go child.Reap(ctx)
	}
	if len(s.command) == 0 {
		signals, stop := take(endAlone, endAlone)
		defer stop()
		return s.alone(ctx, signals)
	}
	terminal := child.HasTerminal()
	signals, stop := take(passedOn(terminal), endCommand)
	defer stop()
	return s.withCommand(ctx, signals, terminal)
}

// takeManager has rsp tell the service manager of the element, unless that is for the command
// to do.
func (s *supervisor) takeManager() {
	if !s.notifies && len(s.command) > 0 {
		return
	}
	if s.teller.manager = takeManager(s.log); s.notifies && s.teller.manager == nil {
		s.log.log(normal, "--notify has no effect: no service manager waits (%s is not set); a systemd unit needs Type=notify", notifySocket)
	}
	s.teller.manager.begin(s.checker != nil)
}

// endLimit is how long the end of an element can take at most.
func (s *supervisor) endLimit() time.Duration { return s.registration.cfg.Timers.Stop + time.Second }

// alone keeps the element registered until a signal of endAlone.
func (s *supervisor) alone(ctx context.Context, signals <-chan os.Signal) error {
	ignoreTerminal()
	r := s.start(ctx)
	select {
	case err := <-r.ended:
		return err
	case sig := <-signals:
		s.log.log(verbose, "%v: deregistering", sig)
		s.teller.manager.stop()
		r.stop()
	}
	var err error
	select {
	case err = <-r.ended:
	case sig := <-signals:
		return fmt.Errorf("%v again: rsp ended before the deregistration was confirmed", sig)
	}
	if wait := s.registration.drain(s.drain); wait > 0 {
		s.log.log(normal, "draining: ending in %v, or with a second signal", wait.Round(time.Millisecond))
		select {
		case <-time.After(wait):
		case <-signals:
		}
	}
	return err
}

// running is an element that runs, with its check and its load.
type running struct {
	stop  context.CancelFunc
	ended chan error // the element's end
}

// firstLoad is how long the first registration waits for a load source.
const firstLoad = 2 * time.Second

// start runs the element, its check and its load. At the end rsp waits only for the
// element, because a check or a load may hang.
func (s *supervisor) start(ctx context.Context) running {
	ctx, stop := context.WithCancel(ctx)
	r := running{stop: stop, ended: make(chan error, 1)}
	if s.checker != nil {
		s.registration.setFit(false)
		go s.checker.Run(ctx)
	}
	loadKnown := s.followLoad(ctx)
	go func() {
		// A busy element must not be registered as an idle one.
		select {
		case <-loadKnown:
		case <-time.After(firstLoad):
			s.log.log(quiet, "load: no value after %v: registering with the load of --policy", firstLoad)
		case <-ctx.Done():
		}
		err := s.registration.run(ctx)
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
	go load.Follow(ctx, s.loadName, s.source, s.loadInterval, s.loadThreshold,
		func(f float64) { s.onLoad(f); known() },
		func(err error) { s.log.log(quiet, "load: %v", err); known() })
	return loadKnown
}

// onCheck handles a changed result of the check, or another reason of a failure.
func (s *supervisor) onCheck(fit bool, err error) {
	switch {
	case fit:
		s.log.log(normal, "check passes")
	default:
		s.log.log(quiet, "check fails: %v", err)
	}
	s.teller.manager.onCheck(err)
	s.registration.setFit(fit)
}

// onLoad handles a changed load.
func (s *supervisor) onLoad(f float64) {
	s.log.log(verbose, "load %.1f%%", f*100)
	if err := s.registration.setLoad(rserpool.FromFraction(f)); err != nil {
		s.log.log(quiet, "load: %v", err)
	}
}

// notify logs an event of the element.
func (s *supervisor) notify(ev pe.Event) {
	s.registration.observe(ev)
	s.teller.notify(ev)
}
