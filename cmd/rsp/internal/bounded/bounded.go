// Package bounded calls functions that may hang, such as those that read a
// file on a network file system whose server is gone.
package bounded

import (
	"context"
	"fmt"
	"time"
)

// grace is how long a function may take to return an error of its own once
// its context has ended.
const grace = 100 * time.Millisecond

// Caller calls a function again and again, and waits for no call longer than
// its context allows. A call that hangs goes on in the background; until it
// has ended, there is no other. A Caller is for one goroutine.
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

// Call calls the function. Without a result in time it returns an error that
// wraps the context's.
func (c *Caller[T]) Call(ctx context.Context) (T, error) {
	var none T
	if c.pending != nil {
		select {
		case <-c.pending: // too old to be of use
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
