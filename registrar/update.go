package registrar

import (
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// announceUpdate sends an update of an own element to all peers (RFC 5353, Section
// 3.3).
func (r *Registrar) announceUpdate(act enrp.UpdateAction, h rserpool.PoolHandle, pe *handlespace.Element) {
	if len(r.peers.list) > 0 {
		r.tellAll(&enrp.HandleUpdate{Sender: r.id, Action: act, Handle: h, Element: pe.PoolElement})
	}
}

// onHandleUpdate: RFC 5353, Section 3.3, but a peer changes only its own elements.
func (r *Registrar) onHandleUpdate(p *peer, m *enrp.HandleUpdate) {
	switch m.Action {
	case enrp.AddPE:
		r.offer(p, m.Handle, &m.Element, inUpdate)
	case enrp.DelPE:
		f, e := r.findForeign(m.Handle, m.Element.ID), r.find(m.Handle, m.Element.ID)
		switch {
		case f != nil && r.belongs(f, p):
			r.removeForeign(f)
		case e != nil && e.isContestedBy(p):
			e.contested = nil
		case f != nil || e != nil:
			r.stats.UpdatesRefused++
		}
	}
}

// offer handles an element that a peer names. The peer may add its own elements, and
// give them to another home. Only a mentor may name those of others.
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
		r.offerOwn(p, h, pe, how)
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
		return // its home has announced it already
	default:
		r.stats.UpdatesRefused++
		return
	}
	if r.putForeign(home, h, pe) && f != nil && how == inUpdate {
		r.refuseClaims(f) // a home sends updates only of elements that it has heard from
	}
}
