package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// usual are the timers that a scope has by default, but for those between registrars.
func usual() registrar.Timers {
	return registrar.Timers{
		PeerHeartbeat:     2 * time.Second,
		MaxTimeLastHeard:  5 * time.Second,
		MaxTimeNoResponse: 2 * time.Second,
	}
}

// TestBlind: see blind. With ten elements and more of its own, a registrar has none as a
// suspect; with fewer, its pools are guarded.
func TestBlind(t *testing.T) {
	var longest time.Duration
	each(t, 8, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 1 + int(seed%4), Elements: 10 + 20*int(seed%3), Timers: usual()})
		s.Trace = trace
		took, err := s.blind(false)
		longest = max(longest, took)
		return err
	})
	t.Logf("all elements are back %v after they go on, at most", longest)
}

// TestHalves: see halves.
func TestHalves(t *testing.T) {
	each(t, 8, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%3), Elements: 60, Timers: usual()})
		s.Trace = trace
		return s.halves()
	})
}

// TestOneSuspect: an element that stands still is told to each other registrar in one
// message, and once more when it is back; and no other message is sent for it.
func TestOneSuspect(t *testing.T) {
	const registrars = 32
	s := New(Config{Seed: 1, Registrars: registrars, Elements: 64, Refresh: never, Timers: usual()})
	s.begin()
	e := s.elements[0]
	for range 3 {
		sent := s.net.sent
		s.stop(e.h, 20*time.Second, false)
		s.net.run(19 * time.Second)
		if !s.nowhere(e) {
			t.Error("an element that stands still is still among the answers")
		}
		s.checkOnlyUpdates(s.net.sent.since(sent), registrars-1)
		s.net.run(e.h.paused - s.net.now)
		if woke := s.net.now; !s.net.until(3*maxDelay, time.Millisecond, func() bool { return s.everywhere(e) }) {
			t.Errorf("element %v is not back %v after it goes on", e.id, s.net.now-woke)
		}
		s.net.run(5 * time.Second)
		diff := s.net.sent.since(sent)
		t.Logf("%d updates", diff.enrp[enrp.TypeHandleUpdate])
		s.checkOnlyUpdates(diff, 2*(registrars-1))
	}
	if err := s.err(); err != nil {
		t.Error(err)
	}
}

// TestLone: a registrar without peers, that hears nothing of its elements from others.
func TestLone(t *testing.T) {
	each(t, 10, func(seed uint64, trace tracer) error {
		c := config(seed)
		c.Registrars, c.Multicast, c.Elements = 1, false, 10+int(seed%40)
		if seed%2 == 1 {
			c.Timers = usual()
		}
		s := New(c)
		s.Trace = trace
		return s.Run()
	})
}

// TestHung: see hung. Half of the elements are out after 2.4 s, as the manual says.
func TestHung(t *testing.T) {
	var all []time.Duration
	each(t, 8, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 1 + int(seed%4), Elements: 80, Timers: usual(), Refresh: never})
		s.Trace = trace
		out, back, err := s.hung()
		if err == nil && back[len(back)-1] > 3*maxDelay {
			t.Errorf("seed %d: an element is back only after %v", seed, back[len(back)-1])
		}
		all = append(all, out...)
		return err
	})
	slices.Sort(all)
	median := all[len(all)/2]
	t.Logf("out after %v at the median, %v at most", median, all[len(all)-1])
	if median > 2640*time.Millisecond { // by the chance of a sample
		t.Errorf("elements that stand still are out after %v at the median, want 2.4 s", median)
	}
}

// TestNewcomer: see newcomer.
func TestNewcomer(t *testing.T) {
	each(t, 8, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%3), Elements: 20, Timers: usual()})
		s.Trace = trace
		return s.newcomer()
	})
}

// TestTooOld: see tooOld.
func TestTooOld(t *testing.T) {
	each(t, 8, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 1 + int(seed/2%3), Elements: 30, Disks: 1 << 20, Timers: usual()})
		s.Trace = trace
		return s.tooOld(seed%2 == 1)
	})
}
