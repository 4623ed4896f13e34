// Package bounded calls functions that may hang, such as reading a file on a network file
// system whose server does not answer.
package bounded

import (
	"context"
	"fmt"
	"time"
)

// grace is how long a function may take to return its own error after its context has
// ended.
const grace = 100 * time.Millisecond

// Caller calls a function repeatedly, and waits for each call until its context ends. A
// call that hangs goes on in the background, and the next call starts after it has ended.
// A Caller is for one goroutine.
type Caller[T any] struct {
	f       func(ctx context.Context) (T, error)
	pending chan result[T] // of a call that has not ended in time
}

type result[T any] struct {
	value T
	err   error
}

// New makes a Caller of a function.
func New[T any](f func(ctx context.Context) (T, error)) *Caller[T] { return &Caller[T]{f: f} }

// Call calls the function. If there is no result in time, Call returns an error that
// wraps the context's.
func (c *Caller[T]) Call(ctx context.Context) (T, error) {
	var none T
	if c.pending != nil {
		select {
		case <-c.pending: // too old to be used
			c.pending = nil
		case <-ctx.Done():
			return none, late(ctx)
		}
	}
	done := make(chan result[T], 1)
	go func() {
		v, err := c.f(ctx)
		done <- result[T]{v, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
		c.pending = done
		return none, late(ctx)
	}
}

func late(ctx context.Context) error { return fmt.Errorf("no result in time: %w", ctx.Err()) }
