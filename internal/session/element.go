package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// CardRule says when an element sends its business card.
type CardRule uint8

// The rules for business cards.
const (
	// CardAlways: when the session begins, as RFC 5352, Section 3.9, says.
	CardAlways CardRule = iota
	// CardAfterPeer: after the user has sent one itself, which shows that it reads them.
	CardAfterPeer
	// CardNever: not at all.
	CardNever
)

// ElementConfig configures an [Element]. Zero fields stand for the defaults. Many
// elements may share one.
type ElementConfig struct {
	Cards CardRule
	// MaxReceive is how much memory received messages may take, in bytes with 64 for each
	// message, before reading pauses; default 256 KiB.
	MaxReceive int
	// MaxSend is how much memory messages may take, counted likewise, that wait for room
	// in the association; default 64 KiB.
	MaxSend int
	// CloseTime is how long Close may take to send what waits; default 2 s.
	CloseTime time.Duration
}

const defaultSend = 64 << 10

// NewElementConfig fills in the defaults.
func NewElementConfig(c ElementConfig) *ElementConfig {
	if c.MaxReceive <= 0 {
		c.MaxReceive = defaultReceive
	}
	if c.MaxSend <= 0 {
		c.MaxSend = defaultSend
	}
	if c.CloseTime <= 0 {
		c.CloseTime = 2 * time.Second
	}
	return &c
}

// News is what a received message means to the application.
type News uint8

// The kinds of news.
const (
	// NoNews: nothing. The message was none for an element, or a faulty one.
	NoNews News = iota
	// NewsMessage: Receive has a message more.
	NewsMessage
	// NewsEcho: the user has brought the cookie of an element before; see Echo.
	NewsEcho
	// NewsCard: the user has sent a business card; see PeerCard.
	NewsCard
)

// Element is the element's side of one session: an association that a pool user has
// started. It begins with NewElement and ends with Down. Unlike a [User], an Element
// has no other association to go on with.
//
// After each call, the caller performs the actions that Take returns, sends the messages
// that Next returns, and calls Tick no later than NextDeadline.
type Element struct {
	cfg   *ElementConfig
	state State // Connected, Closing or Ended

	in, out queue
	replies queue // to the user's faulty messages
	echo    []byte
	echoed  bool // the user has brought a cookie
	peer    *asap.BusinessCard
	card    []byte // own, encoded; nil: none
	cardDue bool   // it is to be sent

	paused  bool
	shut    bool // Shutdown or Abort has been asked for
	closeBy time.Time
	why     error // of Fail and Down
	actions []Action
}

// NewElement makes the element's side of a new association. card is the encoded business
// card of the element, nil for none.
func NewElement(cfg *ElementConfig, card []byte) *Element {
	return &Element{cfg: cfg, state: Connected, card: card, cardDue: card != nil && cfg.Cards == CardAlways}
}

// Received takes a message of the user.
func (e *Element) Received(m Message) News {
	switch {
	case e.state != Connected:
		return NoNews
	case m.PPID == asap.PPID:
		return e.control(m.Data)
	case m.PPID == enrpPPID:
		return NoNews
	}
	e.in.push(m)
	if !e.paused && e.in.cost() > e.cfg.MaxReceive {
		e.paused = true
		e.actions = append(e.actions, Action{Type: Pause})
	}
	return NewsMessage
}

// control takes a message of the control channel.
func (e *Element) control(data []byte) News {
	switch m := parseControl(data, &e.replies).(type) {
	case *asap.CookieEcho:
		// A user echoes a cookie once, when it begins. The application may have gone on
		// from that state, so that a later one is passed over.
		if e.echoed {
			return NoNews
		}
		e.echo, e.echoed = m.Cookie, true
		return NewsEcho
	case *asap.BusinessCard:
		if len(m.Elements) > maxCardElements {
			m.Elements = slices.Clone(m.Elements[:maxCardElements])
		}
		m.Unknown = nil
		if e.peer == nil && e.cfg.Cards == CardAfterPeer {
			e.cardDue = e.card != nil
		}
		e.peer = m
		return NewsCard
	}
	return NoNews // not for an element: users hand out no cookies, and do not register here
}

// Echo returns the cookie that the user has brought from an element before.
func (e *Element) Echo() (cookie []byte, ok bool) { return e.echo, e.echoed }

// DropEcho forgets the bytes of the cookie.
func (e *Element) DropEcho() { e.echo = nil }

// PeerCard returns the user's last business card, nil if it has sent none. It is read
// only.
func (e *Element) PeerCard() *asap.BusinessCard { return e.peer }

// Readable reports whether Receive has a message.
func (e *Element) Readable() bool { return e.in.n > 0 }

// Receive returns the oldest message that has been received.
func (e *Element) Receive() (Message, bool) {
	if e.in.n == 0 {
		return Message{}, false
	}
	m := e.in.pop()
	if e.paused && e.in.cost() <= e.cfg.MaxReceive/2 {
		e.paused = false
		if e.state != Ended {
			e.actions = append(e.actions, Action{Type: Resume})
		}
	}
	return m, true
}

