package session

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// User is the pool user's side of one session.
type User struct {
	cfg   UserConfig
	state State
	err   error // of Closing and Ended
	last  Ref   // given out last

	// The association that is coming up, or has come up.
	assoc   Ref
	up      bool
	element *rserpool.PoolElement
	hearsay bool // it is known only from another one's card
	used    bool // it was sent a user message
	from    rserpool.PEID

	cookie []byte                 // the latest one; nil: none
	will   []rserpool.PoolElement // of the card of element: its last will
	vain   time.Time              // until when no last will is used
	search *search                // from a failure until the next element is steady

	// What is to be sent, in this order.
	echoDue, cardDue bool
	replies          queue // to the element's faulty messages
	out              queue // user messages; those that are unacknowledged remain
	sent             int   // how many of out this association has got
	given            int   // how many of out an association has got, this one or a former one
	done             int   // how many of out are acknowledged, and remain until they are sent; then given is 0
	ask              Ref   // the application is being asked about out

	in     queue // received, and not taken yet
	old    int   // how many of in are from elements that have failed
	paused bool

	undelivered error // why a message could not be delivered; then the element fails at failBy
	failBy      time.Time

	// asked is since when the element owes an answer: from a message, or from the last answer.
	// Zero: it owes none. owed is how many it owes: see counts.
	asked   time.Time
	owed    int
	stream  bool // of bytes: see Stream
	busy    bool // the application works on the last message that it has received; only if counts
	closeBy time.Time
	shut    bool // Shutdown has been ordered

	// An element that ends the association before it has sent anything, and within
	// flapTime, has refused it, because it is full or about to leave.
	heard    bool // it has sent something
	unproven bool // EventFailedOver waits for that, or for flapTime
	upAt     time.Time
	// Against elements that take each association, and end it at once.
	flaps int           // associations in a row that have lasted less than flapTime
	pause time.Duration // the last one of the search

	rnd     rand.PCG
	actions []Action
	taken   []Action // by Take
}

// NewUser makes the machine of one session.
func NewUser(cfg UserConfig) (*User, error) {
	cfg.fillDefaults()
	if err := checkCookie(cfg.Cookie); err != nil {
		return nil, err
	}
	if err := checkCard(cfg.Card); err != nil {
		return nil, err
	}
	u := &User{cfg: cfg, cookie: slices.Clone(cfg.Cookie)}
	u.rnd.Seed(cfg.Seed, 0)
	return u, nil
}

// Start begins the search for an element.
func (u *User) Start(now time.Time) {
	if u.state != Idle {
		return
	}
	u.state = Dialing
	u.search = &search{began: now}
	if u.cfg.Only != nil {
		u.search.candidates = []rserpool.PoolElement{*u.cfg.Only}
	}
	u.seek(now)
}

// Take gives the actions that have gathered since the last call. They are valid until the
// next call.
func (u *User) Take() []Action {
	u.actions, u.taken = u.taken[:0], u.actions
	return u.taken
}

// State tells where the session stands.
func (u *User) State() State { return u.state }

// Err is why the session is over or closing, nil while it is not.
func (u *User) Err() error { return u.err }

// Serving names the association with the element that serves, 0 if none does.
func (u *User) Serving() Ref {
	if !u.up {
		return 0
	}
	return u.assoc
}

// Element is the element that serves, nil if none does.
func (u *User) Element() *rserpool.PoolElement {
	if !u.up {
		return nil
	}
	return u.element
}

// Cookie is the latest cookie, nil if there is none. It is read only.
func (u *User) Cookie() []byte { return u.cookie }

func (u *User) act(a Action) { u.actions = append(u.actions, a) }

func (u *User) notify(ev Event) { u.act(Action{Type: Notify, Event: &ev}) }

func (u *User) ref() Ref {
	u.last++
	return u.last
}

// Up: an association has come up.
func (u *User) Up(now time.Time, ref Ref) {
	if ref != u.assoc || u.up {
		u.act(Action{Type: Abort, Ref: ref})
		return
	}
	if u.unproven = u.state == FailingOver; !u.unproven {
		u.from = u.element.ID
		u.notify(Event{Type: EventConnected, Element: u.from})
	}
	u.state, u.up = Connected, true
	u.search.connectBy, u.search.willed = time.Time{}, false
	u.upAt = now
	u.echoDue = u.cookie != nil && u.controlled()
	u.cardDue = u.cfg.Card != nil && u.controlled()
	if u.cfg.Unacked == AskApp && u.unproven {
		u.ask = u.ref()
		u.act(Action{Type: Ask, Ref: u.ask, Messages: u.out.list()})
	}
	u.pauseIfFull()
}

// prove: the element that serves after a failover has not refused.
func (u *User) prove() {
	if u.unproven {
		u.unproven = false
		u.notify(Event{Type: EventFailedOver, Element: u.element.ID, From: u.from})
		u.from = u.element.ID
	}
}

