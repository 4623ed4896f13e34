package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// vacate ends an element, an own or a foreign one, and does what has waited for
// its end. owner is the association that the element had, if it is to be told.
//
// If a registration has waited, its element takes the place in one step, so that
// no answer and no peer misses the identifier in between. If it cannot, since it does
// not fit the pool for instance, takeOut takes the element out first.
//
// An element that is told registers anew at once, if it lives (RFC 5352, Section 3.2, has such
// a message for a registration whose life is over): an element that was only slow,
// and a process that the element had superseded, unless another one follows now.
func (r *Registrar) vacate(x *entry, owner *assoc, takeOut func()) {
	claims := r.takeClaims(x)
	c := claims.ofKind(true)
	warnings, replaced := r.replaceBy(c, x, owner)
	if !replaced {
		takeOut()
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
func (r *Registrar) replaceBy(c *claim, x *entry, owner *assoc) (warnings []rserpool.Cause, ok bool) {
	if c == nil {
		return nil, false
	}
	var last AssocID
	e := r.find(x.pool.handle, x.pe.ID)
	if e != nil && e.assoc != nil {
		last = e.assoc.id
	}
	m := c.msg.(*asap.Registration)
	if !r.admits(c.assoc, m) { // its addresses have changed meanwhile
		return nil, false
	}
	warnings, refused := r.enter(c.assoc, m, r.owned(c.assoc, &m.Element), r.putInto(m.Handle))
	if refused != nil {
		return nil, false
	}
	if e != nil {
		e.reports, e.claimed = nil, time.Time{}
		if owner == nil { // it has left by itself, or is not to come back
			e.dropFormer(last)
		}
	}
	return warnings, true
}

// passFormer notes the former owners of an element that was taken out as those of
// the one that has followed it, or tells them if there is none.
func (r *Registrar) passFormer(x *entry, owner *assoc) {
	if next := r.entry(x.pool.handle, x.pe.ID); next != nil {
		next.former = x.former
		if owner != nil {
			next.addFormer(owner.id)
		}
		return
	}
	if x.former == nil {
		return
	}
	for _, id := range x.former {
		if a := r.assocs[id]; a != nil && a.up {
			r.tellRemoved(a, x)
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
