package registrar

import (
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// offerOwn takes what a peer says of an element whose home is to be us. Nobody
// knows better than we, but for a mentor: what it names is from before our start,
// of a registrar with our identifier, whose elements would have no home. They are
// called like those of a dead peer.
func (r *Registrar) offerOwn(h rserpool.PoolHandle, pe *rserpool.PoolElement, how offered) {
	e := r.find(h, pe.ID)
	switch {
	case how == inDownload && r.ledger.Find(h, pe.ID) == nil && pe.ASAPTransport.Present():
		own := r.adoptable(pe)
		if c, err := r.ledger.Put(r.roster, h, own, ledger.SetAside); err == nil {
			r.becomeHome(c, r.start.probes)
		}
	case how == inUpdate && e != nil:
		// Handed over by one that the element may hold for its home, having been
		// asked by it last: after a keep-alive of ours, too, whose answer is still
		// to come.
		e.adopt, e.adopting = true, false
		r.askSoon(e)
	}
}

// contest: a peer says to be the home of an element that is our own. That is so
// when the element has moved to it, and after two registrars could not see one
// another, or one was taken over that lives. Of two that can both reach the
// element the one with the smaller identifier keeps it: the other one yields to
// an update, which a home sends only of an element that it has heard. The
// smaller one, and a registrar that learns it from a table, asks the element first, with
// the H flag, and then either says in an update that it is ours, or yields.
func (r *Registrar) contest(e *element, p *peer, pe *rserpool.PoolElement, how offered) {
	theirs := &handlespace.Element{PoolElement: *pe}
	theirs.Home = p.id
	if how == inUpdate && p.id < r.id {
		e.contested = theirs
		r.yield(e)
		return
	}
	again := e.contested != nil
	e.contested, e.adopt = theirs, true
	if !again {
		r.stats.Contests++
	}
	if e.probe == nil && !e.waiting {
		r.ask(e, true)
	}
}

// isContestedBy reports whether a peer says to be the home of an element of our own.
func (e *element) isContestedBy(p *peer) bool { return e.contested != nil && e.contested.Home == p.id }

// yield hands an element over to the registrar that it is contested by, and
// reports whether that is known. The peers are told, so that none of them finds
// the element in nobody's list.
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
	if !r.ledger.Room(e.Handle(), &pe.PoolElement) { // it needs no room to go on as it is
		pe = e.PE()
	}
	r.letGo(e)
	r.publish(r.ledger.Move(e.entry, p.roster, foreign(&pe.PoolElement)), yielded)
	return true
}

// isNotOf reports whether the element that another registrar has is that of
// another process than the one of our association.
func (e *element) isNotOf(theirs *handlespace.Element) bool {
	return e.assoc != nil && !e.assoc.isEndpointOf(theirs)
}
