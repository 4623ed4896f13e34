package session

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// enrpPPID is the payload protocol of ENRP, which sessions leave alone.
const enrpPPID = 12

// ErrWait is the error of Send when there is no association, or no room. It is worth another
// try when MaySend has no error.
var ErrWait = errors.New("not now")

// What the reason for Down may have in it.
var (
	// ErrPeerAborted: the peer has aborted the association.
	ErrPeerAborted = errors.New("the peer has aborted the association")
	// ErrHere: the association has ended because of this machine, for example because it
	// has lost an address. The element is not to blame: it is not reported, and tried again
	// first.
	ErrHere = errors.New("the association has ended because of this machine")
	// ErrUntrusted: this side or the element does not accept the certificate of the other.
	// That says nothing of whether the element lives: it is not reported, and left out for a
	// while.
	ErrUntrusted = errors.New("no trust in the certificate")
)

// CheckMessage says what is wrong with a user message, nil if nothing is.
func CheckMessage(m Message) error {
	switch {
	case len(m.Data) == 0:
		return errors.New("message without data: SCTP has none such")
	case len(m.Data) > MaxMessage:
		return fmt.Errorf("message of %d bytes: at most %d are allowed", len(m.Data), MaxMessage)
	case m.PPID == asap.PPID, m.PPID == enrpPPID:
		return fmt.Errorf("payload protocol %d belongs to RSerPool: choose another one", m.PPID)
	case m.Stream > maxStream:
		return fmt.Errorf("stream %d does not exist: use 0 to %d", m.Stream, maxStream)
	}
	return nil
}

// MaySend says whether Send would take a message of n bytes now: its error is ErrWait, or
// why the session is over.
func (u *User) MaySend(n int) error {
	switch {
	case u.err != nil:
		return u.err
	case u.state != Connected, u.ask != 0, u.echoDue, u.cardDue, u.replies.n > 0, u.sent < u.out.n:
		return ErrWait
	case u.out.n > 0 && u.out.cost()+n+messageCost > u.cfg.MaxUnacked:
		return ErrWait
	}
	return nil
}

// Send takes a message for the element. The machine keeps Data.
func (u *User) Send(m Message) error {
	if err := CheckMessage(m); err != nil {
		return err
	}
	if err := u.MaySend(len(m.Data)); err != nil {
		return err
	}
	u.out.push(m)
	return nil
}

// Next returns the message to send next, if there is one: the cookie first, then the user's
// business card, then user messages in their order.
func (u *User) Next() (ref Ref, m Message, ok bool) {
	switch {
	case !u.up || u.ask != 0:
		return 0, Message{}, false
	case u.echoDue:
		m, ok = control(&asap.CookieEcho{Cookie: u.cookie})
	case u.cardDue:
		m, ok = control(u.cfg.Card)
	case u.replies.n > 0:
		m, ok = *u.replies.at(0), true
	case u.sent < u.out.n:
		m, ok = *u.out.at(u.sent), true
	}
	return u.assoc, m, ok
}

// control makes a message of the control channel.
func control(m asap.Message) (Message, bool) {
	data, err := m.Append(nil)
	return Message{Data: data, PPID: asap.PPID}, err == nil
}

// Sent notes that the message that Next returned last is on its way.
func (u *User) Sent(now time.Time) {
	if !u.tookControl() {
		u.sentUser(now)
	}
	if u.state == Closing {
		u.shutdown()
	}
}

// sentUser notes that the user message that Next returned last is on its way.
func (u *User) sentUser(now time.Time) {
	u.used = true
	if u.done > 0 {
		u.done--
		u.out.pop()
		return
	}
	u.owed++
	if u.asked.IsZero() || u.busy {
		u.asked, u.busy = now, false
	}
	if u.cfg.Unacked == Drop {
		u.out.pop()
		return
	}
	u.sent++
	u.given = max(u.given, u.sent)
}

// Refused drops the message that Next returned last: the association does not take it.
func (u *User) Refused() {
	if u.tookControl() {
		return
	}
	u.out.remove(u.sent)
	if u.sent < u.given {
		u.given--
	}
	u.done = max(u.done-1, 0)
}

// tookControl removes the message that Next returned last, if it was of the control channel,
// and reports whether it was.
func (u *User) tookControl() bool {
	switch {
	case u.echoDue:
		u.echoDue = false
	case u.cardDue:
		u.cardDue = false
	case u.replies.n > 0:
		u.replies.pop()
	default:
		return false
	}
	return true
}

// Ack: the application is done with the n oldest messages that Send has taken, or with all if
// there are fewer. One that no element has got yet is still sent, once. If no other one is left,
// the element owes no answer; otherwise it owes no more than one to each that is left. It has no
// effect with Drop, which keeps only what is not sent yet.
func (u *User) Ack(n int) {
	if u.cfg.Unacked == Drop || n <= 0 {
		return
	}
	got := min(n, u.given)
	for range got {
		u.out.pop()
	}
	u.given -= got
	u.sent = max(u.sent-got, 0)
	u.done = min(u.done+n-got, u.out.n-u.given)
	if u.owed = min(u.owed, u.sent); u.owed == 0 {
		u.asked = time.Time{}
	}
}

// counts reports whether each message of the element is the answer to one message. Otherwise, one
// answers all that were sent before.
func (u *User) counts() bool { return u.cfg.Unacked != Drop && !u.stream }

