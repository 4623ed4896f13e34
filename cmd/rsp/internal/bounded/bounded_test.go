package bounded

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestCall: a call that hangs is left behind, and no other begins beside it.
func TestCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var calls atomic.Int32
		c := New(func(context.Context) (int32, error) {
			n := calls.Add(1)
			if n == 1 {
				<-release
			}
			return n, nil
		})
		for range 3 {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := c.Call(ctx)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got error %v, want one that wraps the context's", err)
			}
			if d := time.Since(start); d > time.Second+grace {
				t.Errorf("the call took %v", d)
			}
		}
		if n := calls.Load(); n != 1 {
			t.Errorf("%d calls at once, want 1", n)
		}
		close(release)
		synctest.Wait()
		if v, err := c.Call(t.Context()); v != 2 || err != nil {
			t.Errorf("got %d, %v after the hang, want a new call's 2", v, err)
		}
	})
}

// TestCallOwnError: a function that heeds its context gives its own error.
func TestCallOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := errors.New("too slow")
		c := New(func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, own })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Call(ctx); !errors.Is(err, own) {
			t.Errorf("got error %v, want the function's", err)
		}
	})
}
