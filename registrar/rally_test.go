package registrar

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// untilServed lets time pass until answers have so many elements, and returns how long that took.
func (h *herd) untilServed(n int) time.Duration {
	h.t.Helper()
	since := h.now
	for len(h.served()) > n {
		if h.run(100 * time.Millisecond); h.now.Sub(since) > 2*time.Minute {
			h.t.Fatalf("%d elements are in answers, want %d", len(h.served()), n)
		}
	}
	return h.now.Sub(since)
}

// twoCalls is how long two calls take that nobody answers, and the time to judge.
const twoCalls = 8*time.Second + wonderTime + 100*time.Millisecond

// TestCallsAfterGuard: the guard ends while calls of elements are unanswered that do not live any
// more, or while these are asked. Such a call proves nothing; the next one follows at once.
func TestCallsAfterGuard(t *testing.T) {
	const n = 20
	for _, guarded := range []time.Duration{7 * time.Second, 8 * time.Second, 30 * time.Second, 45 * time.Second, 6 * time.Minute} {
		h := newHerd(t, n)
		h.run(20 * time.Second)
		for id := AssocID(1); id <= n; id++ {
			h.do(AssocDown{Assoc: id})
		}
		h.run(guarded)
		if !h.guarded() {
			t.Fatal("the guard is not on")
		}
		for id := rserpool.PEID(1); h.guarded(); id++ {
			h.do(AssocUp{Assoc: AssocID(100 + id), Peer: peers(h.host(int(id))), Via: rserpool.ViaKernel})
			h.do(Received{Assoc: AssocID(100 + id), PPID: asap.PPID, Data: encode(t, reg("p", uint32(id), h.host(int(id))))})
		}
		if took := h.untilServed(n / 2); took > twoCalls {
			t.Errorf("the guard has ended after %v: answers have dead elements for %v after it, want %v at most", guarded, took, twoCalls)
		}
	}
}

// TestSilentLaterInGuard: an element falls silent long after the guard has begun. It is called at
// the guard's end, however long its pause is by then.
func TestSilentLaterInGuard(t *testing.T) {
	const n = 20
	h := newHerd(t, n)
	h.run(20 * time.Second)
	h.stop(1, n-1)
	h.run(2 * time.Minute)
	h.do(AssocDown{Assoc: n})
	h.run(5 * time.Minute) // its pauses are a minute long
	if !h.guarded() || h.suspects() > 0 {
		t.Fatalf("guard on: %v, %d suspects", h.guarded(), h.suspects())
	}
	h.cont()
	if h.guarded() {
		t.Fatal("the guard is on, and all others are heard")
	}
	if took := h.untilServed(n - 1); took > twoCalls {
		t.Errorf("answers have a dead element for %v after the guard, want %v at most", took, twoCalls)
	}
}

// TestRallyEmpties: a rally has a probe call, another identity answers over an association that is
// up, and all elements that were silent are removed, since their former home names them no more.
func TestRallyEmpties(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.trust(1, web1, "10.0.0.1")
	w.trust(2, web2, "10.0.0.2")
	for id := range uint32(3) {
		w.recv(1, reg("web", 1+id, "10.0.0.1"))
	}
	w.recv(2, reg("web", 9, "10.0.0.2"))
	w.down(1)
	w.down(2)
	w.handle(Connecting{Ref: 1}) // an error of this machine
	w.handle(Connecting{Ref: 2})
	w.pass(minAskGap)
	w.wantSuspects("web:1", "web:2", "web:3", "web:9")
	for id := range rserpool.PEID(3) {
		w.r.find("web", 1+id).disowned = true
	}
	w.trust(3, bank1, "10.0.0.1")
	w.trust(4, web2, "10.0.0.2")
	w.recv(4, reg("web", 9, "10.0.0.2"))
	w.pass(time.Millisecond)
	w.wantElements("web:9")
	w.trace = nil
}

// TestRallyRate: rallies have no more elements asked than KEEP-ALIVE-RATE says.
func TestRallyRate(t *testing.T) {
	for _, rate := range []int{1, 7, 99, 150, 1000} {
		const n, seconds = 300, 10
		h := newHerd(t, n, func(c *Config) {
			c.Timers.KeepAliveInterval, c.Timers.KeepAliveTimeout = 24*time.Hour, time.Second
			c.Rules = rule(PoolRule{Guard: Guard{Off: true}}, "p")
		})
		h.stop(1, n)
		for id := range uint32(n) {
			h.do(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, unreachable("p", 1+id))})
		}
		h.run(2 * time.Second)
		if h.suspects() != n {
			t.Fatalf("%d suspects, want all", h.suspects())
		}
		h.r.cfg.Timers.KeepAliveRate = rate
		clear(h.asks)
		for range 10 * seconds { // much news
			h.r.rallyAll(h.now.Add(-2 * time.Second))
			h.run(100 * time.Millisecond)
		}
		asked := 0
		for _, at := range h.asks {
			asked += len(at)
		}
		if most := rate*seconds + 1; asked > most || asked < min(n, rate*seconds)*2/3 {
			t.Errorf("rate %d: %d elements are asked in %d s, want %d at most", rate, asked, seconds, most)
		}
	}
}
