package host

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/state"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// core is what a Host needs of a registrar.
type core interface {
	Handle(time.Time, registrar.Event) []registrar.Action
	NextDeadline() (time.Time, bool)
	Ready() bool
	Answers() bool
	Stats() registrar.Stats
}

// Host runs a registrar: it has the sockets, the clock and the one goroutine that drives
// the core. [Open] makes one; the zero value cannot be used. Its methods may be called from
// any goroutine.
type Host struct {
	cfg   Config
	core  core // the loop's
	id    rserpool.ServerID
	space *handlespace.Space
	log   *logger
	stats atomic.Pointer[Stats]
	ready atomic.Bool // started
	knows atomic.Bool // the handlespace of its scope
	some  atomic.Bool // of the handlespace is known at least
	local atomic.Pointer[[]netip.AddrPort]
	enrp  atomic.Pointer[[]netip.AddrPort]

	keeper *keeper // nil without Config.State
	scope  *scope  // nil without Config.Trust

	loop *loop
	once sync.Once // closes
	err  error     // of Close
}

// Open checks the configuration, opens the sockets and starts the registrar. It runs
// until Close. After an error nothing is left open.
func Open(cfg Config) (*Host, error) {
	h, err := newHost(cfg)
	if err != nil {
		return nil, err
	}
	if err := h.start(); err != nil {
		return nil, err
	}
	return h, nil
}

// newHost makes a Host that does nothing yet: no socket, no goroutine.
func newHost(cfg Config) (*Host, error) {
	cfg, err := cfg.Complete()
	if err != nil {
		return nil, err
	}
	h := &Host{cfg: cfg, log: newLogger(cfg.Logger)}
	if h.scope, err = openScope(cfg.Trust, h.log.add); err != nil {
		return nil, err
	}
	if cfg.State != "" {
		if h.keeper, err = openKeeper(state.Config{Dir: cfg.State}, h.log); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		cfg.Keep = true
		if cfg.ServerID == 0 {
			cfg.ServerID = h.keeper.id
		}
	}
	r, err := registrar.New(cfg.Config)
	if err != nil {
		return nil, err // cannot be: the configuration is complete
	}
	h.core, h.id, h.space = r, r.ID(), r.Space()
	if h.keeper != nil {
		h.keeper.begin(h.id, h.space)
	}
	h.stats.Store(&Stats{Stats: r.Stats()})
	h.local.Store(new([]netip.AddrPort))
	h.enrp.Store(new([]netip.AddrPort))
	return h, nil
}

// start opens the sockets and starts the registrar.
func (h *Host) start() error {
	h.log.start()
	if h.keeper != nil {
		h.restore() // before the sockets: what comes over them would have to wait
	}
	l, err := h.open()
	if err != nil {
		if h.keeper != nil {
			h.keeper.close(h.log)
		}
		h.log.end()
		return err
	}
	h.loop = l
	if h.keeper != nil {
		h.keeper.store.Start()
	}
	p := l.look()
	l.setPlaces(p)
	serving := registrar.Serving{
		Addrs: p.asap, TCP: true, Announce: h.cfg.AnnounceGroup.IsValid(), ENRP: p.enrp, Own: p.own, Machine: p.machine,
	}
	h.knows.Store(h.core.Ready())
	h.some.Store(h.core.Answers())
	h.ready.Store(true)
	if h.scope != nil {
		h.scope.introduce(h.log)
		h.scope.watch(l)
	}
	go l.run(serving)
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
	if l.network, err = h.network(); err != nil {
		return nil, h.explain("ASAP", h.cfg.ASAP, err)
	}
	if l.ep, err = l.network.Listen(sctp.ListenConfig{Addrs: h.cfg.ASAP, TCP: true, Renew: sctp.RenewNone}, l.onEvent); err != nil {
		return nil, h.explain("ASAP", h.cfg.ASAP, err)
	}
	if len(h.cfg.ENRP) > 0 {
		if l.enrp, err = l.network.Listen(sctp.ListenConfig{Addrs: h.cfg.ENRP, PPID: enrp.PPID}, l.onENRPEvent); err != nil {
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

// Close stops the registrar, shuts its associations down in good order within
// Config.CloseTimeout, closes all sockets and waits for the goroutines. The error wraps
// context.DeadlineExceeded if not all peers have confirmed in time. Close may be called
// more than once.
func (h *Host) Close() error {
	h.once.Do(func() {
		h.ready.Store(false)
		h.err = h.loop.end(h.cfg.CloseTimeout)
		if h.scope != nil {
			h.scope.ended.Wait()
		}
		if h.keeper != nil {
			h.keeper.close(h.log)
		}
		h.log.end()
	})
	return h.err
}

// SetRules replaces the rules for pools. They apply as soon as the registrar has handled
// what has come in before.
func (h *Host) SetRules(rules registrar.PoolRules) { h.loop.enqueue(registrar.Rules{Of: rules}) }

// ID is the registrar's server identifier.
func (h *Host) ID() rserpool.ServerID { return h.id }

// Space is the handlespace, which any goroutine may read, after Close too.
func (h *Host) Space() *handlespace.Space { return h.space }

// Ready reports whether the registrar serves: it is not closed, knows the handlespace of its
// scope, and its own certificate, if it has one, is valid.
func (h *Host) Ready() bool { return h.ready.Load() && h.knows.Load() && h.scope.valid() }

// Answers reports whether pool users may be told of the elements in the handlespace: it is
// that of the scope, as Ready tells, or has at least the elements that a former process has
// left in Config.State. What is not in it may exist all the same before Ready.
func (h *Host) Answers() bool { return h.ready.Load() && h.some.Load() }

// Stats returns the counters, which are at most a tenth of a second old. It does not wait
// for the registrar.
func (h *Host) Stats() Stats {
	s := *h.stats.Load()
	s.State = h.keeper.stats(s.Own)
	s.TLS = h.scope.stats()
	return s
}

// LocalAddrs returns the addresses where ASAP is served. A port 0 in the configuration is
// replaced by the real one.
func (h *Host) LocalAddrs() []netip.AddrPort { return slices.Clone(*h.local.Load()) }

// ENRPAddrs returns the same for ENRP. There are none if ENRP is not served.
func (h *Host) ENRPAddrs() []netip.AddrPort { return slices.Clone(*h.enrp.Load()) }
