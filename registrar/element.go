package registrar

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// element is what the registrar knows of a pool element that it owns, beside
// what is in the handlespace. It is either supervised over the association that
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
	entry
	id rserpool.PEID

	assoc *assoc // that owns it, nil while it is probed
	probe *probe // that cares for it, nil while it is supervised

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

	// keepAlive is when the next keep-alive is due, or, while one is unanswered
	// (waiting), when time is up for it.
	keepAlive timer
	waiting   bool
	heldUp    bool      // the time has been extended once
	asked     time.Time // when the last keep-alive went out

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
func (a *assoc) mayActFor(e *element) bool {
	return e.assoc == a || hasAddr(e.host(), a.primary())
}

// due runs the element's timers.
func (e *element) due(r *Registrar, t *timer) {
	if t == &e.life {
		r.remove(e, RemovedExpired) // RFC 5352, Section 3.2
		return
	}
	r.keepAliveDue(e)
}

// pool is what the registrar knows of a pool beside the handlespace: its own
// elements, those of other registrars, and who wants to know about changes. It
// lasts as long as it has one of the three.
type pool struct {
	handle   rserpool.PoolHandle
	elements map[rserpool.PEID]*element
	foreign  map[rserpool.PEID]*entry // nil at first
	misfits  int                      // of both

	subs    subscriptions // those of the pool, in the order they came
	changed bool
	update  timer
	updated time.Time
	cursor  *subscription // the next to be told, nil between rounds
}

// knownHandle returns the pool handle of these bytes, "" if there is no such
// pool.
func (r *Registrar) knownHandle(b []byte) rserpool.PoolHandle {
	if p := r.pools[rserpool.PoolHandle(b)]; p != nil {
		return p.handle
	}
	return ""
}

func (r *Registrar) find(h rserpool.PoolHandle, id rserpool.PEID) *element {
	if p := r.pools[h]; p != nil {
		return p.elements[id]
	}
	return nil
}

// own makes a the element's association, whatever cared for it before.
func (r *Registrar) own(e *element, a *assoc) {
	if e.assoc == a {
		return
	}
	r.disown(e)
	e.assoc = a
	a.elements.push(e)
	r.leaveIdle(a)
	r.extend(e)
}

// disown takes the element from its association or probe.
func (r *Registrar) disown(e *element) {
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

// remove takes the element out of the handlespace, and tells it if its
// association is up: see vacate. What has waited for its end is granted now. An
// element that another registrar says to have is handed over to it instead, unless
// the process that the other one has has deregistered.
func (r *Registrar) remove(e *element, why RemoveReason) { r.removeFor(e, why, nil) }

// removeFor is remove on behalf of an association, which is answered by the
// caller.
func (r *Registrar) removeFor(e *element, why RemoveReason, by *assoc) {
	if e.contested != nil && (why != RemovedDeregistered || e.isNotOf(e.contested)) && r.yield(e) {
		return
	}
	p, owner := e.pool, e.assoc
	if by != nil {
		owner = nil
		e.dropFormer(by.id)
	}
	if owner != nil && why == RemovedNoAck {
		r.miss(owner, e)
	}
	r.stats.Removed[why]++
	r.logf(false, "pool element %v of pool %s is removed: %s", e.id, quote(p.handle), why)
	if why == RemovedReported { // it would come back, and clients could still not reach it
		owner, e.former = nil, nil
	}
	r.vacate(&e.entry, owner, func() {
		r.space.Remove(p.handle, e.id)
		r.release(e)
		r.refit(p)
		r.announceUpdate(enrp.DelPE, &e.entry)
		r.poolChanged(p)
		r.dropPoolIfUnused(p)
	})
}

// release ends this registrar's care for the element. The handlespace is left
// to the caller.
func (r *Registrar) release(e *element) {
	r.setMisfit(&e.entry, false)
	delete(e.pool.elements, e.id)
	r.elements--
	r.delist(&e.entry)
	r.timers.stop(&e.keepAlive)
	r.timers.stop(&e.life)
	r.await(e, nil)
	r.disown(e)
}

// dropPoolIfUnused forgets a pool that has neither elements nor subscribers.
func (r *Registrar) dropPoolIfUnused(p *pool) {
	if len(p.elements)+len(p.foreign) > 0 || p.subs.head != nil {
		return
	}
	r.timers.stop(&p.update)
	if r.pools[p.handle] == p {
		delete(r.pools, p.handle)
		r.handleSize -= handlespace.HandleSize(p.handle)
	}
}

// makePool returns the pool of that handle, a new one if need be.
func (r *Registrar) makePool(h rserpool.PoolHandle) *pool {
	p := r.pools[h]
	if p == nil {
		p = &pool{handle: h, elements: make(map[rserpool.PEID]*element)}
		r.pools[h] = p
		r.handleSize += handlespace.HandleSize(h)
	}
	return p
}
