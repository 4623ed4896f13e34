package sim

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
)

// pair is two registrars, by their places in Sim.servers.
type pair [2]int

// cutLinks cuts these registrars from one another, in both directions, and no others. Elements reach
// all of them.
func (s *Sim) cutLinks(cut ...pair) {
	s.trace("links are cut: %v", cut)
	clear(s.net.ways)
	for _, p := range cut {
		a, b := s.servers[p[0]].machine, s.servers[p[1]].machine
		s.net.ways[way{a, b}], s.net.ways[way{b, a}] = true, true
	}
	for _, h := range s.servers {
		h.changed = s.net.now
		s.net.cutOff(h)
	}
}

// cutLink cuts a registrar from another one for a while, in both directions.
func (s *Sim) cutLink(h *host) {
	o := s.servers[s.net.rand.IntN(len(s.servers))]
	if h == o {
		return
	}
	to, from := way{h.machine, o.machine}, way{o.machine, h.machine}
	s.cutFor(h, "is cut from "+o.String(), func(cut bool) {
		if cut {
			s.net.ways[to], s.net.ways[from] = true, true
		} else {
			delete(s.net.ways, to)
			delete(s.net.ways, from)
		}
	})
}

// gather has all elements register with one registrar.
func (s *Sim) gather(h *host) {
	for _, e := range s.elements {
		if e.at != h {
			e.call(h)
		}
	}
	s.net.run(5 * time.Second)
	s.checkAgreed()
}

// keepsAll lets time pass, in which no registrar may be without a living element for longer than some
// messages take.
func (s *Sim) keepsAll(d time.Duration) {
	const step = 20 * time.Millisecond
	for end := s.net.now + d; s.net.now < end && s.bad == nil; s.net.run(step) {
		for _, n := range s.nodes {
			n.checkHasAll(10 * maxDelay)
		}
	}
}

// partialCut is a scenario: registrars cannot see one another, while all of them reach all elements.
// Then some of them can again, so that some hear of homes that they cannot reach. No registrar forgets
// a living element, and in the end all agree.
func (s *Sim) partialCut() error {
	s.settle()
	s.gather(s.servers[2])
	s.cutLinks(pair{0, 1}, pair{0, 2}, pair{0, 3}, pair{1, 2}, pair{1, 3})
	s.keepsAll(22 * time.Second)
	s.cutLinks(pair{0, 3}, pair{1, 3})
	s.keepsAll(15 * time.Second)
	gone := s.elements[s.net.rand.IntN(len(s.elements))]
	s.killElement(gone)
	s.keepsAll(20 * time.Second)
	for _, n := range s.nodes {
		if _, known := n.sight(gone); known && gone.h.dark < s.net.now-n.longestPause() {
			s.fail("element %v is dead, and registrar %v still has it %v later", gone.id, n.r.ID(), s.net.now-gone.died)
		}
	}
	s.cutLinks()
	s.keepsAll(20 * time.Second)
	s.net.run(s.nodes[0].longestPause())
	s.checkRest()
	return s.err()
}

// oneLink is a scenario: two registrars cannot see one another, and the others see both. Those do not
// take any of them for dead, and the two forget no element and become the home of none.
func (s *Sim) oneLink() error {
	s.settle()
	if s.net.chance(2) {
		s.gather(s.servers[1])
	}
	before := s.takeovers()
	s.cutLinks(pair{0, 1})
	s.net.after(0, s.watchPeers)
	s.keepsAll(45 * time.Second)
	if got := s.takeovers() - before; got > 0 {
		s.fail("%d takeovers, though another registrar hears the target", got)
	}
	s.cutLinks()
	s.keepsAll(20 * time.Second)
	s.net.run(s.nodes[0].longestPause())
	s.checkRest()
	return s.err()
}

// takeovers is how many all registrars have won.
func (s *Sim) takeovers() (won uint64) {
	for _, n := range s.nodes {
		won += n.r.Stats().Takeovers.Won
	}
	return won
}

// watchPeers says, until all links are up again, which registrars that reach all others do not take all
// of them for active.
func (s *Sim) watchPeers() {
	if len(s.net.ways) == 0 {
		return
	}
	for _, n := range s.nodes {
		reaches := !slices.ContainsFunc(s.servers, func(h *host) bool { return h != n.h && !s.net.reach(n.h, h) })
		if got := n.r.Stats().Peers[registrar.PeerActive]; reaches && got != uint64(len(s.nodes)-1) {
			s.fail("registrar %v reaches all others, and takes %d of %d for active", n.r.ID(), got, len(s.nodes)-1)
		}
	}
	s.net.after(100*time.Millisecond, s.watchPeers)
}
