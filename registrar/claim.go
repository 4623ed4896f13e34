package registrar

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/param"
)

// claim is a registration of an identifier that another host's element has. It
// waits while that element is asked for a sign of life: with one, the claim is
// refused as Non-unique PE Identifier (RFC 5354, Section 3.12.5), and without
// the element is removed and the claim granted.
//
// RFC 5352, Section 3.1, has a re-registration take over an element whoever
// sends it, and the reference implementation does so. Then any client could
// take a living element out of service; an element that has moved to another
// host, which is what the rule is for, loses a keep-alive timeout this way.
// The sender's T2-registration timer is 30 s (RFC 5352, Section 7.1).
type claim struct {
	assoc *assoc
	msg   asap.Registration
}

func (r *Registrar) claimElement(e *element, a *assoc, m *asap.Registration) {
	msg := *m
	msg.Handle = e.pool.handle // one copy will do
	switch {
	case e.claim != nil && e.claim.assoc == a: // sent again
		e.claim.msg = msg
		return
	case e.claim != nil:
		r.rejectRegistration(a, m, param.Cause{Code: param.CauseNonUniquePEIdentifier})
		return
	case len(a.claims) >= r.cfg.Limits.ClaimsPerAssoc:
		r.rejectRegistration(a, m, param.Cause{Code: param.CauseLackOfResources})
		return
	}
	e.claim = &claim{a, msg}
	a.claims = append(a.claims, e)
	r.leaveIdle(a)
	r.stats.Claims++
	r.check(e)
}

// takeClaim takes the claim from the element, if there is one.
func (r *Registrar) takeClaim(e *element) *claim {
	c := e.claim
	if c != nil {
		e.claim = nil
		c.assoc.claims = slices.DeleteFunc(c.assoc.claims, func(x *element) bool { return x == e })
		r.leaveIdle(c.assoc)
	}
	return c
}

// rejectClaim refuses the claim, if there is one: the element lives.
func (r *Registrar) rejectClaim(e *element) {
	if c := r.takeClaim(e); c != nil {
		r.rejectRegistration(c.assoc, &c.msg, param.Cause{Code: param.CauseNonUniquePEIdentifier})
	}
}

// dropClaims forgets the claims of an association that is gone.
func (r *Registrar) dropClaims(a *assoc) {
	for _, e := range a.claims {
		e.claim = nil
	}
	a.claims = nil
}
