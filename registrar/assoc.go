package registrar

import (
	"net/netip"
	"slices"
	"time"
)

// assoc is an association, established or being opened by a probe.
type assoc struct {
	id   AssocID
	via  Via
	up   bool
	ours bool // opened by a probe
	upAt time.Time
	// peer are the peer's confirmed addresses, in plain form and without zones.
	// The first is the one that the peer has proved to be at. claimed are those that
	// it lists beside them.
	peer, claimed []netip.AddrPort

	encap uint16 // the peer's UDP port, 0 if its SCTP is not in UDP

	older, newer *assoc // in the list of all associations

	elements elements // that it owns
	subs     map[*watched]*subscription
	claims   []*claim // that are from this association
	held     []*held  // registrations that wait for an address
	missed   []missed // elements that have not answered over it
	probe    *probe   // that asks elements over this association
	inquiry  *inquiry // that has opened it, until it is up
	linger   timer
	errors   bucket

	// Those of the ENRP endpoint have no more than these beside the above.
	enrp   bool
	caller *caller // that has opened it, nil if the peer has
	sender *peer   // that was heard on it first, nil before that
	rate   bucket  // of messages
}

// peerKey is where a peer has proved to be. Of several peers behind an address
// translation the UDP port tells one from another; 0 stands for any.
type peerKey struct {
	enrp  bool
	via   Via
	addr  netip.AddrPort
	encap uint16
}

// maxPeerAddrs bounds the addresses of a peer that are looked at; SCTP stacks
// have far fewer.
const maxPeerAddrs = 64

// plain returns addresses without zones and IPv4-mapped forms.
func plain(addrs []netip.AddrPort) []netip.AddrPort {
	list := make([]netip.AddrPort, 0, min(len(addrs), maxPeerAddrs))
	for _, a := range addrs {
		if len(list) == maxPeerAddrs {
			break
		}
		if a.IsValid() {
			list = append(list, netip.AddrPortFrom(plainAddr(a.Addr()), a.Port()))
		}
	}
	return list
}

func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// primary is the address that the peer has proved to be at; the zero value if
// the host did not tell one.
func (a *assoc) primary() netip.Addr {
	if len(a.peer) == 0 {
		return netip.Addr{}
	}
	return a.peer[0].Addr()
}

// has reports whether addr is a confirmed one of the association's.
func (a *assoc) has(addr netip.Addr) bool { return hasAddr(a.peer, addr) }

// lists reports whether addr is one of the association's, confirmed or not.
func (a *assoc) lists(addr netip.Addr) bool { return a.has(addr) || hasAddr(a.claimed, addr) }

func hasAddr(set []netip.AddrPort, addr netip.Addr) bool {
	return slices.ContainsFunc(set, func(p netip.AddrPort) bool { return p.Addr() == addr })
}

func (r *Registrar) newAssoc(id AssocID) *assoc {
	a := &assoc{id: id, older: r.newest}
	if r.newest != nil {
		r.newest.newer = a
	} else {
		r.oldest = a
	}
	r.newest = a
	r.assocs[id] = a
	return a
}

func (r *Registrar) onAssocUp(ev AssocUp) {
	a := r.assocs[ev.Assoc]
	if ev.Assoc == 0 || a != nil && a.up {
		return // the host's mistake
	}
	if a == nil {
		a = r.newAssoc(ev.Assoc)
		a.enrp = ev.ENRP
	}
	a.up, a.upAt, a.via, a.encap = true, r.now, ev.Via, ev.EncapPort
	r.setPeers(a, ev.Peer, ev.Claimed, ev.Translated)
	r.stats.AssociationsTotal[viaIndex(a.via)]++
	r.stats.Associations[viaIndex(a.via)]++
	switch {
	case a.enrp:
		r.linkUp(a)
	case a.probe != nil:
		a.probe.connected(r)
	default:
		r.leaveIdle(a)
	}
	if q := a.inquiry; q != nil {
		q.askOver(r, a)
	}
}

func (r *Registrar) onAssocAddrs(ev AssocAddrs) {
	a := r.assocs[ev.Assoc]
	if a == nil || !a.up {
		return
	}
	proved := slices.Clone(a.peer[:min(1, len(a.peer))])
	r.setPeers(a, ev.Peer, ev.Claimed, ev.Translated)
	if len(proved) > 0 {
		// The peer may prefer another address by now, but it is known by this one.
		if i := slices.Index(a.peer, proved[0]); i > 0 {
			r.dropPrimary(a)
			a.peer[0], a.peer[i] = a.peer[i], a.peer[0]
			r.addPrimary(a)
		}
	}
	r.confirmed(a)
}

