package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// remove removes an element of our own, and tells it if its association is up: see
// vacate. What has waited for its end is granted now. An element that another
// registrar says to have is handed over to it instead, unless the process that the
// other one has has deregistered.
func (r *Registrar) remove(e *element, why RemoveReason) { r.removeFor(e, why, nil) }

// removeFor is remove on behalf of an association, which is answered by the
// caller.
func (r *Registrar) removeFor(e *element, why RemoveReason, by *client) {
	if e.contested != nil && (why != RemovedDeregistered || e.isNotOf(e.contested)) && r.yield(e) {
		return
	}
	owner := e.assoc
	if by != nil {
		owner = nil
		e.Note.dropFormer(by.id)
	}
	if owner != nil && why == RemovedNoAck {
		r.miss(owner, e)
	}
	r.stats.Removed[why]++
	r.logf(false, "pool element %v of pool %s is removed: %s", e.ID(), quote(e.Handle()), why)
	if why == RemovedReported { // it would come back, and clients could still not reach it
		owner, e.Note.former = nil, nil
	}
	r.vacate(e.entry, owner, ended)
}

// removeForeign removes another registrar's element. What has waited for its end is
// granted now.
func (r *Registrar) removeForeign(f *entry) { r.vacate(f, nil, byHome) }

// vacate ends an element, an own or a foreign one, and does what has waited for
// its end. owner is the association that the element had, if it is to be told.
//
// If a registration has waited, its element takes the place in one step, so that
// no answer and no peer misses the identifier in between. If it cannot, since it does
// not fit the pool for instance, the element is removed first.
//
// An element that is told registers anew at once, if it lives (RFC 5352, Section 3.2, has such
// a message for a registration whose life is over): an element that was only slow,
// and a process that the element had superseded, unless another one follows now.
func (r *Registrar) vacate(x *entry, owner *client, why occasion) {
	claims := r.endClaims(x)
	c := claims.ofKind(true)
	warnings, replaced := r.replaceBy(c, x, owner)
	if !replaced {
		removed := r.ledger.Remove(x)
		if e := x.Note.own; e != nil {
			r.letGo(e)
		}
		r.publish(removed, why)
	}
	if owner != nil && owner.up {
		r.tellRemoved(owner, x)
	}
	if d := claims.ofKind(false); d != nil { // before the registration that follows it
		r.grantDeregistration(d.assoc, d.msg.(*asap.Deregistration))
	}
	switch {
	case replaced:
		r.grantRegistration(c.assoc, c.msg.(*asap.Registration), warnings)
		return
	case c != nil:
		r.onRegistration(c.assoc, c.msg.(*asap.Registration))
	}
	r.passFormer(x, owner)
}

// replaceBy puts the element of a registration, which may be nil, in the place of
// another one's, and reports whether it fits there.
func (r *Registrar) replaceBy(c *claim, x *entry, owner *client) (warnings []rserpool.Cause, ok bool) {
	if c == nil {
		return nil, false
	}
	var last AssocID
	e := x.Note.own
	if e != nil && e.assoc != nil {
		last = e.assoc.id
	}
	m := c.msg.(*asap.Registration)
	if !r.admits(c.assoc, m) { // its addresses have changed meanwhile
		return nil, false
	}
	warnings, refused := r.enter(c.assoc, m, r.owned(c.assoc, &m.Element), ledger.Renew)
	if refused != nil {
		return nil, false
	}
	if e != nil {
		e.reports, e.claimed = nil, time.Time{}
		if owner == nil { // it has left by itself, or is not to come back
			x.Note.dropFormer(last)
		}
	}
	return warnings, true
}

// passFormer notes the former owners of an element that was taken out as those of
// the one that has followed it, or tells them if there is none.
func (r *Registrar) passFormer(x *entry, owner *client) {
	former := x.Note.former
	if next := r.ledger.Find(x.Handle(), x.ID()); next != nil {
		next.Note.former = former
		if owner != nil {
			next.Note.addFormer(owner.id)
		}
		return
	}
	if former == nil {
		return
	}
	for _, id := range former {
		if a := r.assocs[id]; a != nil && a.up && a.client != nil {
			r.tellRemoved(a.client, x)
		}
	}
}

// ofKind is the registration among the claims on an element, or the
// deregistration; nil if there is none.
func (c *claim) ofKind(registration bool) *claim {
	for ; c != nil; c = c.next {
		if c.isRegistration() == registration {
			return c
		}
	}
	return nil
}
