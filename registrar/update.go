package registrar

import (
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// announceUpdate tells all peers what has become of an element of our own (RFC
// 5353, Section 3.3).
func (r *Registrar) announceUpdate(act enrp.UpdateAction, h rserpool.PoolHandle, pe *handlespace.Element) {
	if len(r.peers.list) > 0 {
		r.tellAll(&enrp.HandleUpdate{Sender: r.id, Action: act, Handle: h, Element: pe.PoolElement})
	}
}

// onHandleUpdate: RFC 5353, Section 3.3, but a peer changes no elements other
// than its own.
func (r *Registrar) onHandleUpdate(p *peer, m *enrp.HandleUpdate) {
	switch m.Action {
	case enrp.AddPE:
		r.offer(p, m.Handle, &m.Element, inUpdate)
	case enrp.DelPE:
		f, e := r.findForeign(m.Handle, m.Element.ID), r.find(m.Handle, m.Element.ID)
		switch {
		case f != nil && r.belongs(f, p):
			r.removeForeign(f)
		case e != nil && e.contested != nil && e.contested.Home == p.id:
			e.contested = nil
		case f != nil || e != nil:
			r.stats.UpdatesRefused++
		}
	}
}

// offered says how a peer has named an element.
type offered uint8

const (
	inUpdate   offered = iota // something has become of it
	inTable                   // it is among the peer's own
	inDownload                // it is in the handlespace, whichever registrar its home is
)

// offer takes what a peer says of an element. The peer may name elements as its
// own, and hand its own over to another home; only the mentor is believed about
// those of others.
func (r *Registrar) offer(p *peer, h rserpool.PoolHandle, pe *rserpool.PoolElement, how offered) {
	if !r.isUsable(h, pe) {
		r.stats.ForeignRefused++
		return
	}
	if pe.Policy.Type == 0 {
		pe.Policy.Type = rserpool.RoundRobin // the default (RFC 5356, Section 4.1)
	}
	home := p
	if pe.Home != 0 && pe.Home != p.id {
		home = r.peers.byID[pe.Home]
	}
	switch {
	case pe.Home == r.id:
		r.offerOwn(h, pe, how)
		return
	case home == nil && how == inDownload:
		if home = r.addPeer(pe.Home); home == nil {
			return
		}
	case home == nil:
		r.stats.UpdatesRefused++
		return
	}
	if e := r.find(h, pe.ID); e != nil {
		if home == p {
			r.contest(e, p, pe, how)
		}
		return
	}
	f := r.findForeign(h, pe.ID)
	switch {
	case f == nil && (home == p || how == inDownload):
	case f != nil && (home == p || r.belongs(f, p)):
	case how == inDownload:
		return // its home has told us already
	default:
		r.stats.UpdatesRefused++
		return
	}
	if r.putForeign(home, h, pe) && f != nil && how == inUpdate {
		r.refuseClaims(f) // a home sends updates of elements that it has heard
	}
}

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
			r.becomeHome(c, r.start.calls)
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
	e.Note.seen = p.audit.number
	return true
}
