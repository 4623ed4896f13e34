package sim

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// What clients are told is what is in a registrar's handlespace. Silence alone must never
// empty a pool of it, whatever is silent: the elements, the network, or the registrar's own
// link. An element stays known from when a registrar has had it until something shows
// that its process has ended, or another one has taken its place.

// proves notes that there is evidence that the element's process has ended, or that
// another one takes its place.
func (e *element) proves() { e.proved = e.s.net.now }

// stays reports whether the element is one that a registrar has had, and that nothing has
// happened to since but silence.
func (n *node) stays(e *element) bool {
	if !n.permits(e.h.identity, e.pool) || !n.s.permits(e) {
		return false
	}
	had, over := n.look.answered[e.index], n.look.over[e.index]
	if over > 0 && n.s.net.now >= over-time.Second && had <= over+time.Second {
		return false // it was silent for GUARD-LIFE
	}
	return had > 0 && had > e.proved && e.state == elementLives && e.old == nil && !n.look.strange[e.index]
}

// isAt reports whether a registration is of the element's process.
func (e *element) isAt(pe *handlespace.Element) bool {
	t := &pe.UserTransport
	return t.Addrs[0] == e.h.addr && (t.Port == e.port || e.transport != nil)
}

// checkAnswers looks at the elements that the last scan has not found. A pool may not be
// empty while there is one that stays.
func (n *node) checkAnswers() {
	s := n.s
	for _, e := range s.elements {
		switch {
		case e.seen == s.scans:
		case n.look.answered[e.index] == 0 || !n.stays(e) || n.failsClosed(e.pool):
		case n.r.Space().Pool(e.pool) == nil:
			s.fail("registrar %v has no element of %s left, though %v is only silent", n.r.ID(), e.pool, e.id)
		}
	}
}

// quiet is since when nothing has been wrong with the network between an element and a
// registrar.
func (n *node) quiet(e *element) time.Duration {
	return max(n.h.changed, e.h.changed, n.s.net.calm)
}

// sight is how a registrar sees an element.
func (n *node) sight(e *element) (registrar.Sight, bool) { return n.r.Sight(e.pool, e.id) }

// isMember reports whether the registrar has the element as a member.
func (n *node) isMember(e *element) bool {
	x, ok := n.sight(e)
	return ok && !x.Suspect && !x.Unconfirmed && x.Served
}

// allMembers reports whether all living elements are members everywhere.
func (s *Sim) allMembers() bool {
	for _, n := range s.nodes {
		for _, e := range s.elements {
			if e.state == elementLives && !n.isMember(e) {
				return false
			}
		}
	}
	return true
}

// checkHeard: a home that has just heard a word that names an element of its own has it
// among its members. An acknowledgement counts only over the association that has carried the
// keep-alive last, which may be a newer one, over which the element has registered meanwhile. It
// says nothing of another process of the host that has registered the element, and is silent.
func (n *node) checkHeard(ev registrar.Received) {
	if ev.PPID != asap.PPID {
		return
	}
	m, _, err := asap.Parse(ev.Data)
	if err != nil {
		return
	}
	var id rserpool.PEID
	ack := false
	switch m := m.(type) {
	case *asap.EndpointKeepAliveAck:
		id, ack = m.ID, true
	case *asap.Registration:
		id = m.Element.ID
	default:
		return
	}
	e, from := n.s.element(id), n.h.find(ev.Assoc)
	if e == nil || !n.permits(e.h.identity, e.pool) || from == nil || from.peer.h != e.h || ack && n.hasNewer(from) {
		return
	}
	x, ok := n.sight(e)
	if !ok || ack && x.Transport.Port != from.peer.port {
		return
	}
	if x.Transport.Addrs[0] == e.h.addr && x.Home == n.r.ID() && n.r.Ready() && (x.Suspect || x.Unconfirmed) {
		n.s.fail("registrar %v has heard element %v, and still has it as a suspect", n.r.ID(), e.id)
	}
}

// hasNewer reports whether the host at the other end has opened a newer association to the registrar,
// or the registrar to that host.
func (n *node) hasNewer(than *end) bool {
	return slices.ContainsFunc(n.h.ends, func(x *end) bool {
		return x.id > than.id && x.peer != nil && x.peer.h == than.peer.h
	})
}
