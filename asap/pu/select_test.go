package pu

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// requests returns how many resolutions and reports the registrar has got.
func (r *registrar) requests() (resolutions int, reports []rserpool.PEID) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resolutions, slices.Clone(r.reports)
}

// sharing opens a user with a cache.
func sharing(t *testing.T, nw *sctptest.Network, c *Cache, addr string) *User {
	t.Helper()
	u, err := Open(Config{
		Registrars: []string{"10.0.0.1"}, Cache: c,
		Local: []netip.AddrPort{netip.MustParseAddrPort(addr)}, listen: nw.Listen,
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestSelect: 1,000 selections at once make one request, and later ones none. Elements
// that come are selected without a request.
func TestSelect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863", 2)
		defer r.ep.Close()
		c := NewCache(CacheConfig{})
		users := []*User{sharing(t, nw, c, "10.0.0.21:0"), sharing(t, nw, c, "10.0.0.22:0")}
		defer users[0].Close()
		defer users[1].Close()
		var wg sync.WaitGroup
		var mu sync.Mutex
		seen := map[rserpool.PEID]int{}
		for i := range 1000 {
			wg.Go(func() {
				e, err := users[i%2].Select(t.Context(), testPool)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				seen[e.ID]++
			})
		}
		wg.Wait()
		if n, _ := r.requests(); n != 1 || len(seen) != 2 {
			t.Errorf("%d requests, elements %v, want one request and two elements", n, seen)
		}
		r.change(3)
		synctest.Wait()
		clear(seen)
		for range 300 {
			e, err := users[0].Select(t.Context(), testPool)
			if err != nil {
				t.Fatal(err)
			}
			e.UserTransport.Addrs[0] = netip.Addr{} // it is the caller's
			seen[e.ID]++
		}
		if n, _ := r.requests(); n != 1 || len(seen) != 3 {
			t.Errorf("%d requests, elements %v, want one request and three elements", n, seen)
		}
		if e, err := users[1].Select(t.Context(), testPool); err != nil || !e.UserTransport.Addrs[0].IsValid() {
			t.Errorf("got %v, %v", e, err)
		}
		if _, err := users[1].Select(t.Context(), "other"); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("got %v, want ErrUnknownPool", err)
		}
	})
}

// TestSelectFailed: RFC 5352, Section 3.5: one report for each event, although several
// users notice it.
func TestSelectFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863", 2)
		defer r.ep.Close()
		c := NewCache(CacheConfig{})
		a, b := sharing(t, nw, c, "10.0.0.21:0"), sharing(t, nw, c, "10.0.0.22:0")
		defer a.Close()
		defer b.Close()
		e, err := a.Select(t.Context(), testPool)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			a.Failed(testPool, e.ID)
			b.Failed(testPool, e.ID)
		}
		for range 20 {
			if o, err := b.Select(t.Context(), testPool); err != nil || o.ID == e.ID {
				t.Fatalf("selected %v, %v, which has failed", o.ID, err)
			}
		}
		if n, reports := r.requests(); n != 1 || !slices.Equal(reports, []rserpool.PEID{e.ID}) {
			t.Errorf("%d resolutions, reports %v", n, reports)
		}
		time.Sleep(time.Second)
		b.Failed(testPool, 3-e.ID)
		// Nothing is left: a registrar is asked, and one of them selected.
		if o, err := b.Select(t.Context(), testPool); err != nil || o.ID != e.ID {
			t.Errorf("selected %v, %v, want the one that failed first", o.ID, err)
		}
		if n, reports := r.requests(); n != 2 || len(reports) != 2 {
			t.Errorf("%d resolutions, reports %v", n, reports)
		}
		_, err = a.next(t.Context(), testPool, 0, false, []rserpool.PEID{1, 2})
		if exhausted := (*ExhaustedError)(nil); !errors.As(err, &exhausted) {
			t.Errorf("got %v, want an ExhaustedError", err)
		}
		b.reached(testPool, e.ID)
		if o, ok := a.cached(testPool, 0, nil); !ok || o.ID != e.ID {
			t.Errorf("got %v, %v, want the element that serves again", o.ID, ok)
		}
	})
}

// TestSelectOutage: while no registrar can be reached, the cache serves.
func TestSelectOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863", 2)
		u := sharing(t, nw, nil, "10.0.0.21:0")
		defer u.Close()
		release := u.hold(testPool)
		defer release()
		if _, err := u.Select(t.Context(), testPool); err != nil {
			t.Fatal(err)
		}
		nw.Kill(r.ep)
		for range 59 {
			time.Sleep(time.Minute)
			start := time.Now()
			if _, err := u.Select(t.Context(), testPool); err != nil || time.Since(start) > 0 {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
		}
		time.Sleep(time.Minute + time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if e, err := u.Select(ctx, testPool); err == nil {
			t.Errorf("an element of an hour ago is selected: %v", e.ID)
		}
		r = newRegistrar(t, nw, "10.0.0.1:3863", 3)
		defer r.ep.Close()
		if _, err := u.Select(t.Context(), testPool); err != nil {
			t.Error(err)
		}
		if n, _ := r.requests(); n != 1 {
			t.Errorf("%d requests after the outage, want one", n)
		}
	})
}

