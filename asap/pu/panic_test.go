package pu

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestPanic: a panic in a function of a session ends that session with an error that has the
// function's name and stack. Other sessions of the user go on, and nothing waits for it.
func TestPanic(t *testing.T) {
	at := func(when SessionEventType) SessionConfig {
		return SessionConfig{Notify: func(ev SessionEvent) {
			if ev.Type == when {
				panic("oops")
			}
		}}
	}
	for _, test := range []struct {
		name string
		cfg  SessionConfig
		in   string
	}{
		{"at the begin", at(SessionConnected), "SessionConfig.Notify"},
		{"at a failure", at(ElementFailing), "SessionConfig.Notify"},
		{"after a failover", at(FailedOver), "SessionConfig.Notify"},
		{"OnFailover", SessionConfig{Unacked: Ask, OnFailover: func([]Message) []Message { panic("oops") }}, "SessionConfig.OnFailover"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, 3, func(t *testing.T, w *world) {
				w.u.sessions.cfg.Logger = slog.New(slog.DiscardHandler)
				other := dial(t, w, SessionConfig{})
				test.cfg.Pool = testPool
				s, err := w.u.DialSession(t.Context(), test.cfg)
				if err == nil {
					_ = s.Send(t.Context(), []byte("hello"))
					s.Fail(errors.New("the test says so"))
					synctest.Wait()
					time.Sleep(time.Second) // of virtual time
					if err = s.Err(); s.Close() != nil || s.State() != Ended {
						t.Errorf("state %v after Close", s.State())
					}
					if e := s.Send(t.Context(), []byte("x")); !errors.Is(e, err) {
						t.Errorf("Send gives %v, Err %v", e, err)
					}
				}
				if err == nil || !strings.Contains(err.Error(), test.in+", a function of this program, has panicked: oops") || !strings.Contains(err.Error(), "panic_test.go") {
					t.Errorf("the session has ended by %v, want the panic", err)
				}
				if got := ask(t, other, "hello"); got != "hello" {
					t.Errorf("the other session has the answer %q", got)
				}
			})
		})
	}
}

// TestPanicAtEnd: a panic at the end of a session does not hold up Close. The log has it.
func TestPanicAtEnd(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		var text string
		w.u.sessions.cfg.Logger = slog.New(keeper{text: &text})
		s := dial(t, w, SessionConfig{Notify: func(ev SessionEvent) {
			if ev.Type == SessionEnded {
				panic("oops")
			}
		}})
		if err := s.Close(); err != nil || !errors.Is(s.Err(), rserpool.ErrClosed) {
			t.Errorf("Close gives %v, Err %v", err, s.Err())
		}
		if !strings.Contains(text, "SessionConfig.Notify") {
			t.Errorf("the log has %q", text)
		}
	})
}

// keeper is a Logger's handler that keeps the messages.
type keeper struct {
	slog.Handler
	text *string
}

func (keeper) Enabled(context.Context, slog.Level) bool { return true }

func (k keeper) Handle(_ context.Context, r slog.Record) error {
	*k.text += r.Message
	return nil
}
