package pe

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// peers are other elements of the pool.
var peers = []rserpool.PoolElement{
	{ID: 5, UserTransport: rserpool.MustParseTransport("sctp:10.0.0.12:99+control"), Policy: rserpool.Policy{Type: rserpool.RoundRobin}},
	{ID: 6, UserTransport: rserpool.MustParseTransport("tcp:10.0.0.13:99"), Policy: rserpool.Policy{Type: rserpool.RoundRobin}},
	{ID: 7, UserTransport: rserpool.MustParseTransport("sctp:10.0.0.14:99+control"), Policy: rserpool.Policy{Type: rserpool.RoundRobin}},
}

// TestLeave: the element is deregistered at once, users get its last will, and Leave waits
// for their end.
func TestLeave(t *testing.T) {
	sessions(t, nil, func(t *testing.T, nw *sctptest.Network, r *registrar, l *listening, u *user) {
		r.set(func() { r.pool = peers })
		a := u.dial(l)
		u.heard("card web 1")
		l.next()
		left := make(chan error, 1)
		go func() { left <- l.Leave(t.Context()) }()
		u.heard("card web 5 7")
		if got := r.heard(); !strings.HasPrefix(got, "REGISTRATION DEREGISTRATION") || l.Element().State().Registered {
			t.Errorf("the registrar heard %s", got)
		}
		select {
		case <-l.Leaving():
		default:
			t.Error("Leaving is open")
		}
		v := newUser(t, nw, "10.0.0.22:1000")
		if !v.ended(v.dial(l)) {
			t.Error("an element that leaves accepts sessions")
		}
		if _, err := l.Accept(t.Context()); !errors.Is(err, rserpool.ErrClosed) {
			t.Errorf("Accept gives %v", err)
		}
		select {
		case err := <-left:
			t.Errorf("Leave has not waited: %v", err)
		default:
		}
		u.ep.Shutdown(a)
		if err := <-left; err != nil {
			t.Errorf("Leave gives %v", err)
		}
		if err := v.ep.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestLeaveTime: Leave ends with its context, and Close ends the sessions.
func TestLeaveTime(t *testing.T) {
	sessions(t, nil, func(t *testing.T, _ *sctptest.Network, r *registrar, l *listening, u *user) {
		r.set(func() { r.mute = true })
		a := u.dial(l)
		s := l.next()
		if err := l.Recommend(peers[:1]); err != nil {
			t.Fatal(err)
		}
		u.heard("card web 1", "card web 5")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Leave(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Leave gives %v", err)
		}
		u.heard() // the application's own will stands
		if u.ended(a) {
			t.Error("Leave has ended a session")
		}
		l.close()
		if !u.ended(a) || !errors.Is(s.Err(), rserpool.ErrClosed) {
			t.Errorf("Close has not ended the session: %v", s.Err())
		}
	})
}

// TestLeaveAlone: a registrar that does not answer holds up Leave for two seconds.
func TestLeaveAlone(t *testing.T) {
	sessions(t, nil, func(t *testing.T, _ *sctptest.Network, r *registrar, l *listening, u *user) {
		r.set(func() { r.mute = true })
		a := u.dial(l)
		l.next()
		at := time.Now()
		time.AfterFunc(time.Second, func() { u.ep.Shutdown(a) })
		if err := l.Leave(t.Context()); err != nil || time.Since(at) != 2*time.Second {
			t.Errorf("after %v Leave gives %v", time.Since(at), err)
		}
	})
}

func TestServe(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.Cards, c.LeaveTime = CardsNever, time.Minute }, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- l.Serve(ctx, func(ctx context.Context, s *Session) {
				for {
					m, err := s.Receive(ctx)
					if err != nil || string(m.Data) == "end" {
						return
					}
					if err := s.SendMessage(ctx, m); err != nil {
						t.Error(err)
					}
				}
			})
		}()
		a, v := u.dial(l), newUser(t, nw, "10.0.0.22:1000")
		b := v.dial(l)
		u.data(a, "hello")
		u.heard("hello/7")
		cancel()
		v.data(b, "more") // sessions go on
		v.heard("more/7")
		v.data(b, "end")
		if !v.ended(b) || u.ended(a) {
			t.Error("the wrong session has ended")
		}
		at := time.Now()
		if err := <-served; err != nil {
			t.Errorf("Serve gives %v", err)
		}
		if d := time.Since(at); d != time.Minute || !u.ended(a) {
			t.Errorf("Serve has ended after %v, want after LeaveTime", d)
		}
		if err := v.ep.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestServeRejected: Serve ends with the refusal of the registrar.
func TestServeRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r)
		r.reject = []rserpool.Cause{{Code: rserpool.CauseInconsistentPolicy}}
		l := listen(t, nw, nil)
		var rejected *RejectedError
		if err := l.Serve(t.Context(), func(context.Context, *Session) {}); !errors.As(err, &rejected) {
			t.Errorf("Serve gives %v, want a RejectedError", err)
		}
	})
}

