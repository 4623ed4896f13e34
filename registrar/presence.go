package registrar

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// presence returns a presence with this registrar's addresses and checksum (RFC 5353,
// Sections 2.1 and 3.6.1).
func (r *Registrar) presence(to rserpool.ServerID, reply bool) *enrp.Presence {
	return &enrp.Presence{
		Sender: r.id, Receiver: to, ReplyRequired: reply,
		Checksum: r.roster.Checksum(), HasChecksum: true, Info: r.peers.server,
	}
}

func (r *Registrar) sendPresence(p *peer, reply bool) { r.tell(p, r.presence(p.id, reply)) }

// Due sends a presence to all peers, every PEER-HEARTBEAT-CYCLE (RFC 5353, Section
// 3.4.2), plus or minus 5 %, so that registrars that have started together do not send
// together. It also asks one peer, each time another one, for its list. So two
// registrars that have missed each other, for instance while one of them was suspended,
// find each other in the end.
func (ps *peerList) Due(r *Registrar, _ *timer) {
	r.tellAll(r.presence(0, false))
	r.keepPeers()
	if n := len(ps.list); n > 0 {
		ps.turn = (ps.turn + 1) % n
		p := ps.list[ps.turn]
		r.askList(p)
	}
	r.timers.Arm(&ps.presence, ps, r.now.Add(r.vary(r.cfg.Timers.PeerHeartbeat)))
}

func (r *Registrar) vary(cycle time.Duration) time.Duration {
	return time.Duration(float64(cycle) * (0.95 + r.rand.Float64()/10))
}

// onPresence: RFC 5353, Sections 3.4 and 3.6.1.
func (r *Registrar) onPresence(p *peer, a *link, m *enrp.Presence) {
	if m.Info.Present() {
		p.conn.addrs = r.provedFirst(a, usablePeer(plain(addrPorts(&m.Info.Transport))))
	}
	if !p.presented {
		p.presented = true
		r.logf(false, "registrar %v is a peer, at %v", p.id, a.primary())
	}
	if m.ReplyRequired {
		r.write(a, r.presence(p.id, false))
	}
	if m.HasChecksum && r.Ready() && !r.inherits(p) && r.isStale(p, m.Checksum) {
		r.beginAudit(p)
	}
}

// isStale reports whether the roster of the peer may be out of date. The checksum
// covers only identifiers of members (RFC 5353, Section 3.6.2): it does not show that an update
// of an address, of a policy or of a suspect was lost.
func (r *Registrar) isStale(p *peer, checksum uint16) bool {
	return !enrp.ChecksumsMatch(checksum, p.expected()) || p.missed && p.roster.LenAll() > 0 || r.mayHaveRoom(p)
}

// onListRequest: RFC 5353, Section 3.2.2.2. Peers that were not heard are left out, so
// that dead ones do not stay in all lists, and so are those that were asked because another
// registrar says that they are dead.
func (r *Registrar) onListRequest(p *peer, a *link) {
	m := &enrp.ListResponse{Sender: r.id, Receiver: p.id, Reject: !r.Ready()}
	size := 0
	for _, q := range r.peers.list {
		if m.Reject || q == p || !q.heard || q.state != PeerActive || len(q.claimants) > 0 || len(q.conn.addrs) == 0 {
			continue
		}
		if size += 32 + 20*len(q.conn.addrs); size > maxTable {
			break
		}
		t := rserpool.Transport{Type: rserpool.SCTP, Port: q.conn.addrs[0].Port()}
		for _, addr := range q.conn.addrs {
			t.Addrs = append(t.Addrs, addr.Addr())
		}
		m.Servers = append(m.Servers, rserpool.ServerInformation{ID: q.id, Transport: t})
	}
	r.write(a, m)
}

// askList asks a peer for the registrars that it knows (RFC 5353, Section 3.2.2.1).
func (r *Registrar) askList(p *peer) {
	p.listAsked = true
	r.tell(p, &enrp.ListRequest{Sender: r.id, Receiver: p.id})
}

const (
	// maxListedAddrs is how many addresses of a registrar in a list are tried.
	maxListedAddrs = 8
	// unheardTries is how many connects a second there are to registrars that are known
	// from lists and were never heard. The sender of a list chooses the addresses.
	unheardTries = 8
)

// onListResponse connects to the unknown registrars of a list, if this registrar has
// asked for it.
func (r *Registrar) onListResponse(p *peer, m *enrp.ListResponse) {
	if !p.listAsked {
		r.stats.Ignored.Unasked++
		return
	}
	p.listAsked = false
	r.vouch(p, m)
	for i := range m.Servers {
		if s := &m.Servers[i]; s.ID != 0 && s.ID != r.id {
			r.onListed(s)
		}
	}
	r.mentorListed(p, m.Reject)
}

// onListed adds a registrar that a peer knows. At most a quarter of all peers may be
// ones that were never heard.
func (r *Registrar) onListed(s *rserpool.ServerInformation) {
	q := r.peers.byID[s.ID]
	if q == nil {
		unheard := 0
		for _, p := range r.peers.list {
			if !p.heard {
				unheard++
			}
		}
		if unheard >= max(1, r.cfg.Limits.Peers/4) {
			r.stats.PeersRefused++
			return
		}
		if q = r.addPeer(s.ID); q == nil {
			return
		}
	}
	if len(q.conn.addrs) == 0 {
		addrs := r.inScope(usablePeer(plain(addrPorts(&s.Transport))))
		q.conn.addrs = addrs[:min(len(addrs), maxListedAddrs)]
	}
	r.connect(&q.conn)
}

// inScope leaves out the addresses that mean another machine here than at the sender:
// link-local ones, and the loopback, unless this registrar serves there.
func (r *Registrar) inScope(addrs []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(addrs, func(a netip.AddrPort) bool {
		return a.Addr().IsLoopback() && !r.places.inner() || a.Addr().IsLinkLocalUnicast()
	})
}

// provedFirst puts the address that a registrar has proved to be at before those that
// it names. With SCTP in UDP, the registrar may not name that address: it may be behind
// an address translation that forwards the port.
func (r *Registrar) provedFirst(a *link, addrs []netip.AddrPort) []netip.AddrPort {
	proved := a.primary()
	if !toFront(addrs, proved) && len(addrs) > 0 && a.inUDP() && proved.IsValid() && (r.places.inner() || !proved.IsLoopback()) {
		addrs = slices.Insert(addrs, 0, netip.AddrPortFrom(proved, addrs[0].Port()))
	}
	return addrs
}
