package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The rights of registrars and of users change as well. A registrar that may not be one any
// more does not know that, and goes on: it calls the others, and takes them over. From the
// moment at which another one has the new rights, that one handles nothing from it and sends
// it nothing. A user that may not resolve gets no answer with an element.

// user is a pool user that resolves the handles of pools, now and then, with some registrar. It
// subscribes to some.
type user struct {
	s        *Sim
	h        *host
	assoc    registrar.AssocID
	answered int // with elements
	refused  int // for security
}

const (
	// userGap is the time between two resolutions of a user.
	userGap = time.Second
	// roundTrip is the longest time that a message and what follows from it take.
	roundTrip = 2 * (maxDelay + time.Millisecond)
)

// userName is the identity of a user.
func (s *Sim) userName(i int) string { return fmt.Sprintf("spiffe://%s/user/%d", domain, i) }

// newUser makes a user. The first one may always resolve.
func (s *Sim) newUser(i int) *user {
	u := &user{s: s}
	u.h = s.net.newHost(netip.AddrFrom4([4]byte{10, 5, 0, byte(i)}), nil, 0)
	u.h.identity = s.userName(i)
	u.h.begin(u)
	s.net.after(s.cfg.Start+s.net.upTo(userGap), u.ask)
	return u
}

// ask resolves a handle: over the association that the user has, if there is one, or with
// another registrar.
func (u *user) ask() {
	if u.h.find(u.assoc) == nil {
		to := u.s.servers[u.s.net.rand.IntN(len(u.s.servers))]
		u.assoc = u.h.connect(elementPort, netip.AddrPortFrom(to.addr, asapPort))
	} else {
		u.resolve()
	}
	u.s.net.after(userGap/2+u.s.net.upTo(userGap), u.ask)
}

func (u *user) resolve() {
	e := u.s.elements[u.s.net.rand.IntN(len(u.s.elements))]
	m := &asap.HandleResolution{Handle: e.pool, Subscribe: u.s.net.chance(2)}
	if b, err := m.Append(nil); err == nil {
		u.h.send(u.assoc, asap.PPID, b, false)
	}
	if end := u.h.find(u.assoc); end != nil && u.s.net.chance(8) { // another registrar is next
		u.s.net.hangUp(end, true)
	}
}

func (u *user) handle(ev registrar.Event) {
	switch ev := ev.(type) {
	case registrar.AssocUp:
		u.resolve()
	case registrar.Received:
		m, _, err := asap.Parse(ev.Data)
		if m, ok := m.(*asap.HandleResolutionResponse); ok && err == nil {
			switch {
			case len(m.Elements) > 0:
				u.answered++
			case len(m.Causes) > 0 && m.Causes[0].Code == rserpool.CauseSecurity:
				u.refused++
			}
		}
	}
}

// changeRegistrar withdraws the right of a registrar, or gives it back. One of them keeps it.
func (s *Sim) changeRegistrar(h *host) {
	t := s.trust
	if len(s.nodes) < 2 {
		return
	}
	if t.withdrawn[h.identity] {
		delete(t.withdrawn, h.identity)
	} else if len(t.withdrawn) < len(s.nodes)-1 {
		t.withdrawn[h.identity] = true
	}
	s.trace("%v may be a registrar: %v", h.addr, !t.withdrawn[h.identity])
	s.setRights()
}

// changeResolvers has only one user resolve, or both.
func (s *Sim) changeResolvers() {
	s.trust.closed = !s.trust.closed
	s.trace("only some users may resolve: %v", s.trust.closed)
	s.setRights()
}

// readmit gives all registrars and users their rights back.
func (s *Sim) readmit() {
	if t := s.trust; t != nil && (t.closed || len(t.withdrawn) > 0) {
		clear(t.withdrawn)
		t.closed = false
		s.setRights()
	}
}

// peerAt is the identity at the other end of an association; "" if there is none any more.
func (n *node) peerAt(id registrar.AssocID) string {
	if e := n.h.find(id); e != nil && e.peer != nil {
		return e.peer.h.identity
	}
	return ""
}

