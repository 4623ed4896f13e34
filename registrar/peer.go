package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// peer is another registrar of the operational scope (RFC 5353, Section 3.4).
//
//	            silent for MAX-TIME-LAST-HEARD,
//	            or its link has ended
//	active ------------------------------------> suspect
//	  ^ ^                                           | no response within
//	  | |   heard again, from any state             v MAX-TIME-NO-RESPONSE
//	  | +-------------------------------- dying <---+
//	  |                                   |  |  all peers agree, or
//	  |      another registrar is taking  |  |  do not object in time
//	  +----- it over: yielded <-----------+  +--> taken --> forgotten
//
// A peer without elements is forgotten as soon as it is found dead. A peer that is
// yielded is forgotten when its elements have passed to its heir. If some are left
// after twice MAX-TIME-NO-RESPONSE, or the heir is dead as well, it is dying again.
type peer struct {
	id    rserpool.ServerID
	state PeerState
	conn  connector
	link  *link // for messages to it; nil if there is none
	heard bool
	// presented tells that it has sent a presence, as every registrar does. Clients
	// that only query, such as an operator's tool, are not logged and do not vote in
	// takeovers.
	presented bool
	last      time.Time // peer_last_heard
	// doubted is when it was sent a presence that asks for one because its link may be
	// dead; the zero time if it has responded.
	doubted time.Time
	// proved is when it has responded to that last.
	proved time.Time
	// missed tells that updates of it may have been lost, when a link ended or because
	// of Limits.PeerMessages. If it has suspects then, there is a second audit, which sets
	// checked: it may not have known this registrar yet, and have removed one without a word
	// just after the first table. Checksums do not show that.
	missed, checked bool
	// listAsked tells that it was asked for its list and has not responded.
	listAsked bool
	// refuses tells that it has a handlespace and has last refused to give it.
	refuses bool
	watch   timer

	roster   *roster
	leftOut  leftOut
	audit    audit
	sweeps   sweeps // of elements that it has not named, and that are called
	vigil    vigil
	session  *session
	takeover *takeover // while it is dying or taken
	rival    *peer     // that wants to take it over, while it is yielded
	heir     *peer     // that has taken it over, while its elements pass to that one
	// yield is until when this registrar gives way to others that want to take it over; the zero
	// time if it was not yielded since it was heard.
	yield time.Time
	// claimants say that it is dead, and it was asked for a presence because of that.
	claimants []rserpool.ServerID
}

// PeerState is how a registrar sees a peer.
type PeerState uint8

// The states of a peer.
const (
	// PeerActive: it was heard within MAX-TIME-LAST-HEARD, or is new.
	PeerActive PeerState = iota
	// PeerSuspect: it was silent for longer, or its link has ended, and it was sent a
	// presence that asks for one.
	PeerSuspect
	// PeerDying: it is dead, and this registrar wants to take it over.
	PeerDying
	// PeerYielded: another registrar wants to take it over.
	PeerYielded
	// PeerTaken: this registrar takes its elements over.
	PeerTaken
	peerStates
)

var peerLabels = [peerStates]string{"active", "suspect", "dying", "yielded", "taken"}

// peerTexts are the states in log lines.
var peerTexts = [peerStates]string{
	"responds again (active)",
	"does not respond (suspect)",
	"is dead: asking the other registrars whether this one may take over its elements (dying)",
	"is dead: another registrar wants to take over its elements (yielded)",
	"is dead: this registrar takes over its elements (taken)",
}

// text says in the log that the peer is in a state from now on.
func (p *peer) text(s PeerState) string {
	if s == PeerTaken && p.takeover.voucher != nil {
		return fmt.Sprintf("does not respond to this registrar, but registrar %v hears it: check the network between the two. This registrar calls its elements, and leaves it their home", p.takeover.voucher.id)
	}
	return peerTexts[s]
}

// String is the state's name.
func (s PeerState) String() string {
	if s < peerStates {
		return peerLabels[s]
	}
	return "unknown"
}

// peerList are all other registrars.
type peerList struct {
	byID       map[rserpool.ServerID]*peer
	list       []*peer               // in the order in which they were added
	connecting map[uint64]*connector // by the Ref of their Connect
	seeds      []*connector
	links      []*link // associations of the ENRP endpoint
	twin       twin

	server   rserpool.ServerInformation // of this registrar
	presence timer                      // PEER-HEARTBEAT-CYCLE
	kept     *[][]netip.AddrPort        // that the host was given last; nil if none was
	turn     int                        // in list: the one that was asked for its list last
	sessions []*session
	audits   uint64    // number of the last audit
	alive    time.Time // when all were told last that this registrar lives; see tellAlive
	sweeps   allSweeps // of elements that no peer has named, and that are called
	unheard  bucket    // connects to registrars that were never heard
	leftOut  int       // bytes of elements that are left out; see maxLeftOut
}

