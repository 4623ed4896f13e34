package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// remove removes an own element, and tells it if its association is up: see vacate.
// Claims on it are granted now. A contested element is yielded instead, unless it was
// deregistered by the process that the peer's element belongs to.
func (r *Registrar) remove(e *element, why RemoveReason) { r.removeFor(e, why, nil) }

// removeFor is remove on behalf of an association, to which the caller responds.
func (r *Registrar) removeFor(e *element, why RemoveReason, by *client) {
	if e.contested != nil && (why != RemovedDeregistered || e.isNotOf(e.contested)) && r.yield(e) {
		return
	}
	owner := e.assoc
	if by != nil {
		owner = nil
		e.Note.dropFormer(by.id)
	}
	r.stats.Removed[why]++
	r.logRemoved(e, why)
	occasion := ended
	if e.standsIn() { // its home does not hear of it from here, except for a deregistration
		if owner, occasion = nil, unclaimed; why == RemovedDeregistered {
			occasion = left
		}
	}
	if why == RemovedReported || why == RemovedByOperator { // it would register again at once
		owner, e.Note.former = nil, nil
	}
	r.vacate(e.entry, owner, occasion)
}

// logRemoved says that an element is removed, in one line. An identity without the right to
// register is named: an operator has changed the rights, and has to see for whom.
func (r *Registrar) logRemoved(e *element, why RemoveReason) {
	warn, text := false, why.String()
	if err := r.unauthorized(e.PE().Identity, e.Handle()); why == RemovedUnauthorized && err != nil {
		warn, text = true, err.Error()
	}
	r.logf(warn, "pool element %v of pool %s is removed: %s; it was registered at %v", e.ID(), quote(e.Handle()), text, &e.PE().UserTransport)
}

// removeForeign removes a foreign element. Claims on it are granted now.
func (r *Registrar) removeForeign(f *entry) { r.vacate(f, nil, byHome) }

// vacate removes an element of either kind and grants the claims on it. owner is the
// association that the element had, if it is to be told.
//
// If a registration waits, its element replaces the present one in one step, so that no
// answer and no peer misses the identifier in between. If that is not possible, for
// instance because it does not fit the pool, the present element is removed first.
//
// An element that is notified, and alive, registers again at once (RFC 5352, Section 3.2,
// has this message for a registration whose life has ended). That holds for an element
// that was silent for too long, and for a process whose registration was superseded, unless
// another element follows now.
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

// replaceBy replaces an element by that of a waiting registration, which may be nil,
// and reports whether that was possible.
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
	if !r.admits(c.assoc, m) { // its addresses have changed since
		return nil, false
	}
	pe := r.owned(c.assoc, &m.Element)
	if r.full(c.assoc, m, x, pe) != "" {
		return nil, false
	}
	warnings, refused := r.enter(c.assoc, m, x, pe, ledger.Renew)
	if refused != nil {
		return nil, false
	}
	if e != nil {
		e.reports, e.claimed = nil, time.Time{}
		if owner == nil { // it has deregistered, or is not to register again
			x.Note.dropFormer(last)
		}
	}
	return warnings, true
}

// passFormer gives the former owners of a removed element to the element that has
// followed it. If there is none, it notifies them.
func (r *Registrar) passFormer(x *entry, owner *client) {
	former := x.Note.former
	if next := r.ledger.Find(x.Handle(), x.ID()); next != nil {
		next.Note.former = former
		if owner != nil {
			next.Note.addFormer(owner.id)
		}
		return
	}
	r.callFormer(x)
}

// callFormer notifies the processes whose registrations an element has superseded: those that
// are still there register again.
func (r *Registrar) callFormer(x *entry) {
	if x.Note.former == nil {
		return
	}
	for _, id := range x.Note.former {
		if a := r.assocs[id]; a != nil && a.up && a.client != nil {
			r.tellRemoved(a.client, x)
		}
	}
}

// ofKind returns the registration or the deregistration among the claims on an element;
// nil if there is none.
func (c *claim) ofKind(registration bool) *claim {
	for ; c != nil; c = c.next {
		if c.isRegistration() == registration {
			return c
		}
	}
	return nil
}
