package sctp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
)

// endpoint joins the kinds of transport into one Endpoint. The names of
// associations are unique over all of them, so each call is passed on to the
// kind that knows the name. Only calls of Kind Any that are raced over several
// kinds have a name of their own.
type endpoint struct {
	s     *Stack
	h     Handler
	kinds []kindEndpoint // preferred first

	wg sync.WaitGroup

	mu     sync.RWMutex
	closed bool
	races  map[AssocID]*race   // by the name given out
	inner  map[AssocID]*runner // by the names of the kinds' associations
}

// kindEndpoint is an endpoint of one kind.
type kindEndpoint struct {
	Endpoint
	kind Kind
}

var _ Endpoint = (*endpoint)(nil)

func newEndpoint(s *Stack, h Handler) *endpoint {
	return &endpoint{s: s, h: h, races: map[AssocID]*race{}, inner: map[AssocID]*runner{}}
}

// listen makes the endpoints of each kind, all at the same port.
func (e *endpoint) listen(cfg ListenConfig) error {
	if e.s.kernel {
		k, err := listenKernel(cfg, e.s.cfg.Limits, &e.s.ids, &e.s.kernelN, e.s.machine, e.handle)
		if err != nil {
			return fmt.Errorf("kernel SCTP: %w", err)
		}
		cfg = e.add(Kernel, k, cfg)
	}
	if e.s.udp != nil {
		u, err := e.s.udp.listen(cfg, &e.s.ids, e.handle)
		if err != nil {
			return fmt.Errorf("SCTP in UDP: %w", err)
		}
		cfg = e.add(UDP, u, cfg)
	}
	t, err := listenTCP(cfg, e.s.cfg.Limits, &e.s.ids, &e.s.tcp, e.s.machine, e.handle)
	if err != nil {
		return fmt.Errorf("TCP: %w", err)
	}
	e.add(TCP, t, cfg)
	return nil
}

// add takes in a kind's endpoint, and has the ones to come take its port.
func (e *endpoint) add(kind Kind, ep Endpoint, cfg ListenConfig) ListenConfig {
	e.kinds = append(e.kinds, kindEndpoint{ep, kind})
	addrs := ep.LocalAddrs()
	if len(addrs) == 0 {
		return cfg
	}
	return onPort(cfg, addrs[0].Port())
}

// onPort is cfg with another port.
func onPort(cfg ListenConfig, port uint16) ListenConfig {
	if len(cfg.Addrs) == 0 {
		cfg.Addrs = []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), 0)}
	}
	cfg.Addrs = slices.Clone(cfg.Addrs)
	for i, a := range cfg.Addrs {
		cfg.Addrs[i] = netip.AddrPortFrom(a.Addr(), port)
	}
	return cfg
}

// Connect implements Endpoint.
func (e *endpoint) Connect(to Dest) AssocID {
	if to.Kind == Any {
		return e.race(to)
	}
	for _, k := range e.kinds {
		// Where user space stays out, the kernel does the encapsulation.
		if k.kind == to.Kind || k.kind == Kernel && to.Kind == UDP && e.s.udp == nil {
			return k.Connect(to)
		}
	}
	return e.failed(fmt.Errorf("transport %v is not available on this machine", to.Kind))
}

// failed reports a call that cannot even begin.
func (e *endpoint) failed(err error) AssocID {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0
	}
	id := e.s.ids.next()
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		e.h(Event{Type: Down, Assoc: id, Reason: ConnectFailed, Err: err})
	}()
	return id
}

// Send implements Endpoint.
func (e *endpoint) Send(a AssocID, m Message) error {
	if r := e.raced(a); r != nil {
		return r.send(m)
	}
	for _, k := range e.kinds {
		if err := k.Send(a, m); !errors.Is(err, ErrNoAssoc) {
			return err
		}
	}
	return ErrNoAssoc
}

// Full says whether a peer does not take what was sent to it before, so that
// Send would refuse what is not short.
func (e *endpoint) Full(a AssocID) bool {
	for _, k := range e.kinds {
		if f, ok := k.Endpoint.(interface{ Full(AssocID) bool }); ok && f.Full(a) {
			return true
		}
	}
	return false
}

// Shutdown implements Endpoint.
func (e *endpoint) Shutdown(a AssocID) {
	if r := e.raced(a); r != nil {
		r.stop(Endpoint.Shutdown)
		return
	}
	for _, k := range e.kinds {
		k.Shutdown(a)
	}
}

// Abort implements Endpoint.
func (e *endpoint) Abort(a AssocID) {
	if r := e.raced(a); r != nil {
		r.stop(Endpoint.Abort)
		return
	}
	for _, k := range e.kinds {
		k.Abort(a)
	}
}

// LocalAddrs implements Endpoint.
func (e *endpoint) LocalAddrs() []netip.AddrPort { return e.kinds[0].LocalAddrs() }

// Close implements Endpoint.
func (e *endpoint) Close() error {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	err := e.closeKinds()
	e.wg.Wait()
	e.s.forget(e)
	return err
}

func (e *endpoint) closeKinds() error {
	var errs []error
	for _, k := range e.kinds {
		errs = append(errs, k.Close())
	}
	return errors.Join(errs...)
}

// String names a kind as configuration does.
func (k Kind) String() string {
	switch k {
	case Any:
		return "any"
	case Kernel:
		return "kernel"
	case UDP:
		return "udp"
	case TCP:
		return "tcp"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}
