package pe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Session is an element's side of a session with a pool user. It ends when the user ends
// it or fails: only the user can fail over. Its methods may be called from any goroutine.
type Session struct {
	l     *Listener
	assoc *carrier.Assoc
	host  netip.Addr // of the user, as counted
	holds int        // see Listener.hold; guarded by l.mu

	identity string                       // of the user
	notify   func(*Session, SessionEvent) // nil: not any more; handle's alone

	readable, writable chan struct{} // have a token when it is worth a look
	came               chan struct{} // closed when the user has brought a cookie
	done               chan struct{} // closed at the end

	mu        sync.Mutex
	core      *session.Element
	brought   bool        // the user has brought a state
	state     []byte      // which
	cookieErr error       // why it was refused
	waiting   int         // calls of Send that wait for room
	timer     *time.Timer // of Close; nil: not yet
	end       func()      // ends the Handler's context; nil without a Handler
}

// SessionEvent says what has happened to a Session.
type SessionEvent uint8

// The types of session event.
const (
	// SessionBegun: a user has connected.
	SessionBegun SessionEvent = iota + 1
	// SessionCookie: the user has brought a state; see [Session.Cookie].
	SessionCookie
	// SessionCookieRefused: the user has brought a cookie that Cookies refuses; see
	// [Session.CookieError].
	SessionCookieRefused
	// SessionCard: the user has sent a business card; see [Session.Card].
	SessionCard
	// SessionEnded: the session is over; see [Session.Err].
	SessionEnded
)

// String returns the event in words.
func (e SessionEvent) String() string {
	switch e {
	case SessionBegun:
		return "session has begun"
	case SessionCookie:
		return "user has brought a state cookie"
	case SessionCookieRefused:
		return "user has brought a state cookie that is refused"
	case SessionCard:
		return "user has sent a business card"
	case SessionEnded:
		return "session has ended"
	}
	return fmt.Sprintf("SessionEvent(%d)", uint8(e))
}

// handle takes an event of the association.
func (s *Session) handle(_ *carrier.Assoc, ev sctp.Event) {
	if news := s.took(ev); news != 0 && s.notify != nil {
		if err := client.Call("ListenConfig.NotifySession", func() { s.notify(s, news) }); err != nil {
			s.notify = nil
			s.fail(err)
		}
	}
	if ev.Type == sctp.Down {
		s.l.remove(s)
	}
}

// took takes an event, and returns what to tell the application.
func (s *Session) took(ev sctp.Event) (news SessionEvent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ev.Type {
	case sctp.Up:
		news = SessionBegun
	case sctp.Received:
		news = s.received(ev.Message)
	case sctp.Down:
		s.ended(ev)
		news = SessionEnded
	case sctp.Writable: // act goes on sending
	case sctp.SendFailed, sctp.PeerAddrs, sctp.PeerDone: // Down follows if it matters
	}
	_ = s.act()
	return news
}

// received takes a message. s.mu is held.
func (s *Session) received(m sctp.Message) SessionEvent {
	switch s.core.Received(Message{Data: m.Data, PPID: m.PPID, Stream: m.Stream}) {
	case session.NewsMessage:
		signal(s.readable)
	case session.NewsEcho:
		return s.echoed()
	case session.NewsCard:
		return SessionCard
	case session.NoNews:
	}
	return 0
}

// echoed opens the cookie that the user has brought. s.mu is held.
func (s *Session) echoed() SessionEvent {
	echo, _ := s.core.Echo()
	s.core.DropEcho()
	defer close(s.came)
	if err := client.Call("ListenConfig.Cookies.Open", func() {
		s.state, s.cookieErr = s.l.cfg.open(s.identity, echo)
	}); err != nil {
		s.cookieErr = err
		s.failed(err)
	}
	if s.brought = s.cookieErr == nil; s.brought {
		return SessionCookie
	}
	return SessionCookieRefused
}

