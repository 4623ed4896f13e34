package registrar

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// answerAll lets time pass in which all calls to elements are answered at once.
func (h *herd) answerAll(d time.Duration, answer func(rserpool.PEID)) {
	h.t.Helper()
	for end := h.now.Add(d); h.now.Before(end); h.run(min(200*time.Millisecond, end.Sub(h.now))) {
		for _, id := range slices.Sorted(maps.Keys(h.calls)) {
			answer(id)
			delete(h.calls, id)
		}
	}
}

// untimely answers a call with a certificate that is not valid by the registrar's clock.
func (h *herd) untimely(id rserpool.PEID) { h.answer(id, DownUntimely) }

// TestWrongClock: the registrar's clock steps past the ends of all certificates. That is no evidence
// against the elements: no pool becomes empty, and with many elements the answers are the same all
// along. When the clock is right again, all is as before.
func TestWrongClock(t *testing.T) {
	for _, n := range []int{1, 3, minLines, 40, 300} {
		h := newHerd(t, n)
		h.every = n / 3
		h.run(20 * time.Second)
		for id := 1; id <= n; id++ {
			h.do(AssocDown{Assoc: AssocID(id), Reason: DownUntimely})
		}
		h.answerAll(10*time.Minute-oneCause, h.untimely)
		s := h.r.Stats()
		if n < minLines && (h.least == 0 || len(h.served()) != n || s.Suspected[SilentUntimely] != uint64(n)) {
			t.Errorf("of %d: %d elements at least, %d at last, suspected %v", n, h.least, len(h.served()), s.Suspected)
		}
		if n >= minLines && (h.least != n || s.Spared != uint64(n)) {
			t.Errorf("of %d: %d elements at least, %d spared", n, h.least, s.Spared)
		}
		h.answerAll(oneCause+maxSilentPause, h.accept)
		if s := h.r.Stats(); s.Suspects+s.Spared != 0 || h.guarded() || len(h.served()) != n || s.Removed != [removeReasons]uint64{} {
			t.Errorf("of %d: %d suspects, %d spared, guard on: %v, removed %v, with the right clock", n, s.Suspects, s.Spared, h.guarded(), s.Removed)
		}
		if said := h.said("the cause is likely to be this registrar's own clock, by which it is 1970-01-01 00:17:00 UTC"); (said == 1) != (n >= minLines) {
			t.Errorf("of %d: log %q", n, h.text)
		}
	}
}

// TestCertificateEnded: the certificate of one element has ended. Its pool does without it, and it
// is removed in time. The last one of a pool stays, as one that is silent does.
func TestCertificateEnded(t *testing.T) {
	h := newHerd(t, 3)
	h.run(20 * time.Second)
	h.do(AssocDown{Assoc: 2, Reason: DownUntimely})
	h.answerAll(time.Second, h.untimely)
	h.wantServed(1, 3)
	if h.said("is a suspect: its certificate has ended, or is not yet valid, by the clock of this registrar") != 1 {
		t.Errorf("log %q", h.text)
	}
	h.answerAll(h.r.cfg.Timers.SuspectLife, h.untimely)
	if s := h.r.Stats(); s.Removed[RemovedSilent] != 1 || s.Elements != 2 {
		t.Errorf("%d elements, removed %v", s.Elements, s.Removed)
	}
}

// TestUntimelyCall: a certificate that is not valid at this time does not displace an element, either:
// that would be more than silence.
func TestUntimelyCall(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.trust(1, web1, "10.0.0.1")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.down(1)
	w.skip("registration granted", "connect")
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.handle(AssocDown{Assoc: 7, Reason: DownUntimely})
	w.wantSuspects("web:1")
	if s := w.r.Stats(); s.Suspected[SilentUntimely] != 1 || s.RightsRefused.Elements != 0 {
		t.Errorf("suspected %v, refused %+v", s.Suspected, s.RightsRefused)
	}
	w.trace = nil
}
