package pu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// inWorld runs a test in virtual time, with a world of n elements.
func inWorld(t *testing.T, n int, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, n)
		defer w.close()
		f(t, w)
	})
}

func dial(t testing.TB, w *world, cfg SessionConfig) *Session {
	t.Helper()
	cfg.Pool = testPool
	s, err := w.u.DialSession(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask sends a message and returns the answer.
func ask(t testing.TB, s *Session, text string) string {
	t.Helper()
	if err := s.Send(t.Context(), []byte(text)); err != nil {
		t.Fatalf("Send: %v", err)
	}
	m, err := s.Receive(t.Context())
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return string(m.Data)
}

// news collects the events of a session.
type news struct {
	mu  sync.Mutex
	log []string
}

func (n *news) note(ev SessionEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, ev.String())
}

func TestSession(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{PPID: 33})
		if got := ask(t, s, "hello"); got != "hello" {
			t.Errorf("answer %q, want hello", got)
		}
		if e, ok := s.Element(); !ok || e.ID != 1 || s.State() != Connected {
			t.Errorf("element %v, %v, state %v", e.ID, ok, s.State())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Receive(t.Context()); !errors.Is(err, rserpool.ErrClosed) {
			t.Errorf("Receive after Close: %v, want ErrClosed", err)
		}
		if err := s.Send(t.Context(), []byte("x")); !errors.Is(err, rserpool.ErrClosed) {
			t.Errorf("Send after Close: %v, want ErrClosed", err)
		}
		if len(w.u.sessions.open) != 0 {
			t.Error("the user still has the session")
		}
	})
}

// TestSessionFailsOver: an element is killed in the middle, and the session goes on with its
// state, which the cookie carries.
func TestSessionFailsOver(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		var n news
		s := dial(t, w, SessionConfig{Notify: n.note})
		for i := 1; i <= 6; i++ {
			if got := ask(t, s, "count"); got != fmt.Sprint(i) {
				t.Fatalf("answer %s, want %d", got, i)
			}
			synctest.Wait() // the cookie comes after the answer
			if i%2 == 0 && i < 6 {
				e := w.serving(s)
				w.kill(e.id)
				synctest.Wait()
				if got := w.serving(s).got(); got != fmt.Sprintf("ECHO n=%d", i) {
					t.Errorf("the next element got %q first", got)
				}
			}
		}
		s.Close()
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.reports) != 2 {
			t.Errorf("reports %v, want two", w.reports)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		log := strings.Join(n.log, "\n")
		if strings.Count(log, "has failed") != 2 || strings.Count(log, "failed over") != 2 || !strings.HasSuffix(log, "closed") {
			t.Errorf("events:\n%s", log)
		}
	})
}

func TestSessionUnacked(t *testing.T) {
	tests := []struct {
		name string
		cfg  SessionConfig
		want string
	}{
		{"drop", SessionConfig{}, "new"},
		{"resend", SessionConfig{Unacked: Resend}, "b; c; new"},
		{"ask", SessionConfig{Unacked: Ask, OnFailover: func(list []Message) []Message { return list[1:] }}, "c; new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 2, func(t *testing.T, w *world) {
				s := dial(t, w, tt.cfg)
				e := w.serving(s)
				e.silent = true
				for _, text := range []string{"a", "b", "c"} {
					if err := s.Send(t.Context(), []byte(text)); err != nil {
						t.Fatal(err)
					}
				}
				s.Ack(1)
				synctest.Wait()
				w.kill(e.id)
				synctest.Wait()
				if err := s.Send(t.Context(), []byte("new")); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := w.serving(s).got(); w.serving(s) == e || got != tt.want {
					t.Errorf("element %v got %q, want %q", w.serving(s).id, got, tt.want)
				}
			})
		})
	}
}

