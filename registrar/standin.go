package registrar

import (
	"cmp"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
)

// A registrar stands in for the home of an element while it does not know that home, or cannot
// reach it, and others do. The element has a home; what is missing is its word. So it is neither
// forgotten, nor claimed: it stays in the answers, and is called and asked like an own one, without
// the H flag. It is unconfirmed: the checksum, and the tables of own elements, do without it, the
// peers are told nothing, and the host does not keep it. The first word of its home ends that; see
// takeWord.
//
// If the element is gone, its host refuses the call, or it deregisters, and it is removed. If it does
// not answer, it is a suspect of this registrar only: for SuspectLife, or while its host accepts
// associations for standInLife.

// standInLife is how long an element stays that has never acknowledged, but whose host accepts
// associations, or GuardLife if that is longer. A program that hangs does both.
const standInLife = 24 * time.Hour

// standInFor makes a foreign element one for whose home this registrar stands in. One that cannot be
// called, or may not register, is removed.
func (r *Registrar) standInFor(f *entry, probes probesAt) {
	if r.isVoid(f) || !f.PE().ASAPTransport.Present() {
		r.removeForeign(f)
		return
	}
	r.restClaims(f)
	home := cmp.Or(f.Note.passed, f.Roster().Home())
	pe := foreign(&f.PE().PoolElement) // the home sees when its life is renewed
	state, since := ledger.Unconfirmed, time.Time{}
	if f.State() == ledger.Suspect {
		state, since = ledger.Suspect, f.Since()
	}
	r.publish(r.ledger.MoveAs(f, r.roster, pe, state, since), adopted)
	e := r.newElement(f)
	e.ownASAP, e.standIn, e.mute = true, home, true
	if state == ledger.Suspect {
		r.adoptSuspect(e)
	}
	r.probeAdopted(e, probes)
	r.awaitFarewell(e)
}

// standsIn reports whether this registrar only stands in for the element's home.
func (e *element) standsIn() bool { return e.standIn != 0 }

// takesWord reports whether what a peer says of the element wins: it is not known whether this
// registrar is its home, or known that it is not.
func (e *element) takesWord() bool { return e.State() == ledger.Unconfirmed || e.standsIn() }

// livesElsewhere reports whether the element may be alive, though it has not acknowledged: its host
// has accepted the call, and it may acknowledge keep-alives of its home only, as the elements of the
// reference implementation do.
func (e *element) livesElsewhere() bool {
	if !e.standsIn() || !e.mute {
		return false
	}
	return e.assoc != nil || e.probe != nil && e.probe.state == probeAsking
}

// mayLive reports whether livesElsewhere is true, or the host has not yet had the time to accept
// another association.
func (e *element) mayLive() bool {
	return e.livesElsewhere() || e.standsIn() && e.mute && e.probe != nil && e.probe.pause == 0
}

// endStandIn makes this registrar the home of an element for whose home it stood in. The registration
// life begins anew: the home knew when it was renewed, and this registrar does not.
func (r *Registrar) endStandIn(e *element) {
	if !e.standsIn() {
		return
	}
	e.standIn = 0
	x, pe := e.entry, r.adoptable(&e.PE().PoolElement)
	if c, err := r.ledger.PutAs(x, r.roster, x.Handle(), pe, ledger.SetAside, e.State(), e.Since()); err == nil { // it needs no more room
		r.publish(c, adopted)
	}
	r.beginLife(e)
}

// unsuspect has a suspect be unconfirmed again: it was heard, and is no member.
func (r *Registrar) unsuspect(e *element) {
	if e.State() != ledger.Suspect {
		return
	}
	x := e.entry
	if c, err := r.ledger.PutAs(x, r.roster, x.Handle(), x.PE(), ledger.SetAside, ledger.Unconfirmed, time.Time{}); err == nil { // it needs no more room
		r.publish(c, adopted)
	}
}