// TestSelectEnds: selections end with their context and their user. Another user of the
// cache asks in the place of one that is closed.
func TestSelectEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863", 2)
		defer r.ep.Close()
		r.mu.Lock()
		r.silent = true
		r.mu.Unlock()
		c := NewCache(CacheConfig{})
		a, b := sharing(t, nw, c, "10.0.0.21:0"), sharing(t, nw, c, "10.0.0.22:0")
		defer b.Close()
		results := make(chan error, 2)
		go func() { _, err := a.Select(t.Context(), testPool); results <- err }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, err := b.Select(ctx, testPool); results <- err }()
		synctest.Wait()
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
		if err := b.Populate(ctx, testPool); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
		go func() { _, err := b.Select(t.Context(), testPool); results <- err }()
		synctest.Wait()
		r.mu.Lock()
		r.silent = false
		r.mu.Unlock()
		a.Close()
		for range 2 {
			err := <-results
			if err != nil && !errors.Is(err, rserpool.ErrClosed) {
				t.Errorf("got %v", err)
			}
		}
		if n, _ := r.requests(); n != 2 {
			t.Errorf("%d requests, want one of each user", n)
		}
		if _, err := a.Select(t.Context(), "other"); !errors.Is(err, rserpool.ErrClosed) {
			t.Errorf("got %v of a closed user", err)
		}
		if err := a.Populate(t.Context(), testPool); !errors.Is(err, rserpool.ErrClosed) {
			t.Errorf("got %v of a closed user", err)
		}
		if len(c.waiters) > 0 {
			t.Errorf("%d pools have waiters", len(c.waiters))
		}
	})
}

// TestPopulatePurge: RFC 5352, Sections 6.3 and 6.4.
func TestPopulatePurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863", 2)
		defer r.ep.Close()
		u := sharing(t, nw, nil, "10.0.0.21:0")
		defer u.Close()
		want := func(n int) {
			t.Helper()
			if got, _ := r.requests(); got != n {
				t.Errorf("%d requests, want %d", got, n)
			}
		}
		for n := range 3 {
			if err := u.Populate(t.Context(), testPool); err != nil {
				t.Error(err)
			}
			want(n + 1)
		}
		if _, ok := u.cached(testPool, 0, nil); !ok {
			t.Error("nothing is cached")
		}
		u.Purge(testPool)
		if _, ok := u.cached("other", 0, nil); ok {
			t.Error("an unknown pool is cached")
		}
		if _, err := u.Select(t.Context(), testPool); err != nil {
			t.Error(err)
		}
		want(5)
		if err := u.Populate(t.Context(), "other"); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("got %v, want ErrUnknownPool", err)
		}
	})
}

// TestNextAsync: the result comes from another goroutine.
func TestNextAsync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863", 2)
		defer r.ep.Close()
		u := sharing(t, nw, nil, "10.0.0.21:0")
		defer u.Close()
		got := make(chan string, 3)
		done := func(e rserpool.PoolElement, err error) { got <- fmt.Sprint(uint32(e.ID), err) }
		u.nextAsync(testPool, 0, false, nil, done)
		u.nextAsync(testPool, 2, false, nil, done)
		if a, b := <-got, <-got; a != "1 <nil>" || b != "2 <nil>" {
			t.Errorf("got %s and %s", a, b)
		}
		u.nextAsync(testPool, 0, false, []rserpool.PEID{1, 2}, done)
		if x := <-got; x != `0 pool "web" has no element that was not tried` {
			t.Errorf("got %s", x)
		}
	})
}

// TestSelectAllocations: a warm selection copies the element, and no more.
func TestSelectAllocations(t *testing.T) {
	nw := sctptest.NewNetwork()
	r := newRegistrar(t, nw, "10.0.0.1:3863", 20)
	defer r.ep.Close()
	u := sharing(t, nw, nil, "10.0.0.21:0")
	defer u.Close()
	ctx := t.Context()
	if _, err := u.Select(ctx, testPool); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = u.Select(ctx, testPool) }); n > 1 {
		t.Errorf("%v allocations, want one: the copy of the address", n)
	}
	if n := testing.AllocsPerRun(100, func() { u.cached(testPool, 0, []rserpool.PEID{1, 2}) }); n > 1 {
		t.Errorf("%v allocations, want one: the copy of the address", n)
	}
}

// BenchmarkSelect selects from a pool of 100 in the cache.
func BenchmarkSelect(b *testing.B) {
	nw := sctptest.NewNetwork()
	r := newRegistrar(b, nw, "10.0.0.1:3863", 100)
	defer r.ep.Close()
	u, err := Open(Config{
		Registrars: []string{"10.0.0.1"},
		Local:      []netip.AddrPort{netip.MustParseAddrPort("10.0.0.21:0")}, listen: nw.Listen,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Select(b.Context(), testPool); err != nil {
			b.Fatal(err)
		}
	}
}
