package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

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
	tls    bool // rsp speaks TLS
	hinted bool // the hint is logged once
	met    bool // something has accepted an association

	manager *manager // nil if none waits for this process

	// told is what was last said of a refusal for the element's rights, toldAt when, and
	// explained that it was said what to do.
	told      string
	toldAt    time.Time
	explained bool

	// held is why the last registrar has not accepted the registration: see hold.
	held string
}

// tellAgain is the time after which the same refusal is told again. An element tries each few
// seconds.
const tellAgain = time.Minute

// notify logs an event, and tells the service manager of it.
func (t *teller) notify(ev pe.Event) {
	t.manager.tell(ev)
	if t.notifyRefusal(ev) || t.hold(ev) {
		return
	}
	at := normal
	switch ev.Type {
	case pe.Registered:
		t.hinted = true // a registrar has answered
	case pe.Deregistered, pe.Expired, pe.HomeChanged, pe.Readdressed, pe.Resumed:
	case pe.Reregistered:
		at = verbose
	case pe.Rejected:
		return // the element ends with this error
	case pe.Refused, pe.DeregistrationRefused:
		t.hinted = true // a registrar has answered
		at = quiet
	case pe.HomeLost:
		t.met = true
		at = quiet
	case pe.NoRegistrar, pe.Warning, pe.AdoptionFailed:
		at = quiet
	}
	var none *rserpool.UnreachableError
	unreached := ev.Type == pe.NoRegistrar && errors.As(ev.Err, &none)
	if unreached && ev.Pause == 0 && none.AllRefused() {
		at = verbose // each refusal has its line already
	}
	t.log.log(at, "pool %q: %v", string(t.pool), ev)
	if unreached && !t.hinted {
		t.hinted = true
		if h := t.hint(none); h != "" {
			t.log.log(normal, "%s", h)
		}
	}
}

// hold keeps back why a registrar has ended the association before it accepted the registration,
// and reports whether the event is one. If the round is in vain, its event has the reason, too.
// If another registrar accepts the element, the reason is logged then.
func (t *teller) hold(ev pe.Event) bool {
	var rejected *pe.RejectedError
	switch {
	case ev.Type == pe.HomeLost && ev.Unserved && !errors.As(ev.Err, &rejected):
		t.met, t.held = true, ev.String()
		return true
	case ev.Type == pe.Registered && t.held != "":
		t.log.log(quiet, "pool %q: %s", string(t.pool), t.held)
		t.held = ""
	case ev.Type == pe.NoRegistrar:
		t.held = ""
	}
	return false
}

// hint returns what to try, "" if there is no hint. What accepts an association is a registrar,
// but may want TLS.
func (t *teller) hint(none *rserpool.UnreachableError) string {
	if t.met {
		return wrongPort(none, t.tls)
	}
	return hint(none, t.tls)
}

// notifyRefusal logs the events of an element that has not the right to be where it wants to be,
// and reports whether the event is one. After the first one, the log says what to do.
func (t *teller) notifyRefusal(ev pe.Event) bool {
	why := refusedHint(ev.Err)
	switch ev.Type {
	case pe.Registered:
		t.told = ""
		return false
	case pe.NoRegistrar:
		var none *rserpool.UnreachableError
		if t.told == "" || ev.Pause > 0 || errors.As(ev.Err, &none) && len(none.Attempts) > 1 {
			return false
		}
		// What was told is the reason, and it is about the only registrar.
		t.log.log(verbose, "pool %q: %v", string(t.pool), ev)
		return true
	case pe.HomeLost, pe.Refused:
		if why == "" {
			t.told = ""
			return false
		}
	default:
		return false
	}
	at, text := quiet, ev.String()
	if ev.Type == pe.HomeLost && text == t.told && time.Since(t.toldAt) < tellAgain {
		at = verbose
	} else {
		t.told, t.toldAt = text, time.Now()
	}
	t.log.log(at, "pool %q: %s", string(t.pool), text)
	if !t.explained {
		t.explained = true
		t.log.log(quiet, "%s", why)
	}
	return true
}
