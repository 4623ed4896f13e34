package sim

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// manner is what a registrar does when it is asked for its handlespace, or for its
// own elements.
type manner uint8

const (
	honest    manner = iota
	refusing         // refuses every request
	endless          // says of each part that more follow, and begins anew
	empty            // says so of parts with nothing in them
	trickling        // says so of parts with one element
	manners
)

func (m manner) String() string {
	return [...]string{"is honest", "refuses", "begins anew without end", "has empty parts without end", "has small parts without end"}[m]
}

// behave gives a registrar a manner.
func (s *Sim) behave(h *host, m manner) {
	s.trace("%v %v", h.addr, m)
	h.manner, h.mannered = m, s.net.now
}

// refusal is the last refusal that was sent to a registrar over an association.
type refusal struct {
	to *end // the registrar's own end of it
	at time.Duration
}

// bend changes what goes out of e by the manner of its host, and notes in the
// registrar at the other end what it was given or refused.
func (h *host) bend(e *end, data []byte) []byte {
	if enrp.MessageType(data[0]) != enrp.TypeHandleTableResponse {
		return data
	}
	msg, _, err := enrp.Parse(data)
	if err != nil {
		return data
	}
	m := msg.(*enrp.HandleTableResponse)
	switch h.manner {
	case refusing:
		m.Reject, m.More, m.Pools = true, false, nil
	case endless:
		m.More = !m.Reject
	case empty:
		m.More, m.Pools = !m.Reject, nil
	case trickling:
		if m.More = !m.Reject; len(m.Pools) > 0 {
			m.Pools = m.Pools[:1]
			i := h.net.rand.IntN(len(m.Pools[0].Elements))
			m.Pools[0].Elements = m.Pools[0].Elements[i : i+1]
		}
	}
	if n, ok := e.peer.h.proc.(*node); ok {
		switch {
		case m.Reject:
			n.refusals = append(n.refusals, refusal{e.peer, h.net.now})
		case !m.More:
			n.given = true
		}
	}
	if b, err := m.Append(nil); err == nil {
		return b
	}
	return data
}

// checkStart looks at a registrar that has just become ready. It may not be if it
// was given no handlespace, and a registrar is there that has one, and has refused
// to give it.
func (n *node) checkStart() {
	if n.given {
		return
	}
	now := n.s.net.now
	for _, m := range n.s.nodes {
		long := now - max(m.h.mannered, m.h.paused)
		if m == n || m.h.manner != refusing || !m.runs() || !m.r.Ready() || long < now-n.booted {
			continue
		}
		if slices.ContainsFunc(n.refusals, func(r refusal) bool {
			return r.to.peer.h == m.h && !r.to.dead && n.s.net.clear(r.to) && n.s.net.clear(r.to.peer) && now-r.at > 2*maxDelay
		}) {
			n.s.fail("registrar %v is ready, though %v has a handlespace and only refuses it", n.r.ID(), m.r.ID())
		}
	}
}

// transferMost is how long a registrar goes on with a transfer that does not end: 20 s
// and a millisecond for each element.
const transferMost = 21 * time.Second

// mentors is a scenario: a registrar starts anew while all others but one refuse it
// the handlespace, or have tables without end. It becomes ready, with all elements.
func (s *Sim) mentors() (time.Duration, error) {
	s.settle()
	n := s.nodes[s.net.rand.IntN(len(s.nodes))]
	others := slices.DeleteFunc(slices.Clone(s.nodes), func(o *node) bool { return o == n })
	s.crash(n.h)
	s.net.run(15 * time.Second) // its elements have another home
	for _, o := range others[1:] {
		s.behave(o.h, refusing+manner(s.net.rand.IntN(int(manners-refusing))))
	}
	n.boot()
	began := s.net.now
	most := time.Duration(len(others))*transferMost + 10*time.Second
	if !s.net.until(most, 10*time.Millisecond, n.r.Ready) {
		s.fail("registrar %v is not ready after %v, though one of its peers gives the handlespace", n.r.ID(), most)
	}
	took := s.net.now - began
	s.net.run(time.Second)
	s.checkAgreed()
	s.reform()
	s.net.run(20 * time.Second)
	s.checkRest()
	return took, s.err()
}

// reform has all registrars be honest.
func (s *Sim) reform() {
	for _, h := range s.servers {
		if h.manner != honest {
			s.behave(h, honest)
		}
	}
}

// refusers is a scenario: a registrar starts while all others refuse it the
// handlespace. It is not ready, until one of them gives it, or they are dead.
func (s *Sim) refusers(die bool) error {
	s.settle()
	n := s.nodes[s.net.rand.IntN(len(s.nodes))]
	s.crash(n.h)
	s.net.run(15 * time.Second)
	for _, o := range s.nodes {
		if o != n {
			s.behave(o.h, refusing)
		}
	}
	n.boot()
	for range 60 {
		s.net.run(time.Second)
		if n.r.Ready() {
			s.fail("registrar %v is ready, and was given no handlespace", n.r.ID())
			return s.err()
		}
	}
	most := 4*s.cfg.Timers.MaxTimeNoResponse + time.Second
	if die {
		for _, e := range s.elements {
			e.gap = huntGap
		}
		for _, o := range s.nodes {
			if o != n {
				s.crash(o.h)
			}
		}
		most += lostTime + s.cfg.Timers.MaxTimeLastHeard
	} else {
		s.reform()
	}
	if !s.net.until(most, 10*time.Millisecond, n.r.Ready) {
		s.fail("registrar %v is not ready after %v", n.r.ID(), most)
	}
	s.reform()
	s.heal()
	s.net.run(40 * time.Second)
	s.checkRest()
	return s.err()
}

// endlessAudits is a scenario: a registrar has tables without end while others
// audit it, again and again. Every audit is given up after a number of parts, and
// removes nothing.
func (s *Sim) endlessAudits(m manner) (given int, err error) {
	s.settle()
	bad := s.nodes[s.net.rand.IntN(len(s.nodes))]
	s.behave(bad.h, m)
	before := s.net.sent
	for range 10 {
		s.lose(bad.h) // after which its peers audit it
		s.net.run(8 * time.Second)
		s.checkAgreed()
	}
	var audits uint64
	for _, n := range s.nodes {
		st := n.r.Stats()
		audits += st.Audits
		given += int(st.TransfersAbandoned)
	}
	asked := s.net.sent.since(before).enrp[enrp.TypeHandleTableRequest]
	// A transfer names elements as often as two times the limit, which is their
	// number.
	if most := int(audits) * (2*len(s.elements) + 2); asked > most {
		s.fail("%d requests for tables, want %d at most", asked, most)
	}
	s.reform()
	s.net.run(20 * time.Second)
	s.checkRest()
	return given, s.err()
}
