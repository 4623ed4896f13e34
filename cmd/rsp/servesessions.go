package main

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/cmd/rsp/internal/serve"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// handlers serve the sessions of an element.
type handlers struct {
	log     *logger
	service serve.Service
}

// accept serves sessions until ctx ends or the listener does. It returns when all sessions
// have ended.
func (h *handlers) accept(ctx context.Context, l *pe.Listener) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		s, err := l.Accept(ctx)
		if err != nil {
			return
		}
		all.Go(func() { h.handle(ctx, s) })
	}
}

// handle serves a session.
func (h *handlers) handle(ctx context.Context, s *pe.Session) {
	user := peer(s)
	h.log.log(verbose, "session with %s begins", user)
	err := h.service.Serve(ctx, s)
	_ = s.Close()
	switch {
	case err == nil || ctx.Err() != nil:
		h.log.log(verbose, "session with %s has ended", user)
	default:
		h.log.log(normal, "session with %s has ended: %v", user, err)
	}
	if err := s.CookieError(); err != nil {
		h.log.log(normal, "session with %s began anew: its state cookie was refused: %v", user, err)
	}
}

// peer names a session's user.
func peer(s *pe.Session) string {
	var list []string
	for _, a := range s.RemoteAddrs() {
		list = append(list, a.String())
	}
	return strings.Join(list, ",")
}

// teller logs the events of an element.
type teller struct {
	log    *logger
	pool   rserpool.PoolHandle
	hinted bool // the hint is logged once
}

// notify logs an event.
func (t *teller) notify(ev pe.Event) {
	at := normal
	switch ev.Type {
	case pe.Registered, pe.Deregistered, pe.Expired, pe.HomeChanged, pe.Readdressed, pe.Resumed:
	case pe.Reregistered:
		at = verbose
	case pe.Rejected:
		return // the element ends with this error
	case pe.HomeLost, pe.Refused, pe.DeregistrationRefused:
		t.hinted = true // a registrar has answered
		at = quiet
	case pe.NoRegistrar, pe.Warning, pe.AdoptionFailed:
		at = quiet
	}
	var none *rserpool.UnreachableError
	if ev.Type == pe.NoRegistrar && errors.As(ev.Err, &none) && none.AllRefused() {
		at = verbose // each refusal has its line already
	}
	t.log.log(at, "pool %q: %v", string(t.pool), ev)
	if ev.Type == pe.NoRegistrar && !t.hinted {
		t.hinted = true
		if h := hint(ev.Err); h != "" {
			t.log.log(normal, "%s", h)
		}
	}
}
