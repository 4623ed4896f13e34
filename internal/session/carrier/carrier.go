package carrier

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/member"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ListenFunc opens an SCTP endpoint.
type ListenFunc = func(sctp.ListenConfig, sctp.Handler) (sctp.Endpoint, error)

// Handler is called with the events of one association, one after the other in their
// order; Down is the last one. It runs in a goroutine of the transport, so that it must
// not block for long. It may call all methods of [Assoc] and [Carrier.Connect], but
// neither Carrier.Close nor [Listener.Close], which wait for it.
//
// No method of Assoc or Carrier calls a Handler itself, but Close waits for those that
// run. The Handler and the callers of these methods may therefore share a lock.
type Handler func(a *Assoc, ev sctp.Event)

// Config configures a Carrier. The zero value is a good one for a pool user.
type Config struct {
	// Via says what carries the associations; not TCP.
	Via rserpool.Via
	// Local are the addresses that Connect connects from; none are all addresses of
	// the machine.
	Local []netip.Addr
	// EncapPort is the local UDP port for SCTP in UDP, which all endpoints of the
	// Carrier share; 0 is a free one.
	EncapPort uint16
	// Member, if set, has the credentials for TLS on all associations. Up then has the
	// peer's identity.
	Member *member.Member
	// Logger, if set, gets messages for an operator.
	Logger *slog.Logger
	// Listen, if set, opens the endpoints in place of the machine's transports, for
	// tests.
	Listen ListenFunc
}

// Carrier has associations. Any goroutine may call its methods.
type Carrier struct {
	cfg    Config
	limits sctp.Limits
	listen ListenFunc
	stack  *stack.Stack // nil with Config.Listen
	ids    sctp.IDs
	wg     sync.WaitGroup // of endpoints that are being closed, of failed Connects, and of Member.Watch
	stop   chan struct{}  // closed by Close

	mu     sync.Mutex
	closed bool
	slots  []*endpoint // for Connect; nil where there is none
	spare  int         // endpoints in slots without an association
	// peers says which slots have an association with a peer, by each of the peer's
	// addresses.
	peers     map[netip.AddrPort]*slotSet
	listening map[*endpoint]struct{}
}

// maxSpare is how many endpoints without an association are kept for later ones.
const maxSpare = 8

// Open makes a Carrier. It opens no socket yet.
func Open(cfg Config) (*Carrier, error) {
	c := &Carrier{
		cfg: cfg, limits: sctp.Limits{}.WithDefaults(), listen: cfg.Listen,
		peers: make(map[netip.AddrPort]*slotSet), listening: make(map[*endpoint]struct{}), stop: make(chan struct{}),
	}
	if cfg.Via == rserpool.ViaTCP {
		return nil, errors.New("sessions need SCTP: use rserpool.ViaAuto, ViaKernel or ViaUDP")
	}
	if c.listen == nil {
		below := c.limits
		if cfg.Member != nil {
			below = secure.BelowLimits(below)
		}
		s, err := stack.New(stack.Config{Only: cfg.Via, EncapPort: cfg.EncapPort, Limits: below, Logf: logf(cfg.Logger)})
		if err != nil {
			return nil, err
		}
		c.stack, c.listen = s, s.Listen
	}
	if cfg.Member != nil {
		c.listen = c.secured(c.listen)
		c.wg.Go(func() { cfg.Member.Watch(c.stop, c.recheck) })
	}
	return c, nil
}

// secured puts TLS on the endpoints that listen opens.
func (c *Carrier) secured(listen ListenFunc) ListenFunc {
	opt := secure.Options{Sessions: true, PPID: asap.PPID, Limits: c.limits, Counters: &sctp.Counters{Logf: logf(c.cfg.Logger)}}
	return func(cfg sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
		return secure.Listen(c.cfg.Member.TLS(), opt, h, func(h sctp.Handler) (sctp.Endpoint, error) { return listen(cfg, h) })
	}
}

// recheck has the peers of all associations judged again.
func (c *Carrier) recheck() {
	for _, e := range c.all() {
		secure.Recheck(e.Endpoint)
	}
}

// all returns the endpoints.
func (c *Carrier) all() []*endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list()
}

// list returns the endpoints. c.mu is held.
func (c *Carrier) list() []*endpoint {
	var all []*endpoint
	for _, e := range c.slots {
		if e != nil {
			all = append(all, e)
		}
	}
	for e := range c.listening {
		all = append(all, e)
	}
	return all
}

// logf returns a Logger in the form that package sctp takes, nil without one.
func logf(l *slog.Logger) func(format string, args ...any) {
	if l == nil {
		return nil
	}
	return func(format string, args ...any) { l.Info(fmt.Sprintf(format, args...)) }
}

