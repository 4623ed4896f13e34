package registrar

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// All six elements of a pool are stopped for a minute. Answers have an element all along, and
// all six as soon as all are suspects. The elements are back with their late acknowledgements,
// without a registration.
func TestSilentPool(t *testing.T) {
	h := newHerd(t, 6)
	h.stop(1, 6)
	h.run(time.Minute)
	if h.least < 1 || h.suspects() != 6 {
		t.Errorf("%d suspects, %d elements at least; want all six, and one", h.suspects(), h.least)
	}
	h.wantServed(1, 2, 3, 4, 5, 6)
	if s := h.r.Stats(); s.PoolsGuarded != 1 || s.PoolsEmptied != 0 || s.Suspects != 6 || s.Suspected[SilentNoAck] != 6 || s.Guarded != 0 {
		t.Errorf("stats: %+v", s)
	}
	h.cont()
	h.wantServed(1, 2, 3, 4, 5, 6)
	if s := h.r.Stats(); s.PoolsGuarded != 0 || s.Suspects != 0 || s.Returned != 6 || s.Registrations != 6 || s.Reregistrations != 0 {
		t.Errorf("after they were woken: stats %+v", s)
	}
	for text, want := range map[string]int{`pool "p" is guarded: 6 of its 6`: 1, `pool "p" is no longer guarded: 5 of its 6`: 1, "is a suspect: it has not acknowledged a keep-alive; it is registered at udp 10.": 6, "s after it was found silent, and is not a suspect any more": 6} {
		if got := h.said(text); got != want {
			t.Errorf("%d log lines have %q, want %d: %q", got, text, want, h.text)
		}
	}
}

// One of three is stopped: it is out of answers in time, and back with its late
// acknowledgement.
func TestSilentOne(t *testing.T) {
	h := newHerd(t, 3)
	h.stop(2, 2)
	h.run(judged)
	h.wantServed(1, 3)
	h.run(20 * time.Second)
	h.cont()
	h.wantServed(1, 2, 3)
	if s := h.r.Stats(); s.Returned != 1 || s.FalseAlarms != 0 || s.Reregistrations != 0 {
		t.Errorf("stats: %+v", s)
	}
	h.stop(2, 2)
	for h.suspects() == 0 {
		h.run(100 * time.Millisecond)
	}
	h.cont()
	if s := h.r.Stats(); s.Returned != 2 || s.FalseAlarms != 1 {
		t.Errorf("back within a moment: %d have returned, %d false alarms, want 2 and 1", s.Returned, s.FalseAlarms)
	}
}

// A peer learns of a suspect, and of its return.
func TestSuspectTold(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.up(1, rserpool.ViaKernel, "10.0.1.1")
	w.recv(1, reg("p", 1, "10.0.1.1"))
	w.skip("registration granted", "handle_update ADD_PE")
	w.until(8 * time.Second)
	w.want("1" + ka1)
	w.until(5 * time.Second)
	w.want("2 < handle_update DEL_PE p:1@10000001?0s")
	if sum := w.r.roster.Checksum(); sum != 0xffff && sum != 0 {
		t.Errorf("the checksum is %#x, want that of an empty roster", sum)
	}
	w.recv(1, ack("p", 1))
	w.want("2 < handle_update ADD_PE p:1@10000001")
	w.wantHomes("p:1@10000001")
}

// Evidence: a killed process is out of answers with the refusal of the one call.
func TestKilled(t *testing.T) {
	h := newHerd(t, 3)
	h.do(AssocDown{Assoc: 2, Reason: DownByPeer})
	h.wantServed(1, 2, 3)
	h.refuse(2)
	h.wantServed(1, 3)
	if s := h.r.Stats(); s.Removed[RemovedUnreachable] != 1 || s.Suspects != 0 {
		t.Errorf("stats: %+v", s)
	}
}

// refuse refuses the last call to an element.
func (h *herd) refuse(id rserpool.PEID) {
	h.t.Helper()
	h.answer(id, DownRefused)
}