// ended notes the end of the association. s.mu is held.
func (s *Session) ended(ev sctp.Event) {
	why := io.EOF
	if ev.Reason != sctp.PeerShutdown {
		why = fmt.Errorf("session with %v: %w", s.host, client.DownError(ev))
	}
	s.core.Down(why)
	if s.timer != nil {
		s.timer.Stop()
	}
	close(s.done)
	if s.end != nil {
		s.end()
	}
	signal(s.readable)
	signal(s.writable)
}

// act does what the core wants done, and sends what it has to send. s.mu is held.
func (s *Session) act() error {
	err := s.pump()
	for _, a := range s.core.Take() {
		switch a.Type {
		case session.Pause:
			s.assoc.Pause()
		case session.Resume:
			s.assoc.Resume()
		case session.Shutdown:
			s.assoc.Shutdown()
		case session.Abort:
			s.assoc.Abort()
		case session.Select, session.Connect, session.Report, session.Busy, session.Ask, session.Notify: // of users
		}
	}
	if at, ok := s.core.NextDeadline(); ok {
		s.later(time.Until(at))
	}
	return err
}

// pump sends as long as the association has room. A message that the association refuses
// is dropped, and err says why. s.mu is held.
func (s *Session) pump() (err error) {
	for {
		m, ok := s.core.Next()
		if !ok {
			return err
		}
		switch e := s.assoc.Send(sctp.Message{Data: m.Data, PPID: m.PPID, Stream: m.Stream}); {
		case errors.Is(e, sctp.ErrQueueFull): // Writable follows
			return err
		case errors.Is(e, sctp.ErrNoAssoc), errors.Is(e, sctp.ErrClosed):
			s.assoc.Resume() // Down follows, and says why
		case e != nil:
			err = e
		}
		s.core.Sent()
		if s.waiting > 0 {
			signal(s.writable)
		}
	}
}

// later has the session look after a time. s.mu is held.
func (s *Session) later(d time.Duration) {
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.tick)
	} else {
		s.timer.Reset(d)
	}
}

func (s *Session) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.Tick(time.Now())
	_ = s.act()
}

// signal puts a token into a channel for one, unless it has one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Send sends a message of ListenConfig.PPID on stream 0. It copies data. It waits while
// the user has not read what was sent before. An error is that of ctx, says why the session
// has ended, or what is wrong with the message.
func (s *Session) Send(ctx context.Context, data []byte) error {
	return s.SendMessage(ctx, Message{Data: data, PPID: s.l.cfg.PPID})
}

