package registrar

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// discovery is how registrars find one another without configuration. Each sends its
// presence to a multicast group. A registrar that receives the presence of an unknown
// one connects to it. All other messages use that link.
//
// A datagram proves nothing: anyone can send it in any name (RFC 5353, Section 6.2). So
// it causes a connection and nothing else: it is never answered and starts no audit. It
// proves that a peer is alive (RFC 5353, Section 3.4.3) only if there is a link to that
// peer, at the address that the datagram comes from: forged presences must not keep a
// dead registrar from being taken over.
//
// At most Limits.Servers places are tried for this reason, or for a twin that has connected,
// maxFromOne of them for one source address, each once in a PEER-HEARTBEAT-CYCLE, or in a
// PEER-CALL-GAP while the registrar looks for a mentor.
//
// Registrars are told apart by the server identifier and the source address of the
// datagram. The addresses in the presence do not tell them apart: other machines may
// have the same ones, see free.
type discovery struct {
	timer timer
	// eager is until when presences are sent as often as during the start, since the
	// addresses have changed.
	eager time.Time
	// told are the sources of presences in which all addresses are this machine's, too.
	told []netip.Addr
}

const (
	// heardTries is how often a place is tried if its registrar is not heard again.
	heardTries = 2
	// maxHeardAddrs is how many addresses of one registrar are tried.
	maxHeardAddrs = 8
	// maxFromOne is how many registrars there may be at one address.
	maxFromOne = 8
)

// Due sends the presence by multicast, every PEER-HEARTBEAT-CYCLE. While the registrar
// looks for a mentor, it does so every PEER-CALL-GAP: those that receive it connect,
// and a datagram may be lost.
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

// onPresenceAnnounced: a presence has arrived by multicast.
func (r *Registrar) onPresenceAnnounced(ev Announced) {
	msg, _, err := enrp.Parse(ev.Data)
	m, ok := msg.(*enrp.Presence)
	switch {
	case err != nil || !ok || m.Sender == 0 || m.Info.Present() && m.Info.ID != m.Sender:
		r.stats.AnnouncesMalformed.ENRP++
		return
	case m.Sender == r.id:
		if !r.isSent(&m.Info.Transport) { // otherwise it is one of this registrar's own
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
		return // one that this registrar has sent under a former identifier
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

// onSharedOnly: a registrar on another machine names only addresses that this machine
// has, too. No connection can reach it.
func (r *Registrar) onSharedOnly(id rserpool.ServerID, addrs []netip.AddrPort, from netip.Addr) {
	d := &r.discovery
	if len(d.told) < maxFromOne && !slices.Contains(d.told, from) {
		d.told = append(d.told, from)
		r.logf(true, "registrar %v is heard from %v, but cannot be reached: this machine also has the addresses %v that it names; give it an address of its own (option enrp)", id, from, addrs)
	}
}

// heardAddrs returns the addresses of a presence to which the registrar may connect,
// that of the datagram first. The loopback is left out, unless this registrar serves
// there.
func (r *Registrar) heardAddrs(m *enrp.Presence, from netip.Addr) []netip.AddrPort {
	addrs := usablePeer(plain(addrPorts(&m.Info.Transport)))
	if !r.places.inner() {
		addrs = slices.DeleteFunc(addrs, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() })
	}
	toFront(addrs, from)
	return addrs
}

// discover connects to a registrar that was heard, unless there is a link or a
// connector for it already.
func (r *Registrar) discover(id rserpool.ServerID, addrs []netip.AddrPort, from netip.Addr) {
	if p := r.peers.byID[id]; p != nil && p.link != nil {
		return
	}
	var before *peer // at this place, under another identifier
	for _, p := range r.peers.list {
		switch {
		case !p.conn.reaches(addrs, from):
		case p.link == nil:
			return // its connector tries anyway
		default:
			before = p
		}
	}
	for _, c := range r.peers.seeds {
		switch {
		case !c.from.IsValid() && c.reaches(addrs, from) && (before != nil || !r.isTaken(c)):
			r.hasten(c)
			return
		case c.from.IsValid() && slices.Equal(c.addrs, addrs): // all of them: one that is only partly the same may be another registrar
			c.left = heardTries
			return
		}
	}
	if !r.mayTry(from) {
		r.stats.AnnouncesRefused++
		return
	}
	r.logf(false, "registrar %v is heard from %v: connecting to %v", id, from, addrs[0])
	r.connect(r.addSeed(addrs, heardTries, from))
	if before != nil { // check that one
		r.sendPresence(before, true)
	}
	r.mentorHeard()
}

// mayTry reports whether the bounds allow one more place that was heard from an address.
func (r *Registrar) mayTry(from netip.Addr) bool {
	heard, same := 0, 0
	for _, c := range r.peers.seeds {
		if c.from.IsValid() {
			heard++
		}
		if c.from == from {
			same++
		}
	}
	return heard < r.cfg.Limits.Servers && same < maxFromOne
}

// reaches reports whether the connector reaches the sender of a presence with these
// addresses: it has the source address of the datagram, or, if that is not one of them,
// it has all of them.
func (c *connector) reaches(addrs []netip.AddrPort, from netip.Addr) bool {
	if addrs[0].Addr() == from {
		return slices.Contains(c.addrs, addrs[0])
	}
	return len(without(addrs, c.addrs)) == 0
}

// isTaken reports whether the connector has found another registrar at its place.
func (r *Registrar) isTaken(c *connector) bool {
	return slices.ContainsFunc(r.peers.links, func(a *link) bool { return a.by == c && a.sender != nil })
}