// beginENRP starts ENRP.
func (r *Registrar) beginENRP() {
	ps := &r.peers
	r.timers.Arm(&ps.presence, ps, r.now.Add(r.cfg.Timers.PeerHeartbeat))
	for _, a := range r.cfg.Peers {
		r.connect(r.addSeed(plain([]netip.AddrPort{a}), 0, netip.Addr{}))
	}
	r.connectStored()
	if r.cfg.Discover {
		r.timers.Arm(&r.discovery.timer, &r.discovery, r.now)
	}
	r.beginStart()
}

// addPeer adds a registrar to the peer list; nil if that is full.
func (r *Registrar) addPeer(id rserpool.ServerID) *peer {
	if len(r.peers.list) >= r.cfg.Limits.Peers {
		r.stats.PeersRefused++
		return nil
	}
	p := &peer{id: id, last: r.now, roster: ledger.NewRoster[note](id)}
	p.conn.of = id
	r.peers.byID[id] = p
	r.peers.list = append(r.peers.list, p)
	r.timers.Arm(&p.watch, p, r.now.Add(r.cfg.Timers.MaxTimeLastHeard))
	return p
}

// peerOf returns the peer with an identifier, added now if need be: elements may be
// known before their home is.
func (r *Registrar) peerOf(id rserpool.ServerID) *peer {
	if p := r.peers.byID[id]; p != nil {
		return p
	}
	return r.addPeer(id)
}

// hear returns the peer that has sent a message, nil if the message does not count. A
// new peer is asked for its server information (RFC 5353, Section 3.4.1) and for its
// list.
func (r *Registrar) hear(a *link, m enrp.Message) *peer {
	id, _ := m.IDs()
	switch {
	case id == 0 || a.sender != nil && a.sender.id != id:
		r.stats.Ignored.Sender++
		return nil
	case id == r.id:
		r.onOwnID(a, m)
		return nil
	}
	p := r.peerOf(id)
	if p == nil {
		return nil
	}
	if a.sender == nil && p.isElsewhere(a, m) && !r.hasMoved(p, a) {
		r.stats.Ignored.Sender++
		r.act(Close{Assoc: a.id})
		return nil
	}
	if a.sender == nil && a.by != nil {
		if q := r.target(a.by); q != nil && q != p && q.link == a {
			r.unlink(q, DownSilent) // another registrar is at its place
		}
	}
	a.sender = p
	if c := a.by; c != nil && c.from.IsValid() {
		r.dropSeed(c) // the peer has a connector of its own
		a.by = nil
		if len(p.conn.addrs) == 0 {
			p.conn.addrs = c.addrs
		}
	}
	if p.link == nil {
		p.link = a
	}
	r.heardFrom(p, a)
	if !p.heard {
		p.heard = true
		r.sendPresence(p, true)
		r.askList(p)
		r.mentorFound(p)
	}
	return p
}

// heardFrom notes that a peer is alive: any message counts (RFC 5353, Section 3.4.3).
func (r *Registrar) heardFrom(p *peer, a *link) {
	if p.link == a && !p.doubted.IsZero() {
		p.doubted, p.proved = time.Time{}, r.now
	}
	p.last, p.conn.via, p.claimants = r.now, a.via, nil
	r.setPeerState(p, PeerActive)
}

// hasWaited reports whether this registrar has given way for as long as it may.
func (p *peer) hasWaited(now time.Time) bool { return !p.yield.IsZero() && !p.yield.After(now) }

// isNews reports whether changes of the peer's state are logged.
func (p *peer) isNews() bool { return p.presented || p.roster.LenAll() > 0 }

// setPeerState changes the state of a peer, and sets the time for the next step.
func (r *Registrar) setPeerState(p *peer, s PeerState) {
	t := &r.cfg.Timers
	if p.state != s {
		if p.isNews() {
			r.logf(s != PeerActive, "registrar %v %s", p.id, p.text(s))
		}
		if p.takeover != nil && s != PeerTaken {
			r.stopTakeover(p, s)
		}
		p.rival, p.heir = nil, nil
	} else if s == PeerActive && p.watch.Armed() {
		return // its timer checks when it was heard
	}
	p.state = s
	after := [peerStates]time.Duration{
		PeerActive: t.MaxTimeLastHeard, PeerSuspect: t.MaxTimeNoResponse, PeerDying: t.MaxTimeNoResponse / 2,
		PeerYielded: 2 * t.MaxTimeNoResponse, PeerTaken: 0,
	}
	at := r.now.Add(after[s])
	switch {
	case s == PeerActive:
		p.yield = time.Time{}
	case s == PeerSuspect && len(p.claimants) > 0 && p.watch.Armed():
		return // it was asked already
	case s == PeerYielded && p.yield.IsZero():
		p.yield = at
	case s == PeerYielded:
		at = p.yield
	}
	r.timers.Arm(&p.watch, p, at)
}

