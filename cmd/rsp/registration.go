package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The times between two attempts to run an element that ends on its own: each is twice the
// previous one, up to maxRetry.
const (
	firstRetry = time.Second
	maxRetry   = 30 * time.Second
)

// mistakeTime is how long after its server could first be registered an element counts as new:
// see pe.Config.MistakeTime. A refusal by then is for its user to correct.
const mistakeTime = 10 * time.Second

// registration keeps one element registered. If the sockets of a pe.Element cannot be opened, or it
// ends by a mistake of the library, the server runs on, and another pe.Element with the same
// identifier replaces the former one. The methods may be called from any goroutine, run from one at
// a time.
type registration struct {
	cfg pe.Config
	log *logger

	mu       sync.Mutex
	element  *pe.Element // nil between two elements
	last     pe.State    // of the former element, if element is nil
	unfit    bool        // the check fails
	stopped  bool        // the command is stopped
	accepted bool        // a registrar has accepted the element at least once
	since    time.Time   // when the element could first be registered; zero before
	fresh    bool        // a registrar has accepted the present pe.Element
	up       bool        // the element should be registered
	nextUp   time.Time   // the earliest time of the next registration after a deregistration
	listed   bool        // clients may have answers that name the element
	leftAt   time.Time   // when the element was deregistered; zero while it is registered

	awaitsLeft chan struct{} // closed at the deregistration; nil if nothing waits for it
}

// newRegistration checks the configuration, and does nothing yet.
func newRegistration(cfg pe.Config, log *logger) (*registration, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &registration{cfg: cfg, log: log, last: pe.State{ID: cfg.ID, Policy: cfg.Policy, Addrs: firstAddrs(&cfg)}}, nil
}

// firstAddrs are the addresses that an element registers, before there is one.
func firstAddrs(cfg *pe.Config) []netip.Addr {
	switch {
	case len(cfg.Transport.Addrs) > 0:
		return cfg.Transport.Addrs
	case len(cfg.Local) > 0 && !cfg.Local[0].Addr().IsUnspecified():
		return []netip.Addr{cfg.Local[0].Addr()}
	}
	var list []rserpool.Registrar
	for _, text := range cfg.Registrars {
		r, _ := rserpool.ParseRegistrar(text)
		list = append(list, r)
	}
	addrs, _ := client.LocalToward(list)
	return addrs
}

// run keeps the element registered until ctx ends, and deregisters it then. It returns
// earlier only if the first registration is refused, and that soon: see mistakeTime.
func (r *registration) run(ctx context.Context) error {
	wait := firstRetry
	for {
		err := r.runOnce(ctx)
		var rejected *pe.RejectedError
		switch {
		case ctx.Err() != nil:
			r.ended(err)
			return err
		case errors.As(err, &rejected):
			return err
		case r.isFresh():
			wait = firstRetry
		}
		// Random, so that the elements of a pool do not retry at the same time.
		d := wait/2 + rand.N(wait/2)
		r.log.log(quiet, "pool %q: %v; retrying in %v", string(r.cfg.Pool), err, d.Round(time.Millisecond))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d):
		}
		wait = min(2*wait, maxRetry)
	}
}

// runOnce runs one pe.Element to its end.
func (r *registration) runOnce(ctx context.Context) error {
	e, err := r.begin()
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-e.Done():
	}
	err = e.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.element, r.last = nil, e.State()
	r.cfg.ID = r.last.ID
	return err
}

// begin opens the pe.Element.
func (r *registration) begin() (*pe.Element, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh = false
	r.apply()
	r.cfg.Standby, r.cfg.MistakeTime = !r.up, r.mistakeTime()
	e, err := pe.Open(r.cfg)
	if err != nil {
		return nil, err
	}
	r.element = e
	return e, nil
}

// mistakeTime is the rest of mistakeTime, in the form of pe.Config.MistakeTime. r.mu is held.
func (r *registration) mistakeTime() time.Duration {
	rest := mistakeTime
	if !r.since.IsZero() {
		rest -= time.Since(r.since)
	}
	if r.accepted || rest <= 0 {
		return -1
	}
	return rest
}

// isFresh reports whether a registrar has accepted the present element.
func (r *registration) isFresh() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fresh
}

// observe handles an event of the element.
func (r *registration) observe(ev pe.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch ev.Type {
	case pe.Registered, pe.Reregistered:
		r.accepted, r.fresh, r.listed, r.leftAt = true, true, true, time.Time{}
	case pe.Deregistered: // possibly of a registration without an answer yet
		r.listed, r.leftAt = true, time.Now()
		if r.awaitsLeft != nil {
			close(r.awaitsLeft)
			r.awaitsLeft = nil
		}
	default: // says nothing about the answers that clients have
	}
}

// ended handles the end of the element. If its deregistration was not confirmed, the
// element may be registered, even without an answer to its registration.
func (r *registration) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listed = r.listed || err != nil
}

// left returns a channel that is closed when the element is not registered.
func (r *registration) left() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := make(chan struct{})
	if !r.listed || !r.leftAt.IsZero() {
		close(c)
	} else {
		r.awaitsLeft = c
	}
	return c
}

// drain returns the rest of the drain time d, which begins with the deregistration.
func (r *registration) drain(d time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.listed:
		return 0
	case r.leftAt.IsZero():
		return d
	}
	return max(0, d-time.Since(r.leftAt))
}

// state returns the state of the element.
func (r *registration) state() pe.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.element == nil {
		return r.last
	}
	return r.element.State()
}

// setFit sets the result of the check, setStopped whether the command is stopped.
func (r *registration) setFit(fit bool) { r.setAvailable(&r.unfit, !fit) }

func (r *registration) setStopped(stopped bool) { r.setAvailable(&r.stopped, stopped) }

func (r *registration) setAvailable(what *bool, v bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*what = v
	r.apply()
}

// apply tells the element whether it should be registered. A check whose result changes
// each time deregisters the element each time, but registers it at most once in
// pe.MinReregistration. The caller holds r.mu.
func (r *registration) apply() {
	available := !r.unfit && !r.stopped
	if wait := time.Until(r.nextUp); available && !r.up && wait > 0 {
		time.AfterFunc(wait, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.apply()
		})
		available = false
	}
	if available && !r.up {
		r.nextUp = time.Now().Add(pe.MinReregistration)
	}
	if available && r.since.IsZero() {
		r.since = time.Now()
	}
	r.up = available
	if r.element != nil {
		r.element.SetAvailable(available)
	}
}

// setLoad sets the load, in the unit of the policies.
func (r *registration) setLoad(load uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cfg.Policy.Load = load
	if r.element == nil {
		return nil
	}
	return r.element.Update(r.cfg.Policy)
}