// TestOnFailoverMessages: OnFailover may change the messages that it gets, and later those that
// it has returned. One that cannot be sent ends the session.
func TestOnFailoverMessages(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		var got, gave []Message
		next := "b"
		s := dial(t, w, SessionConfig{Unacked: Ask, OnFailover: func(list []Message) []Message {
			got, gave = list, []Message{{Data: []byte(next)}}
			for i := range list {
				list[i].Data[0] = 'x'
			}
			return gave
		}})
		e := w.serving(s)
		e.silent = true
		if err := s.Send(t.Context(), []byte("a")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.kill(e.id)
		synctest.Wait()
		if text := w.serving(s).got(); text != next || len(got) != 1 {
			t.Errorf("the element got %q, want %q; OnFailover got %d messages", text, next, len(got))
		}
		gave[0].Data[0] = 'x'
		if left := s.Unacked(); len(left) != 1 || string(left[0].Data) != next {
			t.Errorf("unacknowledged: %v, want %q", left, next)
		}
		next = ""
		s.Fail(nil)
		synctest.Wait()
		if err := s.Err(); err == nil || !strings.Contains(err.Error(), "message 0 that OnFailover has returned is invalid") {
			t.Errorf("the session has ended by %v, want the invalid message", err)
		}
	})
}

// TestFailWithoutReason: the events have one all the same.
func TestFailWithoutReason(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		var n news
		s := dial(t, w, SessionConfig{Notify: n.note})
		s.Fail(nil)
		ask(t, s, "x")
		s.Close()
		if log := strings.Join(n.log, "\n"); strings.Contains(log, "<nil>") || !strings.Contains(log, "the program says that the element does not serve") {
			t.Errorf("events:\n%s", log)
		}
	})
}

// TestSessionNoFailover: the session ends when its element fails, no other element gets
// anything, and the program gets back what the element may have missed.
func TestSessionNoFailover(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{NoFailover: true, Unacked: Resend})
		e := w.serving(s)
		e.silent = true
		for _, text := range []string{"a", "b", "c"} {
			if err := s.Send(t.Context(), []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		s.Ack(1)
		synctest.Wait()
		w.kill(e.id)
		var failed *FailoverError
		if _, err := s.Receive(t.Context()); !errors.As(err, &failed) || failed.Cause == nil {
			t.Errorf("Receive: %v, want a *FailoverError with its cause", err)
		}
		var left []string
		for _, m := range s.Unacked() {
			left = append(left, string(m.Data))
		}
		if !slices.Equal(left, []string{"b", "c"}) {
			t.Errorf("unacknowledged: %q, want b and c", left)
		}
		for _, other := range w.elements {
			if got := other.got(); other != e && got != "" {
				t.Errorf("element %v got %q", other.id, got)
			}
		}
	})
}

func TestSessionLastWill(t *testing.T) {
	inWorld(t, 5, func(t *testing.T, w *world) {
		for _, e := range w.elements {
			e.card = []rserpool.PEID{(e.id+2)%5 + 1, (e.id+1)%5 + 1}
		}
		s := dial(t, w, SessionConfig{})
		synctest.Wait()
		for range 3 {
			time.Sleep(time.Second)
			e := w.serving(s)
			w.kill(e.id)
			synctest.Wait()
			if got := w.serving(s).id; got != e.card[0] && got != e.card[1] {
				t.Errorf("from %v to %v, want one of %v", e.id, got, e.card)
			}
		}
	})
}

