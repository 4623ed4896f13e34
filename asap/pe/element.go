package pe

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Element keeps one pool element registered. [Open] makes one; the zero value cannot be
// used. Its methods may be called from any goroutine.
type Element struct {
	cfg        Config
	driver     *client.Driver
	state      atomic.Pointer[State]
	registered chan struct{} // closed at the first registration that is accepted
	parted     chan struct{} // closed when leave has ended, which the end of the element may forestall
	stays      error         // why a registrar still has the element; readable when parted

	notifier *notifier // nil without Config.Notify
	late     error     // a panic of Notify when the element was ending; readable when it has ended

	// The Driver's alone, until it has ended.
	runner *runner
	known  bool // registered is closed
	leaves bool // for good, as the core knows
	gone   bool // parted is closed

	// What is wanted, and whether the Driver has been told to look.
	mu      sync.Mutex
	want    bool
	left    bool // for good
	policy  rserpool.Policy
	told    bool
	trouble error // why it is not registered yet
}

// State is what an Element's registration is like.
type State struct {
	Registered bool
	ID         rserpool.PEID
	// Home is the home registrar's identifier, 0 where it is not known.
	Home rserpool.ServerID
	// Registrar are the home registrar's addresses, "" without one. They stay after
	// the end of the element.
	Registrar string
	// Refused is why the last registration was refused, a *RejectedError; nil
	// once one was accepted since. While Registered is true, an earlier
	// registration still stands.
	Refused error
	// Policy is the policy with its present values.
	Policy rserpool.Policy
	// Addrs are the addresses that are registered.
	Addrs []netip.Addr
	// Local are the addresses and the port of ASAP here.
	Local []netip.AddrPort
}

// Open checks the configuration, opens the sockets and starts the one goroutine of
// an Element. It waits for no registrar: the element registers as soon as it finds
// one, and stays registered until Close. See [Element.Wait] for a registrar that
// refuses it.
func Open(cfg Config) (*Element, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	if err := cfg.encodable(); err != nil {
		return nil, err
	}
	tr, err := client.Open(client.Config{
		Via:           cfg.Via,
		Local:         cfg.Local,
		Unbound:       cfg.follows(),
		EncapPort:     cfg.EncapPort,
		AnnounceGroup: cfg.AnnounceGroup,
		Trust:         cfg.trust(),
		Logger:        cfg.Logger,
		Listen:        cfg.listen,
		LookupHost:    cfg.lookupHost,
	})
	if err != nil {
		return nil, err
	}
	e := &Element{cfg: cfg, want: !cfg.Standby, policy: cfg.Policy, registered: make(chan struct{}), parted: make(chan struct{})}
	if cfg.Notify != nil {
		e.notifier = newNotifier(cfg.Notify, e.mistake)
	}
	cfg.Transport.Addrs = cfg.registered(cfg.Transport.Addrs)
	e.runner = &runner{core: newCore(cfg, newRand(), drawID), e: e, cfg: &e.cfg, tr: tr, waiting: make(map[requestID]chan answer)}
	now := time.Now()
	e.runner.look(now)
	e.apply(now)
	s := e.runner.state()
	e.state.Store(&s)
	e.driver = client.NewDriver(tr, e.runner)
	e.driver.Start()
	return e, nil
}

// encodable tells whether the element's values fit into messages.
func (c *Config) encodable() error {
	t := c.Transport
	if c.follows() {
		t.Addrs = []netip.Addr{netip.IPv6Unspecified()} // any
	}
	m := asap.Registration{Handle: c.Pool, Element: rserpool.PoolElement{UserTransport: t, Policy: c.Policy}}
	if _, err := m.Append(nil); err != nil {
		return fmt.Errorf("such an element cannot be registered: %w", err)
	}
	return nil
}

// Wait waits until the element is registered for the first time. The error is a
// *RejectedError if a registrar has refused the first registration, which ends the
// element, or else the error of ctx together with what has kept the element from
// registering, such as a [*rserpool.UnreachableError], or Config.Standby without a
// SetAvailable(true).
func (e *Element) Wait(ctx context.Context) error {
	select {
	case <-e.registered:
		return nil
	case <-e.driver.Done():
		select {
		case <-e.registered:
			return nil
		default:
			return cmp.Or(e.Err(), rserpool.ErrClosed)
		}
	case <-ctx.Done():
		e.mu.Lock()
		defer e.mu.Unlock()
		switch {
		case e.left:
			return fmt.Errorf("%w: the element has left its pool", ctx.Err())
		case !e.want:
			return fmt.Errorf("%w: the element is not to be registered: call SetAvailable(true)", ctx.Err())
		case e.trouble != nil:
			return fmt.Errorf("%w: %w", ctx.Err(), e.trouble)
		}
		return ctx.Err()
	}
}

// Done is closed when the element has ended: after Close, or when a registrar has
// refused the first registration within Config.MistakeTime. After the first registration that was accepted,
// only Close ends the element, and a panic of Config.Notify.
func (e *Element) Done() <-chan struct{} { return e.driver.Done() }