// answer answers the last call to an element by the end of the association.
func (h *herd) answer(id rserpool.PEID, why DownReason) {
	h.t.Helper()
	calls := h.calls[id]
	if len(calls) == 0 {
		h.t.Fatalf("nobody has called element %v", id)
	}
	h.next++
	h.do(Connecting{Ref: calls[len(calls)-1].Ref, Assoc: h.next})
	h.do(AssocDown{Assoc: h.next, Reason: why})
}

// accept accepts the last call to an element.
func (h *herd) accept(id rserpool.PEID) {
	h.t.Helper()
	calls := h.calls[id]
	if len(calls) == 0 {
		h.t.Fatalf("nobody has called element %v", id)
	}
	h.next++
	h.do(Connecting{Ref: calls[len(calls)-1].Ref, Assoc: h.next})
	h.do(AssocUp{Assoc: h.next, Peer: peers(h.host(int(id))), Via: rserpool.ViaKernel})
}

// A suspect is asked less and less often, and removed after SUSPECT-LIFE.
func TestSuspectLife(t *testing.T) {
	h := newHerd(t, 2)
	h.stop(2, 2)
	for h.suspects() == 0 {
		h.run(100 * time.Millisecond)
	}
	since := h.r.find("p", 2).Since()
	h.asks = map[rserpool.PEID][]time.Time{2: {since}}
	h.run(since.Add(10*time.Minute - 1).Sub(h.now))
	want := 10 * time.Second
	for i, at := range h.asks[2][1:] {
		if gap := at.Sub(h.asks[2][i]); gap < want*9/10 || gap > want*11/10 {
			t.Errorf("keep-alive %d to the suspect is %v after the one before, want about %v", i+1, gap, want)
		}
		want = min(2*want, time.Minute)
	}
	if h.suspects() != 1 || len(h.asks[2]) < 12 {
		t.Errorf("%d suspects, %d keep-alives just before the end of its time", h.suspects(), len(h.asks[2]))
	}
	h.run(1)
	if s := h.r.Stats(); h.suspects() != 0 || s.Removed[RemovedSilent] != 1 {
		t.Errorf("%d suspects, stats %+v, want it removed", h.suspects(), s)
	}
	h.wantServed(1)
}

// While the pool is guarded, its suspects stay for GUARD-LIFE. When the guard ends, those that
// are overdue go.
func TestGuardLife(t *testing.T) {
	for _, ends := range []bool{false, true} {
		h := newHerd(t, 2, func(c *Config) { c.Timers.SuspectLife, c.Timers.GuardLife = time.Minute, 5*time.Minute })
		h.stop(1, 2)
		h.run(4 * time.Minute)
		h.wantServed(1, 2)
		if ends {
			h.join(3, reg("p", 3, h.host(3)))
			h.wantServed(3)
			h.run(overdueGap)
			if h.suspects() != 0 {
				t.Errorf("%d suspects are left of a pool that is no longer guarded", h.suspects())
			}
			continue
		}
		h.run(judged + time.Minute)
		h.wantServed()
		if s := h.r.Stats(); s.Removed[RemovedSilent] != 2 || s.PoolsEmptied != 1 {
			t.Errorf("stats: %+v", s)
		}
	}
}