// TestLeaveIsFinal: a health check does not bring an element back that leaves.
func TestLeaveIsFinal(t *testing.T) {
	sessions(t, nil, func(t *testing.T, _ *sctptest.Network, r *registrar, l *listening, u *user) {
		u.dial(l)
		s := l.next()
		left := make(chan error)
		go func() { left <- l.Leave(t.Context()) }()
		synctest.Wait()
		r.heard()
		for _, available := range []bool{true, false, true} {
			l.Element().SetAvailable(available)
			synctest.Wait()
		}
		if got := r.heard(); got != "" || l.Element().State().Registered {
			t.Errorf("the registrar heard %q, registered %v", got, l.Element().State().Registered)
		}
		_ = s.Close()
		if err := <-left; err != nil {
			t.Error(err)
		}
	})
}

// TestHandlerContext: the context of a Handler ends with its session, and not with another one.
// What came before can still be received with it.
func TestHandlerContext(t *testing.T) {
	sessions(t, nil, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		v := newUser(t, nw, "10.0.0.22:1000")
		ctx, stop := context.WithCancel(t.Context())
		saw, ended := make(chan error), make(chan error)
		go func() {
			ended <- l.Serve(ctx, func(ctx context.Context, s *Session) {
				<-ctx.Done()
				for {
					m, err := s.Receive(ctx)
					if err != nil {
						saw <- err
						return
					}
					saw <- errors.New(string(m.Data))
				}
			})
		}()
		a, b := u.dial(l), v.dial(l)
		for _, text := range []string{"one", "two"} {
			u.data(a, text)
		}
		time.Sleep(time.Minute)
		select {
		case err := <-saw:
			t.Errorf("a context has ended before its session; Receive gives %v", err)
		default:
		}
		u.ep.Shutdown(a)
		for _, want := range []string{"one", "two", io.EOF.Error()} {
			if err := <-saw; err.Error() != want {
				t.Errorf("Receive gives %v, want %s", err, want)
			}
		}
		time.Sleep(time.Minute)
		select {
		case err := <-saw:
			t.Errorf("the context of another session has ended; Receive gives %v", err)
		default:
		}
		v.ep.Shutdown(b)
		if err := <-saw; !errors.Is(err, io.EOF) {
			t.Errorf("Receive gives %v, want EOF", err)
		}
		if err := v.ep.Close(); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestHandlerOfEndedSession: a Handler that begins after its session has ended has a context
// that has ended, and waits for nothing.
func TestHandlerOfEndedSession(t *testing.T) {
	sessions(t, nil, func(t *testing.T, _ *sctptest.Network, _ *registrar, l *listening, u *user) {
		a := u.dial(l)
		u.data(a, "hello")
		u.ep.Shutdown(a)
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		saw, ended := make(chan error), make(chan error)
		go func() {
			ended <- l.Serve(ctx, func(ctx context.Context, s *Session) { saw <- ctx.Err() })
		}()
		if err := <-saw; !errors.Is(err, context.Canceled) {
			t.Errorf("the context has %v", err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
