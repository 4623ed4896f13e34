package stack

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/sctp/tcp"
)

// endpoint joins the endpoints of all transports. The names of associations are unique
// over all of them, so that every method is passed on to each until one knows the name.
// Only a Connect of Kind Any over several transports has a name of its own.
type endpoint struct {
	s     *Stack
	h     sctp.Handler
	kinds []kindEndpoint // preferred first

	wg sync.WaitGroup

	mu       sync.RWMutex
	closed   bool
	eyeballs map[sctp.AssocID]*eyeballs // by the name given out
	attempts map[sctp.AssocID]*attempt  // by the names of the kinds' associations
	strays   map[sctp.AssocID]struct{}  // aborted because the peer speaks TLS
}

// kindEndpoint is the endpoint of one transport.
type kindEndpoint struct {
	sctp.Endpoint
	kind sctp.Kind
}

var _ sctp.Endpoint = (*endpoint)(nil)

func newEndpoint(s *Stack, h sctp.Handler) *endpoint {
	return &endpoint{s: s, h: h, eyeballs: map[sctp.AssocID]*eyeballs{}, attempts: map[sctp.AssocID]*attempt{}, strays: map[sctp.AssocID]struct{}{}}
}

// listen makes the endpoint of each transport, all at the same port.
func (e *endpoint) listen(cfg sctp.ListenConfig) error {
	if e.s.kernel {
		k, err := e.wrap(cfg, func(h sctp.Handler) (sctp.Endpoint, error) {
			return kernel.Listen(cfg, e.s.lim, &e.s.ids, &e.s.kernelN, e.s.machine, h)
		})
		if err != nil {
			return fmt.Errorf("kernel SCTP: %w", err)
		}
		cfg = e.add(sctp.Kernel, k, cfg)
	}
	if e.s.udp != nil {
		u, err := e.wrap(cfg, func(h sctp.Handler) (sctp.Endpoint, error) { return e.s.udp.Listen(cfg, &e.s.ids, h) })
		if err != nil {
			return fmt.Errorf("SCTP in UDP: %w", err)
		}
		cfg = e.add(sctp.UDP, u, cfg)
	}
	if e.s.cfg.Framing.Len == nil {
		if cfg.TCP {
			return errNoFraming
		}
		return nil
	}
	t, err := tcp.Listen(cfg, e.s.cfg.Framing, e.s.cfg.Limits, &e.s.ids, &e.s.tcp, e.s.machine, e.s.cfg.TLS, e.handle)
	if err != nil {
		return fmt.Errorf("TCP: %w", err)
	}
	e.add(sctp.TCP, t, cfg)
	return nil
}

// wrap makes the endpoint of a kind of SCTP, with TLS if it is configured.
func (e *endpoint) wrap(cfg sctp.ListenConfig, listen func(sctp.Handler) (sctp.Endpoint, error)) (sctp.Endpoint, error) {
	if e.s.cfg.TLS == nil {
		return listen(e.handle)
	}
	opt := secure.Options{Framing: e.s.cfg.Framing, PPID: cfg.PPID, Renew: cfg.Renew, Limits: e.s.cfg.Limits, Counters: &e.s.tlsN}
	return secure.Listen(e.s.cfg.TLS, opt, e.handle, listen)
}

// Recheck is for secure.Recheck. Without TLS it does nothing.
func (e *endpoint) Recheck() {
	for _, k := range e.kinds {
		secure.Recheck(k.Endpoint)
	}
}

// add adds the endpoint of a transport and returns cfg with its port.
func (e *endpoint) add(kind sctp.Kind, ep sctp.Endpoint, cfg sctp.ListenConfig) sctp.ListenConfig {
	e.kinds = append(e.kinds, kindEndpoint{ep, kind})
	addrs := ep.LocalAddrs()
	if len(addrs) == 0 {
		return cfg
	}
	return onPort(cfg, addrs[0].Port())
}

// onPort returns cfg with another port.
func onPort(cfg sctp.ListenConfig, port uint16) sctp.ListenConfig {
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
func (e *endpoint) Connect(to sctp.Dest) sctp.AssocID {
	if to.Kind == sctp.Any {
		return e.connectAny(to)
	}
	for _, k := range e.kinds {
		// Without SCTP in user space the kernel does the encapsulation.
		if k.kind == to.Kind || k.kind == sctp.Kernel && to.Kind == sctp.UDP && e.s.udp == nil {
			return k.Connect(to)
		}
	}
	return e.failed(fmt.Errorf("transport %v is not available on this machine", to.Kind))
}

// failed reports a Connect that failed at once.
func (e *endpoint) failed(err error) sctp.AssocID {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0
	}
	id := e.s.ids.Next()
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		e.h(sctp.Event{Type: sctp.Down, Assoc: id, Reason: sctp.ConnectFailed, Err: err})
	}()
	return id
}

// Send implements Endpoint.
func (e *endpoint) Send(a sctp.AssocID, m sctp.Message) error {
	if r := e.eyeballsOf(a); r != nil {
		return r.send(m)
	}
	for _, k := range e.kinds {
		if err := k.Send(a, m); !errors.Is(err, sctp.ErrNoAssoc) {
			return err
		}
	}
	return sctp.ErrNoAssoc
}

// Full implements Endpoint.
func (e *endpoint) Full(a sctp.AssocID) bool {
	if y := e.eyeballsOf(a); y != nil {
		return y.full()
	}
	return slices.ContainsFunc(e.kinds, func(k kindEndpoint) bool { return k.Full(a) })
}

// Behind implements Endpoint.
func (e *endpoint) Behind(a sctp.AssocID) bool {
	if y := e.eyeballsOf(a); y != nil {
		return y.behind()
	}
	return slices.ContainsFunc(e.kinds, func(k kindEndpoint) bool { return k.Behind(a) })
}

// Pause implements Endpoint.
func (e *endpoint) Pause(a sctp.AssocID) { e.pass(a, sctp.Endpoint.Pause, (*eyeballs).call) }

// Resume implements Endpoint.
func (e *endpoint) Resume(a sctp.AssocID) { e.pass(a, sctp.Endpoint.Resume, (*eyeballs).call) }

// Heartbeat implements Endpoint.
func (e *endpoint) Heartbeat(a sctp.AssocID) { e.pass(a, sctp.Endpoint.Heartbeat, (*eyeballs).call) }

// Shutdown implements Endpoint.
func (e *endpoint) Shutdown(a sctp.AssocID) { e.pass(a, sctp.Endpoint.Shutdown, (*eyeballs).stop) }

// Abort implements Endpoint.
func (e *endpoint) Abort(a sctp.AssocID) { e.pass(a, sctp.Endpoint.Abort, (*eyeballs).stop) }

// method is a method of an Endpoint for one association.
type method = func(sctp.Endpoint, sctp.AssocID)

// pass passes a call on: to the transport of the association, or by inEyeballs to the
// attempts of a Connect of Kind Any.
func (e *endpoint) pass(a sctp.AssocID, call method, inEyeballs func(*eyeballs, method)) {
	if y := e.eyeballsOf(a); y != nil {
		inEyeballs(y, call)
		return
	}
	for _, k := range e.kinds {
		call(k.Endpoint, a)
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
	return sctp.Join(errs...)
}
