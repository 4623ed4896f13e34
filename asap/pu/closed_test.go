package pu

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestClosedUser: after Close, no element of the cache is given out any more.
func TestClosedUser(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		if list, err := w.u.Elements(t.Context(), testPool); err != nil || len(list) != 1 {
			t.Fatalf("before Close: %v, %v", list, err)
		}
		if err := w.u.Close(); err != nil {
			t.Error(err)
		}
		_, all := w.u.Elements(t.Context(), testPool)
		_, one := w.u.Select(t.Context(), testPool)
		for _, err := range []error{all, one} {
			if !errors.Is(err, rserpool.ErrClosed) {
				t.Errorf("error %v, want ErrClosed", err)
			}
		}
	})
}

// TestUnfitHandle: a handle that cannot be sent is an error at once, without a registrar.
func TestUnfitHandle(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		w.registry.Close()
		for _, pool := range []rserpool.PoolHandle{"", rserpool.PoolHandle(strings.Repeat("x", 70000))} {
			start := time.Now()
			_, asked := w.u.Resolve(t.Context(), pool, 0)
			_, selected := w.u.Select(t.Context(), pool)
			reported := w.u.ReportUnreachable(t.Context(), pool, 1)
			for _, err := range []error{asked, selected, reported} {
				if err == nil || !strings.Contains(err.Error(), "andle") {
					t.Errorf("handle of %d octets: error %v", len(pool), err)
				}
			}
			if d := time.Since(start); d != 0 {
				t.Errorf("handle of %d octets: that took %v", len(pool), d)
			}
		}
	})
}
