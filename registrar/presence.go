package registrar

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/param"
	"github.com/rserpool/coredns-rserpool/enrp"
)

// presence tells where we are and what the elements are that we own (RFC 5353,
// Sections 2.1 and 3.6.1).
func (r *Registrar) presence(to param.ServerID, reply bool) *enrp.Presence {
	return &enrp.Presence{
		Sender: r.id, Receiver: to, ReplyRequired: reply,
		Checksum: r.roster.sum.Value(), HasChecksum: true, Info: r.peers.server,
	}
}

func (r *Registrar) sendPresence(p *peer, reply bool) { r.tell(p, r.presence(p.id, reply)) }

// due announces our presence to all peers, every PEER-HEARTBEAT-CYCLE (RFC
// 5353, Section 3.4.2), varied by 5 % either way, so that registrars which have
// started together are not all heard at once. One peer, each time another one,
// is asked for its list: two registrars that have missed one another, such as
// while one of them was held up, come to know of each other in the end.
func (ps *peerList) due(r *Registrar, _ *timer) {
	r.tellAll(r.presence(0, false))
	if n := len(ps.list); n > 0 {
		ps.turn = (ps.turn + 1) % n
		p := ps.list[ps.turn]
		r.tell(p, &enrp.ListRequest{Sender: r.id, Receiver: p.id})
	}
	r.timers.arm(&ps.presence, ps, r.now.Add(r.vary(r.cfg.Timers.PeerHeartbeat)))
}

func (r *Registrar) vary(cycle time.Duration) time.Duration {
	return time.Duration(float64(cycle) * (0.95 + r.rand.Float64()/10))
}

// onPresence: RFC 5353, Sections 3.4 and 3.6.1.
func (r *Registrar) onPresence(p *peer, a *assoc, m *enrp.Presence) {
	if m.Info.Present() {
		p.caller.addrs = provedFirst(usablePeer(plain(addrPorts(&m.Info.Transport))), a.primary())
	}
	if !p.presented {
		p.presented = true
		r.logf(false, "registrar %v is a peer, at %v", p.id, a.primary())
	}
	if m.ReplyRequired {
		r.write(a, r.presence(p.id, false))
	}
	if m.HasChecksum && r.Ready() && !enrp.ChecksumsMatch(m.Checksum, p.roster.sum.Value()) && !r.inherits(p) {
		r.beginAudit(p)
	}
}

// onListRequest: RFC 5353, Section 3.2.2.2. Peers that have not been heard are
// not passed on, so that the dead do not live on in everybody's lists.
func (r *Registrar) onListRequest(p *peer, a *assoc) {
	m := &enrp.ListResponse{Sender: r.id, Receiver: p.id, Reject: !r.Ready()}
	size := 0
	for _, q := range r.peers.list {
		if m.Reject || q == p || !q.heard || q.state != PeerActive || len(q.caller.addrs) == 0 {
			continue
		}
		if size += 32 + 20*len(q.caller.addrs); size > maxTable {
			break
		}
		t := param.Transport{Type: param.TypeSCTPTransport, Port: q.caller.addrs[0].Port()}
		for _, addr := range q.caller.addrs {
			t.Addrs = append(t.Addrs, addr.Addr())
		}
		m.Servers = append(m.Servers, param.ServerInformation{ID: q.id, Transport: t})
	}
	r.write(a, m)
}

// onListResponse calls the registrars that were not known.
func (r *Registrar) onListResponse(p *peer, m *enrp.ListResponse) {
	for i := range m.Servers {
		s := &m.Servers[i]
		if s.ID == 0 || s.ID == r.id {
			continue
		}
		q := r.peerOf(s.ID)
		if q == nil {
			continue
		}
		if len(q.caller.addrs) == 0 {
			q.caller.addrs = usablePeer(plain(addrPorts(&s.Transport)))
		}
		r.call(&q.caller)
	}
	r.mentorListed(p, m.Reject)
}

// usablePeer are the addresses at which a registrar can be.
func usablePeer(addrs []netip.AddrPort) []netip.AddrPort {
	var list []netip.AddrPort
	for _, a := range addrs {
		if a.Port() != 0 && usable(a.Addr(), a.Addr()) {
			list = append(list, a)
		}
	}
	return list
}

// provedFirst puts the address that a registrar has proved to be at before the
// others that it names.
func provedFirst(addrs []netip.AddrPort, proved netip.Addr) []netip.AddrPort {
	if i := slices.IndexFunc(addrs, func(a netip.AddrPort) bool { return a.Addr() == proved }); i > 0 {
		addrs[0], addrs[i] = addrs[i], addrs[0]
	}
	return addrs
}