// setPeers notes the addresses that are taken for the peer's: the first, from which
// it has come, and of the others those that cannot be somebody else's.
func (r *Registrar) setPeers(a *assoc, peer, claimed []netip.AddrPort, translated bool) {
	if translated || len(peer) == 0 {
		peer, claimed = peer[:min(1, len(peer))], nil
	} else {
		shared := func(p netip.AddrPort) bool { return r.isShared(p.Addr(), peer[0].Addr()) }
		claimed = slices.DeleteFunc(slices.Clone(claimed), shared)
		peer = slices.DeleteFunc(slices.Clone(peer), shared)
	}
	r.setPeer(a, peer)
	a.claimed = plain(claimed)
}

// keys are where the peer has proved to be, without and with its UDP port.
func (a *assoc) keys() [2]peerKey {
	k := peerKey{enrp: a.enrp, via: a.via, addr: a.peer[0]}
	with := k
	with.encap = a.encap
	return [2]peerKey{k, with}
}

func (r *Registrar) setPeer(a *assoc, peer []netip.AddrPort) {
	r.dropPrimary(a)
	a.peer = plain(peer)
	r.addPrimary(a)
}

func (r *Registrar) addPrimary(a *assoc) {
	if len(a.peer) > 0 {
		for _, k := range a.keys() {
			r.byPrimary[k] = a
		}
	}
}

func (r *Registrar) dropPrimary(a *assoc) {
	if len(a.peer) > 0 {
		for _, k := range a.keys() {
			if r.byPrimary[k] == a {
				delete(r.byPrimary, k)
			}
		}
	}
}

// associated returns an established association of the ASAP endpoint with a
// peer that has proved to be at one of the addresses, nil if there is none. If the
// peer's UDP port is known it must not have another one.
func (r *Registrar) associated(via Via, addrs []netip.AddrPort, encap uint16) *assoc {
	for _, addr := range addrs {
		if a := r.byPrimary[peerKey{via: via, addr: addr, encap: encap}]; a != nil {
			return a
		}
		if a := r.byPrimary[peerKey{via: via, addr: addr}]; a != nil && a.encap == 0 {
			return a
		}
	}
	return nil
}

// sctpAssociated is the same for any kind of SCTP, on the endpoint of ENRP or of
// ASAP.
func (r *Registrar) sctpAssociated(enrp bool, addrs []netip.AddrPort, encap uint16) *assoc {
	for _, addr := range addrs {
		for _, via := range [...]Via{ViaKernel, ViaUDP} {
			if a := r.byPrimary[peerKey{enrp, via, addr, encap}]; a != nil {
				return a
			}
			if a := r.byPrimary[peerKey{enrp, via, addr, 0}]; a != nil && a.encap == 0 {
				return a
			}
		}
	}
	return nil
}

func (r *Registrar) onAssocDown(ev AssocDown) {
	a := r.assocs[ev.Assoc]
	if a == nil {
		return
	}
	r.dropPrimary(a)
	delete(r.assocs, a.id)
	if a.older != nil {
		a.older.newer = a.newer
	} else {
		r.oldest = a.newer
	}
	if a.newer != nil {
		a.newer.older = a.older
	} else {
		r.newest = a.older
	}
	if a.up {
		a.up = false
		r.stats.Associations[viaIndex(a.via)]--
	}
	if a.enrp {
		r.linkDown(a)
		return
	}
	r.timers.stop(&a.linger)
	r.unsubscribeAll(a)
	r.dropClaims(a)
	r.dropHeld(a)
	r.missed -= len(a.missed)
	a.missed = nil
	if a.inquiry != nil {
		a.inquiry.refused(r)
	}
	if a.probe != nil {
		a.probe.lost(r)
	}
	if a.elements.n > 0 {
		r.probeElements(a)
	}
}

// leaveIdle closes an association that the registrar has opened some time
// after nothing needs it any more.
func (r *Registrar) leaveIdle(a *assoc) {
	idle := a.ours && a.elements.n == 0 && len(a.subs) == 0 && len(a.claims) == 0 && len(a.held) == 0 && a.probe == nil
	switch {
	case !idle:
		r.timers.stop(&a.linger)
	case !a.linger.armed():
		r.timers.arm(&a.linger, a, r.now.Add(r.cfg.Timers.Linger))
	}
}

// due closes an idle association.
func (a *assoc) due(r *Registrar, _ *timer) { r.act(Close{Assoc: a.id}) }
