package registrar

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// twin is another registrar with this registrar's identifier. Peers can accept only one
// of the two, and no registrar can tell their elements apart. So a registrar that starts
// while its twin serves is not ready until the twin has gone, and both log it.
//
// One registrar tells the other over a link between the two, whichever has opened it: a
// presence without the R bit, in response to one with it, says that its sender serves.
// A registrar that does not serve yet asks and does not respond. If the two do not know
// each other, a third registrar tells both: see tellTwins.
type twin struct {
	at   netip.Addr // where one was found last, perhaps this registrar itself
	told netip.Addr // of the peer that has reported one last
	// serves is when one has last said that it serves, refused when a peer has last
	// refused this registrar because of one.
	serves, refused time.Time
}

// twinTime is how long news of a twin counts. The registrar connects to it every
// PEER-CALL-GAP during that time.
func (r *Registrar) twinTime() time.Duration { return 2 * r.cfg.Timers.MaxTimeNoResponse }

// isElsewhere reports whether a link cannot be the peer's, since the peer is at another
// place and active: then two registrars have one identifier. Two links are of one
// registrar if each is at an address that the registrar has proved or named over the
// other.
func (p *peer) isElsewhere(a *link, m enrp.Message) bool {
	if p.state != PeerActive || !p.heard || p.link == nil || !p.link.up {
		return false
	}
	if p.link.has(a.primary()) || hasAddr(p.conn.addrs, a.primary()) || a.has(p.link.primary()) {
		return false
	}
	pr, ok := m.(*enrp.Presence)
	return !ok || !slices.Contains(pr.Info.Transport.Addrs, p.link.primary())
}

// hasMoved distinguishes a peer whose address has changed from another registrar with
// its identifier: the former link of the peer does not respond any more. Until that is
// known, the new link is refused; the other side connects again every PEER-CALL-GAP.
func (r *Registrar) hasMoved(p *peer, a *link) bool {
	if p.doubted.IsZero() {
		r.warnOfNames("registrar at %v has the server identifier %v of the one at %v: it is not a peer as long as the other one responds", a.primary(), p.id, p.link.primary())
		r.doubt(p)
	}
	if !r.isSilent(p) {
		if !p.proved.IsZero() && r.now.Sub(p.proved) < 2*r.cfg.Timers.PeerHeartbeat {
			r.tellTwins(p, a) // it has responded since, so there are two
		}
		return false
	}
	r.logf(false, "registrar %v is at %v now, and no longer at %v", p.id, a.primary(), p.link.primary())
	old := p.link
	p.link, p.doubted = a, time.Time{}
	r.act(Close{Assoc: old.id, Abort: true})
	return true
}

// tellTwins tells a peer, and another registrar with its identifier, of each other.
func (r *Registrar) tellTwins(p *peer, a *link) {
	m := &enrp.Error{Sender: r.id, Receiver: p.id, Causes: []rserpool.Cause{{
		Code: rserpool.CauseSecurity, Info: binary.BigEndian.AppendUint32(nil, uint32(p.id)),
	}}}
	r.writeError(a, m)
	if p.link != nil && p.link.up {
		r.writeError(p.link, m)
	}
}

// onTwinTold: a peer reports another registrar with this registrar's identifier. During
// the start, the report of a registrar to which this one has connected counts.
func (r *Registrar) onTwinTold(a *link, m *enrp.Error) {
	for _, c := range m.Causes {
		if c.Code != rserpool.CauseSecurity || len(c.Info) != 4 || binary.BigEndian.Uint32(c.Info) != uint32(r.id) {
			continue
		}
		r.stats.Twins++
		if at := a.primary(); at != r.peers.twin.told {
			r.peers.twin.told = at
			r.warnOfNames("the registrar at %v has a peer with this registrar's server identifier %v at another address: change server_id on one of the two (its log has that address)", at, r.id)
		}
		if r.start.running && a.ours {
			r.peers.twin.refused = r.now
		}
	}
}

// onOwnID: the registrar has connected to itself, or another registrar has its
// identifier.
func (r *Registrar) onOwnID(a *link, m enrp.Message) {
	r.stats.Ignored.Sender++
	t := &r.peers.twin
	if at := a.primary(); at != t.at {
		t.at = at
		r.warnOfNames("a registrar at %v has this registrar's server identifier %v: it cannot be a peer", at, r.id)
	}
	serves := false
	if p, ok := m.(*enrp.Presence); ok && !r.isSent(&p.Info.Transport) {
		r.stats.Twins++
		switch {
		case !p.ReplyRequired:
			serves = r.start.running
		case r.Ready():
			r.write(a, r.presence(0, false))
		case !a.ours:
			r.write(a, r.presence(0, true)) // it has connected, and may serve; it ends the link
			return
		}
		if serves {
			r.twinServes(a, p)
		}
	}
	switch c := a.by; {
	case c == nil:
	case c.of != 0: // a peer was there before, and is tried again
		if p := r.target(c); p != nil && p.link == a {
			r.unlink(p, DownSilent)
		}
	case c.isConfigured():
		c.self = true // a virtual address may be another machine's later
	case serves: // the registrar continues to connect to it
		c.left = heardTries
	default:
		r.dropSeed(c)
		a.by = nil
	}
	r.act(Close{Assoc: a.id})
}

// connectTwin: during the start, a multicast presence with this registrar's identifier
// has arrived, which proves nothing.
func (r *Registrar) connectTwin(m *enrp.Presence, from netip.Addr) {
	addrs := slices.DeleteFunc(r.heardAddrs(m, from), r.isOurs)
	if r.start.running && len(addrs) > 0 {
		r.discover(m.Sender, addrs[:min(len(addrs), maxHeardAddrs)], from)
	}
}

// twinServes: during the start, another registrar with this registrar's identifier has
// said that it serves. If it has opened the link, this registrar connects to it from
// now on, within the bounds of discovery.
func (r *Registrar) twinServes(a *link, m *enrp.Presence) {
	t := &r.peers.twin
	if t.serves.IsZero() {
		r.warnOfNames("the registrar at %v has this registrar's server identifier %v and serves: not ready until it stops; change server_id on one of the two", a.primary(), r.id)
	}
	t.serves = r.now
	addrs := r.provedFirst(a, usablePeer(plain(addrPorts(&m.Info.Transport))))
	if a.by != nil || len(addrs) == 0 {
		return
	}
	if slices.ContainsFunc(r.peers.seeds, func(c *connector) bool { return overlap(c.addrs, addrs) }) || !r.mayTry(a.primary()) {
		return
	}
	r.connectLater(r.addSeed(addrs[:min(len(addrs), maxHeardAddrs)], heardTries, a.primary()))
}

// waitForTwin continues the start while another registrar with this registrar's
// identifier serves.
func (r *Registrar) waitForTwin() bool {
	s, t := &r.start, &r.peers.twin
	last := t.serves
	if t.refused.After(last) {
		last = t.refused
	}
	if last.IsZero() {
		return false
	}
	s.mentor, s.downloading, s.tried = nil, false, nil
	s.until = last.Add(r.twinTime())
	if !s.until.After(r.now) {
		r.logf(false, "the other registrar with this registrar's server identifier %v does not respond any more", r.id)
		t.serves, t.refused = time.Time{}, time.Time{}
		s.until = r.now.Add(r.cfg.Timers.MaxTimeNoResponse)
		if p := r.untried(); p != nil {
			r.askMentor(p)
			return true
		}
	}
	r.timers.Arm(&s.timer, s, s.until)
	return true
}
