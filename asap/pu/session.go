package pu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Message is a message of a session.
type Message = rserpool.Message

// Unacked says what becomes, when a session fails over, of the messages that were sent to
// the former element and that the program has not acknowledged with [Session.Ack].
type Unacked uint8

// The choices for unacknowledged messages (RFC 5352, Section 6.5.5).
const (
	// Drop keeps no copy of a message. What the former element had not processed is lost.
	// The program sends it again if it misses an answer.
	Drop Unacked = iota
	// Resend sends them to the next element, in their order (ASAP_SEND_FAILOVER). An
	// element may get a message that another one has processed.
	Resend
	// Ask calls SessionConfig.OnFailover, which decides.
	Ask
)

// SessionConfig configures a session. Pool is required; other zero fields stand for the
// defaults.
type SessionConfig struct {
	// Pool is the pool whose elements serve the session. They offer SCTP.
	Pool rserpool.PoolHandle
	// Element is tried first, if the pool has it (RFC 5352, Section 6.5.3); 0: as the
	// pool's policy selects.
	Element rserpool.PEID
	// PPID is the payload protocol identifier of messages that Send and Conn send; not 11
	// and 12, which belong to ASAP and ENRP.
	PPID uint32

	// Unacked says what becomes of unacknowledged messages in a failover. MaxUnacked is
	// how many bytes of them are kept, with 64 for each message; default 1 MiB. Send waits
	// when there are more.
	Unacked    Unacked
	MaxUnacked int
	// OnFailover is called in each failover if Unacked is Ask, with the unacknowledged
	// messages, the oldest first, if there are any. It returns the messages that the next
	// element gets after the cookie, such as a question where to go on. They take the place
	// of the unacknowledged ones. Until it returns, no message is sent. A message that Send
	// would refuse ends the session with an error. The rules of Notify hold.
	OnFailover func(unacked []Message) []Message

	// AnswerTimeout: an element has failed if it sends no message for so long after one was
	// sent to it. Cookies and cards are no answers. 0: only the transport notices a failure,
	// after half a minute if the element's host is silent.
	//
	// With Drop, and with Conn, any message counts as the answer to all that were sent before: an
	// element that hangs after its first answer is not noticed. With Resend and Ask, each message
	// counts as the answer to one, and begins the time anew while the element owes answers to
	// others. It owes none to messages that are acknowledged: where one answer is for several
	// messages, or some get none, call [Session.Ack] before the next Receive. No time passes while
	// answers wait for Receive, nor from a Receive that has returned one until the next Send or
	// Receive.
	AnswerTimeout time.Duration
	// ConnectTime is how long the association with an element may take to come up; default
	// 2 s.
	ConnectTime time.Duration
	// FailoverTime is how long a failover may last in all; default 30 s. Then the session
	// ends.
	FailoverTime time.Duration
	// NoFailover: the session ends when its element fails (ASAP_SEND_NO_FAILOVER). With
	// Unacked: Resend, [Session.Unacked] then has what the element may have missed.
	NoFailover bool
	// EndOnShutdown: the session ends, with io.EOF, when the element shuts the association
	// down in good order. Without it, the session fails over: when a process with an
	// association of the kernel's SCTP is killed, its kernel shuts the association down in
	// good order, too.
	EndOnShutdown bool

	// Cookie, if set, is sent to the first element, too. Thus a session goes on that
	// another one has begun, even in another process: see [Session.Cookie].
	Cookie []byte
	// Card is the business card of the user if it is a pool element itself (RFC 5352,
	// Section 3.9): its own pool handle, and the elements to which the other side should
	// fail over, in order. It is sent to each element.
	Card *asap.BusinessCard

	// MaxReceive is how many bytes of received messages may wait for Receive, with 64 for
	// each message; default 256 KiB. When there are more, the element has to wait.
	MaxReceive int

	// Notify, if set, is called with every change of the session, one after the other in
	// their order, by a goroutine of its own. Of several cookies, and several cards, that come
	// while it runs, it is called with the last one. While it blocks, up to 256 events wait;
	// further ones are dropped, except SessionEnded. Until it returns from ElementFailing, the
	// next element gets nothing, Send waits, and Receive returns nothing of that element.
	//
	// It may call the methods of the User except Close, and those of the Session except
	// Send, SendMessage, Receive and Close, which may wait for it. A panic of it ends the
	// session with an error that has the stack: see [Session.Err]. Other sessions go on.
	Notify func(SessionEvent)
}

