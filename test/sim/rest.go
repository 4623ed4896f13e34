package sim

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// restTime is how long nothing may happen at rest but what has a reason.
const restTime = 10 * time.Second

// checkRest says what is wrong when nothing bad has happened for long.
func (s *Sim) checkRest() {
	s.checkAgreed()
	s.checkDoubtless()
	if s.cfg.References == 0 {
		s.checkBeliefs()
		s.checkQuiet()
		s.checkAgreed()
	}
}

// known is an element as a registrar has it.
type known struct {
	pool rserpool.PoolHandle
	id   rserpool.PEID
	home rserpool.ServerID
	load uint32
	addr netip.Addr
}

func (k known) String() string {
	return fmt.Sprintf("%s:%v of %v at %v, load %x", k.pool, k.id, k.addr, k.home, k.load)
}

// knows is what a registrar has, sorted.
func (n *node) knows() []known {
	var list []known
	for p := range n.r.Space().Pools() {
		n.s.found = p.Elements(n.s.found[:0])
		for _, e := range n.s.found {
			list = append(list, known{p.Handle(), e.ID, e.Home, e.Policy.Load, e.UserTransport.Addrs[0]})
		}
	}
	slices.SortFunc(list, func(a, b known) int {
		return cmp.Or(cmp.Compare(a.pool, b.pool), cmp.Compare(a.id, b.id))
	})
	return n.s.entitled(list)
}

// digest is a number for what a registrar has, whatever the order.
func (n *node) digest() uint64 {
	var sum uint64
	for p := range n.r.Space().Pools() {
		n.s.found = p.Elements(n.s.found[:0])
		for _, e := range n.s.found { // an element is in one pool
			at := e.UserTransport.Addrs[0].As4()
			x := uint64(e.ID)<<32 ^ uint64(e.Home) + uint64(e.Policy.Load)<<16 + uint64(at[1])
			x = (x ^ x>>31) * 0x9e3779b97f4a7c15
			sum += x ^ x>>29
		}
	}
	return sum
}

// agreed reports whether all registrars have the same.
func (s *Sim) agreed() bool {
	first := s.nodes[0].digest()
	return !slices.ContainsFunc(s.nodes[1:], func(n *node) bool { return n.digest() != first })
}

// homes are the registrars that run.
func (s *Sim) homes() map[rserpool.ServerID]*host {
	homes := make(map[rserpool.ServerID]*host)
	for _, h := range s.servers {
		if p, ok := h.proc.(interface{ serverID() rserpool.ServerID }); ok {
			homes[p.serverID()] = h
		}
	}
	return homes
}

// checkAgreed says where the handlespaces are not what they have to be: equal,
// with all living elements, each at home with a registrar that lives, and no
// other.
func (s *Sim) checkAgreed() {
	s.checkEqual()
	s.checkDoubts()
	first := s.nodes[0].knows()
	for _, e := range s.elements {
		if _, ok := e.in(first); ok && e.state == elementGone {
			s.fail("element %v is dead and still in the handlespace", e.id)
		}
	}
}

// checkEqual is checkAgreed without a look for elements that are dead, which registrars that
// had many silent elements may not have found yet.
func (s *Sim) checkEqual() {
	first := s.nodes[0].knows()
	for _, n := range s.nodes {
		if !n.r.Ready() {
			s.fail("registrar %v is not ready", n.r.ID())
		}
		if list := n.knows(); !slices.Equal(list, first) {
			s.fail("registrar %v has %d elements, registrar %v has %d, or others: %s",
				n.r.ID(), len(list), s.nodes[0].r.ID(), len(first), difference(list, first))
		}
	}
	homes := s.homes()
	for _, e := range s.elements {
		k, ok := e.in(first)
		switch {
		case ok && e.state == elementGone:
		case ok && homes[k.home] == nil:
			s.fail("element %v has home %v, which is gone", e.id, k.home)
		case ok && k.addr != e.h.addr:
			s.fail("element %v is at %v, and registered at %v", e.id, e.h, k.addr)
		case !ok && e.state == elementLives && s.permits(e):
			s.fail("element %v lives and is in no handlespace", e.id)
		}
	}
}