// The registration life ends: of an element that acknowledges, of one that is silent, of one
// whose pool is guarded, and of one that was silent and answers again.
func TestLifeOver(t *testing.T) {
	begin := func(t *testing.T, others int) *herd {
		h := newHerd(t, others)
		h.join(9, reg("p", 9, h.host(9), life(30)))
		return h
	}
	t.Run("acknowledges", func(t *testing.T) {
		h := begin(t, 1)
		h.run(30*time.Second - 1)
		h.wantServed(1, 9)
		h.run(1)
		h.wantServed(1)
		if s := h.r.Stats(); s.Removed[RemovedExpired] != 1 {
			t.Errorf("stats: %+v", s)
		}
	})
	t.Run("silent", func(t *testing.T) {
		h := begin(t, 1)
		h.run(15 * time.Second)
		h.stop(9, 9)
		h.run(15*time.Second - 1)
		if h.suspects() != 1 {
			t.Errorf("%d suspects, want one", h.suspects())
		}
		h.run(1)
		if s := h.r.Stats(); h.suspects() != 0 || s.Removed[RemovedExpired] != 1 {
			t.Errorf("%d suspects, stats: %+v", h.suspects(), s)
		}
	})
	t.Run("falls silent with its end", func(t *testing.T) {
		h := begin(t, 1)
		h.run(29990 * time.Millisecond)
		h.stop(9, 9)
		h.run(5 * time.Second)
		h.wantServed(1, 9)
		h.run(20 * time.Millisecond)
		h.wantServed(1)
		if s := h.r.Stats(); h.suspects() != 0 || s.Removed[RemovedExpired] != 1 || s.Suspected[SilentNoAck] != 1 {
			t.Errorf("%d suspects, stats: %+v", h.suspects(), s)
		}
	})
	t.Run("guarded", func(t *testing.T) {
		h := begin(t, 0)
		h.stop(9, 9)
		h.run(10 * time.Minute)
		h.wantServed(9)
		h.cont()
		h.run(29 * time.Second) // its re-registrations were lost, so its life has begun anew
		h.wantServed(9)
		h.run(2 * time.Second)
		h.wantServed()
		if s := h.r.Stats(); s.Removed[RemovedExpired] != 1 {
			t.Errorf("stats: %+v", s)
		}
	})
	t.Run("the registrar was suspended", func(t *testing.T) {
		h := begin(t, 1)
		h.now = h.now.Add(time.Minute)
		h.do(Tick{})
		h.run(29 * time.Second)
		h.wantServed(1, 9)
		h.run(2 * time.Second)
		h.wantServed(1)
	})
}

// TestSilentPoolLogged: the lines about the suspects do not displace the one about the guard.
func TestSilentPoolLogged(t *testing.T) {
	const n = 250
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	for id := uint32(1); id <= n; id++ {
		w.recv(1, reg("p", id, "10.0.0.1"))
	}
	w.logs, w.trace = true, nil
	for members(w.r.roster) > 0 {
		w.pass(time.Second / 10)
	}
	if want := fmt.Sprintf(`log pool "p" is guarded: %d of its %[1]d elements are suspects, and stay in its answers`, n); !slices.Contains(w.trace, want) {
		t.Errorf("%d lines, and none of them is: %s", len(w.trace), want)
	}
	w.trace = nil
}

// A message on an association has its suspects asked at once, each at most once a second.
func TestWake(t *testing.T) {
	const n = 2*askWindow + 5
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	for id := uint32(1); id <= n; id++ {
		w.recv(1, reg("p", id, "10.0.0.1"))
	}
	for members(w.r.roster) > 0 {
		w.pass(time.Second)
	}
	w.pass(minAskGap)
	w.trace = nil
	word := func(want int) {
		t.Helper()
		w.recv(1, resolve("q"))
		asked := 0
		for _, line := range w.trace {
			if kind(line) == "keep-alive" {
				asked++
			}
		}
		if asked != want {
			t.Errorf("%d suspects are asked, want %d", asked, want)
		}
		w.trace = nil
	}
	word(askWindow)
	word(askWindow)
	word(5)
	word(0)
	w.recv(1, ack("p", 7))
	w.wantElements("p:7")
}

// TestWakeRate: a process that sends much, but acknowledges nothing, does not make the registrar
// ask its elements more often than KeepAliveRate allows.
func TestWakeRate(t *testing.T) {
	const n, rate = 150, 10
	w := newWorld(t, func(c *Config) { c.Timers.KeepAliveRate = rate })
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	for id := uint32(1); id <= n; id++ {
		w.recv(1, reg("p", id, "10.0.0.1"))
	}
	for members(w.r.roster) > 0 {
		w.pass(time.Second)
	}
	w.trace = nil
	const seconds = 10
	sent := w.r.Stats().KeepAlivesSent
	for range 10 * seconds {
		w.recv(1, resolve("q"))
		w.pass(time.Second / 10)
	}
	w.trace = nil
	// Those that wake sends, with a burst, and those that are sent without it.
	if got, most := int(w.r.Stats().KeepAlivesSent-sent), 2*rate+rate*seconds+n*seconds/60; got > most {
		t.Errorf("%d keep-alives in %d s, want at most %d", got, seconds, most)
	}
}