// Due runs the peer's timers.
func (p *peer) Due(r *Registrar, t *timer) {
	if t == &p.audit.timer {
		r.auditDue(p)
		return
	}
	if t == &p.vigil.timer {
		r.vigilDue(p)
		return
	}
	// A host that was suspended or busy has heard no one.
	late := r.now.Sub(r.timers.At(t)) > r.cfg.Timers.MaxTimeNoResponse/2
	switch p.state {
	case PeerActive:
		if len(p.claimants) > 0 {
			r.claimedDue(p, late)
			return
		}
		if at := p.last.Add(r.cfg.Timers.MaxTimeLastHeard); at.After(r.now) && p.link != nil {
			r.timers.Arm(&p.watch, p, at)
			return
		}
		r.suspect(p)
	case PeerSuspect, PeerDying:
		switch {
		case late:
			r.timers.Arm(&p.watch, p, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
		case p.state == PeerDying && p.takeover.asked:
			r.takeOver(p)
		case p.state == PeerDying:
			r.askOthers(p)
		case len(p.claimants) > 0:
			r.yieldTo(p)
		default:
			r.beginTakeover(p)
		}
	case PeerYielded:
		if p.heir != nil {
			r.inherit(p)
		} else {
			r.beginTakeover(p)
		}
	default: // PeerTaken
		r.adoptSome(p)
	}
}

// suspect sends a peer a presence that asks for one (RFC 5353, Section 3.4.3).
func (r *Registrar) suspect(p *peer) {
	r.setPeerState(p, PeerSuspect)
	if p.link != nil {
		r.sendPresence(p, true)
		return
	}
	r.connect(&p.conn)
}

// whyForget is the reason in the log for removing a peer from the peer list.
func (r *Registrar) whyForget(p *peer) string {
	if p.takeover != nil && p.takeover.voucher != nil {
		return "it cannot be reached from here"
	}
	if p.state == PeerTaken || p.heir != nil {
		return "its elements were taken over"
	}
	return fmt.Sprintf("no response for %v", r.cfg.Timers.MaxTimeNoResponse)
}

// forget removes a peer from the peer list. Its place becomes a seed: it may come back,
// for instance after a partition.
func (r *Registrar) forget(p *peer) {
	if p.isNews() {
		r.logf(true, "registrar %v is removed from the peer list: %s", p.id, r.whyForget(p))
	}
	for e := p.roster.FirstOfAll(); e != nil; e = p.roster.FirstOfAll() {
		r.removeForeign(e)
	}
	delete(r.peers.byID, p.id)
	r.peers.list = slices.DeleteFunc(r.peers.list, func(q *peer) bool { return q == p })
	for _, a := range r.peers.links {
		if a.sender == p {
			a.sender = nil
		}
		if a.by == &p.conn {
			a.by = nil
		}
	}
	p.conn.gone = true
	for _, t := range []*timer{&p.watch, &p.conn.timer, &p.audit.timer} {
		r.timers.Stop(t)
	}
	r.ledger.Close(p.audit.sweep)
	r.dropLeftOut(p)
	r.endVigil(p)
	if p.session != nil {
		r.endSession(p.session)
	}
	for _, q := range r.peers.list {
		r.agreed(q, p)                   // its vote is no longer needed
		if q.rival == p || q.heir == p { // the registrar that has taken it over is dead, too
			q.rival, q.heir = nil, nil
			r.timers.Arm(&q.watch, q, r.now)
		}
	}
	r.mentorLost(p)
	if p.heard { // otherwise it may not exist
		r.remember(p.conn.addrs)
	}
}

// putForeign enters an element as one of the peer's, in place of x, which is nil for a new one.
// If the limits have no room for it, a new element is left out, and another one stays as it
// was described before.
func (r *Registrar) putForeign(p *peer, x *entry, h rserpool.PoolHandle, e *rserpool.PoolElement, how offered) {
	c, err := r.ledger.Put(x, p.roster, h, foreign(e), ledger.SetAside)
	if err != nil {
		r.stats.ForeignRefused++
		if x == nil {
			r.leaveOut(p, h, e.ID, how)
			p.leftOut.short = r.ledger.Used().Elements
			return
		}
		c = r.ledger.MoveAs(x, p.roster, foreign(&x.PE().PoolElement), ledger.Member, time.Time{})
	}
	r.publish(c, byHome)
}

// isUsable reports whether an element that a peer names is valid here. Other registrars
// may have other limits.
func (r *Registrar) isUsable(h rserpool.PoolHandle, e *rserpool.PoolElement) bool {
	return e.UserTransport.Present() && len(h) <= maxHandle && !r.oversize(e)
}
