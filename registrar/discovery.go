package registrar

import (
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/asap/param"
	"github.com/rserpool/coredns-rserpool/enrp"
)

// discovery is how registrars find one another without configuration: each
// sends its presence to a multicast group, and who hears one that it does not
// know calls it. All else is said over that association.
//
// A datagram proves nothing; anybody can send it in anybody's name (RFC 5353,
// Section 6.2). So it makes us call, and no more: it is never answered, is no
// sign of life of a peer, and starts no audit. No more than Limits.Servers are
// being called, maxFromOne of them as heard from one address; each once in a
// PEER-HEARTBEAT-CYCLE, or, while we look for a mentor, in a PEER-CALL-GAP.
type discovery struct{ timer timer }

const (
	// heardCalls is how often a registrar is called that is not heard again.
	heardCalls = 2
	// maxHeardAddrs is how many of its addresses are called.
	maxHeardAddrs = 8
	// maxFromOne is how many registrars may be at one address.
	maxFromOne = 8
)

// due sends our presence to whoever listens, every PEER-HEARTBEAT-CYCLE. While
// we look for a mentor it is every PEER-CALL-GAP: those who hear us will call,
// and a datagram may get lost.
func (d *discovery) due(r *Registrar, _ *timer) {
	cycle := r.cfg.Timers.PeerHeartbeat
	if !r.Ready() {
		cycle = min(cycle, r.cfg.Timers.PeerCallGap)
	}
	r.timers.arm(&d.timer, d, r.now.Add(r.vary(cycle)))
	b, err := r.presence(0, false).Append(nil)
	if err != nil {
		r.logf(true, "cannot announce the registrar to others: %v", err)
		return
	}
	r.stats.AnnouncesSent[announceENRP]++
	r.act(Announce{ENRP: true, Data: b})
}

// onPresenceAnnounced: a presence has come by multicast.
func (r *Registrar) onPresenceAnnounced(ev Announced) {
	msg, _, err := enrp.Parse(ev.Data)
	m, ok := msg.(*enrp.Presence)
	switch {
	case err != nil || !ok || m.Sender == 0 || m.Info.Present() && m.Info.ID != m.Sender:
		r.stats.AnnouncesMalformed[announceENRP]++
		return
	case m.Sender == r.id:
		t, ours := &m.Info.Transport, &r.peers.server.Transport
		if t.Port != ours.Port || !slices.Equal(t.Addrs, ours.Addrs) { // or it is one of our own, come back
			r.onDuplicate(announceENRP, ev.From)
		}
		return
	}
	r.stats.AnnouncesReceived[announceENRP]++
	from := plainAddr(ev.From.Addr())
	if addrs := r.heardAddrs(m, from); len(addrs) > 0 && !r.isAtOurs(addrs) {
		r.discover(m.Sender, addrs, from)
	}
}

// heardAddrs are the addresses of a presence at which its sender can be called.
// Where the datagram has come from is the first of them, if it is one. Nobody
// makes us call the loopback, unless that is where we are.
func (r *Registrar) heardAddrs(m *enrp.Presence, from netip.Addr) []netip.AddrPort {
	addrs := usablePeer(plain(addrPorts(&m.Info.Transport)))
	if ours := r.peers.server.Transport.Addrs; len(ours) == 0 || !ours[0].IsLoopback() {
		addrs = slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() })
	}
	i := slices.IndexFunc(addrs, func(a netip.AddrPort) bool { return a.Addr() == from })
	if i > 0 {
		addrs[0], addrs[i] = addrs[i], addrs[0]
	}
	return addrs[:min(len(addrs), maxHeardAddrs)]
}

// isAtOurs reports whether a presence says to be at one of our own addresses,
// such as one that we have sent under a former identifier.
func (r *Registrar) isAtOurs(addrs []netip.AddrPort) bool {
	t := &r.peers.server.Transport
	return slices.ContainsFunc(addrs, func(a netip.AddrPort) bool {
		return a.Port() == t.Port && slices.Contains(t.Addrs, a.Addr())
	})
}

// discover calls a registrar that was heard, unless it is a peer or being called
// already.
func (r *Registrar) discover(id param.ServerID, addrs []netip.AddrPort, from netip.Addr) {
	if p := r.peers.byID[id]; p != nil && p.assoc != nil {
		return
	}
	before := r.peerAt(addrs)
	if before != nil && before.assoc == nil {
		return // that is what its caller is for
	}
	heard, same := 0, 0
	for _, c := range r.peers.seeds {
		switch {
		case !c.from.IsValid() && overlap(c.addrs, addrs):
			r.hasten(c)
			return
		case !c.from.IsValid():
			continue
		case slices.Equal(c.addrs, addrs): // in part would let another one stand in the way
			c.left = heardCalls
			return
		}
		heard++
		if c.from == from {
			same++
		}
	}
	if heard >= r.cfg.Limits.Servers || same >= maxFromOne {
		r.stats.AnnouncesRefused++
		return
	}
	r.logf(false, "registrar %v is heard from %v, and called at %v", id, from, addrs[0])
	c := &caller{addrs: addrs, left: heardCalls, from: from}
	r.peers.seeds = append(r.peers.seeds, c)
	r.call(c)
	if before != nil { // under another identifier: is that one still there?
		r.sendPresence(before, true)
	}
	r.mentorHeard()
}

// peerAt is a peer with one of the addresses, nil if there is none; rather one
// that is not there any more.
func (r *Registrar) peerAt(addrs []netip.AddrPort) *peer {
	var at *peer
	for _, p := range r.peers.list {
		if overlap(p.caller.addrs, addrs) && (at == nil || at.assoc != nil) {
			at = p
		}
	}
	return at
}

func overlap(a, b []netip.AddrPort) bool {
	return slices.ContainsFunc(a, func(x netip.AddrPort) bool { return slices.Contains(b, x) })
}

// hasten has a seed called soon that was to be called later.
func (r *Registrar) hasten(c *caller) {
	if c.left > 0 {
		c.left = maxFormerCalls
	}
	at := c.called.Add(r.cfg.Timers.PeerCallGap)
	if !c.busy && c.timer.at.After(at) {
		r.timers.arm(&c.timer, c, at)
	}
}
