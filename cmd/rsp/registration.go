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

// The times between two attempts to run an element that ends by itself: each
// is twice the last one, up to maxRetry.
const (
	firstRetry = time.Second
	maxRetry   = 30 * time.Second
)

// registration keeps one element registered. A pe.Element can end by itself,
// when its sockets cannot be opened or a registrar refuses it; the server that
// it stands for goes on, and another pe.Element with the same identifier takes
// its place. Its methods may be called from any goroutine, run by one at a time.
type registration struct {
	cfg    pe.Config
	log    *logger
	drawID bool // the identifier is random

	mu       sync.Mutex
	element  *pe.Element // nil between two of them
	last     pe.State    // of the one before, then
	unfit    bool        // the check fails
	stopped  bool        // the command is stopped
	accepted bool        // a registrar has accepted the element at least once
	fresh    bool        // and has done so since the last pe.Element began
	up       bool        // the element is to be registered
	nextUp   time.Time   // when it may be registered again after it was not
	listed   bool        // clients may have been told of the element
	leftAt   time.Time   // when it was deregistered; zero while it is registered

	awaitsLeft chan struct{} // closed at the deregistration; nil if nobody waits
}

// newRegistration checks the configuration, and does nothing yet.
func newRegistration(cfg pe.Config, log *logger) (*registration, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &registration{cfg: cfg, log: log, drawID: cfg.ID == 0, last: pe.State{ID: cfg.ID, Policy: cfg.Policy, Addrs: firstAddrs(&cfg)}}, nil
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

// run keeps the element registered until ctx ends, and deregisters it then. It
// returns earlier only if the very first registration is refused: that is a
// mistake that the user can mend, as long as nobody relies on the server.
func (r *registration) run(ctx context.Context) error {
	wait := firstRetry
	for {
		err := r.runOnce(ctx)
		var rejected *pe.RejectedError
		switch accepted, fresh := r.history(); {
		case ctx.Err() != nil:
			r.ended(err)
			return err
		case !accepted && errors.As(err, &rejected):
			return err
		case fresh:
			wait = firstRetry
		}
		// Not all elements of a pool at once.
		d := wait/2 + rand.N(wait/2)
		r.log.log(quiet, "pool %q: %v; trying again in %v", string(r.cfg.Pool), err, d.Round(time.Millisecond))
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
	if r.cfg.ID = r.last.ID; r.drawID && errors.Is(err, rserpool.CauseNonUniquePEIdentifier) {
		r.cfg.ID = 0
	}
	return err
}

// begin opens the pe.Element.
func (r *registration) begin() (*pe.Element, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh = false
	r.apply()
	r.cfg.Standby = !r.up
	e, err := pe.Open(r.cfg)
	if err != nil {
		return nil, err
	}
	r.element = e
	return e, nil
}

func (r *registration) history() (accepted, fresh bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted, r.fresh
}

// observe takes what happens to the element.
func (r *registration) observe(ev pe.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch ev.Type {
	case pe.Registered, pe.Reregistered:
		r.accepted, r.fresh, r.listed, r.leftAt = true, true, true, time.Time{}
	case pe.Deregistered: // perhaps of a registration whose answer is on its way
		r.listed, r.leftAt = true, time.Now()
		if r.awaitsLeft != nil {
			close(r.awaitsLeft)
			r.awaitsLeft = nil
		}
	default: // no news of whether clients know the element
	}
}

// ended takes the end of the element. A deregistration that nobody has
// confirmed may be that of a registration that nobody has confirmed.
func (r *registration) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listed = r.listed || err != nil
}

// left gives a channel that is closed once the element is not registered.
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

// drain says how much of a time is left until nobody has an answer any more
// that names the element: it begins with the deregistration.
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

// state tells what the registration is like now.
func (r *registration) state() pe.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.element == nil {
		return r.last
	}
	return r.element.State()
}

// setFit says what the check finds, setStopped whether the command is stopped.
func (r *registration) setFit(fit bool) { r.setAvailable(&r.unfit, !fit) }

func (r *registration) setStopped(stopped bool) { r.setAvailable(&r.stopped, stopped) }

func (r *registration) setAvailable(what *bool, v bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*what = v
	r.apply()
}

// apply tells the element whether it is to be registered. A check that changes
// its mind at every look deregisters it each time, but registers it no more
// often than re-registrations are allowed. Under r.mu.
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
	r.up = available
	if r.element != nil {
		r.element.SetAvailable(available)
	}
}

// setLoad takes a load, in the unit of the policies.
func (r *registration) setLoad(load uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cfg.Policy.Load = load
	if r.element == nil {
		return nil
	}
	return r.element.Update(r.cfg.Policy)
}