func TestSessionDetection(t *testing.T) {
	t.Run("hang", func(t *testing.T) {
		inWorld(t, 2, func(t *testing.T, w *world) {
			s := dial(t, w, SessionConfig{AnswerTimeout: 300 * time.Millisecond, Unacked: Resend})
			e := w.serving(s)
			w.nw.Freeze(e.ep)
			began := time.Now()
			ask(t, s, "x")
			if d := time.Since(began); d < 300*time.Millisecond || d > 320*time.Millisecond {
				t.Errorf("answer after %v, want 300 ms and at most 20 ms more", d)
			}
		})
	})
	t.Run("hang after the first answer", func(t *testing.T) {
		inWorld(t, 2, func(t *testing.T, w *world) {
			s := dial(t, w, SessionConfig{AnswerTimeout: time.Second, Unacked: Resend})
			e := w.serving(s)
			e.mu.Lock()
			e.silent = true
			e.mu.Unlock()
			for range 3 {
				if err := s.Send(t.Context(), []byte("job")); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			e.mu.Lock()
			_ = e.ep.Send(e.assocs[0], sctp.Message{Data: []byte("the first answer")})
			e.mu.Unlock()
			for i, want := range []string{"the first answer", "job", "job"} {
				began := time.Now()
				m, err := s.Receive(t.Context())
				if d := time.Since(began); err != nil || string(m.Data) != want || i == 1 && d != time.Second {
					t.Errorf("answer %d is %q, %v, after %v; want %q, the second one after 1 s", i+1, m.Data, err, d, want)
				}
				s.Ack(1)
			}
		})
	})
	t.Run("all is answered, and nothing acknowledged", func(t *testing.T) {
		inWorld(t, 2, func(t *testing.T, w *world) {
			s := dial(t, w, SessionConfig{AnswerTimeout: time.Second, Unacked: Resend})
			e := w.serving(s)
			for range 3 {
				if err := s.Send(t.Context(), []byte("job")); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				if m, err := s.Receive(t.Context()); err != nil || string(m.Data) != "job" {
					t.Errorf("received %q, %v", m.Data, err)
				}
			}
			idle, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if m, err := s.Receive(idle); !errors.Is(err, context.DeadlineExceeded) || w.serving(s) != e {
				t.Errorf("Receive from an idle element gives %q, %v, want the error of its context", m.Data, err)
			}
		})
	})
	t.Run("silence of the host", func(t *testing.T) {
		inWorld(t, 2, func(t *testing.T, w *world) {
			s := dial(t, w, SessionConfig{Unacked: Resend})
			w.nw.Freeze(w.serving(s).ep)
			ask(t, s, "x")
		})
	})
	t.Run("the program's word", func(t *testing.T) {
		inWorld(t, 2, func(t *testing.T, w *world) {
			s := dial(t, w, SessionConfig{})
			ask(t, s, "x")
			e := w.serving(s)
			s.Fail(errors.New("wrong answer"))
			ask(t, s, "y")
			if w.serving(s) == e {
				t.Error("the same element serves")
			}
		})
	})
}

func TestSessionOnlyElementComesBack(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{})
		ask(t, s, "count")
		synctest.Wait()
		w.kill(1)
		time.Sleep(5 * time.Second)
		w.element(1).start()
		if got := ask(t, s, "count"); got != "2" {
			t.Errorf("answer %s, want 2: the cookie was lost", got)
		}
	})
}

func TestSessionEnds(t *testing.T) {
	t.Run("no element comes back", func(t *testing.T) {
		inWorld(t, 1, func(t *testing.T, w *world) {
			s := dial(t, w, SessionConfig{FailoverTime: 10 * time.Second})
			w.kill(1)
			began := time.Now()
			_, err := s.Receive(t.Context())
			var f *FailoverError
			if !errors.As(err, &f) || f.Cause == nil || time.Since(began) != 10*time.Second {
				t.Errorf("Receive: %v after %v, want a FailoverError after 10 s", err, time.Since(began))
			}
			if err := s.Send(t.Context(), []byte("x")); !errors.Is(err, s.Err()) {
				t.Errorf("Send: %v, want the same error", err)
			}
		})
	})
	t.Run("unknown pool", func(t *testing.T) {
		inWorld(t, 0, func(t *testing.T, w *world) {
			_, err := w.u.Dial(t.Context(), testPool)
			if !errors.Is(err, ErrUnknownPool) {
				t.Errorf("Dial: %v, want ErrUnknownPool", err)
			}
		})
	})
	t.Run("context", func(t *testing.T) {
		inWorld(t, 1, func(t *testing.T, w *world) {
			w.nw.Freeze(w.element(1).ep)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := w.u.Dial(ctx, testPool)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Dial: %v, want the context's error", err)
			}
			s := dialLater(t, w)
			_, err = s.Receive(ctx)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Receive: %v, want the context's error", err)
			}
		})
	})
	t.Run("user closed", func(t *testing.T) {
		inWorld(t, 1, func(t *testing.T, w *world) {
			s := dial(t, w, SessionConfig{})
			w.u.Close()
			if _, err := s.Receive(t.Context()); !errors.Is(err, rserpool.ErrClosed) {
				t.Errorf("Receive: %v, want ErrClosed", err)
			}
			if _, err := w.u.Dial(t.Context(), testPool); !errors.Is(err, rserpool.ErrClosed) {
				t.Errorf("Dial: %v, want ErrClosed", err)
			}
		})
	})
}

