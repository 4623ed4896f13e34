package pu

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestSendToAll: RFC 5352, Section 6.5.5: a copy to each element, to the sender itself only
// if it wants one. The error names the elements that got none.
func TestSendToAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 40)
		defer w.close()
		if err := w.u.SendToAll(t.Context(), testPool, Message{Data: []byte("hello")}, 3); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		for _, e := range w.elements {
			want := "hello"
			if e.id == 3 {
				want = ""
			}
			if got := e.got(); got != want {
				t.Errorf("element %v got %q, want %q", e.id, got, want)
			}
		}
		w.kill(7)
		err := w.u.SendToAll(t.Context(), testPool, Message{Data: []byte("again")})
		var failure *FailoverError
		if !errors.As(err, &failure) || len(failure.Attempts) != 1 || failure.Attempts[0].Element.ID != 7 {
			t.Errorf("got %v, want that element 7 has failed", err)
		}
		synctest.Wait()
		for _, e := range w.elements {
			if got := e.got(); e.id != 7 && got != "again" {
				t.Errorf("element %v got %q", e.id, got)
			}
		}
		if err := w.u.SendToAll(t.Context(), testPool, Message{PPID: 11}); !errors.As(err, &failure) || len(failure.Attempts) != 40 {
			t.Errorf("got %v, want that no element can get a message of ASAP's PPID", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.u.SendToAll(ctx, testPool, Message{}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

// TestElements: all elements, from the cache if it has them.
func TestElements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.close()
		for range 3 {
			list, err := w.u.Elements(t.Context(), testPool)
			if err != nil || len(list) != 3 || list[0].ID != 1 || list[2].ID != 3 {
				t.Errorf("got %v, %v, want three elements", list, err)
			}
			w.u.Failed(testPool, rserpool.PEID(1))
		}
		if w.resolutions != 1 {
			t.Errorf("%d resolutions, want one", w.resolutions)
		}
		w.mu.Lock()
		elements := w.elements
		w.elements = nil
		w.mu.Unlock()
		w.u.Purge(testPool)
		if _, err := w.u.Elements(t.Context(), testPool); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("got %v, want ErrUnknownPool", err)
		}
		if err := w.u.SendToAll(t.Context(), testPool, Message{}); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("got %v, want ErrUnknownPool", err)
		}
		w.elements = elements
	})
}
