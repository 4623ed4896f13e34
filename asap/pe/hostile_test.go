package pe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestHostileUser: a user that sends cookies, cards, faulty messages and requests of others
// on the control channel gets nothing of it to the application but its latest card, and does
// not disturb another user.
func TestHostileUser(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.Cards = CardsNever }, func(t *testing.T, nw *sctptest.Network, r *registrar, l *listening, u *user) {
		a := u.dial(l)
		s := l.next()
		honest := newUser(t, nw, "10.0.0.22:1000")
		b := honest.dial(l)
		s2 := l.next()
		r.heard()
		l.saw(SessionBegun, SessionBegun)
		card := &asap.BusinessCard{Handle: "users"}
		for i := range 400 {
			card.Elements = append(card.Elements, rserpool.PoolElement{ID: rserpool.PEID(i + 1), UserTransport: peers[0].UserTransport})
		}
		messages := []asap.Message{
			&asap.CookieEcho{Cookie: make([]byte, 40000)},
			card,
			&asap.Cookie{Cookie: []byte("state")},
			&asap.Deregistration{Handle: testPool, ID: l.Element().State().ID},
			&asap.EndpointKeepAlive{Home: true, Server: 66, Handle: testPool},
			&asap.DeregistrationResponse{Handle: testPool, ID: l.Element().State().ID},
		}
		for i := range 200 {
			m := messages[i%len(messages)]
			data, err := m.Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range [][]byte{data, data[:len(data)/2], bytes.Repeat([]byte{byte(i)}, 5000), {0x77, 0, 0, 4}} {
				if err := u.ep.Send(a, sctp.Message{Data: d, PPID: asap.PPID}); err != nil && !errors.Is(err, sctp.ErrQueueFull) {
					t.Fatal(err)
				}
			}
			text := fmt.Sprint(i)
			honest.data(b, text)
			if got := receive(t, s2); got != text+"/7" {
				t.Fatalf("the honest user's message arrives as %q, want %q", got, text)
			}
		}
		synctest.Wait()
		if _, ok := s.Cookie(); ok || !errors.Is(s.CookieError(), ErrCookieTooLong) {
			t.Errorf("a cookie of 40000 octets: %v", s.CookieError())
		}
		if _, list, ok := s.Card(); !ok || len(list) > 16 {
			t.Errorf("%d elements of a card are kept", len(list))
		}
		s.mu.Lock()
		if s.core.Readable() {
			t.Error("control messages reach the application")
		}
		s.mu.Unlock()
		if got := r.heard(); got != "" || !l.Element().State().Registered {
			t.Errorf("the registrar heard %q", got)
		}
		if err := honest.ep.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestCloseTime: a user that does not answer holds up Close for CloseTime.
func TestCloseTime(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.CloseTime = time.Second }, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		u.dial(l)
		s := l.next()
		nw.Freeze(u.ep)
		if err := s.Send(t.Context(), []byte("into the void")); err != nil {
			t.Error(err)
		}
		at := time.Now()
		l.close()
		if d := time.Since(at); d != time.Second {
			t.Errorf("Close takes %v, want CloseTime", d)
		}
	})
}

// TestHandlersOfEndedSessions: a user that begins sessions, gives the program work and ends
// them cannot have more work done at a time than MaxSessionsPerHost allows.
func TestHandlersOfEndedSessions(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.Cards, c.MaxSessions, c.MaxSessionsPerHost = CardsNever, 8, 4 }, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		var working atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- l.Serve(ctx, func(ctx context.Context, s *Session) {
				working.Add(1)
				defer working.Add(-1)
				time.Sleep(time.Minute)
			})
		}()
		for range 50 {
			a := u.dial(l)
			_ = u.ep.Send(a, sctp.Message{Data: []byte("work")}) // or it was refused already
			u.ep.Abort(a)
			synctest.Wait()
		}
		if n := working.Load(); n != 4 {
			t.Errorf("%d handlers run, want MaxSessionsPerHost", n)
		}
		v := newUser(t, nw, "10.0.0.22:1000")
		if v.ended(v.dial(l)) {
			t.Error("a user of another address is refused")
		}
		if n, refused := l.Sessions(); n != 1 || refused != 46 {
			t.Errorf("%d sessions, %d refused, want 1 and 46", n, refused)
		}
		time.Sleep(2 * time.Minute)
		if u.ended(u.dial(l)) {
			t.Error("the user is refused after its work was done")
		}
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		l.mu.Lock()
		if len(l.hosts) != 0 || l.taken != 0 {
			t.Errorf("%d sessions of %d hosts are counted at the end", l.taken, len(l.hosts))
		}
		l.mu.Unlock()
		if err := v.ep.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestEndOfFullSession: a user that has sent more than the program receives, and reads
// nothing, ends its session: the program learns of it, whatever it waits for.
func TestEndOfFullSession(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.MaxReceive, c.MaxSend = 2000, 2000 }, func(t *testing.T, _ *sctptest.Network, _ *registrar, l *listening, u *user) {
		a := u.dial(l)
		s := l.next()
		synctest.Wait()
		u.ep.Pause(a)
		for range 50 {
			_ = u.ep.Send(a, sctp.Message{Data: make([]byte, 1000)})
		}
		sent := make(chan error, 1)
		go func() {
			for {
				if err := s.Send(t.Context(), make([]byte, 30000)); err != nil {
					sent <- err
					return
				}
			}
		}()
		synctest.Wait()
		u.ep.Abort(a)
		select {
		case <-s.Done():
		case <-time.After(time.Minute):
			t.Fatal("the session has not ended")
		}
		if err := <-sent; err == nil {
			t.Error("Send goes on")
		}
		if n, _ := l.Sessions(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// TestBacklogOfOneHost: sessions of one address do not take the whole backlog of a program that
// accepts none at the moment.
func TestBacklogOfOneHost(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.Backlog = 8 }, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		for range 20 {
			v := u.dial(l)
			_ = u.ep.Send(v, sctp.Message{Data: []byte("x")})
			u.ep.Abort(v)
		}
		v := newUser(t, nw, "10.0.0.22:1000")
		if v.ended(v.dial(l)) {
			t.Error("a user of another address is refused")
		}
		if _, refused := l.Sessions(); refused != 16 {
			t.Errorf("%d sessions are refused, want 16", refused)
		}
		if err := v.ep.Close(); err != nil {
			t.Error(err)
		}
	})
}
