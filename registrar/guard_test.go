package registrar

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// guarded reports whether the registrar's guard is on.
func (h *herd) guarded() bool { return h.r.Stats().Guarded == 1 }

// wantNoSuspect: no element was a suspect, or removed.
func (h *herd) wantNoSuspect() {
	h.t.Helper()
	if s := h.r.Stats(); s.Suspected != [silentReasons]uint64{} || s.Removed != [removeReasons]uint64{} {
		h.t.Errorf("suspected %v, removed %v; want none", s.Suspected, s.Removed)
	}
}

// The registrar's own link is cut for a minute: the same answers all along, and normal soon
// after. The log has one line at the beginning and one at the end.
func TestOwnLinkCut(t *testing.T) {
	for _, n := range []int{minLines, 40, 300} {
		h := newHerd(t, n)
		h.run(20 * time.Second)
		h.r.logf(false, "begin") // also tells of lines that were dropped
		h.text = nil
		h.stop(1, n)
		h.run(time.Minute)
		if !h.guarded() || h.least != n || h.r.Stats().Spared != uint64(n) {
			t.Errorf("of %d: guard on: %v, %d elements at least, %d spared", n, h.guarded(), h.least, h.r.Stats().Spared)
		}
		h.late = nil // lost
		clear(h.stopped)
		h.run(8 * time.Second)
		if h.guarded() || h.r.Stats().Spared != 0 || h.least != n {
			t.Errorf("of %d: guard on: %v, %d elements at least, %d spared after the cut", n, h.guarded(), h.least, h.r.Stats().Spared)
		}
		h.wantNoSuspect()
		if h.said("own network, so no element") != 1 || h.said("no longer taken for the cause") != 1 || len(h.text) != 2 {
			t.Errorf("of %d: log %q, want a line at the beginning and one at the end", n, h.text)
		}
	}
}

// One host has most of the associations, and lets them fall silent. The guard does not begin for
// that, and an element that hangs elsewhere is out in time. If the guard is on, the host does not
// keep it on.
func TestOneHostFeigns(t *testing.T) {
	const honest, feigned = 30, 100
	begin := func() *herd {
		h := newHerd(t, honest)
		for id := honest + 1; id <= honest+feigned; id++ {
			h.do(AssocUp{Assoc: AssocID(id), Peer: peers("10.9.9.9"), Via: rserpool.ViaKernel})
			h.do(Received{Assoc: AssocID(id), PPID: asap.PPID, Data: encode(t, reg("q", uint32(id), "10.9.9.9"))})
		}
		h.run(20 * time.Second)
		return h
	}
	h := begin()
	h.stop(honest+1, honest+feigned)
	h.run(20 * time.Second)
	h.stop(1, 1)
	h.run(20 * time.Second)
	if e := h.r.find("p", 1); h.r.Stats().Guards != 0 || !e.isSuspect() {
		t.Errorf("the guard has begun %d times, and element 1 is in state %v", h.r.Stats().Guards, e.State())
	}

	h = begin()
	h.stop(1, honest+feigned)
	h.run(20 * time.Second)
	if !h.guarded() {
		t.Fatal("all are silent, and the guard is not on")
	}
	for id := range honest {
		delete(h.stopped, AssocID(1+id))
	}
	h.run(20 * time.Second)
	if h.guarded() || h.said("most of the hosts") != 1 {
		t.Errorf("guard on: %v; it has ended for most of the hosts %d times", h.guarded(), h.said("most of the hosts"))
	}
}

// The link is cut for good: after GUARD-LIFE, all are suspects, and their pool is guarded no
// longer.
func TestOwnLinkCutForGood(t *testing.T) {
	h := newHerd(t, 20, func(c *Config) { c.Timers.SuspectLife, c.Timers.GuardLife = 2*time.Minute, 20*time.Minute })
	h.stop(1, 20)
	h.run(19 * time.Minute)
	if !h.guarded() || h.least != 20 {
		t.Fatalf("guard on: %v, %d elements at least", h.guarded(), h.least)
	}
	h.run(2 * time.Minute)
	if s := h.r.Stats(); h.guarded() || s.Suspected[SilentNoAck] != 20 || s.Guards != 1 {
		t.Errorf("guard on: %v, stats: %+v", h.guarded(), s)
	}
	h.run(time.Minute)
	if got := h.served(); len(got) != 0 {
		t.Errorf("%d elements are left after their time", len(got))
	}
}