// Err is why the element has ended: nil before Done, and what Close returns
// afterwards.
func (e *Element) Err() error {
	select {
	case <-e.driver.Done():
		return errors.Join(e.runner.failure, e.driver.Err(), e.late)
	default:
		return nil
	}
}

// Close deregisters the element, which takes Timers.Stop at most, and closes the
// sockets. It returns nil if the element has been deregistered or never was
// registered, a *RejectedError if a registrar had refused the first registration, a
// *DeregistrationError if one has refused the deregistration, or another error if
// the deregistration was not confirmed. It may be called more than once.
func (e *Element) Close() error {
	_ = e.driver.Close()
	return e.Err()
}

// apply hands what is wanted to the core.
func (e *Element) apply(now time.Time) {
	e.mu.Lock()
	want, policy := e.want, e.policy
	e.leaves, e.told = e.left, false
	e.mu.Unlock()
	k := e.runner.core
	k.update(now, policy)
	if want {
		k.register(now)
	} else {
		k.deregister(now)
	}
}

// publish publishes the state, and tells what has happened.
func (e *Element) publish(s State, events []Event) {
	e.state.Store(&s)
	for _, ev := range events {
		if ev.Type == Registered && !e.known {
			e.known = true
			close(e.registered)
		}
		if !e.gone {
			e.noteParting(ev)
		}
		if ev.Err != nil {
			e.mu.Lock()
			e.trouble = ev.Err
			e.mu.Unlock()
		}
		if e.notifier != nil {
			e.notifier.tell(ev)
		}
	}
}

// noteParting notes whether a registrar has refused the last deregistration.
func (e *Element) noteParting(ev Event) {
	if ev.Type == DeregistrationRefused {
		e.stays = ev.Err
	} else if ev.Type == Registered || ev.Type == Deregistered {
		e.stays = nil
	}
}

// part closes parted if the element has left for good.
func (e *Element) part() {
	if e.leaves && !e.gone && e.runner.phase == idle {
		e.gone = true
		close(e.parted)
	}
}

// mistake ends the element after a panic of Notify, if it does not end already.
func (e *Element) mistake(err error) {
	client.LogPanic(e.cfg.Logger, err)
	if !e.driver.Do(func(time.Time) { panic(err) }) {
		e.late = err
	}
}

// State tells what the registration is like now. After the end of the element, it is not
// registered, as far as the element knows.
func (e *Element) State() State {
	s := *e.state.Load()
	select {
	case <-e.driver.Done():
		s.Registered = false
	default:
	}
	s.Addrs, s.Local = slices.Clone(s.Addrs), slices.Clone(s.Local)
	return s
}

// Update tells the pool of new policy values, by a re-registration at once or
// as soon as Timers.MinUpdate allows. The policy's type must stay the same:
// all elements of a pool have the same one. After the element has ended, Update returns
// [rserpool.ErrClosed].
func (e *Element) Update(p rserpool.Policy) error {
	if p.Type != e.cfg.Policy.Type {
		return fmt.Errorf("policy %v in place of %v: an element can change its policy's values, but not the policy", p.Type, e.cfg.Policy.Type)
	}
	select {
	case <-e.driver.Done():
		return rserpool.ErrClosed
	default:
	}
	e.change(func() { e.policy = p })
	return nil
}

// SetAvailable says whether the element is to be registered, such as a health check
// finds. It has no effect after [Listener.Leave].
func (e *Element) SetAvailable(available bool) {
	e.change(func() { e.want = available && !e.left })
}

// leave has the element not be registered any more.
func (e *Element) leave() { e.change(func() { e.want, e.left = false, true }) }

// awaitParted waits after leave until the element is deregistered, for Timers.Stop at most.
func (e *Element) awaitParted() error {
	timer := time.NewTimer(e.cfg.Timers.Stop)
	defer timer.Stop()
	select {
	case <-e.parted:
		return e.stays
	case <-e.driver.Done():
		return e.Err()
	case <-timer.C:
		return fmt.Errorf("deregistration of element %v is not confirmed after %v; the element goes on trying until it is closed", e.State().ID, e.cfg.Timers.Stop)
	}
}

// change changes what is wanted, and has the Driver look at it once.
func (e *Element) change(f func()) {
	e.mu.Lock()
	f()
	told := e.told
	e.told = true
	e.mu.Unlock()
	if !told {
		e.driver.Do(e.apply)
	}
}

// newRand makes a source of randomness for what need not be secret.
func newRand() *rand.Rand {
	var seed [32]byte
	_, _ = crand.Read(seed[:])
	return rand.New(rand.NewChaCha8(seed))
}

// drawID draws an identifier of good quality (RFC 5352, Section 3.1, R2.2).
// 0 is none.
func drawID() rserpool.PEID {
	for {
		var b [4]byte
		_, _ = crand.Read(b[:])
		if id := binary.BigEndian.Uint32(b[:]); id != 0 {
			return rserpool.PEID(id)
		}
	}
}
