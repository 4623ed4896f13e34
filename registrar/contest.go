package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// offerOwn handles an element of which a peer states that its home is this registrar.
// This registrar knows its own elements, with one exception: a mentor may name elements
// that it had before it restarted with the same identifier. No other registrar is their
// home. They are probed like those of a dead peer.
func (r *Registrar) offerOwn(p *peer, h rserpool.PoolHandle, pe *rserpool.PoolElement, how offered) {
	e := r.find(h, pe.ID)
	if e == nil && r.unauthorized(pe.Identity, h) != nil {
		return // the peers find out by the checksum
	}
	switch {
	case how == inDownload && r.ledger.Find(h, pe.ID) == nil && pe.ASAPTransport.Present():
		own := r.adoptable(pe)
		if c, err := r.ledger.Put(nil, r.roster, h, own, ledger.SetAside); err == nil {
			r.becomeHome(c, r.start.probes)
		}
	case how == inDownload && e != nil && e.takesWord():
		r.takeWord(e, nil, pe)
	case how == inUpdate && e != nil:
		// A peer gives the element back, because the element may hold that peer for its
		// home. That is so even after a keep-alive of this registrar whose
		// acknowledgement is still to come. The peer does not contest the element any more:
		// if the element were yielded to it now, each would take the other for the home.
		if e.isContestedBy(p) {
			e.contested = nil
		}
		e.adopt, e.adopting = true, false
		r.askSoon(e)
	}
}

// contest: a peer states to be the home of an own element. This happens when the
// element has moved to the peer, after a partition, and after a takeover of a registrar
// that lives. If both can reach the element, the registrar with the smaller identifier
// keeps it. The other one yields to an update, because a home sends updates only of
// elements that it has heard from. The smaller one, and a registrar that learns of the
// contest from a table, first sends the element a keep-alive with the H flag. If the
// element acknowledges, the peers get an update; otherwise the registrar yields. A suspect is
// yielded at once: the peer has heard from it, and this registrar has not. So is an element
// that is silent and no suspect only because the registrar's guard is on, if the peer has
// heard from it.
func (r *Registrar) contest(e *element, p *peer, pe *rserpool.PoolElement, how offered) {
	theirs := &handlespace.Element{PoolElement: *pe}
	theirs.Home = p.id
	if how == inUpdate && (p.id < r.id || e.silence != nil) || e.State() == ledger.Suspect {
		e.contested = theirs
		r.yield(e)
		return
	}
	again := e.contested != nil
	e.contested, e.adopt = theirs, true
	if !again {
		r.stats.Contests++
	}
	switch {
	case e.probe != nil:
		e.probe.hasten(r)
	case e.waiting:
	case r.now.Sub(e.asked) < minAskGap:
		r.askSoon(e) // its acknowledgement is an update to all peers
	default:
		r.ask(e, true)
	}
}

// isContestedBy reports whether the peer contests the element.
func (e *element) isContestedBy(p *peer) bool { return e.contested != nil && e.contested.Home == p.id }

// yield gives the element to the peer that contests it, and reports whether that peer
// is known. The other peers get an update, so that the element has a home for each of
// them.
func (r *Registrar) yield(e *element) bool {
	p, pe := r.peers.byID[e.contested.Home], e.contested
	e.contested = nil
	if p == nil {
		return false
	}
	r.refuseClaims(e.entry)
	if e.isNotOf(pe) {
		e.Note.addFormer(e.assoc.id)
	}
	if !r.ledger.Room(e.entry, e.Handle(), &pe.PoolElement) { // without the new description it needs no more room
		pe = e.PE()
	}
	r.letGo(e)
	r.publish(r.ledger.MoveAs(e.entry, p.roster, foreign(&pe.PoolElement), ledger.Member, time.Time{}), yielded)
	return true
}

// isNotOf reports whether the peer's element is of another process than that of the
// element's association.
func (e *element) isNotOf(theirs *handlespace.Element) bool {
	return e.assoc != nil && !e.assoc.isEndpointOf(theirs)
}
