package pu

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestReportsAreLimited: RFC 5352, Section 9.2, threat 8. A user that reports an
// element all the time makes one report a second, and one that reports very many
// elements makes hunt.MaxReports in a second.
func TestReportsAreLimited(t *testing.T) {
	reports := func(d *driver) int {
		n := strings.Count(strings.Join(d.log, "\n"), "UNREACHABLE")
		d.log = nil
		return n
	}
	d := newDriver(t)
	for range 10 { // before there is a home
		d.k.report(d.now, testPool, 5)
	}
	d.collect()
	d.up(1)
	if n := reports(d); n != 1 {
		t.Errorf("%d reports of one element to the home that was found, want 1", n)
	}
	if len(d.k.requests) != 0 || len(d.errs) != 10 {
		t.Errorf("%d requests are open and %d have a result, want 0 and 10", len(d.k.requests), len(d.errs))
	}
	for i := range 1000 {
		d.until(time.Second + time.Duration(i)*10*time.Millisecond)
		d.k.report(d.now, testPool, 5)
		d.collect()
	}
	if n := reports(d); n != 10 {
		t.Errorf("%d reports of one element in 10 s, want 10", n)
	}
	d.k.report(d.now, testPool, 6)
	d.k.report(d.now, "other", 5)
	d.collect()
	if n := reports(d); n != 2 {
		t.Errorf("%d reports of two other elements, want 2", n)
	}
	d.until(time.Minute)
	for id := range rserpool.PEID(1000) {
		d.k.report(d.now, testPool, id)
	}
	d.collect()
	if n := reports(d); n != hunt.MaxReports {
		t.Errorf("%d reports at once, want %d", n, hunt.MaxReports)
	}
	for i, err := range d.errs {
		if err != nil {
			t.Fatal(fmt.Errorf("report %d: %w", i, err))
		}
	}
}

// TestHearsaySelectsNothing: comparing what a business card says with what a registrar says moves
// no policy, and does not count as a use of the pool.
func TestHearsaySelectsNothing(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{})
		next := func() rserpool.PEID {
			t.Helper()
			e, err := w.u.Select(t.Context(), testPool)
			if err != nil {
				t.Fatal(err)
			}
			return e.ID
		}
		before := []rserpool.PEID{next(), next(), next()}
		entry := w.u.cache.core.entries[testPool]
		used := entry.used
		time.Sleep(time.Second)
		stranger, moved := w.element(1).entry(), w.element(2).entry()
		stranger.ID = 99
		moved.UserTransport.Port++
		for _, e := range []rserpool.PoolElement{stranger, moved} {
			s.mu.Lock()
			s.report(&session.Action{Type: session.Report, Element: &e, Hearsay: true})
			s.mu.Unlock()
		}
		if !entry.used.Equal(used) {
			t.Error("the pool counts as used")
		}
		if after := []rserpool.PEID{next(), next(), next()}; !slices.Equal(before, after) {
			t.Errorf("selections %v, want %v as before", after, before)
		}
		same := w.element(3).entry()
		s.mu.Lock()
		s.report(&session.Action{Type: session.Report, Element: &same, Hearsay: true})
		s.mu.Unlock()
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.reports, []rserpool.PEID{3}) {
			t.Errorf("reported: %v, want element 3", w.reports)
		}
	})
}
