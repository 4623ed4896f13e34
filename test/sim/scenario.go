package sim

import (
	"cmp"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// never is longer than any simulation.
const never = 1000 * time.Hour

// takeover is a scenario: a registrar crashes whose elements wait for another one to
// take them over. Where heir is set, so does the one that is the first to begin
// with that, soon afterwards. The elements may never be missing with the others
// (where heir is set, no longer than some messages take), and in the end each has
// a home that it knows of. The registrars come back.
func (s *Sim) takeover(heir bool) error {
	s.settle()
	dead := slices.MaxFunc(s.nodes, func(a, b *node) int { return cmp.Compare(a.owns(), b.owns()) })
	s.crash(dead.h)
	var most time.Duration
	if heir {
		most = 10 * maxDelay
		s.net.mutate = func(from *end, ppid uint32, data []byte) [][]byte {
			if ppid == enrp.PPID && enrp.MessageType(data[0]) == enrp.TypeInitTakeover && heir {
				heir = false
				s.net.after(s.net.upTo(3*maxDelay), func() { s.crash(from.h) })
			}
			return [][]byte{data}
		}
	}
	const step = 20 * time.Millisecond
	for end := s.net.now + 30*time.Second; s.net.now < end && s.bad == nil; s.net.run(step) {
		for _, n := range s.nodes {
			if n.h.proc != nil {
				n.checkHasAll(most + step)
			}
		}
	}
	s.heal()
	s.net.run(20 * time.Second)
	s.checkRest()
	return s.err()
}

// orphans is a scenario: a registrar crashes for good whose elements wait for
// another registrar to take them over, one of ours or a reference.
func (s *Sim) orphans() error {
	s.settle()
	dead := s.servers[s.net.rand.IntN(len(s.servers))]
	if len(s.nodes) == 1 { // one of ours has to be left to be looked at
		dead = s.servers[len(s.servers)-1]
	}
	s.crash(dead)
	s.net.run(40 * time.Second)
	s.nodes = slices.DeleteFunc(s.nodes, func(n *node) bool { return n.h == dead })
	s.checkAgreed()
	return s.err()
}

// settle starts the scope, and has the elements of a registrar that is gone wait
// from then on.
func (s *Sim) settle() {
	s.net.run(s.cfg.Start + 2*lazyGap)
	s.checkAgreed()
	for _, e := range s.elements {
		e.gap = never
	}
}

// owns is how many elements the registrar is home of.
func (n *node) owns() int {
	st := n.r.Stats()
	return int(st.Own)
}

// checkHasAll says which living elements a registrar has not had for longer than
// some time. A process that has just begun may take until its first registration has
// been told.
func (n *node) checkHasAll(most time.Duration) {
	now := n.s.net.now
	for _, e := range n.s.elements {
		had := &n.look.had[e.index]
		if p := n.r.Space().Pool(e.pool); *had == 0 || e.state != elementLives || !n.s.permits(e) || p != nil && p.Element(e.id) != nil {
			*had = now
		} else if now-*had >= most && !e.begins() {
			n.s.fail("element %v lives and has been missing with registrar %v for %v", e.id, n.r.ID(), now-*had)
		}
	}
}

// meshed reports whether there is an association between any two registrars.
func (s *Sim) meshed() bool {
	for i, h := range s.servers {
		if slices.ContainsFunc(s.servers[:i], func(o *host) bool { return !h.linked(o, enrpPort) }) {
			return false
		}
	}
	return true
}

// healing is what became of a partition.
type healing struct {
	meshed time.Duration // from its end until all registrars are connected
	equal  time.Duration // from then until their handlespaces are equal
}

// partition is a scenario: two parts of the scope go their own ways, in which
// elements come and go. When they are one again nothing may be left of it.
func (s *Sim) partition() (healing, error) {
	s.net.run(s.cfg.Start + 10*time.Second)
	s.checkAgreed()
	half := 1 + s.net.rand.IntN(len(s.servers)-1)
	s.split(func(h *host) int {
		if i := slices.Index(s.servers, h); i >= 0 {
			return map[bool]int{true: 1}[i < half]
		}
		return s.net.rand.IntN(2)
	})
	s.net.run(20 * time.Second)
	for _, e := range s.elements {
		switch s.net.rand.IntN(5) {
		case 0:
			s.killElement(e)
		case 1:
			e.change(s.net.rand.Uint32())
		}
	}
	s.net.run(25 * time.Second) // all that live have a home in their part
	s.heal()
	healed := s.net.now
	if !s.net.until(time.Minute, time.Millisecond, s.meshed) {
		s.fail("the registrars are not connected a minute after a partition")
		return healing{}, s.err()
	}
	meshed := s.net.now
	if !s.net.until(time.Minute, time.Millisecond, s.agreed) {
		s.fail("the handlespaces are not equal a minute after a partition")
	}
	equal := s.net.now
	s.checkEqual()
	s.net.run(10*time.Second + s.nodes[0].longestPause())
	s.checkRest()
	return healing{meshed - healed, equal - meshed}, s.err()
}