// Session is a conversation with an element of a pool. When the element fails, the session
// goes on with another one: see [User.DialSession]. Its methods may be called from any
// goroutine.
type Session struct {
	user       *User
	ppid       uint32
	pool       rserpool.PoolHandle
	notify     func(SessionEvent)
	onFailover func([]Message) []Message

	// Send and Receive wait for these. A value in readable says that there may be a
	// message, one in writable that a message may be sent. Only one Send waits for
	// writable: the one that has put a value into sender.
	readable, writable, sender chan struct{}
	done                       chan struct{} // closed when the session has ended

	mu      sync.Mutex
	core    *session.User
	assoc   *carrier.Assoc // the last one, nil if there is none
	ref     session.Ref    // of assoc
	serving session.Ref    // as the waiting goroutines know it
	blocked bool           // assoc has no room
	refused error          // why assoc has not taken a message
	timer   *time.Timer
	timerAt time.Time // zero: not running
	cancel  func()    // ends the selection
	release func()    // of the pool in the cache
	calls   []call    // of the program's functions, that are due
	failing int       // calls of Notify with ElementFailing that have not returned
	telling bool      // a goroutine makes the calls
	idle    []chan struct{}
	err     error // why it has ended
	emptied bool  // the association has ended after Close, and all was delivered before
}

// Dial is [User.DialSession] with the default configuration. A message that the element has
// not answered when it fails is lost, and Receive goes on waiting: give Receive a context with
// a deadline, or dial with Unacked: Resend.
func (u *User) Dial(ctx context.Context, pool rserpool.PoolHandle) (*Session, error) {
	return u.DialSession(ctx, SessionConfig{Pool: pool})
}

// DialSession starts a session with an element of a pool. It selects an element by the
// pool's policy, from the cache if that has one, and returns when the association with it
// is up. The association is an SCTP one of its own. ctx ends only the dialing.
//
// # Failover
//
// An element has failed if the association is lost, a message cannot be delivered, no
// answer comes within SessionConfig.AnswerTimeout, or the program says so with
// [Session.Fail]. It is reported to a registrar, and the session goes on with the first of
// these that serves:
//
//   - the elements that the former one has recommended: its last will
//   - another element that the cache has, by the pool's policy
//   - an element that a registrar names when it is asked anew; that is repeated with pauses
//
// The next element first gets the latest cookie, unread, then the user's business card, and
// then what SessionConfig.Unacked says. Meanwhile Send and Receive wait. Messages that the
// former element has sent, and that arrive later, are dropped. After
// SessionConfig.FailoverTime the session ends.
//
// The error is a *[FailoverError] with the reason for each element that was tried. It wraps
// the errors of [User.Select], and that of ctx.
func (u *User) DialSession(ctx context.Context, cfg SessionConfig) (*Session, error) {
	return u.dialSession(ctx, cfg, nil)
}

// dialSession dials a session with any element of the pool or, if only is not nil, with that one
// and no other.
func (u *User) dialSession(ctx context.Context, cfg SessionConfig, only *rserpool.PoolElement) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("nothing sent: %w", err)
	}
	s, err := u.newSession(cfg, only)
	if err != nil {
		return nil, err
	}
	s.release = u.hold(cfg.Pool)
	if err := u.sessions.add(s); err != nil {
		s.release()
		return nil, err
	}
	s.event((*session.User).Start)
	select {
	case <-s.writable:
		s.wake(s.writable)
		return s, nil
	case <-s.done:
	case <-ctx.Done():
		s.event(func(c *session.User, now time.Time) { c.Abandon(now, ctx.Err()) })
		<-s.done
	}
	return nil, s.err
}

// Send sends a message with SessionConfig.PPID on stream 0. See [Session.SendMessage].
func (s *Session) Send(ctx context.Context, data []byte) error {
	return s.SendMessage(ctx, Message{Data: data, PPID: s.ppid})
}

// SendMessage sends a message. It waits while the session fails over, while the element has
// not read what was sent to it before, and while there are MaxUnacked bytes of
// unacknowledged messages. When it returns, the message is on its way; SCTP says nothing
// about whether the element has processed it. Data may be changed afterwards.
//
// The error is that of ctx, a *[FailoverError], io.EOF or [rserpool.ErrClosed] if the
// session has ended, and another one if the message is invalid.
func (s *Session) SendMessage(ctx context.Context, m Message) error { return s.send(ctx, m, nil) }

func (s *Session) send(ctx context.Context, m Message, only *elementConn) error {
	if err := session.CheckMessage(m); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m.Data = slices.Clone(m.Data)
	err := s.trySend(m, only)
	if !errors.Is(err, session.ErrWait) {
		return err
	}
	select {
	case s.sender <- struct{}{}:
		defer func() { <-s.sender }()
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return s.err
	}
	for {
		if err := s.trySend(m, only); !errors.Is(err, session.ErrWait) {
			return err
		}
		select {
		case <-s.writable:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return s.err
		}
	}
}

