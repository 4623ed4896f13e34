package registrar

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
)

// element is what the registrar knows of an own element beside its entry in the ledger.
// It is either supervised over the association that owns it, or, after that has ended,
// in the care of a probe:
//
//	             register                    association ends
//	(none) ------------------> supervised ----------------------> probed
//	   ^                        |      ^                            |  |
//	   |  keep-alive unanswered |      |   keep-alive acknowledged, |  |
//	   |  life over, ...        |      |   registered again         |  |
//	   +------------------------+      +----------------------------+  |
//	   +------------------- no association, no acknowledgement --------+
type element struct {
	*entry

	// keepAlive is when the next keep-alive is sent. While one is unanswered (waiting),
	// it is when the time for the acknowledgement ends.
	keepAlive timer
	asked     time.Time // when the last keep-alive was sent
	waiting   bool
	heldUp    bool // the time was extended once, because the host was late

	assoc *client // nil while it is probed
	probe *probe  // nil while it is supervised

	place chain.Place[element] // in the list of its association or its probe

	// ownASAP tells that the element has named its ASAP transport. Otherwise that is
	// made of the association's addresses.
	ownASAP bool
	// adopt has the next keep-alive carry the H flag, because the element may have
	// another home; adopting tells that the last one carried it.
	adopt, adopting bool
	// claimed is when a probe has sent a keep-alive with the H flag for want of an
	// answer.
	claimed time.Time

	life timer

	awaits *awaits // addresses that are not confirmed yet; nil if there are none

	reports []report

	// contested is the element as described by the peer that contests it; see contest.
	contested *handlespace.Element
}

// host returns the addresses of the element's association, or of the last one.
func (e *element) host() []netip.AddrPort {
	if e.assoc != nil {
		return e.assoc.peer
	}
	return e.probe.host
}

// mayActFor reports whether the association is the element's own, or comes from the
// element's host. Only the address that the peer has proved to be at counts, not those
// that it lists.
func (a *client) mayActFor(e *element) bool {
	return e.assoc == a || hasAddr(e.host(), a.primary())
}

// Due runs the element's timers.
func (e *element) Due(r *Registrar, t *timer) {
	if t == &e.life {
		r.remove(e, RemovedExpired) // RFC 5352, Section 3.2
		return
	}
	r.keepAliveDue(e)
}

// supervise makes a the element's association.
func (r *Registrar) supervise(e *element, a *client) {
	if e.assoc == a {
		return
	}
	r.unsupervise(e)
	e.assoc = a
	a.elements.Add(e, &e.place)
	r.leaveIdle(a)
	r.extend(e)
}

// unsupervise takes the element from its association or probe.
func (r *Registrar) unsupervise(e *element) {
	e.place.Leave()
	if a := e.assoc; a != nil {
		e.assoc = nil
		if a.up {
			r.leaveIdle(a)
		}
	}
	if p := e.probe; p != nil {
		e.probe = nil
		p.shrunk(r)
	}
}

// newElement begins this registrar's care for an entry of its own roster.
func newElement(x *entry) *element {
	x.Note.own = &element{entry: x}
	return x.Note.own
}

// letGo ends this registrar's care for the element. The caller changes the ledger.
func (r *Registrar) letGo(e *element) {
	e.Note.own = nil
	r.timers.Stop(&e.keepAlive)
	r.timers.Stop(&e.life)
	r.await(e, nil)
	r.unsupervise(e)
}