// controlled reports whether the element takes messages of ASAP on this association (RFC
// 5352, Section 3.9).
func (u *User) controlled() bool { return u.element.UserTransport.Use == rserpool.DataPlusControl }

// Down: an association has ended, or could not be set up. shutdown says that the element has
// shut it down in good order.
func (u *User) Down(now time.Time, ref Ref, shutdown bool, why error) {
	if ref != u.assoc {
		return
	}
	switch {
	case u.state == Closing:
		u.assoc = 0
		u.end(u.err)
	case !u.up:
		u.tryFailed(now, why)
	default:
		u.assoc = 0
		if shutdown && u.cfg.EndOnShutdown {
			u.end(io.EOF)
			return
		}
		switch {
		case errors.Is(why, ErrHere):
			u.moved(now, why)
		case errors.Is(why, ErrUntrusted):
			u.distrusted(now, why)
		case u.refusal(now) && (shutdown || errors.Is(why, ErrPeerAborted)):
			u.refused(now, why)
		default:
			u.lost(now, why, !shutdown)
		}
	}
}

// SendFailed: a message could not be delivered. Usually Down follows at once, and says how
// the association has ended. If it does not, the association has lost a message, and the
// element has failed.
func (u *User) SendFailed(now time.Time, ref Ref, why error) {
	if ref == u.assoc && u.state == Connected && u.undelivered == nil {
		u.undelivered, u.failBy = why, now.Add(failGrace)
	}
}

// Fail: the application says that the element does not serve. It is reported if it was sent
// a message (RFC 5352, Section 3.5).
func (u *User) Fail(now time.Time, why error) {
	if u.state == Connected {
		u.drop(now, why, u.used)
	}
}

// drop aborts the association with an element that does not serve.
func (u *User) drop(now time.Time, why error, report bool) {
	u.act(Action{Type: Abort, Ref: u.assoc})
	u.lost(now, why, report)
}

// lost begins the search for the next element.
func (u *User) lost(now time.Time, why error, report bool) {
	rest := u.flapping(now)
	u.fallen(now, why, report)
	switch {
	case u.state == Ended:
	case rest:
		u.rest(now)
	default:
		u.seek(now)
	}
}

// refusal reports whether the end of the association would be a refusal.
func (u *User) refusal(now time.Time) bool { return !u.heard && now.Sub(u.upAt) < flapTime }

// refused: the element lives, and takes no session now. It is not reported. Others follow at
// once; when all have refused, the search pauses.
func (u *User) refused(now time.Time, why error) {
	u.distrusted(now, fmt.Errorf("it takes no session now, because it is full, leaves the pool, or has sessions in TLS only: %w", why))
}

// distrusted leaves an element out without a report.
func (u *User) distrusted(now time.Time, why error) {
	u.act(Action{Type: Busy, Element: u.element})
	u.fallen(now, why, false)
	if u.state != Ended {
		u.seek(now)
	}
}

// moved: the session goes on with the same element, from another address.
func (u *User) moved(now time.Time, why error) {
	e, will := *u.element, u.will
	rest := u.flapping(now)
	u.fallen(now, why, false)
	if u.state == Ended {
		return
	}
	s := u.search
	s.leftOut = slices.DeleteFunc(s.leftOut, func(id rserpool.PEID) bool { return id == e.ID })
	s.candidates, s.hearsay = append([]rserpool.PoolElement{e}, will...), true
	if rest {
		u.rest(now)
		return
	}
	u.seek(now)
}

// fallen notes that the element serves no more.
func (u *User) fallen(now time.Time, why error, report bool) {
	e := u.element
	ev := Event{Type: EventFailing, Element: e.ID, Err: why}
	if u.unproven {
		ev.Type = EventTryFailed
	}
	u.notify(ev)
	if report {
		u.report()
	}
	u.state, u.old = FailingOver, u.in.n
	if u.search == nil {
		u.search = &search{began: now}
	}
	if u.search.why == nil {
		u.search.why = why
	}
	u.search.failed(e, why)
	if len(u.will) > 0 && !now.Before(u.vain) {
		u.search.candidates, u.search.hearsay, u.search.willed = u.will, true, true
	}
	u.leave()
	if u.cfg.NoFailover {
		u.end(u.failure(now, nil))
	}
}

// flapping reports whether the associations end as soon as they have come up.
func (u *User) flapping(now time.Time) bool {
	if now.Sub(u.upAt) >= flapTime {
		u.flaps, u.pause = 0, 0
		return false
	}
	u.flaps++
	return u.flaps >= maxFlaps
}

func (u *User) report() {
	u.act(Action{Type: Report, Element: u.element, Hearsay: u.hearsay})
}