// SendMessage is Send with a PPID and a stream. Messages of other streams than 0 may arrive
// before those that were sent earlier.
func (s *Session) SendMessage(ctx context.Context, m Message) error {
	m.Data = slices.Clone(m.Data)
	for {
		s.mu.Lock()
		err := s.core.Send(m)
		if err == nil {
			err = s.act()
		}
		waits := errors.Is(err, session.ErrWait)
		if waits {
			s.waiting++
		}
		s.mu.Unlock()
		if !waits {
			return err
		}
		err = s.wait(ctx, s.writable)
		s.mu.Lock()
		s.waiting--
		if s.waiting > 0 {
			signal(s.writable) // for the others that wait
		}
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// wait waits until it is worth another look.
func (s *Session) wait(ctx context.Context, c chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-s.done: // a Handler's context ends with the session, of which something may be left
		return nil
	default:
		return ctx.Err()
	}
}

// whileOpen returns a context that ends with the session.
func (s *Session) whileOpen(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancel(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end = end; s.core.State() == session.Ended {
		end()
	}
	return ctx, end
}

// Receive waits for the next message of the user. After the end of the session it returns
// the messages that had come before, and then an error: [io.EOF] if the user has ended the
// session, [rserpool.ErrClosed] if Close was called, or how the user was lost.
//
// Before the first message that the user sends on stream 0, [Session.Cookie] has the state
// that the user brings.
func (s *Session) Receive(ctx context.Context) (Message, error) {
	for {
		s.mu.Lock()
		m, ok := s.core.Receive()
		more, err := s.core.Readable(), s.core.Err()
		if ok {
			_ = s.act() // it may resume reading
		}
		s.mu.Unlock()
		if more {
			signal(s.readable) // for another one that waits
		}
		switch {
		case ok:
			return m, nil
		case err != nil:
			return Message{}, err
		}
		if err := s.wait(ctx, s.readable); err != nil {
			return Message{}, err
		}
	}
}

// Cookie returns the state that the user has brought from another element, or from an
// earlier session with this one. ok is false if it has brought none; a new user has none.
// The caller must not change the state.
func (s *Session) Cookie() (state []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.brought
}

// CookieCame is closed when the user has brought a cookie, which Cookies may have refused:
// see [Session.Cookie] and [Session.CookieError]. A user brings at most one in a session.
// Services whose users send a cookie and then wait need it; others look at Cookie after
// the first message.
func (s *Session) CookieCame() <-chan struct{} { return s.came }

// CookieError returns why ListenConfig.Cookies has refused the cookie that the user has
// brought, nil if it has refused none. The session goes on without that state, unless the
// application ends it.
func (s *Session) CookieError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cookieErr
}

// SetCookie hands a state out to the user, which brings the latest one to the next element
// if this one fails (RFC 5352, Section 3.8). The state is sent behind the messages that were
// sent before, and does not wait for room. With ListenConfig.Cookies it is sealed for the
// user's [Session.Identity]. An error says that the state is too long, or why the session
// has ended.
//
// A sealed cookie expires (asap/cookie: Config.Life, default 1 h). In a session that has the
// same state for longer, call SetCookie again before.
func (s *Session) SetCookie(state []byte) error {
	cookie, err := s.l.cfg.seal(s.identity, state)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.core.SetCookie(cookie)
	_ = s.act()
	return err
}

// Card returns the latest business card of the user: its own pool, if it is a pool element
// itself, and the elements of that pool that it recommends if it fails, in order. ok is
// false if it has sent none. The caller must not change the elements.
func (s *Session) Card() (pool rserpool.PoolHandle, elements []rserpool.PoolElement, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	card := s.core.PeerCard()
	if card == nil {
		return "", nil, false
	}
	return card.Handle, card.Elements, true
}

// Recommend is [Listener.Recommend] for this session, until the next call of either.
func (s *Session) Recommend(elements []rserpool.PoolElement) error {
	card, err := s.l.encodeCard(elements)
	if err != nil {
		return err
	}
	s.setCard(card)
	return nil
}

func (s *Session) setCard(card []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.SetCard(card)
	_ = s.act()
}

// RemoteAddrs returns the user's addresses with its SCTP port, the primary one first.
func (s *Session) RemoteAddrs() []netip.AddrPort { return slices.Clone(s.assoc.Peer()) }

// Identity is the name in the user's certificate; "" if it has none, and without TLS.
func (s *Session) Identity() string { return s.identity }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session has ended, as Receive does; nil before.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Err()
}

// Close ends the session. It does not wait: what was sent before is delivered first, for
// ListenConfig.CloseTime at most. Messages that were not received yet are dropped. The user
// fails over to another element, unless it takes the end of the association for the end
// of the session.
func (s *Session) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.Close(time.Now())
	_ = s.act()
	signal(s.readable)
	signal(s.writable)
	return nil
}

// fail ends the session after a panic in a function of the program.
func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed(err)
	_ = s.act()
}

// failed is fail. s.mu is held, and act follows.
func (s *Session) failed(err error) {
	client.LogPanic(s.l.cfg.Logger, err)
	s.core.Fail(err)
	signal(s.readable)
	signal(s.writable)
}

// Abort ends the session at once.
func (s *Session) Abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core.Abort()
	_ = s.act()
	signal(s.readable)
	signal(s.writable)
}
