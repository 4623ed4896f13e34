package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A home tells its peers that an element of its own is a suspect, by a DEL_PE with a private
// parameter, and names its suspects in tables for those that understand them. A peer files
// them in the home's roster, beside its members. So a pool whose elements have several homes is
// guarded by what all of them know, and a registrar that takes a home over asks its suspects, too. An
// ADD_PE makes a suspect a member again; a DEL_PE without the parameter removes it.

// offerSuspect handles a suspect that a peer names: one of its own, or as a mentor any. An own
// element that this registrar hears stays what it is.
func (r *Registrar) offerSuspect(p *peer, h rserpool.PoolHandle, pe *rserpool.PoolElement, silent time.Duration, how offered) {
	since := r.now.Add(-silent)
	pe, usable := r.complete(h, pe)
	if r.outlives(since) || !usable {
		return // the checksum does without it
	}
	if pe.Home == r.id {
		r.reclaimSuspect(h, pe, since, how)
		return
	}
	home, f := r.homeOf(p, h, pe, how), r.findForeign(h, pe.ID)
	if home == nil {
		if f != nil && r.belongs(f, p) {
			p.missed, p.checked = true, false // it has left the suspect to one that is not known here
		}
		return
	}
	if r.usurps(home, h, pe) {
		r.stats.UpdatesRefused++
		return
	}
	if e := r.find(h, pe.ID); e != nil {
		if r.losesSilent(e, p, home, how) {
			r.loseSilent(e, home, pe, since)
		}
		return
	}
	switch {
	case f == nil && (home == p || how == inDownload):
	case f != nil && how == inTable && f.State() == ledger.Member && f.Note.seen == p.audit.number:
		return // an update has come since the audit began, maybe over another association, and the table may be older
	case f != nil && (r.belongs(f, p) || f.Roster() == home.roster && how == inDownload):
	case how != inUpdate:
		return // its home has said more
	default:
		r.stats.UpdatesRefused++
		return
	}
	if f != nil && home != p && how == inUpdate {
		home.missed, home.checked = true, false // it may have removed the suspect before this update came
	}
	if x := r.fileSuspect(f, home, h, pe, since); x != nil && how == inUpdate && home.audit.sweep == nil {
		// A table that is on its way names it, if it is newer than this. The checksum does not
		// cover suspects, so one that is gone without a word would not bring about another audit.
		x.Note.seen = 0
	}
}

// losesSilent reports whether an own element that is silent here is left to a peer at which it
// is a suspect: to one that has taken it over while this registrar was away, and otherwise
// to the one with the smaller identifier. So it has one home, at which an operator can remove it.
func (r *Registrar) losesSilent(e *element, p, home *peer, how offered) bool {
	if e.takesWord() {
		return home == p || how == inDownload
	}
	switch e.State() {
	case ledger.Suspect:
		return how == inDownload || home == p && p.id < r.id
	case ledger.Member, ledger.Unconfirmed:
	}
	return false
}

// loseSilent makes an own element a suspect of a peer. If it was one here, the other peers are
// told: no checksum shows them that it has another home, whose updates they would refuse.
func (r *Registrar) loseSilent(e *element, home *peer, pe *rserpool.PoolElement, since time.Time) {
	x := e.entry
	if !r.ledger.Room(x, x.Handle(), pe) {
		pe = &e.PE().PoolElement // needs no more
	}
	why := byHome
	if e.isSuspect() && !e.standsIn() {
		why = fellSilent
		r.stats.Yields++
	}
	r.letGo(e)
	r.publish(r.ledger.MoveAs(x, home.roster, foreign(pe), ledger.Suspect, since), why)
	r.watchSuspects(home, since)
	r.hastenClaims(x)
}

// fileSuspect enters a suspect of a peer, in place of f, which is nil for a new one. It
// returns nil if there is no room for a new one.
func (r *Registrar) fileSuspect(f *entry, home *peer, h rserpool.PoolHandle, pe *rserpool.PoolElement, since time.Time) *entry {
	if f != nil && f.State() == ledger.Suspect && f.Since().Sub(since).Abs() <= time.Second {
		since = f.Since() // rounded on the way
	}
	c, err := r.ledger.PutAs(f, home.roster, h, foreign(pe), ledger.SetAside, ledger.Suspect, since)
	if err != nil {
		r.stats.ForeignRefused++
		if f == nil {
			return nil
		}
		c = r.ledger.MoveAs(f, home.roster, foreign(&f.PE().PoolElement), ledger.Suspect, since) // needs no more
	}
	r.publish(c, byHome)
	r.watchSuspects(home, since)
	r.hastenClaims(c.Entry)
	return c.Entry
}

// reclaimSuspect: a mentor names an element that this registrar has had before it started
// again. It is still a suspect, and asked again.
func (r *Registrar) reclaimSuspect(h rserpool.PoolHandle, pe *rserpool.PoolElement, since time.Time, how offered) {
	if how != inDownload || r.ledger.Find(h, pe.ID) != nil || !pe.ASAPTransport.Present() || r.unauthorized(pe.Identity, h) != nil {
		return
	}
	if c, err := r.ledger.PutAs(nil, r.roster, h, r.adoptable(pe), ledger.SetAside, ledger.Suspect, since); err == nil {
		r.becomeHome(c, r.start.probes)
	}
}

// suspectTime is how long a suspect of a peer is remembered, if nothing is heard of it. Its
// home has removed it by then.
func (r *Registrar) suspectTime() time.Duration {
	t := &r.cfg.Timers
	return t.GuardLife + t.MaxTimeLastHeard
}

// outlives reports whether a suspect of a peer is forgotten by now.
func (r *Registrar) outlives(since time.Time) bool { return r.now.Sub(since) >= r.suspectTime() }

// vigil removes suspects of a peer that its home has forgotten without a word.
type vigil struct {
	timer timer
	sweep *ledger.Cursor[note] // nil between two sweeps
	next  time.Time            // when the first of the others is to be removed; zero for none
}

// watchSuspects: a peer has a suspect since a time.
func (r *Registrar) watchSuspects(p *peer, since time.Time) {
	v, at := &p.vigil, since.Add(r.suspectTime())
	switch {
	case v.sweep != nil:
		v.note(at)
	case !v.timer.Armed() || at.Before(r.timers.At(&v.timer)):
		r.timers.Arm(&v.timer, p, at)
	}
}

func (v *vigil) note(at time.Time) {
	if v.next.IsZero() || at.Before(v.next) {
		v.next = at
	}
}

// vigilDue removes some of the suspects that have been silent for too long.
func (r *Registrar) vigilDue(p *peer) {
	v := &p.vigil
	if v.sweep == nil {
		v.sweep, v.next = r.ledger.OpenSuspects(p.roster), time.Time{}
	}
	for range moveBatch {
		f := v.sweep.Next()
		if f == nil {
			r.endVigil(p)
			if !v.next.IsZero() {
				r.timers.Arm(&v.timer, p, v.next)
			}
			return
		}
		if r.outlives(f.Since()) {
			r.logf(false, "pool element %v of pool %s, a suspect of registrar %v, is removed: nothing was heard of it for %v", f.ID(), quote(f.Handle()), p.id, r.suspectTime())
			r.removeForeign(f)
		} else {
			v.note(f.Since().Add(r.suspectTime()))
		}
	}
	r.timers.Arm(&v.timer, p, r.now.Add(takeGap))
}

func (r *Registrar) endVigil(p *peer) {
	r.timers.Stop(&p.vigil.timer)
	r.ledger.Close(p.vigil.sweep)
	p.vigil.sweep = nil
}