// MaySend returns why no message of n bytes can be sent now: ErrWait, or why the session is
// over.
func (e *Element) MaySend(n int) error {
	switch {
	case e.state != Connected:
		return e.Err()
	case e.out.n > 0 && e.out.cost()+n+messageCost > e.cfg.MaxSend:
		return ErrWait
	}
	return nil
}

// Send queues a message if MaySend has no error. It keeps m.Data.
func (e *Element) Send(m Message) error {
	if err := CheckMessage(m); err != nil {
		return err
	}
	if err := e.MaySend(len(m.Data)); err != nil {
		return err
	}
	e.out.push(m)
	return nil
}

// SetCookie queues a cookie behind the messages that were sent before. It never waits:
// it takes the place of a cookie that is the last in the queue.
func (e *Element) SetCookie(cookie []byte) error {
	if e.state != Connected {
		return e.Err()
	}
	data, err := (&asap.Cookie{Cookie: cookie}).Append(nil)
	if err != nil {
		return fmt.Errorf("cookie of %d octets cannot be sent: %w", len(cookie), err)
	}
	m := Message{Data: data, PPID: asap.PPID}
	if e.out.n > 0 && e.out.at(e.out.n-1).PPID == asap.PPID {
		e.out.replaceLast(m)
	} else {
		e.out.push(m)
	}
	return nil
}

// SetCard replaces the element's encoded business card, and sends it if the rule allows.
func (e *Element) SetCard(card []byte) {
	e.card = card
	e.cardDue = card != nil && e.state == Connected && (e.cfg.Cards == CardAlways || e.cfg.Cards == CardAfterPeer && e.peer != nil)
}

// Next returns the message to send next, if there is one. When the association has taken
// it, the caller calls Sent before any other method.
func (e *Element) Next() (Message, bool) {
	switch {
	case e.state == Ended || e.shut:
	case e.cardDue:
		return Message{Data: e.card, PPID: asap.PPID}, true
	case e.replies.n > 0:
		return *e.replies.at(0), true
	case e.out.n > 0:
		return *e.out.at(0), true
	}
	return Message{}, false
}

// Sent says that the message that Next has returned is on its way.
func (e *Element) Sent() {
	switch {
	case e.cardDue:
		e.cardDue = false
	case e.replies.n > 0:
		e.replies.pop()
	case e.out.n > 0:
		e.out.pop()
	}
	e.finish()
}

// finish shuts the association down when what was sent before Close has gone out.
func (e *Element) finish() {
	if e.state == Closing && !e.shut && e.out.n == 0 {
		e.shut = true
		e.actions = append(e.actions, Action{Type: Shutdown})
	}
}

// Close ends the session in good order: what was sent before is delivered first. What has
// been received and was not taken is dropped.
func (e *Element) Close(now time.Time) {
	if e.state != Connected {
		return
	}
	e.state, e.closeBy = Closing, now.Add(e.cfg.CloseTime)
	e.cardDue = false
	e.replies.clear()
	e.in.clear()
	e.finish()
}

// Abort ends the session at once.
func (e *Element) Abort() {
	if e.state == Ended || e.state == Closing && e.shut && e.closeBy.IsZero() {
		return
	}
	e.state, e.shut, e.closeBy = Closing, true, time.Time{}
	e.in.clear()
	e.out.clear()
	e.actions = append(e.actions, Action{Type: Abort})
}

// Fail ends the session at once, for a reason that Err returns.
func (e *Element) Fail(why error) {
	if e.state != Ended {
		e.why = why
		e.Abort()
	}
}

// Down says that the association has ended, and why. What has been received before can
// still be taken.
func (e *Element) Down(why error) {
	if e.state == Closing {
		why = e.Err()
	}
	e.state, e.why = Ended, why
	e.closeBy = time.Time{}
	e.actions, e.card, e.cardDue = nil, nil, false
	e.replies.clear()
	e.out.clear()
}

// State returns Connected, Closing or Ended.
func (e *Element) State() State { return e.state }

// Err returns why the session has ended, and rserpool.ErrClosed after Close and Abort; nil
// before.
func (e *Element) Err() error {
	if e.state == Closing && e.why == nil {
		return rserpool.ErrClosed
	}
	return e.why
}

// NextDeadline is when Tick has something to do.
func (e *Element) NextDeadline() (time.Time, bool) { return e.closeBy, !e.closeBy.IsZero() }

// Tick aborts the association if Close takes too long.
func (e *Element) Tick(now time.Time) {
	if !e.closeBy.IsZero() && !now.Before(e.closeBy) {
		e.Abort()
	}
}

// Take returns the actions since the last call, Pause, Resume, Shutdown and Abort, in
// order. They are valid until the next call of another method.
func (e *Element) Take() []Action {
	actions := e.actions
	e.actions = e.actions[:0]
	return actions
}

// replaceLast replaces the newest message. There is one.
func (q *queue) replaceLast(m Message) {
	last := q.at(q.n - 1)
	q.bytes += len(m.Data) - len(last.Data)
	*last = m
}
