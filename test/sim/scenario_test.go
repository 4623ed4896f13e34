package sim

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// TestOneChange: what happens to one element is told to each other registrar in
// one message, and no other message is sent for it.
func TestOneChange(t *testing.T) {
	const registrars = 32
	s := New(Config{Seed: 1, Registrars: registrars, Elements: 64, Refresh: never})
	s.net.run(30 * time.Second)
	s.checkAgreed()
	e := s.elements[0]
	const way = maxDelay + time.Millisecond // of a message
	for _, tt := range []struct {
		name string
		do   func()
		most time.Duration
	}{
		{"load change", func() { e.change(e.load + 1) }, 2 * way},
		{"deregistration", e.leave, 2 * way},
		{"registration", e.boot, huntGap + 4*way},
	} {
		sent, before, began := s.net.sent, s.nodes[0].digest(), s.net.now
		tt.do()
		done := func() bool { return s.nodes[0].digest() != before && s.agreed() }
		if !s.net.until(tt.most, time.Millisecond, done) {
			t.Errorf("%s: not known to all after %v", tt.name, tt.most)
		}
		took := s.net.now - began
		s.net.run(5 * time.Second)
		diff := s.net.sent.since(sent)
		t.Logf("%s: known to %d registrars after %v, with %d updates", tt.name, registrars, took, diff.enrp[enrp.TypeHandleUpdate])
		s.checkOnlyUpdates(diff, registrars-1)
	}
	if err := s.err(); err != nil {
		t.Error(err)
	}
}

// TestTakeover: see takeover.
func TestTakeover(t *testing.T) {
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(takeoverConfig(seed))
		s.Trace = trace
		return s.takeover(seed%2 == 1 && s.cfg.Registrars > 2)
	})
}

func takeoverConfig(seed uint64) Config {
	return Config{Seed: seed, Registrars: 2 + int(seed%5), Elements: 60, Refresh: never}
}

// TestPartition: within two audit cycles after the registrars are connected
// again, that is two of the longest PEER-HEARTBEAT-CYCLEs by the slowest clock,
// all of them have the same.
func TestPartition(t *testing.T) {
	var most healing
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%7), Elements: 60})
		s.Trace = trace
		h, err := s.partition()
		most.meshed, most.equal = max(most.meshed, h.meshed), max(most.equal, h.equal)
		slow := clock{ppm: -maxDrift}
		cycle := slow.real(s.cfg.Timers.PeerHeartbeat * 105 / 100)
		if h.equal > 2*cycle {
			t.Errorf("seed %d: the handlespaces are equal %v after the registrars are connected, want %v at most", seed, h.equal, 2*cycle)
		}
		// A call may have begun just before the end of the partition, and there is
		// another one in the next cycle.
		if most := connectTime + cycle + time.Second; h.meshed > most {
			t.Errorf("seed %d: the registrars are connected %v after the partition, want %v at most", seed, h.meshed, most)
		}
		return err
	})
	t.Logf("all registrars are connected %v after a partition at most, and have the same %v later at most", most.meshed, most.equal)
}

// TestRolling: see rolling.
func TestRolling(t *testing.T) {
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%5), Elements: 30})
		s.Trace = trace
		return s.rolling()
	})
}

// TestMoves: an identifier that moves to another host is registered there with any
// registrar. It takes as long as it does to miss a keep-alive.
func TestMoves(t *testing.T) {
	var longest time.Duration
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%5), Elements: 30})
		s.Trace = trace
		took, err := s.moving()
		longest = max(longest, took)
		if want := s.nodes[0].supervision() + 2*time.Second; took > want {
			t.Errorf("seed %d: an element is at its new host after %v, want %v at most", seed, took, want)
		}
		return err
	})
	t.Logf("an identifier is at its new host after %v at most", longest)
}

// TestWakes: see waking. It takes the acknowledgement and the update.
func TestWakes(t *testing.T) {
	var longest time.Duration
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%5), Elements: 30})
		s.Trace = trace
		out, err := s.waking()
		longest = max(longest, out)
		if want := 3 * maxDelay; out > want {
			t.Errorf("seed %d: an element is out for %v after it woke up, want %v at most", seed, out, want)
		}
		return err
	})
	t.Logf("an element is back %v at most after it woke up", longest)
}

// TestStrangers: see strangers.
func TestStrangers(t *testing.T) {
	all := 0
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(takeoverConfig(seed))
		s.Trace = trace
		got, err := s.strangers()
		all += got
		return err
	})
	if all == 0 {
		t.Error("no stranger gets the identifier of a dead element")
	}
}

