package pu

import (
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/session"
)

// call is a call of one of the program's functions.
type call struct {
	name string
	f    func()
	// news is EventCookie or EventCard if a later call with the same news takes its place.
	news session.EventType
}

// maxCalls is how many calls of the program's functions an event makes at most, unless it is
// the last one. An element that sends cookies without end would otherwise keep a goroutine
// that is not its own, such as that of Send.
const maxCalls = 16

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
	c := call{name: "SessionConfig.Notify", f: func() { notify(news) }}
	if ev.Type == session.EventCookie || ev.Type == session.EventCard {
		c.news = ev.Type
		if s.replace(c) {
			return
		}
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

// ask notes a call of OnFailover, and has the core know its result.
func (s *Session) ask(ref session.Ref, list []Message) {
	s.calls = append(s.calls, call{name: "SessionConfig.OnFailover", f: func() {
		answer := s.onFailover(list)
		s.event(func(c *session.User, _ time.Time) { c.Answer(ref, answer) })
	}})
}

// unlock releases the mutex. Before, it calls the program's functions, without the mutex,
// unless another goroutine does so: they are called one after the other.
func (s *Session) unlock() {
	if !s.telling && len(s.calls) > 0 {
		s.callOut()
	}
	s.mu.Unlock()
}

// panicked ends the session after a panic in one of the program's functions. There are no
// calls after it.
func (s *Session) panicked(err error) {
	client.LogPanic(s.user.sessions.cfg.Logger, err)
	s.notify, s.calls = nil, nil
	s.core.Break(err)
	s.settle(time.Now())
}

func (s *Session) callOut() {
	s.telling = true
	for n := 0; len(s.calls) > 0 && (n < maxCalls || s.err != nil); n++ {
		c := s.calls[0]
		s.calls = s.calls[1:]
		s.mu.Unlock()
		err := client.Call(c.name, c.f)
		s.mu.Lock()
		if err != nil {
			s.panicked(err)
		}
	}
	s.telling = false
	if len(s.calls) > 0 {
		s.startTimer(time.Now(), 0) // which calls the others
		return
	}
	s.calls = nil
	for _, ch := range s.idle {
		close(ch)
	}
	s.idle = nil
}