// trySend sends a message if it need not wait; otherwise the error is session.ErrWait.
func (s *Session) trySend(m Message, only *elementConn) error {
	s.mu.Lock()
	defer s.unlock()
	now := time.Now()
	if err := only.check(now); err != nil {
		return err
	}
	if s.err != nil {
		return s.err
	}
	if s.failing > 0 {
		return session.ErrWait
	}
	err := s.core.Send(m)
	if err == nil {
		s.refused = nil
		s.settle(now)
		err = s.refused
	}
	return err
}

// Receive returns the next message from an element, and waits until there is one. When the
// session has ended, it returns the messages that are left, and then the reason: io.EOF if
// the element has ended it (SessionConfig.EndOnShutdown), a *[FailoverError], or
// [rserpool.ErrClosed] after Close.
func (s *Session) Receive(ctx context.Context) (Message, error) { return s.receive(ctx, nil) }

func (s *Session) receive(ctx context.Context, only *elementConn) (Message, error) {
	for {
		m, err := s.tryReceive(only)
		if !errors.Is(err, session.ErrWait) {
			return m, err
		}
		select {
		case <-s.readable:
		case <-s.done:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

// tryReceive returns a message if there is one; otherwise the error is session.ErrWait, or
// why the session has ended.
func (s *Session) tryReceive(only *elementConn) (Message, error) {
	s.mu.Lock()
	defer s.unlock()
	now := time.Now()
	if err := only.check(now); err != nil {
		return Message{}, err
	}
	if s.failing > 0 && s.err == nil && !s.core.Former() {
		return Message{}, session.ErrWait // a message would be the next element's
	}
	if m, ok := s.core.Receive(now); ok {
		s.settle(now)
		return m, nil
	}
	if s.err != nil {
		return Message{}, s.err
	}
	s.setTimer(now)
	return Message{}, session.ErrWait
}

// Ack says that the program is done with the n oldest messages that it has sent: they are
// not sent again in a failover, and the element owes no answer to them
// (SessionConfig.AnswerTimeout). A message that still waits for room, because the element
// reads slowly or the session fails over, is sent all the same, once. Until then it is among the
// messages that [Session.Unacked] and SessionConfig.OnFailover name; if OnFailover returns it, it
// is unacknowledged again. If fewer than n messages
// are unacknowledged, Ack acknowledges all of them; the rest of n is ignored. It has no effect
// with Unacked: Drop.
func (s *Session) Ack(n int) {
	s.event(func(c *session.User, _ time.Time) { c.Ack(n) })
}

// Fail says that the element does not serve, for example because it gives wrong answers:
// the session fails over. The element is reported to a registrar if it was sent a message
// (RFC 5352, Section 3.5). Fail has no effect while the session fails over already. The events
// have err; nil stands for an error that says that the program has called Fail.
func (s *Session) Fail(err error) {
	err = cmp.Or(err, errFailed)
	s.event(func(c *session.User, now time.Time) { c.Fail(now, err) })
}

var errFailed = errors.New("the program says that the element does not serve")

// Recommend changes the user's business card, its last will: the elements of its own pool
// to which the other side should fail over, in order (RFC 5352, Section 3.9). It is an error
// if SessionConfig.Card is not set.
func (s *Session) Recommend(elements []rserpool.PoolElement) (err error) {
	s.event(func(c *session.User, _ time.Time) { err = c.Recommend(cloneElements(elements)) })
	return err
}

// Element returns the element that serves the session; false if none does at the moment.
func (s *Session) Element() (rserpool.PoolElement, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.core.Element(); e != nil {
		return e.Clone(), true
	}
	return rserpool.PoolElement{}, false
}

// State returns where the session stands.
func (s *Session) State() SessionState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SessionState(s.core.State())
}

// Unacked returns the messages that were sent and not acknowledged, the oldest first: after
// the end of the session, the program knows from them what the elements may have missed
// (RFC 5352, Sections 6.5.5 and 6.7). With Unacked: Drop, there are none.
func (s *Session) Unacked() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return cloneMessages(s.core.Unacked())
}

// Cookie returns the latest cookie that an element has sent, nil if none has. It means
// something to elements of the pool only.
func (s *Session) Cookie() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.core.Cookie())
}

// Err returns why the session has ended, nil while it has not.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session. What has been sent is delivered, as far as Timers.Close leaves
// time; what was received is dropped. It returns when the association has ended. It may be
// called more than once.
func (s *Session) Close() error {
	s.event((*session.User).Close)
	<-s.done
	s.mu.Lock()
	var idle chan struct{}
	if s.telling {
		idle = make(chan struct{})
		s.idle = append(s.idle, idle)
	}
	s.mu.Unlock()
	if idle != nil {
		<-idle // Notify is not called after Close
	}
	return nil
}