// A suspect that was there before the guard is not removed while it is on, though its time is over
// and its pool is not guarded: it may be silent for the same reason.
func TestOwnLinkCutSuspect(t *testing.T) {
	for _, back := range []bool{true, false} {
		h := newHerd(t, 20, func(c *Config) { c.Timers.SuspectLife = 2 * time.Minute })
		h.stop(1, 1)
		h.run(30 * time.Second)
		if h.suspects() != 1 || h.guarded() {
			t.Fatalf("%d suspects, guard on: %v", h.suspects(), h.guarded())
		}
		h.stop(2, 20)
		h.run(5 * time.Minute)
		if h.suspects() != 1 || !h.guarded() {
			t.Errorf("%d suspects after SUSPECT-LIFE, guard on: %v, want the one from before", h.suspects(), h.guarded())
		}
		h.cont()
		if !back {
			h.stop(1, 1)
		}
		h.run(3 * time.Minute)
		if got := len(h.served()); h.guarded() || h.suspects() != 0 || back != (got == 20) {
			t.Errorf("the first one is back: %v; %d elements, %d suspects, guard on: %v", back, got, h.suspects(), h.guarded())
		}
	}
}

// Some of twenty elements are lost at the same time. Up to half of them are suspects in time.
// If there are more, they are spared for a while, and suspects then, since a quarter answers
// all along. If nearly all are lost, they are spared.
func TestManyLost(t *testing.T) {
	for _, tt := range []struct {
		lost   int
		within time.Duration // all are suspects; 0 for not within ten minutes
	}{
		{1, judged}, {5, judged}, {9, judged},
		{10, judged + 20*time.Second},
		{12, judged + guardPatience + 20*time.Second},
		{15, judged + guardPatience + 20*time.Second},
		{17, 0}, {20, 0},
	} {
		h := newHerd(t, 20)
		h.run(20 * time.Second)
		h.stop(1, tt.lost)
		begin := h.now
		for h.suspects() < tt.lost && h.now.Sub(begin) < 10*time.Minute {
			h.run(100 * time.Millisecond)
		}
		took := h.now.Sub(begin)
		if tt.within == 0 {
			if !h.guarded() || h.suspects() > 0 || h.least != 20 {
				t.Errorf("%d are lost: guard on: %v, %d suspects, %d elements at least; want the guard", tt.lost, h.guarded(), h.suspects(), h.least)
			}
			continue
		}
		if took > tt.within || h.guarded() || h.r.Stats().Guards > 1 {
			t.Errorf("%d are lost: %d suspects after %v, guard on: %v, %d times; want all within %v", tt.lost, h.suspects(), took, h.guarded(), h.r.Stats().Guards, tt.within)
		}
		h.run(10*time.Minute - took)
		if h.r.Stats().Guards > 1 || h.guarded() {
			t.Errorf("%d are lost: the guard has begun %d times", tt.lost, h.r.Stats().Guards)
		}
	}
}

// One of some elements is silent, which are asked rarely: it is judged in time, since some of the
// others are asked early.
func TestWonder(t *testing.T) {
	h := newHerd(t, 11, func(c *Config) { c.Timers.KeepAliveInterval = time.Hour })
	h.stop(3, 3)
	h.do(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, unreachable("p", 3))})
	h.run(5*time.Second - 1)
	if h.suspects() != 0 {
		t.Error("it is judged too early")
	}
	h.run(1)
	if h.suspects() != 1 || h.r.Stats().Guards != 0 {
		t.Errorf("%d suspects, %d guards; want the one that is silent", h.suspects(), h.r.Stats().Guards)
	}
	if got := h.r.Stats().KeepAlivesSent; got != 11 {
		t.Errorf("%d keep-alives, want one for each", got)
	}
	h.stop(1, 11)
	h.do(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, unreachable("p", 4))})
	h.run(5 * time.Second)
	if !h.guarded() || h.suspects() != 1 {
		t.Errorf("guard on: %v, %d suspects; all others are silent", h.guarded(), h.suspects())
	}
}

