package pe

import (
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
	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Element keeps one pool element registered. Its methods may be called from
// any goroutine, Run once.
type Element struct {
	cfg   Config
	once  sync.Once
	state atomic.Pointer[State]

	// Run's alone.
	core    *core
	tr      *endpoint.Transport
	addrs   []netip.Addr // that are bound, where none are named
	lookAt  time.Time    // when to look at the machine's addresses; zero: not
	turns   turns        // of addrs
	news    int          // of the hunt, at the last look
	bindErr string       // why the addresses could not be bound

	// What is wanted, and a nudge for Run to see to it.
	mu     sync.Mutex
	want   bool
	policy rserpool.Policy
	wake   chan struct{}
}

// State is what an Element's registration is like.
type State struct {
	Registered bool
	ID         rserpool.PEID
	// Home is the home registrar's identifier, 0 where it is not known.
	Home rserpool.ServerID
	// Registrar are the home registrar's addresses, "" without one.
	Registrar string
	// Refused is why the last registration was refused, a *RejectedError; nil
	// once one was accepted since. While Registered is true, an earlier
	// registration still stands.
	Refused error
	// Policy is the policy with its present values.
	Policy rserpool.Policy
	// Addrs are the addresses that are registered.
	Addrs []netip.Addr
	// Local are the addresses and the port of ASAP here; nil before Run.
	Local []netip.AddrPort
}

// New checks the configuration and makes an Element that does nothing yet.
func New(cfg Config) (*Element, error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	if err := encodable(cfg); err != nil {
		return nil, err
	}
	e := &Element{
		cfg:    cfg,
		want:   true,
		policy: cfg.Policy,
		wake:   make(chan struct{}, 1),
	}
	at := cfg.Transport.Addrs
	if cfg.follows() {
		at, _ = cfg.toward(cfg.Registrars)
		at = at[:min(len(at), cfg.most())]
	}
	e.state.Store(&State{ID: cfg.ID, Policy: cfg.Policy, Addrs: cfg.registered(at)})
	return e, nil
}

// encodable tells whether the element's values fit into messages.
func encodable(cfg Config) error {
	t := cfg.Transport
	if cfg.follows() {
		t.Addrs = []netip.Addr{netip.IPv6Unspecified()} // any
	}
	m := asap.Registration{Handle: cfg.Pool, Element: rserpool.PoolElement{UserTransport: t, Policy: cfg.Policy}}
	if _, err := m.Append(nil); err != nil {
		return fmt.Errorf("such an element cannot be registered: %w", err)
	}
	return nil
}

// Run registers the element and keeps it registered until ctx ends; then it
// deregisters it, which takes Timers.Stop at most. It returns nil if the
// element has been deregistered or never was registered, a *RejectedError if a
// registrar has refused the first registration, a *DeregistrationError if one
// has refused the deregistration, or another error if the sockets cannot be
// opened or the deregistration was not confirmed. After the first registration
// that was accepted, Run does not return before ctx ends.
func (e *Element) Run(ctx context.Context) error {
	err := errors.New("the element has run already")
	e.once.Do(func() { err = e.run(ctx) })
	return err
}

func (e *Element) run(ctx context.Context) error {
	cfg := e.cfg
	var err error
	e.tr, err = endpoint.Open(endpoint.TransportConfig{
		Via:           cfg.Via,
		Local:         cfg.Local,
		Unbound:       cfg.follows(),
		EncapPort:     cfg.EncapPort,
		AnnounceGroup: cfg.AnnounceGroup,
		Logf:          cfg.Logf,
		Listen:        cfg.listen,
		LookupHost:    cfg.lookupHost,
	})
	if err != nil {
		return err
	}
	defer e.tr.Close()

	cfg.Transport.Addrs = cfg.registered(cfg.Transport.Addrs)
	e.core = newCore(cfg, newRand(), drawID)
	e.look(time.Now())
	e.apply(time.Now())
	return e.loop(ctx)
}

// loop drives the core.
func (e *Element) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	stop := ctx.Done()
	for {
		e.perform()
		if over, err := e.core.ended(); over {
			return err
		}
		d, ok := e.core.nextDeadline()
		if !e.lookAt.IsZero() && (!ok || e.lookAt.Before(d)) {
			d, ok = e.lookAt, true
		}
		if ok {
			timer.Reset(time.Until(d))
		} else {
			timer.Stop()
		}
		select {
		case ev := <-e.tr.Events():
			now := time.Now()
			e.handle(now, ev)
			if ev.Type == sctp.Down || ev.Network || e.news != e.core.hunt.News() {
				e.look(now)
			}
		case <-e.wake:
			e.apply(time.Now())
		case <-timer.C:
			now := time.Now()
			if !e.lookAt.IsZero() && !now.Before(e.lookAt) {
				e.look(now)
			}
			e.core.tick(now)
		case <-stop:
			stop = nil
			e.core.stop(time.Now())
		}
	}
}

