package pe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// requesting runs a test with two registrars and an element.
func requesting(t *testing.T, change func(*Config), f func(t *testing.T, nw *sctptest.Network, r1, r2 *registrar, e *running)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1, r2 := newRegistrar(t, nw, "10.0.0.1:3863"), newRegistrar(t, nw, "10.0.0.2:3863")
		r1.pool, r2.pool = peers, peers[:1]
		e := start(t, nw, change)
		synctest.Wait()
		f(t, nw, r1, r2, e)
		if err := e.end(); err != nil {
			t.Error(err)
		}
		closed(t, r1, r2)
	})
}

// TestElementResolve: RFC 5352, Section 4. The element resolves and reports over the
// association of its registration.
func TestElementResolve(t *testing.T) {
	requesting(t, nil, func(t *testing.T, _ *sctptest.Network, r1, r2 *registrar, e *running) {
		list, err := e.Resolve(t.Context(), "web", 0)
		if err != nil || len(list) != 3 || list[0].ID != 5 {
			t.Errorf("Resolve gives %v, %v", list, err)
		}
		if list, err := e.Resolve(t.Context(), "web", 2); err != nil || len(list) != 2 {
			t.Errorf("Resolve of 2 gives %v, %v", list, err)
		}
		var refused *RefusedError
		if _, err := e.Resolve(t.Context(), "none", 0); !errors.Is(err, rserpool.CauseUnknownPoolHandle) || !errors.As(err, &refused) {
			t.Errorf("Resolve of an unknown pool gives %v", err)
		}
		r1.set(func() { r1.bare = true })
		var none *rserpool.NoElementsError
		if _, err := e.Resolve(t.Context(), "web", 0); !errors.As(err, &none) || none.Pool != "web" || none.Registrar != "10.0.0.1:3863" {
			t.Errorf("Resolve without elements in the answer gives %v", err)
		}
		for range 3 {
			if err := e.ReportUnreachable(t.Context(), "web", 5); err != nil {
				t.Error(err)
			}
		}
		if _, err := e.Resolve(t.Context(), "", 0); err == nil {
			t.Error("no handle can be resolved")
		}
		expect(t, r1, "REGISTRATION HANDLE_RESOLUTION HANDLE_RESOLUTION HANDLE_RESOLUTION HANDLE_RESOLUTION ENDPOINT_UNREACHABLE")
		if n := len(r1.peers); n != 1 {
			t.Errorf("%d associations, want one for all", n)
		}
		expect(t, r2, "")
	})
}

// TestElementResolveFailover: a request is sent again to the next registrar.
func TestElementResolveFailover(t *testing.T) {
	requesting(t, nil, func(t *testing.T, nw *sctptest.Network, r1, _ *registrar, e *running) {
		r1.set(func() { r1.mute = true })
		got := make(chan int, 1)
		go func() {
			list, err := e.Resolve(t.Context(), "web", 0)
			if err != nil {
				t.Error(err)
			}
			got <- len(list)
		}()
		synctest.Wait()
		nw.Kill(r1.ep)
		if n := <-got; n != 1 {
			t.Errorf("%d elements, want those of the second registrar", n)
		}
	})
}

// TestElementResolveTimeout: T1-ENRPrequest, and MAX-REQUEST-RETRANSMIT.
func TestElementResolveTimeout(t *testing.T) {
	requesting(t, func(c *Config) { c.Timers.Request = time.Second }, func(t *testing.T, _ *sctptest.Network, r1, _ *registrar, e *running) {
		r1.set(func() { r1.mute = true })
		at := time.Now()
		_, err := e.Resolve(t.Context(), "web", 0)
		var timeout *rserpool.TimeoutError
		if !errors.As(err, &timeout) || timeout.Requests != 3 || timeout.Cause != nil || !strings.Contains(err.Error(), "has not answered 3 requests") || time.Since(at) != 3*time.Second {
			t.Errorf("after %v Resolve gives %v", time.Since(at), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		if _, err := e.Resolve(ctx, "web", 0); !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) {
			t.Errorf("Resolve gives %v, want a TimeoutError with the error of its context", err)
		}
		if n := strings.Count(r1.heard(), "HANDLE_RESOLUTION"); n != 4 {
			t.Errorf("%d requests, want 4", n)
		}
	})
}

// TestElementResolveStandby: an element that is not registered looks for a registrar to
// resolve (RFC 5352, Section 3.3, NR2).
func TestElementResolveStandby(t *testing.T) {
	requesting(t, func(c *Config) { c.Standby = true }, func(t *testing.T, nw *sctptest.Network, r1, r2 *registrar, e *running) {
		if list, err := e.Resolve(t.Context(), "web", 0); err != nil || len(list) != 3 {
			t.Errorf("Resolve gives %v, %v", list, err)
		}
		expect(t, r1, "HANDLE_RESOLUTION")
		nw.Kill(r1.ep)
		if list, err := e.Resolve(t.Context(), "web", 0); err != nil || len(list) != 1 {
			t.Errorf("Resolve after the end of the registrar gives %v, %v", list, err)
		}
		expect(t, r2, "HANDLE_RESOLUTION")
		e.SetAvailable(true)
		expect(t, r2, "REGISTRATION")
		e.SetAvailable(false)
		expect(t, r2, "DEREGISTRATION")
		nw.Kill(r2.ep)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var unreachable *rserpool.UnreachableError
		if _, err := e.Resolve(ctx, "web", 0); !errors.As(err, &unreachable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Resolve without a registrar gives %v", err)
		}
	})
}
