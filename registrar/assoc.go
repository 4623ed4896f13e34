package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// assoc is an association, established or being opened. It is either a [client], of the
// ASAP endpoint, or a [link], of the ENRP endpoint.
type assoc struct {
	client *client
	link   *link

	id   AssocID
	via  rserpool.Via
	up   bool
	ours bool // opened by this registrar
	upAt time.Time
	// peer are the peer's confirmed addresses, in plain form and without zones. The
	// first is the one that the peer has proved to be at. claimed are others that it
	// lists.
	peer, claimed []netip.AddrPort

	encap uint16 // the peer's UDP port, 0 if its SCTP is not in UDP

	// identity is the name that the peer has proved. barred tells that the association is
	// being closed because of it: see bar.
	identity string
	barred   bool

	errors bucket // ASAP_ERROR or ENRP_ERROR messages
	logs   bucket // warnings of what the peer asks for
}

// peerKey is where a peer has proved to be. The UDP port distinguishes several peers
// behind one address translation; 0 stands for any port.
type peerKey struct {
	enrp  bool
	via   rserpool.Via
	addr  netip.AddrPort
	encap uint16
}

// primary returns the address that the peer has proved to be at; the zero value if the
// host has not told one.
func (a *assoc) primary() netip.Addr {
	if len(a.peer) == 0 {
		return netip.Addr{}
	}
	return a.peer[0].Addr()
}

// who names the peer for the log.
func (a *assoc) who() fmt.Stringer { return peerName{a} }

// peerName is made text only if it is really logged.
type peerName struct{ of *assoc }

func (n peerName) String() string {
	if n.of.identity == "" {
		return n.of.primary().String()
	}
	return fmt.Sprintf("%v (%s)", n.of.primary(), holder(n.of.identity))
}

// has reports whether addr is a confirmed address of the peer.
func (a *assoc) has(addr netip.Addr) bool { return hasAddr(a.peer, addr) }

// lists reports whether addr is an address of the peer, confirmed or not.
func (a *assoc) lists(addr netip.Addr) bool { return a.has(addr) || hasAddr(a.claimed, addr) }

// inUDP reports whether the association is SCTP in UDP, in user space or in the kernel.
func (a *assoc) inUDP() bool { return a.encap != 0 || a.via == rserpool.ViaUDP }

// newAssoc enters an association, which is part of a client or a link.
func (r *Registrar) newAssoc(a *assoc, id AssocID) {
	a.id, r.assocs[id] = id, a
}

func (r *Registrar) onAssocUp(ev AssocUp) {
	a := r.assocs[ev.Assoc]
	switch {
	case ev.Assoc == 0 || a != nil && a.up:
		return // the host's mistake
	case a == nil && ev.ENRP:
		a = &r.newLink(ev.Assoc).assoc
	case a == nil:
		a = &r.newClient(ev.Assoc).assoc
	}
	a.up, a.upAt, a.via, a.encap, a.identity = true, r.now, ev.Via, ev.EncapPort, ev.Identity
	r.setPeers(a, ev.Peer, ev.Claimed, ev.Translated)
	r.stats.AssociationsTotal[viaIndex(a.via)]++
	r.stats.Associations[viaIndex(a.via)]++
	if why := r.whyBarred(a); why != "" {
		r.bar(a, why)
		return
	}
	if a.link != nil {
		r.linkUp(a.link)
	} else {
		r.clientUp(a.client)
	}
}

func (r *Registrar) onAssocAddrs(ev AssocAddrs) {
	a := r.assocs[ev.Assoc]
	if a == nil || !a.up || a.barred {
		return
	}
	proved := slices.Clone(a.peer[:min(1, len(a.peer))])
	r.setPeers(a, ev.Peer, ev.Claimed, ev.Translated)
	if len(proved) > 0 {
		// The transport may prefer another address by now. The peer stays known by this
		// one.
		if i := slices.Index(a.peer, proved[0]); i > 0 {
			r.dropPrimary(a)
			a.peer[0], a.peer[i] = a.peer[i], a.peer[0]
			r.addPrimary(a)
		}
	}
	if a.client != nil {
		r.confirmed(a.client)
	}
}

// setPeers sets the addresses that count as the peer's: the first one, from which it
// has come, and those of the others that cannot be another host's.
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

// keys returns the keys of the peer, without and with its UDP port.
func (a *assoc) keys() [2]peerKey {
	k := peerKey{enrp: a.link != nil, via: a.via, addr: a.peer[0]}
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

// at returns an established association with a peer that has proved to be at one of the
// addresses, over the given kinds of SCTP; nil if there is none. If encap is not 0, the
// peer must not have another UDP port.
func (r *Registrar) at(enrp bool, vias []rserpool.Via, addrs []netip.AddrPort, encap uint16) *assoc {
	for _, addr := range addrs {
		for _, via := range vias {
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

// anySCTP are the kinds of SCTP.
var anySCTP = []rserpool.Via{rserpool.ViaKernel, rserpool.ViaUDP}

// clientAt returns an association of the ASAP endpoint; see at.
func (r *Registrar) clientAt(vias []rserpool.Via, addrs []netip.AddrPort, encap uint16) *client {
	if a := r.at(false, vias, addrs, encap); a != nil {
		return a.client
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
	if a.up {
		a.up = false
		r.stats.Associations[viaIndex(a.via)]--
	}
	if a.link != nil {
		if a.upAt.IsZero() {
			r.notReached(a.link.by, ev.Err)
		}
		r.linkDown(a.link, ev.Reason)
	} else {
		r.clientDown(a.client, ev.Reason)
	}
}
