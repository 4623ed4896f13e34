package host

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/internal/setting"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config configures a Host.
type Config struct {
	// Config is the registrar's. A nil Rand is seeded by the system.
	registrar.Config
	// ASAP are the addresses and the port (one for all) where ASAP is served
	// over SCTP and TCP; none stands for all addresses and port 3863.
	ASAP []netip.AddrPort
	// ENRP are the addresses and the port (one for all) where ENRP is served
	// over SCTP. None stands for port 9901 on the addresses of ASAP if there
	// are Peers or an ENRPAnnounceGroup; without those, ENRP is not served.
	ENRP []netip.AddrPort
	// PeerEncap is the UDP port at which peers are called over SCTP in UDP; 0
	// stands for the one that a peer was last heard from, or else 9899.
	PeerEncap uint16
	// Transport says which kinds of SCTP to offer.
	Transport sctp.Kind
	// Encap is the UDP port of SCTP in UDP; 0 stands for 9899.
	Encap uint16
	// Transports bounds what peers can make all transports together hold.
	Transports TransportLimits
	// AnnounceGroup is the multicast group and port of server announces (RFC
	// 5352, Section 3.6; registered are 224.0.1.185 and ff0X::133, port 3863);
	// the zero value sends none.
	AnnounceGroup netip.AddrPort
	// ENRPAnnounceGroup is the multicast group and port by which registrars find
	// one another; none is registered, and the reference implementation's is
	// 239.0.0.51:9901. The zero value stands for none. It sets Discover.
	ENRPAnnounceGroup netip.AddrPort
	// Network opens the transport, a new one for each Start; nil is an
	// [stack.Stack] as the fields above describe it. It is for tests.
	Network func() (Network, error)
	// Logf is told what an operator wants to know, one line a call, by one
	// goroutine. Nothing waits for it: lines that it does not take in time are
	// left out.
	Logf func(warn bool, text string)
}

// TransportLimits bound associations and connections. A zero field stands for its
// default; those with a name can be set in the Corefile.
type TransportLimits struct {
	// Associations, established SCTP associations and TCP connections.
	Associations int `name:"associations" default:"65536" min:"1" max:"1073741824"`
	// HalfOpen, associations and connections that the peer has not established yet.
	HalfOpen int `name:"half_open" default:"1024" min:"1" max:"1073741824"`
}

// Network is where a Host listens.
type Network interface {
	Listen(sctp.ListenConfig, sctp.Handler) (sctp.Endpoint, error)
	Close() error
}

// core is what a Host wants of a registrar.
type core interface {
	Handle(time.Time, registrar.Event) []registrar.Action
	NextDeadline() (time.Time, bool)
	Ready() bool
	Stats() registrar.Stats
}

// Host runs a registrar: it owns the sockets, the clock and the one goroutine
// that drives the core. Its methods may be called from any goroutine.
type Host struct {
	cfg   Config
	core  core // the loop's
	id    rserpool.ServerID
	space *handlespace.Space
	log   *logger
	stats atomic.Pointer[Stats]
	ready atomic.Bool // started
	knows atomic.Bool // the handlespace of its scope
	local atomic.Pointer[[]netip.AddrPort]
	enrp  atomic.Pointer[[]netip.AddrPort]

	mu     sync.Mutex // guards the life cycle
	loop   *loop      // while started
	closed bool
}

// The errors of Start that callers may want to tell apart.
var (
	// ErrStarted: the Host runs already.
	ErrStarted = errors.New("registrar is started already")
	// ErrClosed: the Host has been closed.
	ErrClosed = errors.New("registrar is closed")
)

// New checks the configuration and makes a Host that does nothing yet: no
// socket, no goroutine.
func New(cfg Config) (*Host, error) {
	if cfg.Logf == nil {
		cfg.Logf = func(bool, string) {}
	}
	log := newLogger(cfg.Logf)
	cfg.Logf = log.add
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	r, err := registrar.New(cfg.Config)
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, core: r, id: r.ID(), space: r.Space(), log: log}
	h.stats.Store(&Stats{Stats: r.Stats()})
	h.local.Store(new([]netip.AddrPort))
	h.enrp.Store(new([]netip.AddrPort))
	return h, nil
}