// Stream: until this element fails, the application uses what it sends and receives as a stream of
// bytes. Then the number of messages does not say how many answers there are.
func (u *User) Stream() { u.stream = true }

// Unacked returns the messages that the application has sent and not acknowledged; none with
// Drop.
func (u *User) Unacked() []Message {
	if u.cfg.Unacked == Drop {
		return nil
	}
	return u.out.list()
}

// Answer has the messages that the application wants the next element to get, in place of
// the unacknowledged ones. One that is invalid ends the session: without it, the element would
// get something else than the application wants.
func (u *User) Answer(ref Ref, list []Message) {
	if ref != u.ask || ref == 0 {
		return
	}
	for i, m := range list {
		if err := CheckMessage(m); err != nil {
			u.end(fmt.Errorf("message %d that OnFailover has returned is invalid: %w", i, err))
			return
		}
	}
	u.ask, u.sent, u.given, u.done = 0, 0, 0, 0
	u.out.clear()
	for _, m := range list {
		u.out.push(m)
	}
}

// Recommend makes list the user's last will: the elements of its own pool to which the other
// side should fail over, in order.
func (u *User) Recommend(list []rserpool.PoolElement) error {
	if u.cfg.Card == nil {
		return errors.New("only a pool user that is an element has a business card")
	}
	card := &asap.BusinessCard{Handle: u.cfg.Card.Handle, Elements: list}
	if err := checkCard(card); err != nil {
		return err
	}
	u.cfg.Card = card
	u.cardDue = u.up && u.controlled()
	return nil
}

// Received takes a message from an association.
func (u *User) Received(now time.Time, ref Ref, m Message) {
	if ref != u.assoc || !u.up {
		return // late: from an element that has failed
	}
	u.heard = true
	u.prove()
	switch {
	case m.PPID == asap.PPID:
		u.control(m.Data)
	case m.PPID == enrpPPID, u.state == Closing:
	default:
		u.answered(now)
		u.search = nil
		u.in.push(m)
		u.pauseIfFull()
	}
}

// answered notes an answer. The time begins anew if the element owes another one.
func (u *User) answered(now time.Time) {
	u.owed = max(u.owed-1, 0)
	if !u.counts() {
		u.owed = 0
	}
	u.asked = time.Time{}
	if u.owed > 0 {
		u.asked = now
	}
}

// Readable reports whether Receive has a message.
func (u *User) Readable() bool { return u.in.n > 0 }

// Receive removes and returns the oldest message received. A call that finds none says that
// the application waits for one: NextDeadline may then be another one.
func (u *User) Receive(now time.Time) (Message, bool) {
	if u.in.n == 0 {
		if u.busy && !u.asked.IsZero() {
			u.asked = now
		}
		u.busy = false
		return Message{}, false
	}
	m := u.in.pop()
	u.busy = u.counts()
	u.old = max(u.old-1, 0)
	if u.paused && u.in.cost() <= u.cfg.MaxReceive/2 {
		u.resume()
		if !u.asked.IsZero() {
			u.asked = now
		}
	}
	return m, true
}

// Former reports whether the message that Receive returns next is from an element that has
// failed.
func (u *User) Former() bool { return u.old > 0 }

// Skip drops the messages that are left of elements that have failed.
func (u *User) Skip(now time.Time) {
	for range u.old {
		u.Receive(now)
	}
	u.old = 0
}

func (u *User) pauseIfFull() {
	if !u.paused && u.in.cost() > u.cfg.MaxReceive {
		u.paused = true
		u.act(Action{Type: Pause, Ref: u.assoc})
	}
}

func (u *User) resume() {
	if u.paused {
		u.paused = false
		u.act(Action{Type: Resume, Ref: u.assoc})
	}
}

// control takes a message of the control channel (RFC 5352, Sections 3.8 and 3.9).
func (u *User) control(data []byte) {
	switch m := parseControl(data, &u.replies).(type) {
	case *asap.Cookie:
		u.cookie = m.Cookie
		if u.cookie == nil {
			u.cookie = []byte{}
		}
		u.notify(Event{Type: EventCookie, Element: u.element.ID})
	case *asap.BusinessCard:
		u.onCard(m)
	}
}

// parseControl reads a message of the control channel; nil if it is none. What is wrong with
// it is queued as a reply. A peer that does not read replies gets no more.
func parseControl(data []byte, replies *queue) asap.Message {
	m, causes, err := asap.Parse(data)
	report, faulty := asap.ErrorReport(err)
	if err == nil && len(causes) > 0 {
		report, faulty = &asap.Error{Causes: causes}, true
	}
	if faulty && replies.n < maxReplies {
		if reply, ok := control(report); ok {
			replies.push(reply)
		}
	}
	if err != nil {
		return nil
	}
	return m
}

// onCard takes the element's last will. The card of another pool says nothing of where this
// session can go on.
func (u *User) onCard(card *asap.BusinessCard) {
	if len(card.Elements) > maxCardElements {
		card.Elements = slices.Clone(card.Elements[:maxCardElements])
	}
	for i := range card.Elements {
		t := &card.Elements[i].UserTransport
		t.Addrs = t.Addrs[:min(len(t.Addrs), maxCardAddrs)]
	}
	if card.Handle == u.cfg.Pool {
		u.will = card.Elements
	}
	u.notify(Event{Type: EventCard, Element: u.element.ID, Card: card})
}
