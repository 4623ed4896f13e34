package registrar

import (
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// announceUpdate sends an update of an own element to all peers (RFC 5353, Section
// 3.3).
func (r *Registrar) announceUpdate(act enrp.UpdateAction, h rserpool.PoolHandle, pe *handlespace.Element) {
	if len(r.peers.list) > 0 {
		r.tellAll(&enrp.HandleUpdate{Sender: r.id, Action: act, Handle: h, Element: pe.PoolElement})
	}
}

// announceSuspect tells all peers that an own element is a suspect. Peers that do not know the
// parameter remove it.
func (r *Registrar) announceSuspect(x *entry) {
	if len(r.peers.list) > 0 {
		r.tellAll(&enrp.HandleUpdate{Sender: r.id, Action: enrp.DelPE, Handle: x.Handle(), Element: x.PE().PoolElement, Suspect: true, Silent: r.now.Sub(x.Since())})
	}
}

// onHandleUpdate: RFC 5353, Section 3.3, but a peer changes only its own elements.
func (r *Registrar) onHandleUpdate(p *peer, m *enrp.HandleUpdate) {
	r.letIn(p, m.Handle, m.Element.ID)
	switch m.Action {
	case enrp.AddPE:
		if e := r.find(m.Handle, m.Element.ID); e != nil && e.isSuspect() && !e.standsIn() && m.Receiver == r.id && m.Element.Home == r.id {
			r.claimedByPeer(e)
			return
		}
		r.offer(p, m.Handle, &m.Element, inUpdate)
	case enrp.DelPE:
		f, e := r.findForeign(m.Handle, m.Element.ID), r.find(m.Handle, m.Element.ID)
		switch {
		case m.Suspect && (e == nil || e.State() != ledger.Member) && !r.outlives(r.now.Add(-m.Silent)):
			r.offerSuspect(p, m.Handle, &m.Element, m.Silent, inUpdate)
		case f != nil && r.belongs(f, p):
			r.removeForeign(f)
		case e != nil && e.standIn == p.id:
			r.vacate(e.entry, nil, unclaimed)
		case e != nil && e.isContestedBy(p):
			e.contested = nil
		case f != nil || e != nil:
			r.stats.UpdatesRefused++
		}
	}
}

// offerAll handles a part of a table.
func (r *Registrar) offerAll(p *peer, pools []enrp.PoolEntry, how offered) {
	for i := range pools {
		pool := &pools[i]
		for j := range pool.Elements {
			if silent, suspect := pool.Suspects[j]; suspect {
				r.offerSuspect(p, pool.Handle, &pool.Elements[j], silent, how)
			} else {
				r.offer(p, pool.Handle, &pool.Elements[j], how)
			}
		}
	}
}

// offer handles an element that a peer names. The peer may add its own elements, and
// give them to another home. Only a mentor may name those of others.
func (r *Registrar) offer(p *peer, h rserpool.PoolHandle, pe *rserpool.PoolElement, how offered) {
	pe, usable := r.complete(h, pe)
	if pe.Home == r.id {
		if usable {
			r.offerOwn(p, h, pe, how)
		}
		return
	}
	home := r.homeOf(p, h, pe, how)
	if home == nil {
		return
	}
	if usurps := r.usurps(home, h, pe); usurps || !usable {
		if usurps {
			r.stats.UpdatesRefused++
		}
		if home == p || how == inDownload {
			r.leaveOut(home, h, pe.ID, how)
		}
		return
	}
	if e := r.find(h, pe.ID); e != nil {
		switch {
		case e.takesWord() && (home == p || how == inDownload):
			r.takeWord(e, home, pe)
		case home == p:
			r.contest(e, p, pe, how)
		}
		return
	}
	f := r.findForeign(h, pe.ID)
	switch {
	case f == nil && (home == p || how == inDownload):
	case f != nil && (home == p || r.belongs(f, p)):
	case how == inDownload:
		return // its home has announced it already
	default:
		r.stats.UpdatesRefused++
		return
	}
	r.putForeign(home, f, h, pe, how)
	if f != nil && how == inUpdate {
		r.refuseClaims(f) // a home sends updates only of elements that it has heard from
	}
}

// complete adds to an element that a peer names what it may leave out, and reports whether
// the element is usable here. A foreign one that is known, and is described anew in a way that is not
// usable, stays as it was described before. An own one is not left to a peer for such a description.
func (r *Registrar) complete(h rserpool.PoolHandle, pe *rserpool.PoolElement) (*rserpool.PoolElement, bool) {
	if !r.isUsable(h, pe) {
		r.stats.ForeignRefused++
		f := r.findForeign(h, pe.ID)
		if f == nil {
			return pe, false
		}
		before := f.PE().PoolElement
		before.Home = pe.Home
		pe = &before
	}
	if pe.Policy.Type == 0 {
		pe.Policy.Type = rserpool.RoundRobin // the default (RFC 5356, Section 4.1)
	}
	return pe, true
}

// homeOf returns the peer that is the home of an element which a peer names; nil if there is
// none, or no room for it.
func (r *Registrar) homeOf(p *peer, h rserpool.PoolHandle, pe *rserpool.PoolElement, how offered) *peer {
	if pe.Home == 0 || pe.Home == p.id {
		return p
	}
	home := r.peers.byID[pe.Home]
	switch {
	case home != nil:
	case how == inDownload:
		return r.addPeer(pe.Home)
	default:
		if f := r.findForeign(h, pe.ID); f != nil && r.belongs(f, p) {
			f.Note.passed = pe.Home // the next audit of the peer has this registrar stand in for it
		} else {
			r.stats.UpdatesRefused++
		}
	}
	return home
}