// TestWonderRate: however often lines are to be judged, elements of others are asked as often as
// KEEP-ALIVE-RATE says, or half a sample a second if that is more.
func TestWonderRate(t *testing.T) {
	const n, seconds = 400, 5
	for _, tt := range []struct{ rate, most int }{{1, sample / 2}, {50, 50}, {5000, maxWonder}} {
		h := newHerd(t, n, func(c *Config) { c.Timers.KeepAliveInterval, c.Timers.KeepAliveRate = 24*time.Hour, tt.rate })
		for range 10 * seconds { // none answers
			h.r.now = h.r.now.Add(100 * time.Millisecond)
			h.r.wonder(&line{}, h.r.now)
		}
		if asked, most := int(h.r.Stats().KeepAlivesSent), (seconds+2)*tt.most; asked > most || asked < min(n, most)-tt.most {
			t.Errorf("rate %d: %d elements are asked in %d s, want %d at most", tt.rate, asked, seconds, most)
		}
	}
}

// All associations end at once, by an error of this machine, and calls fail at once. The guard
// is on until half of the elements have answered a call.
func TestAllAssociationsLost(t *testing.T) {
	for _, callFails := range []bool{true, false} {
		h := newHerd(t, 20)
		h.run(20 * time.Second)
		for id := AssocID(1); id <= 20; id++ {
			h.do(AssocDown{Assoc: id})
		}
		if callFails {
			for id := rserpool.PEID(1); id <= 20; id++ {
				h.do(Connecting{Ref: h.calls[id][0].Ref})
			}
		}
		h.run(8 * time.Second) // so that the second call is under way
		if callFails {
			h.run(4 * time.Second) // the third one
		}
		if !h.guarded() || h.suspects() > 0 || h.least != 20 {
			t.Errorf("guard on: %v, %d suspects, %d elements at least", h.guarded(), h.suspects(), h.least)
		}
		for id := rserpool.PEID(1); id <= 20; id++ {
			if !h.guarded() != (id > 10) {
				t.Errorf("guard on: %v, after %d have answered", h.guarded(), id-1)
			}
			h.accept(id)
		}
		h.wantNoSuspect()
	}
}

// Evidence is not delayed by the guard, and many that are killed at once do not begin it.
func TestManyKilled(t *testing.T) {
	h := newHerd(t, 30)
	h.run(20 * time.Second)
	for id := AssocID(1); id <= 25; id++ {
		why := DownByPeer
		if id%2 == 0 {
			why = DownSilent // an ICMP message has answered a keep-alive
		}
		h.do(AssocDown{Assoc: id, Reason: why})
	}
	for id := rserpool.PEID(1); id <= 25; id++ {
		h.refuse(id)
	}
	h.wantServed(26, 27, 28, 29, 30)
	h.run(30 * time.Second)
	if s := h.r.Stats(); s.Guards != 0 || s.Removed[RemovedUnreachable] != 25 {
		t.Errorf("stats: %+v", s)
	}
	h = newHerd(t, 30)
	h.stop(1, 30)
	h.run(30 * time.Second)
	if !h.guarded() {
		t.Fatal("the guard is not on")
	}
	h.do(AssocDown{Assoc: 7, Reason: DownByPeer})
	h.refuse(7)
	h.do(Received{Assoc: 8, PPID: asap.PPID, Data: encode(t, dereg("p", 8))})
	if got := len(h.served()); got != 28 || !h.guarded() {
		t.Errorf("%d elements are left, want 28; guard on: %v", got, h.guarded())
	}
}

// The registrar hears its elements, but they do not hear it: they end their associations, and
// calls are not answered. None is removed.
func TestOneWayCut(t *testing.T) {
	for _, n := range []int{4, 20} {
		h := newHerd(t, n)
		h.run(20 * time.Second)
		h.stop(1, n)
		h.run(15 * time.Second)
		for id := AssocID(1); int(id) <= n; id++ {
			h.do(AssocDown{Assoc: id, Reason: DownByPeer})
		}
		h.run(time.Minute)
		if got := len(h.served()); got != n || h.least < 1 || h.r.Stats().PoolsEmptied > 0 {
			t.Errorf("%d of %d elements are left, %d at least", got, n, h.least)
		}
		for n, end := len(h.calls[2]), h.now.Add(2*time.Minute); len(h.calls[2]) == n && h.now.Before(end); {
			h.run(time.Second)
		}
		h.refuse(2) // the cut is over, and it is dead
		if got := len(h.served()); got != n-1 {
			t.Errorf("%d of %d elements are left, want one less", got, n)
		}
	}
}

