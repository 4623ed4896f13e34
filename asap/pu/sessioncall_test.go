package pu

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/session"
)

// TestNotifyAsks: Notify and OnFailover may wait for answers of the User, also without a
// deadline, whichever goroutine has noticed the event.
func TestNotifyAsks(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		asks := func() {
			ctx := context.Background()
			if _, err := w.u.Resolve(ctx, testPool, 1); err != nil {
				t.Error(err)
			}
			if err := w.u.ReportUnreachable(ctx, testPool, 9); err != nil {
				t.Error(err)
			}
			if err := w.u.Populate(ctx, testPool); err != nil {
				t.Error(err)
			}
			other, err := w.u.Dial(ctx, testPool)
			if err != nil {
				t.Error(err)
				return
			}
			other.Close()
		}
		var saw []SessionEventType
		cfg := SessionConfig{
			Pool: testPool, Unacked: Ask, FailoverTime: 10 * time.Second,
			Notify:     func(ev SessionEvent) { saw = append(saw, ev.Type); asks() },
			OnFailover: func(list []Message) []Message { asks(); return list },
		}
		s := dial(t, w, cfg)
		ask(t, s, "x")
		s.Ack(1)
		synctest.Wait() // the cookie comes after the answer
		w.kill(w.serving(s).id)
		ask(t, s, "y")
		synctest.Wait()
		s.Close()
		want := []SessionEventType{SessionConnected, CookieReceived, ElementFailing, FailedOver, CookieReceived, SessionEnded}
		if !slices.Equal(saw, want) {
			t.Errorf("events %v, want %v", saw, want)
		}
	})
	inWorld(t, 0, func(t *testing.T, w *world) { // the answer of the registrar ends the session
		answered := make(chan error)
		_, err := w.u.DialSession(t.Context(), SessionConfig{Pool: testPool, Notify: func(SessionEvent) {
			_, err := w.u.Resolve(context.Background(), testPool, 1)
			answered <- err
		}})
		if got := <-answered; !errors.Is(err, ErrUnknownPool) || !errors.Is(got, ErrUnknownPool) {
			t.Errorf("DialSession gives %v, Resolve in Notify %v; want ErrUnknownPool", err, got)
		}
	})
}

// TestNotifyFirst: until Notify has returned from ElementFailing, the next element gets nothing
// and the program receives nothing of it. What the former one has sent is there.
func TestNotifyFirst(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		busy := make(chan struct{})
		s := dial(t, w, SessionConfig{Unacked: Resend, Notify: func(ev SessionEvent) {
			if ev.Type == ElementFailing {
				<-busy
			}
		}})
		former := w.serving(s)
		for _, text := range []string{"a", "b"} {
			if err := s.Send(t.Context(), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		w.kill(former.id)
		time.Sleep(time.Second)
		next := w.serving(s)
		if got := next.got(); next == former || got != "" {
			t.Errorf("element %v got %q", next.id, got)
		}
		next.control(next.assocs[0], w.cardOf(nil))
		received := make(chan string)
		go func() {
			for {
				m, err := s.Receive(t.Context())
				if err != nil {
					close(received)
					return
				}
				received <- string(m.Data)
			}
		}()
		for _, want := range []string{"a", "b"} {
			if got := <-received; got != want {
				t.Errorf("received %q, want %q", got, want)
			}
		}
		sent := make(chan error, 1)
		go func() { sent <- s.Send(t.Context(), []byte("c")) }()
		time.Sleep(time.Second)
		select {
		case err := <-sent:
			t.Errorf("Send has returned %v", err)
		case text := <-received:
			t.Errorf("received %q", text)
		default:
		}
		close(busy)
		for _, want := range []string{"a", "b", "c"} {
			if got := <-received; got != want {
				t.Errorf("received %q, want %q", got, want)
			}
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if got, want := next.got(), "ECHO n=2; a; b; c"; got != want {
			t.Errorf("the next element got %q, want %q", got, want)
		}
		s.Close()
		<-received
	})
}

// TestNotifyBounds: a limited number of events waits for a Notify that blocks, and the last one
// is not dropped.
func TestNotifyBounds(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		busy := make(chan struct{})
		n, last := 0, SessionEventType(0)
		s := dial(t, w, SessionConfig{
			Notify:     func(ev SessionEvent) { <-busy; n++; last = ev.Type },
			Unacked:    Ask,
			OnFailover: func([]Message) []Message { return nil },
		})
		synctest.Wait()
		s.mu.Lock()
		for range 2 * maxCalls {
			s.tell(&session.Event{Type: session.EventFailing})
			s.ask(1, nil)
		}
		if len(s.calls) > maxCalls+1 {
			t.Errorf("%d calls wait, want at most %d", len(s.calls), maxCalls+1)
		}
		s.unlock()
		s.event((*session.User).Close)
		close(busy)
		s.Close()
		if n < maxCalls || n > maxCalls+2 || last != SessionEnded || s.failing != 0 {
			t.Errorf("%d events, the last one %d; %d calls count as running", n, last, s.failing)
		}
	})
}

// TestCloseWaitsForNotify: Close of the User waits for the functions of sessions that have
// ended by themselves.
func TestCloseWaitsForNotify(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		busy := make(chan struct{})
		u := w.open(Config{})
		s, err := u.DialSession(t.Context(), SessionConfig{Pool: testPool, NoFailover: true, Notify: func(ev SessionEvent) {
			if ev.Type == SessionEnded {
				<-busy
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		w.kill(1)
		<-s.done
		closed := make(chan error, 1)
		go func() { closed <- u.Close() }()
		time.Sleep(time.Minute)
		select {
		case <-closed:
			t.Error("Close has returned while Notify runs")
		default:
		}
		close(busy)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}
