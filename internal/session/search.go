package session

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// search is the search for an element. Its candidates are, in this order, the last will of
// the element that has failed (RFC 5352, Section 3.9, BC2), what the cache has by the pool's
// policy, and what a registrar says when it is asked again. When none of them serves, the
// search pauses and begins anew.
type search struct {
	began    time.Time
	why      error // why an element that has served has failed; nil: none has served yet
	attempts []rserpool.ElementAttempt
	leftOut  []rserpool.PEID // the elements that have failed since the last pause

	candidates []rserpool.PoolElement
	hearsay    bool  // they are from a card
	willed     bool  // they were a last will, and none of them has served yet
	silent     int   // elements of the card that have not answered
	selection  Ref   // that is awaited; 0: none
	fresh      bool  // a registrar was asked since the last pause
	empty      bool  // the last selection had no candidate
	err        error // of the last selection

	connectBy time.Time
	retryAt   time.Time
}

// The reasons why there is no candidate.
var (
	errNoCandidate = errors.New("there is no other element to try")
	errNotSCTP     = errors.New("its user transport is not SCTP: a session needs SCTP")
	errSilent      = errors.New("no association came up in time")
)

// failed notes that an element does not serve.
func (s *search) failed(e *rserpool.PoolElement, why error) {
	if len(s.attempts) == maxAttempts {
		s.attempts = slices.Delete(s.attempts, 0, 1)
	}
	s.attempts = append(s.attempts, rserpool.ElementAttempt{Element: *e, Err: why})
	if !slices.Contains(s.leftOut, e.ID) {
		s.leftOut = append(s.leftOut, e.ID)
	}
}

// seek goes on with the next candidate, or asks for more.
func (u *User) seek(now time.Time) {
	s := u.search
	for len(s.candidates) > 0 {
		e := &s.candidates[0]
		s.candidates = s.candidates[1:]
		switch {
		case slices.Contains(s.leftOut, e.ID):
		case e.UserTransport.Type != rserpool.SCTP:
			s.failed(e, errNotSCTP)
		default:
			u.connect(now, e)
			return
		}
	}
	s.candidates = nil
	if s.willed {
		s.willed, u.vain = false, now.Add(vainTime)
	}
	switch {
	case u.cfg.Only != nil:
		u.end(u.failure(now, nil))
	case len(s.leftOut) >= maxLeftOut, s.empty && s.fresh:
		u.noneLeft(now)
	default:
		u.selectMore(s.empty)
	}
}

// selectMore asks for candidates.
func (u *User) selectMore(fresh bool) {
	s := u.search
	s.selection = u.ref()
	a := Action{Type: Select, Ref: s.selection, Fresh: fresh, Without: slices.Clone(s.leftOut)}
	if u.state == Dialing {
		a.Want = u.cfg.Element
	}
	u.act(a)
}

// Selected gives the elements to try, the best one first. fresh says that a registrar was
// asked for them. The machine owns the list.
func (u *User) Selected(now time.Time, ref Ref, list []rserpool.PoolElement, fresh bool, err error) {
	s := u.search
	if s == nil || ref != s.selection {
		return
	}
	s.selection = 0
	s.err = err
	s.fresh = s.fresh || fresh
	s.candidates = slices.DeleteFunc(list, func(e rserpool.PoolElement) bool {
		return slices.Contains(s.leftOut, e.ID)
	})
	s.hearsay, s.empty = false, len(s.candidates) == 0
	u.seek(now)
}

// connect tries an element.
func (u *User) connect(now time.Time, e *rserpool.PoolElement) {
	u.element = new(rserpool.PoolElement)
	*u.element = *e // not the list that it is in
	u.hearsay = u.search.hearsay
	u.assoc = u.ref()
	u.search.connectBy = now.Add(u.cfg.ConnectTime)
	u.act(Action{Type: Connect, Ref: u.assoc, Element: u.element})
}

// tryFailed goes on after an element that could not be reached.
func (u *User) tryFailed(now time.Time, why error) {
	e := u.element
	u.search.connectBy = time.Time{}
	if u.hearsay && errors.Is(why, errSilent) {
		// A bad last will does not use up the time of the failover.
		if u.search.silent++; u.search.silent >= maxSilent {
			u.search.candidates = nil
		}
	}
	u.search.failed(e, why)
	u.notify(Event{Type: EventTryFailed, Element: e.ID, Err: why})
	switch {
	case errors.Is(why, ErrHere):
	case errors.Is(why, ErrUntrusted):
		u.act(Action{Type: Busy, Element: u.element})
	default:
		u.report()
	}
	u.leave()
	u.seek(now)
}

// noneLeft: every candidate has failed. A failover waits for one to come back.
func (u *User) noneLeft(now time.Time) {
	s := u.search
	if u.state == Dialing {
		u.end(u.failure(now, cmp.Or(s.err, errNoCandidate)))
		return
	}
	u.rest(now)
}

// rest pauses the search. Each pause is twice as long as the one before.
func (u *User) rest(now time.Time) {
	u.search.candidates = nil
	u.pause = min(max(2*u.pause, firstPause), maxPause)
	u.search.retryAt = now.Add(u.pause + u.chance(u.pause/4))
}

// chance is a time between 0 and d.
func (u *User) chance(d time.Duration) time.Duration {
	return time.Duration(u.rnd.Uint64() % uint64(d))
}

func (u *User) failure(now time.Time, selection error) error {
	s := u.search
	return &rserpool.FailoverError{Pool: u.cfg.Pool, Cause: s.why, Attempts: s.attempts, Selection: selection, After: now.Sub(s.began)}
}

// tickSearch does what is due in a search.
func (u *User) tickSearch(now time.Time) {
	s := u.search
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case due(s.began.Add(u.cfg.FailoverTime)):
		u.end(u.failure(now, s.err))
	case due(s.connectBy):
		u.act(Action{Type: Abort, Ref: u.assoc})
		u.tryFailed(now, fmt.Errorf("%w: %v", errSilent, u.cfg.ConnectTime))
	case due(s.retryAt):
		s.retryAt = time.Time{}
		s.leftOut, s.fresh, s.empty = nil, false, true // a registrar is asked first
		u.seek(now)
	}
}