// complete fills in defaults and refuses what cannot be.
func (c *Config) complete() error {
	if c.Rand == nil {
		var seed [16]byte
		_, _ = crand.Read(seed[:]) // it never fails
		c.Rand = rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:8]), binary.BigEndian.Uint64(seed[8:])))
	}
	if len(c.ASAP) == 0 {
		c.ASAP = []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), asap.Port)}
	}
	c.Discover = c.ENRPAnnounceGroup.IsValid()
	if len(c.ENRP) == 0 && (len(c.Peers) > 0 || c.Discover) {
		for _, a := range c.ASAP {
			c.ENRP = append(c.ENRP, netip.AddrPortFrom(a.Addr(), enrp.Port))
		}
	}
	if err := errors.Join(checkAddrs("ASAP", c.ASAP), checkAddrs("ENRP", c.ENRP)); err != nil {
		return err
	}
	for _, a := range c.Peers {
		if !a.IsValid() || a.Addr().IsMulticast() || a.Addr().IsUnspecified() || a.Port() == 0 {
			return fmt.Errorf("registrar cannot have a peer at %v: want a unicast address and a port", a)
		}
	}
	if c.Encap == 0 {
		c.Encap = sctp.EncapPort
	}
	for _, g := range []netip.AddrPort{c.AnnounceGroup, c.ENRPAnnounceGroup} {
		if g != (netip.AddrPort{}) && (!g.Addr().IsMulticast() || g.Port() == 0) {
			return fmt.Errorf("registrar cannot announce itself at %v: want a multicast address and a port, such as 224.0.1.185:3863", g)
		}
	}
	if g := c.AnnounceGroup; g.IsValid() && g == c.ENRPAnnounceGroup {
		return fmt.Errorf("registrar cannot announce itself by ASAP and by ENRP at %v: want two groups, or two ports", g)
	}
	if c.Logf == nil {
		c.Logf = func(bool, string) {}
	}
	for _, s := range setting.Of(&c.Transports) {
		if err := s.Complete(); err != nil {
			return fmt.Errorf("registrar config: limit %w", err)
		}
	}
	if c.Network == nil {
		limits := sctp.Limits{Associations: c.Transports.Associations, HalfOpen: c.Transports.HalfOpen, Stalled: stalled}
		mode, encap, logf := c.Transport, c.Encap, c.Logf
		c.Network = func() (Network, error) {
			return newStack(stack.Config{Only: mode, EncapPort: encap, Framing: framing, Limits: limits, Logf: func(format string, args ...any) {
				logf(false, fmt.Sprintf(format, args...))
			}})
		}
	}
	return nil
}

// checkAddrs checks where a protocol is to be served.
func checkAddrs(protocol string, addrs []netip.AddrPort) error {
	for _, a := range addrs {
		switch {
		case !a.IsValid() || a.Addr().IsMulticast():
			return fmt.Errorf("registrar cannot serve %s at %v: want a unicast address, or 0.0.0.0 or [::] for all", protocol, a)
		case a.Port() != addrs[0].Port():
			return fmt.Errorf("registrar cannot serve %s at %v and %v: want the same port at all addresses", protocol, addrs[0], a)
		}
	}
	return nil
}

// Start opens the sockets and starts the registrar. After an error nothing is
// left open, and Start may be tried again.
func (h *Host) Start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return ErrClosed
	case h.loop != nil:
		return ErrStarted
	}
	h.log.start()
	l, err := h.open()
	if err != nil {
		h.log.end()
		return err
	}
	h.loop = l
	p := l.look()
	l.setPlaces(p)
	serving := registrar.Serving{
		Addrs: p.asap, TCP: true, Announce: h.cfg.AnnounceGroup.IsValid(), ENRP: p.enrp, Own: p.own, Machine: p.machine,
	}
	h.knows.Store(h.core.Ready())
	h.ready.Store(true)
	l.start(serving)
	return nil
}

// open opens the sockets.
func (h *Host) open() (_ *loop, err error) {
	l := newLoop(h)
	defer func() {
		if err != nil {
			close(l.quit)
			l.release()
		}
	}()
	if l.network, err = h.cfg.Network(); err != nil {
		return nil, h.explain("ASAP", h.cfg.ASAP, err)
	}
	if l.ep, err = l.network.Listen(sctp.ListenConfig{Addrs: h.cfg.ASAP, TCP: true}, l.onEvent); err != nil {
		return nil, h.explain("ASAP", h.cfg.ASAP, err)
	}
	if len(h.cfg.ENRP) > 0 {
		if l.enrp, err = l.network.Listen(sctp.ListenConfig{Addrs: h.cfg.ENRP}, l.onENRPEvent); err != nil {
			l.enrp = nil
			return nil, h.explain("ENRP", h.cfg.ENRP, err)
		}
	}
	for _, addr := range []netip.AddrPort{h.cfg.AnnounceGroup, h.cfg.ENRPAnnounceGroup} {
		if !addr.IsValid() {
			continue
		}
		if err := l.join(addr, addr == h.cfg.ENRPAnnounceGroup); err != nil {
			return nil, fmt.Errorf("registrar cannot announce itself: %w", err)
		}
	}
	return l, nil
}

// Close stops the registrar, tells peers in good order as far as ctx leaves
// time, closes all sockets and waits for the goroutines. It may be called more
// than once. The error is that of ctx if not all peers have confirmed.
func (h *Host) Close(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.ready.Store(false)
	l := h.loop
	if l == nil {
		return nil
	}
	h.loop = nil
	err := l.end(ctx)
	h.log.end()
	return err
}

// ID is the registrar's server identifier.
func (h *Host) ID() rserpool.ServerID { return h.id }

// Space is the handlespace, to be read by any goroutine, before Start too.
func (h *Host) Space() *handlespace.Space { return h.space }

// Ready reports whether the registrar serves: it is started, and knows the
// handlespace of its scope.
func (h *Host) Ready() bool { return h.ready.Load() && h.knows.Load() }

// Stats returns the counters as they were a tenth of a second ago at most. It
// may be called by any goroutine, and waits for nobody.
func (h *Host) Stats() Stats { return *h.stats.Load() }

// LocalAddrs returns where ASAP is served, with the port that was taken where
// the configuration says 0. It is empty before Start.
func (h *Host) LocalAddrs() []netip.AddrPort { return *h.local.Load() }

// ENRPAddrs are the same for ENRP; none if it is not served.
func (h *Host) ENRPAddrs() []netip.AddrPort { return *h.enrp.Load() }
