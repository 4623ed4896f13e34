package registrar

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// element is what the registrar knows of a pool element that it owns, beside
// what is in the ledger. It is either supervised over the association that
// owns it, or, when that has ended, in the care of a probe:
//
//	             register                    association ends
//	(none) ------------------> supervised ----------------------> probed
//	   ^                        |      ^                            |  |
//	   |  keep-alive unanswered |      |   keep-alive acknowledged, |  |
//	   |  life over, ...        |      |   registered anew          |  |
//	   +------------------------+      +----------------------------+  |
//	   +------------------- no association, no acknowledgement --------+
type element struct {
	*entry

	// keepAlive is when the next keep-alive is due, or, while one is unanswered
	// (waiting), when time is up for it.
	keepAlive timer
	asked     time.Time // when the last keep-alive went out
	waiting   bool
	heldUp    bool // the time has been extended once

	assoc *client // that owns it, nil while it is probed
	probe *probe  // that cares for it, nil while it is supervised

	list       *elements // that it is in, the owner's or the probe's
	next, prev *element

	// ownASAP tells that the ASAP transport is the element's own words, not
	// the association's addresses.
	ownASAP bool
	// adopt asks for the H flag, because the element has named another home;
	// adopting tells that the last keep-alive had it.
	adopt, adopting bool
	// claimed is when a probe has asked with the H flag, for want of an answer.
	claimed time.Time

	life timer

	awaits *awaits // addresses that are not confirmed yet; nil if there are none

	reports []report

	// contested is the element as another registrar has it that says to be its
	// home; see contest.
	contested *handlespace.Element
}

// elements is a list of elements, each of which is in one list at most.
type elements struct {
	head, tail *element
	n          int
}

func (l *elements) push(e *element) {
	e.list, e.prev, e.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = e
	} else {
		l.head = e
	}
	l.tail = e
	l.n++
}

// unlink takes e out of its list.
func (e *element) unlink() {
	l := e.list
	if l == nil {
		return
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.tail = e.prev
	}
	l.n--
	e.list, e.next, e.prev = nil, nil, nil
}

// host are the addresses where the element's association is or was.
func (e *element) host() []netip.AddrPort {
	if e.assoc != nil {
		return e.assoc.peer
	}
	return e.probe.host
}

// mayActFor reports whether a is the element itself: its association, or
// another one from an address of its host. Only where a has proved to be
// counts, not what addresses it names.
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

// supervise makes a the element's association, whatever cared for it before.
func (r *Registrar) supervise(e *element, a *client) {
	if e.assoc == a {
		return
	}
	r.unsupervise(e)
	e.assoc = a
	a.elements.push(e)
	r.leaveIdle(a)
	r.extend(e)
}

// unsupervise takes the element from its association or probe.
func (r *Registrar) unsupervise(e *element) {
	e.unlink()
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

// letGo ends this registrar's care for the element. The ledger is left to the caller.
func (r *Registrar) letGo(e *element) {
	e.Note.own = nil
	r.timers.Stop(&e.keepAlive)
	r.timers.Stop(&e.life)
	r.await(e, nil)
	r.unsupervise(e)
}
