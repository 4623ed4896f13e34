package pu

import (
	"errors"
	"fmt"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A Session has no goroutine: the goroutines that have news for it drive its core, under the
// mutex. These are the callers of its methods, the Handlers of its associations, its timer,
// and the goroutine of the User's driver, which brings the results of selections.

// event tells the core of an event.
func (s *Session) event(f func(c *session.User, now time.Time)) {
	s.mu.Lock()
	defer s.unlock()
	now := time.Now()
	f(s.core, now)
	s.settle(now)
}

// handle is the Handler of the session's associations. Only the last one matters.
func (s *Session) handle(a *carrier.Assoc, ev sctp.Event) {
	s.mu.Lock()
	defer s.unlock()
	if a != s.assoc {
		return
	}
	now := time.Now()
	switch ev.Type {
	case sctp.Up:
		s.up(now, ev)
	case sctp.Received:
		s.core.Received(now, s.ref, Message{Data: ev.Message.Data, PPID: ev.Message.PPID, Stream: ev.Message.Stream})
	case sctp.SendFailed:
		s.core.SendFailed(now, s.ref, ev.Err)
	case sctp.Down:
		s.emptied = s.core.State() == session.Closing && ev.Err == nil &&
			(ev.Reason == sctp.LocalClose || ev.Reason == sctp.PeerShutdown)
		s.core.Down(now, s.ref, ev.Reason == sctp.PeerShutdown, downError(ev))
	case sctp.Writable:
		s.blocked = false
	case sctp.PeerAddrs, sctp.PeerDone: // the transport's own matter
	}
	s.settle(now)
}

// up tells the core that the association is there, if the element may serve the pool.
// Otherwise nothing was sent to it, and nothing is: the cookie is not for it (RFC 5355,
// Section 2.9).
func (s *Session) up(now time.Time, ev sctp.Event) {
	if err := s.user.sessions.cfg.trust().Serves(ev.Identity, s.pool); err != nil {
		s.assoc.Abort()
		s.core.Down(now, s.ref, false, distrust{err})
		return
	}
	s.core.Up(now, s.ref)
}

// downError says why an association has ended.
func downError(ev sctp.Event) error {
	err := client.DownError(ev)
	switch {
	case errors.Is(err, sctp.ErrAddrGone), ownFault(err),
		// The next handshake has other keys, or the certificate of today.
		errors.Is(err, sctp.ErrRenew), errors.Is(err, sctp.ErrUntrusted) && ev.Reason == sctp.LocalClose:
		return fmt.Errorf("%w: %w", session.ErrHere, err)
	case errors.Is(err, sctp.ErrUntrusted):
		return distrust{err}
	case ev.Reason != sctp.PeerAbort:
		return err
	case ev.Err == nil:
		return session.ErrPeerAborted
	}
	return aborted{err}
}

// distrust is a reason that says itself that a certificate is not accepted.
type distrust struct{ error }

func (d distrust) Unwrap() []error { return []error{session.ErrUntrusted, d.error} }

// aborted is a reason that says itself that the peer has aborted the association.
type aborted struct{ error }

func (a aborted) Unwrap() []error { return []error{session.ErrPeerAborted, a.error} }

// settle performs what the core wants done until it wants no more. The mutex is held, as in
// all functions below.
func (s *Session) settle(now time.Time) {
	for {
		list := s.core.Take()
		for i := range list {
			s.perform(now, &list[i])
		}
		if s.pump(now); len(list) == 0 {
			break
		}
	}
	if s.core.State() == session.Ended {
		s.end()
		return
	}
	s.setTimer(now)
	moved := s.core.Serving() != s.serving
	s.serving = s.core.Serving()
	if moved || s.core.Readable() {
		s.wake(s.readable)
	}
	if moved || s.core.MaySend(1) == nil {
		s.wake(s.writable)
	}
}

// perform performs an action. It may call the core, but not Take.
func (s *Session) perform(now time.Time, a *session.Action) {
	switch a.Type {
	case session.Select:
		s.choose(now, a)
	case session.Connect:
		s.connect(now, a)
	case session.Shutdown:
		s.assoc.Shutdown()
	case session.Abort:
		if a.Ref == s.ref && s.assoc != nil {
			s.assoc.Abort()
		}
	case session.Pause:
		s.assoc.Pause()
	case session.Resume:
		s.assoc.Resume()
	case session.Report:
		s.report(a)
	case session.Busy:
		s.user.busy(s.pool, a.Element.ID)
	case session.Ask:
		s.ask(a.Ref, a.Messages)
	case session.Notify:
		s.tell(a.Event)
	}
}

// choose selects an element: at once if the cache has one.
func (s *Session) choose(now time.Time, a *session.Action) {
	if !a.Fresh {
		if e, ok := s.user.cached(s.pool, a.Want, a.Without); ok {
			s.core.Selected(now, a.Ref, []rserpool.PoolElement{e}, false, nil)
			return
		}
	}
	ref := a.Ref
	s.cancel = s.user.nextAsync(s.pool, a.Want, a.Fresh, a.Without, func(e rserpool.PoolElement, err error) {
		s.event(func(c *session.User, now time.Time) {
			var list []rserpool.PoolElement
			if err == nil {
				list = append(list, e)
			}
			c.Selected(now, ref, list, true, err)
		})
	})
}

// connect starts an association.
func (s *Session) connect(now time.Time, a *session.Action) {
	to, ok := carrier.DestOf(a.Element, s.user.sessions.via)
	if !ok {
		s.core.Down(now, a.Ref, false, errors.New("the element does not offer SCTP"))
		return
	}
	s.ref, s.blocked = a.Ref, false
	s.assoc = s.user.sessions.carrier.Connect(to, s.handle)
}

// report reports an element that cannot be reached. If only another element's card has
// named it, a registrar must have named it, too, with the same addresses.
func (s *Session) report(a *session.Action) {
	if a.Hearsay {
		known, ok := s.user.cache.known(s.pool, a.Element.ID)
		if !ok || !known.UserTransport.Equal(a.Element.UserTransport) {
			return
		}
	}
	s.user.Failed(s.pool, a.Element.ID)
}

// pump sends what there is to send and room for, but nothing to the next element before the
// program knows that the former one has failed.
func (s *Session) pump(now time.Time) {
	for !s.blocked && s.failing == 0 {
		ref, m, ok := s.core.Next()
		if !ok {
			return
		}
		switch err := s.assoc.Send(sctp.Message{Data: m.Data, PPID: m.PPID, Stream: m.Stream}); {
		case err == nil:
			s.core.Sent(now)
		case errors.Is(err, sctp.ErrQueueFull):
			s.blocked = true // until Writable
		case errors.Is(err, sctp.ErrNoAssoc), errors.Is(err, sctp.ErrClosed):
			s.core.SendFailed(now, ref, err) // Down follows
			return
		default:
			s.core.Refused()
			s.refused = err
		}
	}
}

// setTimer has the timer run at the next deadline, or earlier.
func (s *Session) setTimer(now time.Time) {
	next, ok := s.core.NextDeadline()
	if !ok || !s.timerAt.IsZero() && !next.Before(s.timerAt) {
		return // what runs already is early enough
	}
	s.startTimer(now, next.Sub(now))
}

// startTimer has tick called after a time.
func (s *Session) startTimer(now time.Time, d time.Duration) {
	s.timerAt = now.Add(d)
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.tick)
	} else {
		s.timer.Reset(d)
	}
}

// tick is called by the timer.
func (s *Session) tick() {
	s.event(func(c *session.User, now time.Time) {
		s.timerAt = time.Time{}
		if at, ok := c.NextDeadline(); ok && !at.After(now) {
			c.Tick(now)
		}
	})
}

// wake wakes one goroutine that waits for a channel. Its value remains until one takes it.
func (s *Session) wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// end lets go of what the session holds.
func (s *Session) end() {
	if s.err != nil {
		return
	}
	s.err = s.core.Err()
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.cancel != nil {
		s.cancel()
	}
	s.release()
	s.assoc = nil
	if !s.telling && len(s.calls) == 0 {
		s.user.sessions.remove(s)
	} // else after the last call
	close(s.done)
}
