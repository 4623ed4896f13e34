package pu

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/session"
)

// The program's functions are called by a goroutine of their own, which runs while there are
// calls: a function may ask the User, and wait for what other goroutines do.

// call is a call of one of the program's functions.
type call struct {
	name string
	f    func()
	// news is EventCookie or EventCard if a later call with the same news takes its place.
	news    session.EventType
	failing bool // of Notify, with ElementFailing
	asks    bool // of OnFailover
}

// maxCalls is how many calls may wait for a function that blocks. SessionEnded and a call of
// OnFailover may come beside them.
const maxCalls = 256

// tell notes an event for Notify.
func (s *Session) tell(ev *session.Event) {
	if ev.Type == session.EventConnected || ev.Type == session.EventFailedOver {
		s.user.reached(s.pool, ev.Element)
	}
	if s.notify == nil {
		return
	}
	news := SessionEvent{
		Type: SessionEventType(ev.Type), Element: ev.Element, From: ev.From, Card: cloneCard(ev.Card), Err: ev.Err,
	}
	notify := s.notify
	c := call{name: "SessionConfig.Notify", f: func() { notify(news) }, failing: ev.Type == session.EventFailing}
	if ev.Type == session.EventCookie || ev.Type == session.EventCard {
		c.news = ev.Type
		if s.replace(c) {
			return
		}
	}
	if len(s.calls) >= maxCalls && ev.Type != session.EventEnded {
		return
	}
	if c.failing {
		s.failing++
	}
	s.calls = append(s.calls, c)
}

// replace has a call take the place of one with the same news, if only such calls have come
// since: a hostile element can send more of them than Notify takes.
func (s *Session) replace(c call) bool {
	for i := len(s.calls) - 1; i >= 0 && s.calls[i].news != 0; i-- {
		if s.calls[i].news == c.news {
			s.calls[i] = c
			return true
		}
	}
	return false
}

// ask notes a call of OnFailover, and has the core know its result. One that waits was for an
// element that has failed meanwhile.
func (s *Session) ask(ref session.Ref, list []Message) {
	s.calls = slices.DeleteFunc(s.calls, func(c call) bool { return c.asks })
	s.calls = append(s.calls, call{name: "SessionConfig.OnFailover", asks: true, f: func() {
		answer := cloneMessages(s.onFailover(cloneMessages(list)))
		s.event(func(c *session.User, _ time.Time) { c.Answer(ref, answer) })
	}})
}

// unlock releases the mutex, and has the calls made that have gathered.
func (s *Session) unlock() {
	if !s.telling && len(s.calls) > 0 {
		s.telling = true
		go s.callOut()
	}
	s.mu.Unlock()
}

// callOut calls the program's functions until no call is left.
func (s *Session) callOut() {
	for c, ok := s.nextCall(); ok; c, ok = s.nextCall() {
		s.called(c, client.Call(c.name, c.f))
	}
}

// nextCall takes the oldest call. The goroutine ends if there is none.
func (s *Session) nextCall() (c call, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) > 0 {
		c, s.calls = s.calls[0], s.calls[1:]
		return c, true
	}
	s.calls, s.telling = nil, false
	if s.err != nil {
		s.user.sessions.remove(s)
	}
	for _, ch := range s.idle {
		close(ch)
	}
	s.idle = nil
	return call{}, false
}

// called goes on after a call. Once Notify has returned from ElementFailing, the next element
// gets what is for it.
func (s *Session) called(c call, err error) {
	s.mu.Lock()
	defer s.unlock()
	switch {
	case err != nil:
		s.panicked(err)
	case c.failing:
		s.failing--
		s.settle(time.Now())
	}
}

// panicked ends the session after a panic in one of the program's functions. There are no
// calls after it.
func (s *Session) panicked(err error) {
	client.LogPanic(s.user.sessions.cfg.Logger, err)
	s.notify, s.calls, s.failing = nil, nil, 0
	s.core.Break(err)
	s.settle(time.Now())
}