// TestLostUpdates: an update that is lost, such as for a full queue, while the
// association lives. An element that came or went is known to all after the next
// audit, which the checksum brings about; one that changed, after its next
// registration.
func TestLostUpdates(t *testing.T) {
	const refresh = 20 * time.Second
	for seed := range uint64(4) {
		s := New(Config{Seed: seed, Registrars: 4, Elements: 30, Refresh: refresh})
		s.net.run(40 * time.Second)
		s.checkAgreed()
		e := s.elements[0]
		lost := 0
		for _, tt := range []struct {
			name string
			do   func()
			most time.Duration
		}{
			{"load change", func() { e.change(e.load + 1) }, refresh * 102 / 100},
			{"deregistration", e.leave, 3 * time.Second},
			{"registration", e.boot, 3*time.Second + huntGap},
		} {
			lost = 0
			s.net.mutate = func(_ *end, ppid uint32, data []byte) [][]byte {
				if ppid == enrp.PPID && enrp.MessageType(data[0]) == enrp.TypeHandleUpdate {
					if m, _, err := enrp.Parse(data); err == nil && m.(*enrp.HandleUpdate).Element.ID == e.id && lost < 3 {
						lost++ // to each of the other three
						return nil
					}
				}
				return [][]byte{data}
			}
			began := s.net.now
			tt.do()
			s.net.run(time.Millisecond)
			if !s.net.until(tt.most, time.Millisecond, func() bool { return lost == 3 && s.agreed() }) {
				t.Errorf("seed %d: %s: not known to all after %v, %d updates lost", seed, tt.name, tt.most, lost)
			}
			t.Logf("%s: known to all after %v", tt.name, s.net.now-began)
			s.net.mutate = nil
			s.net.run(5 * time.Second)
		}
		s.checkRest()
		if err := s.err(); err != nil {
			t.Error(err)
		}
	}
}

// TestMentors: see mentors.
func TestMentors(t *testing.T) {
	var longest time.Duration
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 3 + int(seed%4), Elements: 40, Refresh: never})
		s.Trace = trace
		took, err := s.mentors()
		longest = max(longest, took)
		return err
	})
	t.Logf("a registrar is ready %v after its start at most", longest)
}

// TestRefusers: see refusers.
func TestRefusers(t *testing.T) {
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%4), Elements: 40})
		s.Trace = trace
		return s.refusers(seed/4%2 == 1)
	})
}

// TestEndlessAudits: see endlessAudits.
func TestEndlessAudits(t *testing.T) {
	all := map[manner]int{}
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%4), Elements: 40, Refresh: never})
		s.Trace = trace
		m := endless + manner(seed%3)
		given, err := s.endlessAudits(m)
		all[m] += given
		return err
	})
	for m := endless; m < manners; m++ {
		if all[m] == 0 {
			t.Errorf("a registrar %v, and no audit is given up", m)
		}
	}
	t.Logf("audits given up: %v", all)
}

// TestSameID: a registrar that has another one's identifier is no peer, and does
// no harm. With one of its own it is.
func TestSameID(t *testing.T) {
	for seed := range uint64(5) {
		s := New(Config{Seed: seed, Registrars: 4, Elements: 40})
		twins := s.nodes[1:3]
		for _, n := range twins {
			n.fixed = 0x11111111
		}
		s.net.run(40 * time.Second)
		for _, n := range []*node{s.nodes[0], s.nodes[3]} {
			if got := n.r.Stats().Peers[0]; got != 2 {
				t.Errorf("seed %d: registrar %v has %d peers, want 2: the other one, and one of the twins", seed, n.r.ID(), got)
			}
		}
		twins[1].fixed = 0
		s.kill(twins[1].h, time.Second)
		s.net.run(60 * time.Second)
		s.checkRest()
		if err := s.err(); err != nil {
			t.Error(err)
		}
	}
}

// TestTwoAssociations: registrars that call one another at the same time have two
// associations. Both end up as peers, and go on over the one if the other ends.
func TestTwoAssociations(t *testing.T) {
	s := New(Config{Seed: 1, Registrars: 2, Elements: 20})
	a, b := s.nodes[0], s.nodes[1]
	s.net.run(0)
	a.boot()
	b.boot()
	s.net.run(25 * time.Second)
	if s.net.double == 0 {
		t.Fatal("the registrars have one association, want two")
	}
	for len(a.h.ends) > 0 {
		one := -1
		for i, e := range a.h.ends {
			if e.port == enrpPort {
				one = i
			}
		}
		if one < 0 {
			break
		}
		s.trace("lost")
		s.net.hangUp(a.h.ends[one], true)
		s.net.run(100 * time.Millisecond)
		if !a.h.linked(b.h, enrpPort) {
			t.Fatal("no association is left, want the other one, or a new one")
		}
		if s.net.now > 30*time.Second {
			break
		}
	}
	s.net.run(10 * time.Second)
	s.checkRest()
	if err := s.err(); err != nil {
		t.Error(err)
	}
}

// TestPartialCut: see partialCut.
func TestPartialCut(t *testing.T) {
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 4, Elements: 60})
		s.Trace = trace
		return s.partialCut()
	})
}

// TestOneLink: see oneLink.
func TestOneLink(t *testing.T) {
	each(t, 16, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 3 + int(seed%3), Elements: 60})
		s.Trace = trace
		return s.oneLink()
	})
}