// The claim of a suspect's identifier: it has a second to answer.
func TestClaimSuspect(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.up(2, rserpool.ViaKernel, "10.0.0.2")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		for members(w.r.roster) > 0 {
			w.pass(time.Second)
		}
		w.pass(minAskGap)
		w.trace = nil
		return w
	}
	t.Run("dead", func(t *testing.T) {
		w := begin(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1" + ka1)
		w.pass(time.Second - 1)
		w.want()
		w.pass(1)
		w.want("1 < deregistration p:1", "2 < registration granted p:1")
		w.wantElements("p:1")
		if s := w.r.Stats(); s.Removed[RemovedClaimed] != 1 {
			t.Errorf("stats: %+v", s)
		}
	})
	t.Run("lives", func(t *testing.T) {
		w := begin(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1" + ka1)
		w.recv(1, ack("p", 1))
		w.want("2 < registration rejected p:1 cause 4")
		w.wantElements("p:1")
	})
	t.Run("asked a moment ago", func(t *testing.T) {
		w := begin(t)
		w.until(30 * time.Second)
		w.want("1" + ka1)
		w.pass(300 * time.Millisecond)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want()
		w.pass(700 * time.Millisecond)
		w.want("1" + ka1)
		w.pass(time.Second)
		w.want("1 < deregistration p:1", "2 < registration granted p:1")
	})
	t.Run("called", func(t *testing.T) {
		w := begin(t)
		w.down(1)
		w.want("connect #1 via 1 to [10.0.0.1:40000]")
		w.handle(Connecting{Ref: 1})
		w.pass(1500 * time.Millisecond)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("connect #2 via 1 to [10.0.0.1:40000]")
		w.pass(time.Second)
		w.want("2 < registration granted p:1")
		w.wantElements("p:1")
	})
	t.Run("by a peer", func(t *testing.T) {
		w := begin(t)
		w.handle(Tick{})
		w.r.claimedByPeer(w.r.find("p", 1)) // as for an update of a peer: see TestClaimAsked
		w.pass(time.Second - 1)
		w.wantSuspects("p:1")
		w.pass(1)
		w.want("1 < deregistration p:1")
		w.wantSuspects()
	})
}

// Reports make an element a suspect at most.
func TestReportedSilent(t *testing.T) {
	h := newHerd(t, 2)
	h.stop(2, 2)
	h.do(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, unreachable("p", 2))})
	h.run(5*time.Second - 1)
	h.wantServed(1, 2)
	h.run(1)
	h.wantServed(1)
	if h.suspects() != 1 {
		t.Errorf("%d suspects, want the reported one", h.suspects())
	}
	before := len(h.asks[2])
	for range 10 {
		h.do(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, unreachable("p", 2))})
		h.run(100 * time.Millisecond)
	}
	if n := len(h.asks[2]) - before; n < 1 || n > 2 {
		t.Errorf("%d keep-alives to a suspect that is reported for a second, want one or two", n)
	}
}

// A process that was superseded, and is there still, takes the place of a suspect.
func TestSuspectSuperseded(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1:1")
	w.up(2, rserpool.ViaKernel, "10.0.0.1:2")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.recv(2, reg("p", 1, "10.0.0.1"))
	w.skip("registration granted")
	for members(w.r.roster) > 0 {
		w.pass(time.Second)
	}
	w.want("2"+ka1, "1 < deregistration p:1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.wantElements("p:1")
}

// A suspect whose association ends is called, and a call that is refused is evidence.
func TestSuspectCalled(t *testing.T) {
	h := newHerd(t, 2)
	h.stop(2, 2)
	h.run(judged)
	h.do(AssocDown{Assoc: 2})
	h.answer(2, DownSilent)
	if h.suspects() != 1 {
		t.Fatalf("%d suspects, want one", h.suspects())
	}
	h.run(3 * time.Second)
	h.refuse(2)
	if h.suspects() != 0 || h.r.Stats().Removed[RemovedUnreachable] != 1 {
		t.Errorf("%d suspects, want none: its host refuses calls", h.suspects())
	}
}
