package pu

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
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
		var failure *SendToAllError
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

// TestSendToAllDialsEachOnce: an element that does not serve, or that the cache leaves out, costs
// the others no association, and no turn of the policy.
func TestSendToAllDialsEachOnce(t *testing.T) {
	inWorld(t, 5, func(t *testing.T, w *world) {
		next := func() rserpool.PEID {
			t.Helper()
			e, err := w.u.Select(t.Context(), testPool)
			if err != nil {
				t.Fatal(err)
			}
			return e.ID
		}
		next()
		w.u.Failed(testPool, 2) // which lives
		before := []rserpool.PEID{next(), next(), next(), next()}
		w.kill(3)
		err := w.u.SendToAll(t.Context(), testPool, Message{Data: []byte("all")})
		var failure *SendToAllError
		if !errors.As(err, &failure) || failure.Elements != 5 || len(failure.Attempts) != 1 || failure.Attempts[0].Element.ID != 3 {
			t.Errorf("got %v, want that element 3 of 5 has failed", err)
		}
		if text := fmt.Sprint(err); !strings.Contains(text, "1 of 5 elements") || strings.Contains(text, "serves") {
			t.Errorf("the error says %q", text)
		}
		if !errors.Is(err, sctp.ErrRefused) {
			t.Errorf("%v does not wrap the element's reason", err)
		}
		synctest.Wait()
		for _, e := range w.elements {
			want := 1
			if e.id == 3 {
				want = 0
			}
			e.mu.Lock()
			if e.ups != want || len(e.log) != want {
				t.Errorf("element %v: %d associations and messages %q, want %d", e.id, e.ups, e.log, want)
			}
			e.mu.Unlock()
		}
		before = slices.DeleteFunc(before, func(id rserpool.PEID) bool { return id == 3 })
		if after := []rserpool.PEID{next(), next(), next()}; !slices.Equal(before, after) {
			t.Errorf("selections %v, want %v as before", after, before)
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