// leave forgets what belongs to the association.
func (u *User) leave() {
	u.assoc, u.up, u.element, u.used, u.will = 0, false, nil, false, nil
	u.echoDue, u.cardDue = false, false
	u.replies.clear()
	u.ask, u.sent, u.paused = 0, 0, false
	u.heard, u.unproven = false, false
	u.asked, u.owed, u.stream, u.busy = time.Time{}, 0, false, false
	u.failBy, u.undelivered = time.Time{}, nil
	if u.cfg.Unacked == Drop {
		u.out.clear()
	}
}

// Close ends the session. If an element serves, it still gets what has been sent.
func (u *User) Close(now time.Time) {
	switch u.state {
	case Idle, Dialing, FailingOver:
		u.end(rserpool.ErrClosed)
	case Connected:
		u.state, u.err = Closing, rserpool.ErrClosed
		u.closeBy = now.Add(u.cfg.CloseTime)
		u.ask = 0
		u.in.clear()
		u.resume()
		u.shutdown()
	case Closing, Ended:
	}
}

// Abandon ends the session at once, for a reason.
func (u *User) Abandon(now time.Time, why error) {
	switch {
	case u.state == Ended:
	case u.state == Closing:
		u.end(u.err)
	case u.search != nil:
		u.end(u.failure(now, why))
	default:
		u.end(why)
	}
}

// Break ends the session at once, for a reason that has nothing to do with elements.
func (u *User) Break(why error) {
	if u.state != Ended {
		u.end(why)
	}
}

// shutdown ends the association when nothing is left to send.
func (u *User) shutdown() {
	if _, _, more := u.Next(); u.state == Closing && !more && !u.shut {
		u.shut = true
		u.act(Action{Type: Shutdown, Ref: u.assoc})
	}
}

// end ends the session. What is unacknowledged remains for Unacked.
func (u *User) end(err error) {
	if u.assoc != 0 {
		u.act(Action{Type: Abort, Ref: u.assoc})
	}
	u.leave()
	u.state, u.err, u.search = Ended, err, nil
	ev := Event{Type: EventEnded, Element: u.from, Err: err}
	if errors.Is(err, rserpool.ErrClosed) {
		u.in.clear()
		ev.Err = nil
	}
	u.notify(ev)
}

// Tick does what is due.
func (u *User) Tick(now time.Time) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch u.state {
	case Dialing, FailingOver:
		u.tickSearch(now)
	case Connected:
		if u.search != nil && due(u.upAt.Add(steadyTime)) {
			u.search = nil
		}
		if due(u.upAt.Add(flapTime)) {
			u.prove()
		}
		switch {
		case due(u.failBy):
			u.drop(now, u.undelivered, true)
		case due(u.answerBy()):
			u.drop(now, u.noAnswer(), true)
		}
	case Closing:
		if due(u.closeBy) {
			u.end(u.err)
		}
	case Idle, Ended:
	}
}

// answerBy is when the element has failed by not answering; zero: it has not to answer. What
// is not read cannot be an answer, so no time passes while reading is paused. Nor does it while
// the application has answers that it may be about to acknowledge.
func (u *User) answerBy() time.Time {
	unread := u.paused || u.counts() && (u.busy || u.in.n > 0)
	if u.asked.IsZero() || unread || u.cfg.AnswerTimeout <= 0 {
		return time.Time{}
	}
	return u.asked.Add(u.cfg.AnswerTimeout)
}

// noAnswer says that the element has failed by not answering.
func (u *User) noAnswer() error {
	if u.counts() {
		return fmt.Errorf("the element has sent no message for %v; answers that it owes: %d", u.cfg.AnswerTimeout, u.owed)
	}
	return fmt.Errorf("the element has sent no message for %v after one was sent to it", u.cfg.AnswerTimeout)
}

// NextDeadline is when Tick has something to do.
func (u *User) NextDeadline() (next time.Time, ok bool) {
	take := func(t time.Time) {
		if !t.IsZero() && (!ok || t.Before(next)) {
			next, ok = t, true
		}
	}
	switch u.state {
	case Dialing, FailingOver:
		take(u.search.began.Add(u.cfg.FailoverTime))
		take(u.search.connectBy)
		take(u.search.retryAt)
	case Connected:
		if u.search != nil {
			take(u.upAt.Add(steadyTime))
		}
		if u.unproven {
			take(u.upAt.Add(flapTime))
		}
		take(u.failBy)
		take(u.answerBy())
	case Closing:
		take(u.closeBy)
	case Idle, Ended:
	}
	return next, ok
}

// checkCookie says whether a cookie fits into a message.
func checkCookie(cookie []byte) error {
	if len(cookie) == 0 {
		return nil
	}
	_, err := (&asap.CookieEcho{Cookie: cookie}).Append(nil)
	return err
}

// checkCard says whether a business card can be sent.
func checkCard(card *asap.BusinessCard) error {
	if card == nil {
		return nil
	}
	_, err := card.Append(nil)
	return err
}