// Many are suspects for one cause. The first one that is heard has the others asked at once,
// those with an association and those without.
func TestRally(t *testing.T) {
	c := newCrowd(t, 8)
	c.stop(1, 8)
	c.live(10 * time.Minute) // so that they are asked once a minute
	if c.suspects() != 8 {
		t.Fatalf("%d suspects, want all", c.suspects())
	}
	for id := rserpool.PEID(5); id <= 8; id++ {
		c.lost(id, DownSilent)
	}
	c.live(2 * time.Minute)
	clear(c.stopped)
	c.late = nil
	c.do(AssocUp{Assoc: 99, Peer: peers(c.host(1)), Via: rserpool.ViaKernel})
	c.do(Received{Assoc: 99, PPID: asap.PPID, Data: encode(t, reg("p", 1, c.host(1)))})
	c.live(1200 * time.Millisecond)
	if c.suspects() > 0 {
		t.Errorf("%d suspects a second after the first one is back, want none", c.suspects())
	}
	// One that is silent for another cause is left alone.
	c.stop(2, 2)
	c.live(10 * time.Minute)
	c.stop(3, 3)
	c.live(judged)
	before := len(c.asks[2])
	delete(c.stopped, 3)
	c.late = nil
	for c.r.find("p", 3).isSuspect() {
		c.live(100 * time.Millisecond)
	}
	if n := len(c.asks[2]) - before; n > 1 {
		t.Errorf("%d keep-alives to one that is silent for another cause", n)
	}
}

// A process with many elements hangs: it is one association of many, and no reason for the
// guard.
func TestOneProcessHangs(t *testing.T) {
	h := newHerd(t, 12)
	h.do(AssocUp{Assoc: 100, Peer: peers(h.host(100)), Via: rserpool.ViaKernel})
	for id := 100; id < 150; id++ {
		h.do(Received{Assoc: 100, PPID: asap.PPID, Data: encode(t, reg("p", uint32(id), h.host(100)))})
	}
	h.stop(100, 149)
	h.run(judged)
	if s := h.r.Stats(); h.suspects() != 50 || s.Guards != 0 {
		t.Errorf("%d suspects, %d guards; want 50 and none", h.suspects(), s.Guards)
	}
}

// A thread of a process hangs, in a network in which most are silent: the others of its
// association show that the network to it works.
func TestOneElementHangs(t *testing.T) {
	h := newHerd(t, 20)
	h.do(AssocUp{Assoc: 100, Peer: peers(h.host(100)), Via: rserpool.ViaKernel})
	for id := 100; id < 110; id++ {
		h.do(Received{Assoc: 100, PPID: asap.PPID, Data: encode(t, reg("p", uint32(id), h.host(100)))})
	}
	h.stop(1, 20)
	h.run(30 * time.Second)
	h.stop(105, 105)
	h.run(judged)
	if !h.guarded() || h.suspects() != 1 || !h.r.find("p", 105).isSuspect() {
		t.Errorf("guard on: %v, %d suspects; want the one", h.guarded(), h.suspects())
	}
}

// The machine was suspended: nobody is taken for silent, and there is no guard.
func TestSuspendedMachine(t *testing.T) {
	h := newHerd(t, 40)
	h.run(20 * time.Second)
	h.stop(1, 40) // keep-alives were on their way
	h.run(3 * time.Second)
	h.now = h.now.Add(10 * time.Minute)
	h.do(Tick{})
	h.cont()
	h.run(30 * time.Second)
	h.wantNoSuspect()
	if s := h.r.Stats(); s.Guards != 0 || h.least != 40 {
		t.Errorf("%d guards, %d elements at least", s.Guards, h.least)
	}
}

