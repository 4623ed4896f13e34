package sim

import (
	"slices"
	"time"
)

// settled has all registrars and elements start, and looks whether all is well.
func (s *Sim) begin() {
	s.net.run(s.cfg.Start + 2*lazyGap)
	s.checkAgreed()
}

// all is all elements of which something is so.
func (s *Sim) all(is func(*element) bool) (list []*element) {
	for _, e := range s.elements {
		if is(e) {
			list = append(list, e)
		}
	}
	return list
}

// everywhere reports whether all registrars have the element at its host among their
// answers.
func (s *Sim) everywhere(e *element) bool {
	return !slices.ContainsFunc(s.nodes, func(n *node) bool { return !n.hasAt(e) })
}

// nowhere reports whether no registrar has the element among its answers.
func (s *Sim) nowhere(e *element) bool {
	return !slices.ContainsFunc(s.nodes, func(n *node) bool { return n.hasAt(e) })
}

// blind is a scenario: all elements stand still for a while, as they seem to if the
// network around them fails. A registrar with ten and more does without none of them, a
// smaller one has each pool guarded, and all is as before once they go on.
func (s *Sim) blind(frozen bool) (longest time.Duration, err error) {
	s.begin()
	for _, e := range s.elements {
		s.stop(e.h, time.Minute, frozen)
	}
	s.net.run(time.Minute)
	for _, n := range s.nodes {
		if st := n.r.Stats(); st.Own >= 10 && !n.blind() {
			s.fail("registrar %v does not take its own side for the cause, though its %d elements are silent", n.r.ID(), st.Own)
		}
		for _, e := range s.elements {
			if x, _ := n.sight(e); x.Suspect && x.Home == n.r.ID() && n.blind() {
				s.fail("element %v is a suspect, though all are silent", e.id)
			}
		}
	}
	woke := s.net.now
	if !s.net.until(20*time.Second, 10*time.Millisecond, s.allMembers) {
		s.fail("not all are back")
	}
	longest = s.net.now - woke
	s.net.run(20 * time.Second)
	s.checkRest()
	return longest, s.err()
}

// halves is a scenario: all elements of one pool stand still, which have different homes,
// and each home has many others. No registrar does without any of them.
func (s *Sim) halves() error {
	s.begin()
	of := s.elements[0]
	list := s.all(func(e *element) bool { return e.pool == of.pool })
	for _, e := range list {
		s.stop(e.h, time.Minute, false)
	}
	s.net.run(time.Minute)
	for _, e := range list {
		if !s.everywhere(e) && !slices.ContainsFunc(s.nodes, (*node).blind) {
			s.fail("element %v is out, though all of its pool are silent", e.id)
			break
		}
	}
	s.net.run(20 * time.Second)
	s.checkRest()
	return s.err()
}

// newcomer is a scenario: a registrar starts again while an element of another one is a suspect.
// It learns that from the table of its mentor.
func (s *Sim) newcomer() error {
	s.begin()
	e := s.elements[0]
	s.stop(e.h, 40*time.Second, false)
	s.net.run(10 * time.Second)
	i := slices.IndexFunc(s.nodes, func(n *node) bool { return n.h != e.at })
	s.crash(s.nodes[i].h)
	s.nodes[i].boot()
	s.net.run(10 * time.Second)
	s.checkDoubts()
	s.net.run(40 * time.Second)
	s.checkRest()
	return s.err()
}

// hung is a scenario: single elements stand still, again and again. Each is out of all
// answers in time, and back at once. out and back are how long that takes, out without those
// that acknowledge in order.
func (s *Sim) hung() (out, back []time.Duration, err error) {
	s.begin()
	for len(back) < 40 {
		e := s.elements[s.net.rand.IntN(len(s.elements))]
		if s.net.now < e.h.paused+10*time.Second {
			continue // its round-trip times are not known any more; see checkOwned
		}
		s.stop(e.h, s.nodes[0].supervision()+s.net.upTo(10*time.Second), false)
		hung := s.net.now
		s.net.until(s.nodes[0].supervision(), time.Millisecond, func() bool { return s.nowhere(e) })
		took := s.net.now - hung
		if most := s.noticed(e); took > most {
			s.fail("element %v stands still, and is still among the answers after %v", e.id, most)
			break
		}
		if !e.ordered {
			out = append(out, took)
		}
		s.net.run(e.h.paused - s.net.now)
		if !s.net.until(10*time.Second, time.Millisecond, func() bool { return s.everywhere(e) }) {
			s.fail("element %v is not back", e.id)
			break
		}
		back = append(back, s.net.now-e.h.paused)
		s.net.run(s.net.upTo(5 * time.Second))
	}
	slices.Sort(out)
	slices.Sort(back)
	return out, back, s.err()
}

// noticed is how long an element that stands still may be in answers, if nothing else happens:
// the manual's bound, and the time of some messages.
func (s *Sim) noticed(e *element) time.Duration {
	t := &s.cfg.Timers
	tries := 1400 * time.Millisecond
	if e.ordered {
		tries = t.KeepAliveTimeout
	}
	slowest := clock{ppm: -maxDrift}
	return slowest.real(t.KeepAliveInterval*11/10+tries) + 3*maxDelay
}