// dialLater starts element 2 and dials it.
func dialLater(t *testing.T, w *world) *Session {
	t.Helper()
	w.addElement(2)
	return dial(t, w, SessionConfig{Element: 2})
}

// TestDialCosts: a Dial with a warm cache is one association and nothing else; with a cold
// one it is one request to the registrar more.
func TestDialCosts(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		if _, err := w.u.Resolve(t.Context(), testPool, 1); err != nil { // there is an association with the registrar
			t.Fatal(err)
		}
		count := func() [2]int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			n := [2]int{w.resolutions + w.calls + len(w.reports)}
			for _, e := range w.elements {
				e.mu.Lock()
				n[1] += len(e.assocs)
				e.mu.Unlock()
			}
			return n
		}
		before := count()
		dial(t, w, SessionConfig{})
		cold := count()
		dial(t, w, SessionConfig{})
		warm := count()
		if diff := cmp.Diff([][2]int{{before[0] + 1, 1}, {before[0] + 1, 2}}, [][2]int{cold, warm}); diff != "" {
			t.Errorf("requests and associations, cold and warm (-want +got):\n%s", diff)
		}
	})
}

// TestSessionSlowReader: an element that sends too much has to wait, and nothing is lost.
func TestSessionSlowReader(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{MaxReceive: 1000})
		e := w.serving(s)
		synctest.Wait() // the element knows of the association as well
		const n = 500
		for i := range n {
			for e.ep.Send(e.assocs[0], sctp.Message{Data: fmt.Appendf(nil, "%d", i)}) != nil {
				t.Fatal("the element's queue is full")
			}
		}
		synctest.Wait()
		if _, state := s.core.Receive(time.Now()); !state {
			t.Error("nothing received")
		}
		for i := 1; i < n; i++ {
			m, err := s.Receive(t.Context())
			if err != nil || string(m.Data) != fmt.Sprint(i) {
				t.Fatalf("message %d is %q, %v", i, m.Data, err)
			}
		}
	})
}

// TestSessionRecommend: the user's card goes to each element, first of all, and again when it
// changes.
func TestSessionRecommend(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{Card: &asap.BusinessCard{Handle: "mine"}})
		ask(t, s, "x")
		if err := s.Recommend([]rserpool.PoolElement{w.elements[0].entry()}); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		e := w.serving(s)
		if got := e.got(); got != "CARD mine; x; CARD mine" {
			t.Errorf("the element got %q", got)
		}
		w.kill(e.id)
		synctest.Wait()
		ask(t, s, "y")
		if got := w.serving(s).got(); got != "ECHO n=1; CARD mine; y" {
			t.Errorf("the next element got %q", got)
		}
	})
}

// TestSessionAtOnce: many goroutines use a session while its elements die, for the race
// detector.
func TestSessionAtOnce(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{Unacked: Resend})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 100 {
					if err := s.Send(t.Context(), []byte("x")); err != nil {
						t.Error(err)
					}
					if _, err := s.Receive(t.Context()); err != nil {
						t.Error(err)
					}
					s.Ack(1)
					_, _, _ = s.State(), s.Cookie(), s.Err()
				}
			})
		}
		wg.Go(func() {
			e := w.serving(s)
			time.Sleep(time.Millisecond)
			w.kill(e.id)
		})
		wg.Wait()
	})
}
