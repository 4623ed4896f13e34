package pe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// logged is a Logger's handler that keeps the messages.
type logged struct {
	slog.Handler
	mu   sync.Mutex
	text string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text += r.Message
	return nil
}

// panics says whether a text names a function of the program, and has its stack.
func panics(text, name string) bool {
	return strings.Contains(text, name+", a function of this program, has panicked: oops") &&
		strings.Contains(text, "panic_test.go") && !strings.Contains(text, "report it")
}

// brittle are Cookies that panic.
type brittle struct{}

func (brittle) Seal(_ string, state []byte) ([]byte, error) { return state, nil }
func (brittle) Open(string, []byte) ([]byte, error)         { panic("oops") }

// TestPanicOfSession: a panic in a function that is called for a session ends that session
// with an error that has the function's name and stack. Its place is free again, other
// sessions go on, and Close does not wait for it.
func TestPanicOfSession(t *testing.T) {
	at := func(when SessionEvent) func(c *ListenConfig) {
		return func(c *ListenConfig) {
			first := true
			c.NotifySession = func(_ *Session, ev SessionEvent) {
				if ev == when && first {
					first = false
					panic("oops")
				}
			}
		}
	}
	brings := func(u *user, a sctp.AssocID) { u.control(a, &asap.CookieEcho{Cookie: []byte("state")}) }
	for _, test := range []struct {
		name   string
		change func(c *ListenConfig)
		panics string
		user   func(u *user, a sctp.AssocID)
		over   bool // the session has ended by itself
	}{
		{"at the begin", at(SessionBegun), "ListenConfig.NotifySession", func(*user, sctp.AssocID) {}, false},
		{"at a cookie", at(SessionCookie), "ListenConfig.NotifySession", brings, false},
		{"at the end", at(SessionEnded), "ListenConfig.NotifySession", func(u *user, a sctp.AssocID) { u.ep.Shutdown(a) }, true},
		{"cookies", func(c *ListenConfig) { c.Cookies = brittle{} }, "ListenConfig.Cookies.Open", brings, false},
		{"handler", nil, "Handler", func(u *user, a sctp.AssocID) { u.data(a, "panic") }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var (
				out logged
				s   *Session // the first
			)
			sessions(t, func(c *ListenConfig) {
				c.MaxSessions = 2
				c.Logger = slog.New(&out)
				if test.change != nil {
					test.change(c)
				}
				notify := c.NotifySession
				c.NotifySession = func(now *Session, ev SessionEvent) {
					if s == nil {
						s = now
					}
					notify(now, ev)
				}
			}, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() {
					ended <- l.Serve(ctx, func(ctx context.Context, s *Session) {
						m, _ := s.Receive(ctx)
						if string(m.Data) == "panic" {
							panic("oops")
						}
						<-s.Done()
					})
				}()
				a := u.dial(l)
				test.user(u, a)
				<-s.Done()
				synctest.Wait()
				if now, _ := l.Sessions(); now != 0 || l.taken != 0 || len(l.hosts) != 0 {
					t.Errorf("sessions %d, places %d, hosts %v; want none", now, l.taken, l.hosts)
				}
				if err := s.Err(); !test.over && (err == nil || !panics(err.Error(), test.panics)) {
					t.Errorf("the session has ended by %v, want the panic", err)
				}
				if !panics(out.text, test.panics) {
					t.Errorf("the log has %q, want the panic", out.text)
				}
				b := u.dial(l)
				if u.ended(b) {
					t.Error("the next session has ended")
				}
				stop()
				if err := <-ended; err != nil {
					t.Errorf("Serve gives %v", err)
				}
			})
		})
	}
}

// TestPanicOfNotify: a panic of Config.Notify ends the element with an error that has the
// function's name and stack.
func TestPanicOfNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863")
		defer closed(t, r)
		var out logged
		e := start(t, nw, func(c *Config) {
			c.Logger = slog.New(&out)
			c.Notify = func(Event) { panic("oops") }
		})
		<-e.Done()
		if err := e.Close(); err == nil || !panics(err.Error(), "Config.Notify") {
			t.Errorf("Close gives %v", err)
		}
		if !panics(out.text, "Config.Notify") {
			t.Errorf("the log has %q, want the panic", out.text)
		}
		if e.State().Registered {
			t.Error("the element counts as registered after its end")
		}
	})
}

// TestPanicOfNotifyAtEnd: a panic of Config.Notify while the element ends is not lost.
func TestPanicOfNotifyAtEnd(t *testing.T) {
	for _, when := range []EventType{Deregistered, Rejected} {
		t.Run(fmt.Sprint(when), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nw := sctptest.NewNetwork()
				r := newRegistrar(t, nw, "10.0.0.1:3863")
				defer closed(t, r)
				if when == Rejected {
					r.reject = []rserpool.Cause{{Code: rserpool.CauseInconsistentPolicy}}
				}
				var out logged
				e := start(t, nw, func(c *Config) {
					c.Logger = slog.New(&out)
					c.Notify = func(ev Event) {
						if ev.Type == when {
							panic("oops")
						}
					}
				})
				synctest.Wait()
				err := e.Close()
				if err == nil || !panics(err.Error(), "Config.Notify") || e.Err() == nil || e.Err().Error() != err.Error() {
					t.Errorf("Close gives %v, Err %v; want the panic", err, e.Err())
				}
				if rejected := new(*RejectedError); errors.As(err, rejected) != (when == Rejected) {
					t.Errorf("Close gives %v", err)
				}
				if !panics(out.text, "Config.Notify") {
					t.Errorf("the log has %q, want the panic", out.text)
				}
			})
		})
	}
}

// TestNoHandler: a missing Handler is an error at once, and no session needs to come for it.
func TestNoHandler(t *testing.T) {
	sessions(t, nil, func(t *testing.T, _ *sctptest.Network, _ *registrar, l *listening, _ *user) {
		for _, err := range []error{l.Serve(t.Context(), nil), ListenAndServe(t.Context(), l.cfg, nil)} {
			if err == nil || !strings.Contains(err.Error(), "no Handler") {
				t.Errorf("error %v", err)
			}
		}
	})
}