// The network comes and goes around the threshold: each time it fails, the guard begins, and
// each time it is back, the guard ends.
func TestFlappingNetwork(t *testing.T) {
	h := newHerd(t, 30)
	h.run(20 * time.Second)
	for range 5 {
		h.stop(1, 30)
		h.run(20 * time.Second)
		if !h.guarded() {
			t.Error("the guard is not on")
		}
		h.late = nil
		clear(h.stopped)
		h.run(20 * time.Second)
		if h.guarded() {
			t.Error("the guard is on")
		}
	}
	h.wantNoSuspect()
	if s := h.r.Stats(); s.Guards != 5 || h.least != 30 {
		t.Errorf("%d guards, %d elements at least", s.Guards, h.least)
	}
}

// A pool with `guard off` fails closed, whatever the cause.
func TestPoolGuardOff(t *testing.T) {
	for _, n := range []int{3, 30} {
		h := newHerd(t, n, func(c *Config) { c.Rules = rule(PoolRule{Guard: Guard{Off: true}}, "p") })
		h.stop(1, n)
		h.run(judged)
		h.wantServed()
		if s := h.r.Stats(); s.PoolsEmptied != 1 || s.PoolsGuarded != 0 || h.suspects() != n {
			t.Errorf("stats: %+v", s)
		}
		h.cont()
		if got := len(h.served()); got != n {
			t.Errorf("%d elements are back, want %d", got, n)
		}
		if b, e := h.said(`pool "p" has no element in answers: `), h.said(`pool "p" has an element in answers again: `); b != 1 || e != 1 {
			t.Errorf("the log says %d times that the pool is out of answers, and %d times that it is back, want 1 each", b, e)
		}
		h.stop(1, n)
		h.run(time.Hour + judged) // all are removed
		if s := h.r.Stats(); s.Own != 0 || len(h.r.settling.dark) != 0 {
			t.Errorf("%d elements are left, and %d pools without elements are remembered", s.Own, len(h.r.settling.dark))
		}
	}
}

// A pool with `guard 50%`: from half on, its suspects are in answers. At the threshold, the
// guard begins and ends, and no pool is empty.
func TestPoolGuardShare(t *testing.T) {
	h := newHerd(t, 4, func(c *Config) { c.Rules = rule(PoolRule{Guard: Guard{Share: 0.5}}, "p") })
	h.stop(1, 1)
	h.run(judged)
	h.wantServed(2, 3, 4)
	for range 5 {
		h.stop(2, 2)
		h.run(judged)
		h.wantServed(1, 2, 3, 4)
		if s := h.r.Stats(); s.PoolsGuarded != 1 {
			t.Errorf("%d pools are guarded, want one", s.PoolsGuarded)
		}
		delete(h.stopped, 2)
		h.run(70 * time.Second)
		h.wantServed(2, 3, 4)
	}
	h.do(Rules{Of: rule(PoolRule{Guard: Guard{Share: 0.25}}, "p")})
	h.wantServed(1, 2, 3, 4)
	h.do(Rules{Of: rule(PoolRule{Guard: Guard{Off: true}}, "p")})
	h.wantServed(2, 3, 4)
	if b, e := h.said("is guarded: "), h.said("is no longer guarded"); b != 6 || e != 6 {
		t.Errorf("%d and %d log lines of the guard's beginning and end, want 6: %q", b, e, h.text)
	}
}

// A large pool is guarded in parts, so that other events are not held up.
func TestPoolGuardLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const n = 3000
	w := newWorld(t)
	w.kept.note(w.r.Handle(w.now, AssocUp{Assoc: 1, Peer: peers("10.0.0.1"), Via: rserpool.ViaKernel}))
	for id := uint32(1); id <= n; id++ {
		w.kept.note(w.r.Handle(w.now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, reg("p", id, "10.0.0.1"))}))
	}
	for members(w.r.roster) > 0 {
		at, _ := w.r.NextDeadline()
		w.now = at
		w.kept.note(w.r.Handle(w.now, Tick{}))
	}
	if got := w.r.Space().Pool("p").Len(); got == n {
		t.Errorf("all elements are back at once")
	}
	w.pass(10 * settleGap)
	if got := w.r.Space().Pool("p").Len(); got != n {
		t.Errorf("%d elements, want all", got)
	}
}
