package registrar

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// discovery is how registrars find one another without configuration: each
// sends its presence to a multicast group, and who hears one that it does not
// know calls it. All else is said over that association.
//
// A datagram proves nothing; anybody can send it in anybody's name (RFC 5353,
// Section 6.2). So it makes us call, and no more: it is never answered and
// starts no audit. It is a sign of life of a peer (RFC 5353, Section 3.4.3) only
// while there is an association with that peer, at the address that it comes
// from: forged presences must not keep a dead registrar from being taken over.
//
// No more than Limits.Servers are being called, maxFromOne of them as heard from
// one address; each once in a PEER-HEARTBEAT-CYCLE, or, while we look for a mentor,
// in a PEER-CALL-GAP.
//
// Of all that a presence says, the server identifier and the address that the
// datagram has come from tell one registrar from another. The addresses that it
// names do not: any of them may be another machine's as well, see free.
type discovery struct {
	timer timer
	// eager is until when presences are sent as while we look for a mentor, since
	// our addresses have changed.
	eager time.Time
	// told are the sources of presences that name no address but ours.
	told []netip.Addr
}

const (
	// heardTries is how often a registrar is called that is not heard again.
	heardTries = 2
	// maxHeardAddrs is how many of its addresses are called.
	maxHeardAddrs = 8
	// maxFromOne is how many registrars may be at one address.
	maxFromOne = 8
)

// Due sends our presence to all that listen, every PEER-HEARTBEAT-CYCLE. While
// we look for a mentor it is every PEER-CALL-GAP: those who hear us will call,
// and a datagram may get lost.
func (d *discovery) Due(r *Registrar, _ *timer) {
	cycle := r.cfg.Timers.PeerHeartbeat
	if !r.Ready() || r.now.Before(d.eager) {
		cycle = min(cycle, r.cfg.Timers.PeerCallGap)
	}
	r.timers.Arm(&d.timer, d, r.now.Add(r.vary(cycle)))
	b, err := r.presence(0, false).Append(nil)
	if err != nil {
		r.logf(true, "cannot announce the registrar to others: %v", err)
		return
	}
	r.stats.AnnouncesSent.ENRP++
	r.act(Announce{ENRP: true, Data: b})
}

// onPresenceAnnounced: a presence has come by multicast.
func (r *Registrar) onPresenceAnnounced(ev Announced) {
	msg, _, err := enrp.Parse(ev.Data)
	m, ok := msg.(*enrp.Presence)
	switch {
	case err != nil || !ok || m.Sender == 0 || m.Info.Present() && m.Info.ID != m.Sender:
		r.stats.AnnouncesMalformed.ENRP++
		return
	case m.Sender == r.id:
		if !r.isSent(&m.Info.Transport) { // or it is one of our own, come back
			r.onDuplicate(&r.stats.AnnouncesDuplicate.ENRP, ev.From)
			r.connectTwin(m, plainAddr(ev.From.Addr()))
		}
		return
	}
	r.stats.AnnouncesReceived.ENRP++
	from := plainAddr(ev.From.Addr())
	if p := r.peers.byID[m.Sender]; p != nil && p.link != nil && p.link.up && p.link.has(from) {
		p.last = r.now
	}
	addrs := r.heardAddrs(m, from)
	others := slices.DeleteFunc(slices.Clone(addrs), r.isOurs)
	if len(others) == 0 && slices.Contains(r.places.own, from) {
		return // one that we have sent under a former identifier
	}
	if r.start.running {
		r.start.heard = heardOne{m.Sender, from}
	}
	switch {
	case len(others) > 0:
		r.discover(m.Sender, others[:min(len(others), maxHeardAddrs)], from)
	case len(addrs) > 0:
		r.onSharedOnly(m.Sender, addrs, from)
	}
}

// onSharedOnly: a registrar on another machine names no address but such that we
// have as well. Nobody can call it.
func (r *Registrar) onSharedOnly(id rserpool.ServerID, addrs []netip.AddrPort, from netip.Addr) {
	d := &r.discovery
	if len(d.told) < maxFromOne && !slices.Contains(d.told, from) {
		d.told = append(d.told, from)
		r.logf(true, "registrar %v is heard from %v, but cannot be called: this machine has the addresses %v that it names, too; give it an address of its own (option enrp)", id, from, addrs)
	}
}

// heardAddrs are the addresses of a presence at which its sender can be called.
// Where the datagram has come from is the first of them, if it is one. Nobody
// makes us call the loopback, unless that is where we are.
func (r *Registrar) heardAddrs(m *enrp.Presence, from netip.Addr) []netip.AddrPort {
	addrs := usablePeer(plain(addrPorts(&m.Info.Transport)))
	if !r.places.inner() {
		addrs = slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() })
	}
	toFront(addrs, from)
	return addrs
}

// discover calls a registrar that was heard, unless it is a peer or being called
// already.
func (r *Registrar) discover(id rserpool.ServerID, addrs []netip.AddrPort, from netip.Addr) {
	if p := r.peers.byID[id]; p != nil && p.link != nil {
		return
	}
	var before *peer // at this place, under another identifier
	for _, p := range r.peers.list {
		switch {
		case !p.conn.reaches(addrs, from):
		case p.link == nil:
			return // that is what its caller is for
		default:
			before = p
		}
	}
	heard, same := 0, 0
	for _, c := range r.peers.seeds {
		switch {
		case !c.from.IsValid() && c.reaches(addrs, from) && (before != nil || !r.isTaken(c)):
			r.hasten(c)
			return
		case !c.from.IsValid():
			continue
		case slices.Equal(c.addrs, addrs): // in part would let another one stand in the way
			c.left = heardTries
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
	r.connect(r.addSeed(addrs, heardTries, from))
	if before != nil { // is that one still there?
		r.sendPresence(before, true)
	}
	r.mentorHeard()
}

// reaches reports whether a call of the caller comes to the sender of a presence
// with these addresses: it goes to the address that the datagram has come from, or,
// where that is none of them, to all of them.
func (c *connector) reaches(addrs []netip.AddrPort, from netip.Addr) bool {
	if addrs[0].Addr() == from {
		return slices.Contains(c.addrs, addrs[0])
	}
	return len(without(addrs, c.addrs)) == 0
}

// isTaken reports whether another registrar was found where the caller calls.
func (r *Registrar) isTaken(c *connector) bool {
	return slices.ContainsFunc(r.peers.links, func(a *link) bool { return a.by == c && a.sender != nil })
}
