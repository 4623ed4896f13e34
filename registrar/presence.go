package registrar

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// presence tells where we are and what the elements are that we own (RFC 5353,
// Sections 2.1 and 3.6.1).
func (r *Registrar) presence(to rserpool.ServerID, reply bool) *enrp.Presence {
	return &enrp.Presence{
		Sender: r.id, Receiver: to, ReplyRequired: reply,
		Checksum: r.roster.Checksum(), HasChecksum: true, Info: r.peers.server,
	}
}

func (r *Registrar) sendPresence(p *peer, reply bool) { r.tell(p, r.presence(p.id, reply)) }

// Due announces our presence to all peers, every PEER-HEARTBEAT-CYCLE (RFC
// 5353, Section 3.4.2), varied by 5 % either way, so that registrars which have
// started together are not all heard at once. One peer, each time another one,
// is asked for its list: two registrars that have missed one another, such as
// while one of them was held up, come to know of each other in the end.
func (ps *peerList) Due(r *Registrar, _ *timer) {
	r.tellAll(r.presence(0, false))
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

// isStale reports whether the peer's elements may be other than we have them. Its
// checksum covers their identifiers (RFC 5353, Section 3.6.2). It does not tell that
// an update of an address or of a policy is missing.
func (r *Registrar) isStale(p *peer, checksum uint16) bool {
	return !enrp.ChecksumsMatch(checksum, p.roster.Checksum()) || p.missed && p.roster.Len() > 0
}

// onListRequest: RFC 5353, Section 3.2.2.2. Peers that have not been heard are
// not passed on, so that the dead do not live on in everybody's lists.
func (r *Registrar) onListRequest(p *peer, a *link) {
	m := &enrp.ListResponse{Sender: r.id, Receiver: p.id, Reject: !r.Ready()}
	size := 0
	for _, q := range r.peers.list {
		if m.Reject || q == p || !q.heard || q.state != PeerActive || len(q.conn.addrs) == 0 {
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

// askList asks a peer for the registrars that it knows (RFC 5353, Section
// 3.2.2.1).
func (r *Registrar) askList(p *peer) {
	p.listAsked = true
	r.tell(p, &enrp.ListRequest{Sender: r.id, Receiver: p.id})
}

const (
	// maxListedAddrs is how many addresses of a registrar in a list are called.
	maxListedAddrs = 8
	// unheardTries is how many registrars a second are called that are known from
	// lists and have never been heard. The sender of a list chooses the
	// addresses.
	unheardTries = 8
)

// onListResponse calls the registrars that were not known. A list that nobody has
// asked for does not count.
func (r *Registrar) onListResponse(p *peer, m *enrp.ListResponse) {
	if !p.listAsked {
		r.stats.Ignored.Unasked++
		return
	}
	p.listAsked = false
	for i := range m.Servers {
		if s := &m.Servers[i]; s.ID != 0 && s.ID != r.id {
			r.onListed(s)
		}
	}
	r.mentorListed(p, m.Reject)
}

// onListed notes a registrar that a peer knows. Of those that have never been
// heard there are no more than a quarter of all peers.
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

// inScope leaves out the addresses that mean another machine here than where
// they come from: those of the loopback, unless that is where we are, and
// link-local ones.
func (r *Registrar) inScope(addrs []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(addrs, func(a netip.AddrPort) bool {
		return a.Addr().IsLoopback() && !r.places.inner() || a.Addr().IsLinkLocalUnicast()
	})
}

// provedFirst puts the address that a registrar has proved to be at before those that
// it names. Over SCTP in UDP it need not name that one: it may be behind an address
// translation, which forwards the port.
func (r *Registrar) provedFirst(a *link, addrs []netip.AddrPort) []netip.AddrPort {
	proved := a.primary()
	if !toFront(addrs, proved) && len(addrs) > 0 && a.inUDP() && proved.IsValid() && (r.places.inner() || !proved.IsLoopback()) {
		addrs = slices.Insert(addrs, 0, netip.AddrPortFrom(proved, addrs[0].Port()))
	}
	return addrs
}
