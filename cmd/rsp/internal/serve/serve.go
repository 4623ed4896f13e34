// Package serve has the services of rsp serve. A service serves one session at a time, and
// knows nothing of registrations; the messages are those of internal/services.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Session is what services need of a session with a pool user. Its methods may be called
// from any goroutine.
type Session interface {
	// Receive returns io.EOF when the user has ended the session.
	Receive(ctx context.Context) (rserpool.Message, error)
	SendMessage(ctx context.Context, m rserpool.Message) error
	// Cookie returns the state that the user has brought from another element. If there is
	// one, Cookie returns it before Receive returns the first message.
	Cookie() (state []byte, ok bool)
	// CookieCame is closed when the user brings a state, good or not.
	CookieCame() <-chan struct{}
	SetCookie(state []byte) error
}

// Service serves a session until it ends or ctx does. The error is nil if the session came
// to its end in good order.
type Service interface {
	Serve(ctx context.Context, s Session) error
}

// end makes the error of a service of that of a session.
func end(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// Echo returns each message to the user.
type Echo struct{}

// Serve serves a session.
func (Echo) Serve(ctx context.Context, s Session) error {
	for {
		m, err := s.Receive(ctx)
		if err != nil {
			return end(err)
		}
		if err := s.SendMessage(ctx, m); err != nil {
			return end(err)
		}
	}
}

// Discard takes messages and does nothing with them.
type Discard struct{}

// Serve serves a session.
func (Discard) Serve(ctx context.Context, s Session) error {
	for {
		if _, err := s.Receive(ctx); err != nil {
			return end(err)
		}
	}
}

// Daytime sends a line with the time, and ends the session.
type Daytime struct{}

// Serve serves a session.
func (Daytime) Serve(ctx context.Context, s Session) error {
	return end(s.SendMessage(ctx, rserpool.Message{Data: services.Daytime(time.Now()), PPID: services.PPIDText}))
}

// Chargen sends lines of characters, as fast as the user takes them.
type Chargen struct{}

// Serve serves a session.
func (Chargen) Serve(ctx context.Context, s Session) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // what the user sends is discarded
		defer cancel()
		_ = Discard{}.Serve(ctx, s)
	}()
	for n := 0; ; n++ {
		if err := s.SendMessage(ctx, rserpool.Message{Data: services.ChargenLine(nil, n), PPID: services.PPIDText}); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return end(err)
		}
	}
}

// PingPong answers requests, and counts its answers. The count is the session's state: it
// goes on at the next element.
type PingPong struct{}

// Serve serves a session.
func (PingPong) Serve(ctx context.Context, s Session) error {
	next, known := uint64(1), false
	for {
		m, err := s.Receive(ctx)
		if err != nil {
			return end(err)
		}
		if state, ok := s.Cookie(); ok && !known {
			if next, err = services.ParsePingPongCookie(state); err != nil {
				return fmt.Errorf("the user's state: %w", err)
			}
		}
		known = true
		ping, err := services.ParsePing(m.Data)
		if err != nil {
			return err
		}
		pong := services.Pong{Number: ping.Number, Reply: next, Data: ping.Data}
		data, err := pong.Append(nil)
		if err != nil {
			return err
		}
		// The state goes first: a user that has the answer must not go on without it.
		next++
		if err := s.SetCookie(services.AppendPingPongCookie(nil, next)); err != nil {
			return end(err)
		}
		if err := s.SendMessage(ctx, rserpool.Message{Data: data, PPID: services.PPIDPingPong}); err != nil {
			return end(err)
		}
	}
}