// Connect starts an association and returns it at once, never nil. The event Up or Down
// follows. Messages that are sent before Up wait for it. After Close, no event follows,
// and Send fails.
func (c *Carrier) Connect(to sctp.Dest, h Handler) *Assoc {
	a := &Assoc{c: c, h: h, id: uint64(c.ids.Next()), to: to}
	c.mu.Lock()
	defer c.mu.Unlock()
	a.place.Store(&nowhere)
	c.connect(a, 0)
	return a
}

// connect starts an association from the first slot, from the given one on, that has none
// with the peer. c.mu is held.
func (c *Carrier) connect(a *Assoc, from int) {
	if c.closed {
		a.over = true
		return
	}
	slot := c.freeSlot(a.to.Addrs, from)
	e, err := c.endpointAt(slot)
	if err != nil {
		c.wg.Go(func() {
			a.mu.Lock()
			a.over = true
			a.mu.Unlock()
			a.handle(sctp.Event{Type: sctp.Down, Kind: a.to.Kind, Reason: sctp.ConnectFailed, Err: err})
		})
		return
	}
	c.enter(a, e, a.to.Addrs)
	e.connect(a)
}

// endpointAt returns the endpoint of a slot, and opens it if there is none. c.mu is held.
func (c *Carrier) endpointAt(slot int) (*endpoint, error) {
	if slot < len(c.slots) && c.slots[slot] != nil {
		return c.slots[slot], nil
	}
	cfg := sctp.ListenConfig{Mobile: true}
	for _, ip := range c.cfg.Local {
		cfg.Addrs = append(cfg.Addrs, netip.AddrPortFrom(ip, 0))
	}
	e, err := c.open(cfg, nil)
	if err != nil {
		return nil, fmt.Errorf("open a local SCTP endpoint: %w", err)
	}
	for len(c.slots) <= slot {
		c.slots = append(c.slots, nil)
	}
	e.slot = slot
	c.slots[slot] = e
	c.spare++
	return e, nil
}

// open opens an endpoint.
func (c *Carrier) open(cfg sctp.ListenConfig, accept func(*Assoc, sctp.Event) Handler) (*endpoint, error) {
	e := &endpoint{
		c: c, slot: -1, accept: accept,
		assocs: make(map[sctp.AssocID]*Assoc), peers: make(map[netip.AddrPort]int),
	}
	e.mu.Lock() // events wait until e.Endpoint is set
	defer e.mu.Unlock()
	var err error
	e.Endpoint, err = c.listen(cfg, e.handle)
	return e, err
}

// enter notes that an association uses an endpoint. c.mu is held.
func (c *Carrier) enter(a *Assoc, e *endpoint, peer []netip.AddrPort) {
	if e.users++; e.users == 1 && e.slot >= 0 {
		c.spare--
	}
	c.learn(a, e, peer)
}

// leave undoes enter, and closes the endpoint if there are many without an association.
// c.mu is held.
func (c *Carrier) leave(a *Assoc, e *endpoint) {
	c.unlearn(a, e)
	if e.users--; e.users > 0 || e.slot < 0 || c.closed {
		return
	}
	if c.spare < maxSpare {
		c.spare++
		return
	}
	c.slots[e.slot] = nil
	c.wg.Go(func() { _ = e.Close() }) // not here: Close waits for Handlers
}

// Close aborts all associations. Their Handlers are called with Down (LocalClose) before it
// returns, and not afterwards.
func (c *Carrier) Close() error {
	c.mu.Lock()
	if !c.closed {
		close(c.stop)
	}
	c.closed = true
	all := c.list()
	c.slots, c.listening = nil, nil
	c.mu.Unlock()
	var errs []error
	for _, e := range all {
		errs = append(errs, e.Close())
	}
	c.wg.Wait()
	if c.stack != nil {
		errs = append(errs, c.stack.Close())
	}
	return errors.Join(errs...)
}

// DestOf returns where to connect to a pool element; false if its user transport is not
// SCTP.
func DestOf(e *rserpool.PoolElement, via rserpool.Via) (sctp.Dest, bool) {
	t := &e.UserTransport
	if t.Type != rserpool.SCTP {
		return sctp.Dest{}, false
	}
	to := sctp.Dest{Kind: via, EncapPort: e.UserEncapPort, Addrs: make([]netip.AddrPort, 0, len(t.Addrs))}
	for _, ip := range t.Addrs {
		to.Addrs = append(to.Addrs, netip.AddrPortFrom(ip, t.Port))
	}
	return to, true
}