// checkDoubts says which suspects the registrars do not agree on. None has an element that
// is not confirmed, and none guards itself.
func (s *Sim) checkDoubts() {
	for _, e := range s.elements {
		if !s.permits(e) {
			continue // it may be there, for a lax registrar
		}
		first, known := s.nodes[0].sight(e)
		for _, n := range s.nodes {
			x, ok := n.sight(e)
			switch {
			case ok && x.Unconfirmed:
				s.fail("registrar %v has element %v unconfirmed", n.r.ID(), e.id)
			case ok != known || ok && !slices.Equal(x.Transport.Addrs, first.Transport.Addrs) || x.Suspect != first.Suspect || x.Home != first.Home:
				s.fail("registrar %v sees element %v as %+v, %v, registrar %v as %+v, %v",
					n.r.ID(), e.id, x, ok, s.nodes[0].r.ID(), first, known)
			}
		}
	}
}

// checkDoubtless: when nothing bad has happened for long there are no suspects, and no
// registrar guards itself.
func (s *Sim) checkDoubtless() {
	for _, n := range s.nodes {
		if st := n.r.Stats(); st.Suspects > 0 || n.blind() || st.PoolsGuarded > 0 {
			s.fail("registrar %v has %d suspects and guards %d pools at rest, itself %v", n.r.ID(), st.Suspects, st.PoolsGuarded, n.blind())
		}
	}
}

// checkBeliefs says which elements take another registrar for their home than
// the registrars do, and which checksums are wrong.
func (s *Sim) checkBeliefs() {
	homes := s.homes()
	for _, n := range s.nodes {
		if n.look.saidOf == n.changes() { // a lax registrar may have taken an element since
			n.checkPresence()
		}
		for _, k := range n.knows() {
			if e := s.element(k.id); e.state == elementLives && homes[k.home] != e.at {
				s.fail("element %v takes %v for its home, registrar %v has %v", e.id, e.at, n.r.ID(), k.home)
			}
		}
		st := n.r.Stats()
		if st.Malformed > 0 {
			s.fail("registrar %v could not read %d messages", n.r.ID(), st.Malformed)
		}
	}
}

// in finds the element in a sorted list.
func (e *element) in(list []known) (known, bool) {
	i, ok := slices.BinarySearchFunc(list, e, func(k known, e *element) int {
		return cmp.Or(cmp.Compare(k.pool, e.pool), cmp.Compare(k.id, e.id))
	})
	if !ok {
		return known{}, false
	}
	return list[i], true
}

// checkQuiet lets time pass, in which the registrars have nothing to say but
// that they are there, and which elements have registered anew.
func (s *Sim) checkQuiet() {
	others := len(s.nodes) - 1
	before, sent := s.reasons(), s.net.sent
	s.net.run(restTime)
	sent = s.net.sent.since(sent)
	s.checkOnlyUpdates(sent, int(s.reasons()-before)*others)
	cycles := int(restTime/(s.cfg.Timers.PeerHeartbeat*93/100)) + 1
	for t, most := range map[enrp.MessageType]int{
		enrp.TypePresence:     cycles * (others + 1) * others,
		enrp.TypeListRequest:  cycles * (others + 1),
		enrp.TypeListResponse: cycles*(others+1) + 1, // one was on its way
	} {
		if n := sent.enrp[t]; n > most {
			s.fail("%d messages %v at rest, want %d at most", n, t, most)
		}
	}
}

// checkOnlyUpdates says what was sent beside what goes out in every cycle, and
// so many updates.
func (s *Sim) checkOnlyUpdates(sent counts, want int) {
	for t, n := range sent.enrp {
		switch t := enrp.MessageType(t); t {
		case enrp.TypePresence, enrp.TypeListRequest, enrp.TypeListResponse:
		case enrp.TypeHandleUpdate:
			if n != want {
				s.fail("%d updates at rest, want %d", n, want)
			}
		default:
			if n > 0 {
				s.fail("%d messages %v at rest", n, t)
			}
		}
	}
}

// reasons are what may have made for an update, at rest.
func (s *Sim) reasons() uint64 {
	var k uint64
	for _, n := range s.nodes {
		st := n.r.Stats()
		k += reasons(&st)
	}
	return k
}

// difference names an element that is in only one of the lists.
func difference(a, b []known) string {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return fmt.Sprint("the former has ", x)
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			return fmt.Sprint("the latter has ", x)
		}
	}
	return "the same"
}
