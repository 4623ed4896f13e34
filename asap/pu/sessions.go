package pu

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// sessions are the sessions of a User, and what carries them, which is opened for the first
// one.
type sessions struct {
	cfg *Config
	via rserpool.Via

	mu      sync.Mutex
	carrier *carrier.Carrier
	open    map[*Session]struct{}
	closed  bool
	last    uint64
}

// seed makes the pauses of sessions differ.
func (x *sessions) seed() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.last++
	return x.last
}

// add enters a session.
func (x *sessions) add(s *Session) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed {
		return errClosed
	}
	if x.carrier == nil {
		if err := x.start(); err != nil {
			return err
		}
	}
	x.open[s] = struct{}{}
	return nil
}

// start opens what carries the sessions. Where the registrar is asked over TCP, sessions
// take the best SCTP that there is.
func (x *sessions) start() (err error) {
	if x.via = x.cfg.Via; x.via == rserpool.ViaTCP {
		x.via = rserpool.ViaAuto
	}
	var local []netip.Addr
	for _, ap := range x.cfg.Local {
		local = append(local, ap.Addr())
	}
	m, err := x.cfg.trust().Sessions()
	if err != nil {
		return err
	}
	x.carrier, err = carrier.Open(carrier.Config{Via: x.via, Local: local, Member: m, Logger: x.cfg.Logger, Listen: x.cfg.listen})
	x.open = make(map[*Session]struct{})
	return err
}

func (x *sessions) remove(s *Session) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.open, s)
}

// close ends all sessions, and then what carries them.
func (x *sessions) close() error {
	x.mu.Lock()
	x.closed = true
	list := slices.Collect(maps.Keys(x.open))
	c := x.carrier
	x.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range list {
		wg.Go(func() { _ = s.Close() })
	}
	wg.Wait()
	if c == nil {
		return nil
	}
	return c.Close()
}
