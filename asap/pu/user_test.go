package pu

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// registrar is a tiny registrar that knows the pool web.
type registrar struct {
	t  testing.TB
	ep sctp.Endpoint

	mu       sync.Mutex
	elements int
	watchers []sctp.AssocID
	reports  []rserpool.PEID
	calls    int
	silent   bool

	resolutions int
	list        []rserpool.PoolElement // in place of elements
}

func newRegistrar(t testing.TB, nw *sctptest.Network, addr string, elements int) *registrar {
	t.Helper()
	r := &registrar{t: t, elements: elements}
	r.mu.Lock() // until ep is set: calls may come at once
	defer r.mu.Unlock()
	var err error
	r.ep, err = nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}, r.handle)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *registrar) handle(ev sctp.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch ev.Type {
	case sctp.Up:
		r.calls++
	case sctp.Received:
		m, _, err := asap.Parse(ev.Message.Data)
		if err != nil {
			r.t.Errorf("the user sends an unfit message: %v", err)
			return
		}
		switch m := m.(type) {
		case *asap.HandleResolution:
			r.resolutions++
			if !r.silent {
				r.send(ev.Assoc, r.response(m))
			}
			if m.Subscribe {
				r.watchers = append(r.watchers, ev.Assoc)
			}
		case *asap.EndpointUnreachable:
			r.reports = append(r.reports, m.ID)
		}
	}
}

func (r *registrar) response(m *asap.HandleResolution) asap.Message {
	if m.Handle == testPool && len(r.list) > 0 {
		return &asap.HandleResolutionResponse{Handle: m.Handle, Accept: m.Subscribe, Policy: r.list[0].Policy, Elements: r.list}
	}
	if m.Handle != testPool || r.elements == 0 {
		return &asap.HandleResolutionResponse{Handle: m.Handle, Causes: []rserpool.Cause{{Code: rserpool.CauseUnknownPoolHandle}}}
	}
	n := r.elements
	if m.HasItems {
		n = min(n, int(m.Items))
	}
	return answer(n, m.Subscribe)
}

func (r *registrar) send(a sctp.AssocID, m asap.Message) {
	data, err := m.Append(nil)
	if err == nil {
		err = r.ep.Send(a, sctp.Message{Data: data, PPID: asap.PPID})
	}
	if err != nil {
		r.t.Error(err)
	}
}

// change gives the pool other elements, and tells those who watch.
func (r *registrar) change(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.elements = n
	for _, a := range r.watchers {
		r.send(a, answer(n, true))
	}
}

// open opens a user that knows two registrars.
func open(t *testing.T, nw *sctptest.Network) *User {
	t.Helper()
	u, err := Open(Config{
		Registrars: []string{"10.0.0.1", "10.0.0.2:3863"},

		Local:  []netip.AddrPort{netip.MustParseAddrPort("10.0.0.21:0")},
		listen: nw.Listen,
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1, r2 := newRegistrar(t, nw, "10.0.0.1:3863", 3), newRegistrar(t, nw, "10.0.0.2:3863", 2)
		defer r2.ep.Close()
		u := open(t, nw)
		defer u.Close()
		res, err := u.Resolve(t.Context(), testPool, 2)
		if err != nil || len(res.Elements) != 2 || res.Registrar != "10.0.0.1:3863" {
			t.Errorf("got %+v, %v, want two elements from 10.0.0.1", res, err)
		}
		if _, err := u.Resolve(t.Context(), "other", 2); !errors.Is(err, ErrUnknownPool) {
			t.Errorf("got %v, want ErrUnknownPool", err)
		}
		if err := u.ReportUnreachable(t.Context(), testPool, 7); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if fmt.Sprint(r1.reports, r1.calls) != "[00000007] 1" {
			t.Errorf("reports %v over %d associations, want one of each", r1.reports, r1.calls)
		}
		nw.Kill(r1.ep)
		res, err = u.Resolve(t.Context(), testPool, 0)
		if err != nil || len(res.Elements) != 2 || res.Registrar != "10.0.0.2:3863" {
			t.Errorf("got %+v, %v, want two elements from 10.0.0.2", res, err)
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
		if _, err := u.Resolve(t.Context(), testPool, 0); err == nil {
			t.Error("a closed user resolves")
		}
	})
}

// TestUserAtOnce: many requests at the same time, for the race detector; each
// gets an answer for its own pool.
func TestUserAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1 := newRegistrar(t, nw, "10.0.0.1:3863", 1)
		defer r1.ep.Close()
		u := open(t, nw)
		defer u.Close()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				pool := testPool
				if i%2 == 1 {
					pool = "other"
				}
				res, err := u.Resolve(t.Context(), pool, 1)
				if i%2 == 0 && (err != nil || len(res.Elements) != 1) || i%2 == 1 && !errors.Is(err, ErrUnknownPool) {
					t.Errorf("request %d: %+v, %v", i, res, err)
				}
			})
		}
		wg.Wait()
	})
}

func TestUserWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r1, r2 := newRegistrar(t, nw, "10.0.0.1:3863", 1), newRegistrar(t, nw, "10.0.0.2:3863", 5)
		defer r2.ep.Close()
		u := open(t, nw)
		defer u.Close()
		var got []int
		for res, err := range u.Watch(t.Context(), testPool, 0) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, len(res.Elements))
			switch len(got) {
			case 1:
				// Of what happens while the consumer is busy, the newest
				// news is left.
				for n := 2; n <= 4; n++ {
					r1.change(n)
				}
				synctest.Wait()
			case 2:
				nw.Kill(r1.ep)
			}
			if len(got) == 3 {
				break
			}
		}
		if fmt.Sprint(got) != "[1 4 5]" {
			t.Errorf("the watch saw %v elements, want 1, 4 and 5", got)
		}

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for _, err := range u.Watch(ctx, testPool, 0) {
			last = err
			cancel()
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("the watch ends with %v, want the context's error", last)
		}
	})
}

// TestUserErrors: what a caller learns when there is nobody.
func TestUserErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		u := open(t, nw)
		defer u.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := u.Resolve(ctx, testPool, 1)
		var unreachable *rserpool.UnreachableError
		if !errors.As(err, &unreachable) || len(unreachable.Attempts) != 2 || !strings.Contains(err.Error(), "10.0.0.2:3863: ") {
			t.Errorf("got %v, want an UnreachableError with two attempts", err)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := u.Resolve(ended, testPool, 1); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "nothing sent") {
			t.Errorf("got %v, want that nothing was sent and the context's error", err)
		}

		r2 := newRegistrar(t, nw, "10.0.0.2:3863", 1)
		defer r2.ep.Close()
		r2.mu.Lock()
		r2.silent = true
		r2.mu.Unlock()
		start := time.Now()
		_, err = u.Resolve(t.Context(), testPool, 1)
		var timeout *TimeoutError
		if !errors.As(err, &timeout) || timeout.Registrar != "10.0.0.2:3863" {
			t.Errorf("got %v, want a TimeoutError of 10.0.0.2", err)
		}
		if d := time.Since(start); d > time.Minute {
			t.Errorf("that took %v", d)
		}
	})
}

func TestConfig(t *testing.T) {
	if _, err := Open(Config{}); err == nil || !strings.Contains(err.Error(), "no registrar") {
		t.Errorf("got %v, want that no registrar is known", err)
	}
	for want, cfg := range map[string]Config{
		"Timers.Request is -1s: it must not be negative": {Timers: Timers{Request: -time.Second}},
		"Via is 9: use rserpool.ViaAuto":                 {Via: 9},
		"Local: ":                                        {Local: make([]netip.AddrPort, 1)},
		"AnnounceGroup: 1.2.3.4:5 is not":                {AnnounceGroup: netip.MustParseAddrPort("1.2.3.4:5")},
		"CA is missing":                                  {TLS: rserpool.TLSFiles{Key: "key.pem"}},
	} {
		cfg.Registrars = []string{"192.0.2.1"}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