// apply hands what is wanted to the core.
func (e *Element) apply(now time.Time) {
	e.mu.Lock()
	want, policy := e.want, e.policy
	e.mu.Unlock()
	e.core.update(now, policy)
	if want {
		e.core.register(now)
	} else {
		e.core.deregister(now)
	}
}

// handle hands an event of the transport to the core.
func (e *Element) handle(now time.Time, ev endpoint.Event) {
	switch {
	case ev.Announce != nil:
		e.core.announced(now, ev.From, ev.Announce)
	case ev.Found != nil:
		e.core.found(now, *ev.Found)
	case ev.Network:
		e.core.hunt.Retry(now)
	case ev.Type == sctp.Up:
		e.core.up(now, ev.Assoc, slices.Concat(ev.Peer, ev.Claimed))
	case ev.Type == sctp.Received:
		if ev.Message.PPID == asap.PPID {
			e.core.received(now, ev.Assoc, ev.Message.Data)
		}
	case ev.Type == sctp.SendFailed:
		e.core.sendFailed(now, ev.Assoc, ev.Err)
	case ev.Type == sctp.Down:
		e.core.down(now, ev.Assoc, endpoint.DownError(ev.Event))
	}
}

// perform performs what the core wants done until it wants no more.
func (e *Element) perform() {
	for {
		actions, events := e.core.take()
		if len(actions) == 0 && len(events) == 0 {
			return
		}
		e.publish()
		if e.cfg.Notify != nil {
			for _, ev := range events {
				e.cfg.Notify(ev)
			}
		}
		e.tr.Perform(actions,
			func(ref uint64, a sctp.AssocID, err error) { e.core.connecting(time.Now(), ref, a, err) },
			func(a sctp.AssocID, err error) { e.core.sendFailed(time.Now(), a, err) })
	}
}

func (e *Element) publish() {
	s := State{
		Registered: e.core.standing && e.core.want,
		ID:         e.core.element.ID,
		Home:       e.core.element.Home,
		Refused:    e.core.refusals.last,
		Policy:     e.core.element.Policy,
		Addrs:      e.core.element.UserTransport.Addrs,
		Local:      e.tr.LocalAddrs(),
	}
	if e.core.home != 0 {
		s.Registrar = e.core.homeAt.String()
	}
	e.state.Store(&s)
}

// State tells what the registration is like now.
func (e *Element) State() State { return *e.state.Load() }

// Update tells the pool of new policy values, by a re-registration at once or
// as soon as Timers.MinUpdate allows. The policy's type must stay the same:
// all elements of a pool have the same one.
func (e *Element) Update(p rserpool.Policy) error {
	if p.Type != e.cfg.Policy.Type {
		return fmt.Errorf("policy %v in place of %v: an element can change its policy's values, but not the policy", p.Type, e.cfg.Policy.Type)
	}
	e.mu.Lock()
	e.policy = p
	e.mu.Unlock()
	e.nudge()
	return nil
}

// SetAvailable says whether the element is to be registered while it runs,
// such as a health check finds. It is when Run begins, if this is not called
// before.
func (e *Element) SetAvailable(available bool) {
	e.mu.Lock()
	e.want = available
	e.mu.Unlock()
	e.nudge()
}

func (e *Element) nudge() {
	select {
	case e.wake <- struct{}{}:
	default:
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