// checkSent: what goes out goes only to those that may have it.
func (n *node) checkSent(a *registrar.Send) {
	if n.rights == nil {
		return
	}
	name := n.peerAt(a.Assoc)
	switch {
	case name == "":
	case a.PPID == enrp.PPID:
		if !n.rights.Registrar(name) {
			n.s.fail("registrar %v sends %v to %q, which may not be a registrar", n.r.ID(), enrp.MessageType(a.Data[0]), name)
		}
	case asap.MessageType(a.Data[0]) == asap.TypeHandleResolutionResponse && !n.rights.Resolves(name):
		m, _, err := asap.Parse(a.Data)
		if m, ok := m.(*asap.HandleResolutionResponse); err != nil || ok && len(m.Elements) > 0 {
			n.s.fail("registrar %v names elements of %s to %q, which may not resolve", n.r.ID(), m.Handle, name)
		}
	}
}

// intruder is what a registrar has of its peers when a message comes from one that may not be
// a registrar.
type intruder struct {
	name     string // "" if the message is none of such
	messages uint64
	changes  uint64
}

func (n *node) intrudes(ev registrar.Event) (x intruder) {
	if ev, ok := ev.(registrar.Received); ok && n.rights != nil && ev.PPID == enrp.PPID {
		if name := n.peerAt(ev.Assoc); name != "" && !n.rights.Registrar(name) {
			x = intruder{name, n.heard(), n.changes()}
		}
	}
	return x
}

// heard is how many messages of peers the registrar has handled.
func (n *node) heard() (k uint64) {
	st := n.r.Stats()
	for _, x := range st.ENRPReceived {
		k += x
	}
	return k
}

func (n *node) checkIntruder(x intruder) {
	if x.name != "" && (n.heard() != x.messages || n.changes() != x.changes) {
		n.s.fail("registrar %v handles a message of %q, which may not be a registrar", n.r.ID(), x.name)
	}
}

// checkLinks: an association with a registrar that may not be one ends at once.
func (n *node) checkLinks() {
	for _, e := range n.h.ends {
		if n.rights == nil || e.port != enrpPort || e.peer == nil || n.rights.Registrar(e.peer.h.identity) {
			continue
		}
		if age := n.s.net.now - max(e.up, n.entrusted, n.h.paused); age > roundTrip {
			n.s.fail("registrar %v has had an association for %v with %q, which may not be a registrar", n.r.ID(), age, e.peer.h.identity)
		}
	}
}

// withdrawal is a scenario: the registrar with most elements may not be one any more. It does
// not know that, and gets new elements. The others take over what it had when they lost it,
// which is in their answers all the time, and nothing that it tells or does reaches them. They
// have it as a peer again when it may be one.
func (s *Sim) withdrawal() error {
	s.begin()
	out := slices.MaxFunc(s.nodes, func(a, b *node) int { return a.owns() - b.owns() })
	s.changeRegistrar(out.h)
	s.net.run(roundTrip)
	others := slices.DeleteFunc(slices.Clone(s.nodes), func(n *node) bool { return n == out })
	had := make(map[rserpool.PEID]bool)
	for _, n := range others {
		if n.h.linked(out.h, enrpPort) {
			s.fail("registrar %v has an association with %v, which may not be a registrar any more", n.r.ID(), out.r.ID())
		}
		for _, id := range n.homedAt(out) {
			had[id] = true
		}
	}
	for _, e := range s.elements {
		if !had[e.id] && s.net.chance(3) && e.state == elementLives {
			e.call(out.h)
		}
	}
	const step = 50 * time.Millisecond
	for end := s.net.now + 20*time.Second; s.net.now < end && s.bad == nil; s.net.run(step) {
		for _, n := range others {
			n.checkHasAll(step)
			for _, id := range n.homedAt(out) {
				if !had[id] {
					s.fail("registrar %v has element %v from %v, which may not be a registrar", n.r.ID(), id, out.r.ID())
				}
			}
		}
	}
	for _, n := range others {
		if left := n.homedAt(out); len(left) > 0 {
			s.fail("registrar %v still has %v as the home of %v", n.r.ID(), out.r.ID(), left)
		}
	}
	s.readmit()
	s.net.run(time.Minute)
	s.checkRest()
	return s.err()
}

// homedAt are the elements of the registrar's answers whose home is another one.
func (n *node) homedAt(home *node) (list []rserpool.PEID) {
	for p := range n.r.Space().Pools() {
		for _, pe := range p.Elements(nil) {
			if pe.Home == home.r.ID() {
				list = append(list, pe.ID)
			}
		}
	}
	return list
}
