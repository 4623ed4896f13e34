package registrar

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
)

// takeover is the takeover of a dead peer's elements by this registrar (RFC 5353,
// Section 3.5).
//
// Of several registrars that want to take a peer over, the one with the greatest
// identifier wins in the RFC, and the one with the smallest in the reference
// implementation. So of one of each kind, either both insist or both give way. Neither
// lasts: a registrar that insists waits for the others' agreement no longer than
// MAX-TIME-NO-RESPONSE, and one that has given way tries again if the dead registrar
// still has elements after twice that time, or if the other one is dead as well. Then it
// gives way no more: another one that begins again and again must not keep the elements of
// the dead one in the answers. If two registrars become home of an element, contest decides
// between them.
//
// A peer that hears the dead one does not agree. So halfway those that have not agreed are asked for
// their lists. If one of them, which does not want to take the dead one over itself, names it there, it
// has heard it since. Then the dead one is alive, and only cannot be reached from here: this registrar
// stands in for it.
type takeover struct {
	awaiting []*peer // that have not agreed yet
	rivals   []*peer // that want to take it over as well
	vouching []*peer // that have named it in a list since they were asked
	asked    bool    // for their lists
	voucher  *peer   // the one because of which this registrar only stands in; nil if there is none
	probes   probesAt
}

// takeBatch is how many elements are taken over at a time, moveBatch how many are
// processed if none is probed. takeGap is the time between two batches, in which other
// events are handled.
const (
	takeBatch = 128
	moveBatch = 1024
	takeGap   = time.Millisecond
)

// beginTakeover: RFC 5353, Section 3.5.1. A peer without elements is only forgotten.
func (r *Registrar) beginTakeover(p *peer) {
	if p.roster.LenAll() == 0 {
		r.forget(p)
		return
	}
	r.setPeerState(p, PeerDying)
	t := &takeover{probes: make(probesAt)}
	p.takeover = t
	r.stats.Takeovers.Begun++
	for _, q := range r.peers.list {
		if q != p && q.state == PeerActive && q.link != nil && q.presented {
			t.awaiting = append(t.awaiting, q)
		}
	}
	r.tellAll(&enrp.InitTakeover{Sender: r.id, Target: p.id})
	if len(t.awaiting) == 0 {
		r.takeOver(p)
	}
}

// stopTakeover: the peer was heard, or another registrar takes it over.
func (r *Registrar) stopTakeover(p *peer, s PeerState) {
	p.takeover = nil
	if s == PeerYielded {
		r.stats.Takeovers.Lost++
	} else {
		r.stats.Takeovers.Stopped++
	}
}

// askOthers asks the peers that have not agreed to a takeover for their lists.
func (r *Registrar) askOthers(p *peer) {
	t := &r.cfg.Timers
	p.takeover.asked = true
	for _, q := range p.takeover.awaiting {
		r.askList(q)
	}
	r.timers.Arm(&p.watch, p, r.now.Add(t.MaxTimeNoResponse-t.MaxTimeNoResponse/2))
}

// vouch notes that a peer names others in a list that it hears, and that this registrar wants to take
// over.
func (r *Registrar) vouch(q *peer, m *enrp.ListResponse) {
	for i := range m.Servers {
		if p := r.peers.byID[m.Servers[i].ID]; p != nil && p.state == PeerDying && p.takeover.asked {
			p.takeover.vouching = append(p.takeover.vouching, q)
		}
	}
}

// whoVouches returns a peer that hears the one that is to be taken over; nil if there is none.
func (t *takeover) whoVouches() *peer {
	for _, q := range t.awaiting {
		if slices.Contains(t.vouching, q) && !slices.Contains(t.rivals, q) {
			return q
		}
	}
	return nil
}

// claimedDead: a peer says that t is dead, and this registrar has not found it dead. It asks t, unless
// t was asked as a suspect, and agrees only if t does not respond.
func (r *Registrar) claimedDead(t, p *peer) {
	if at := r.now.Add(r.cfg.Timers.MaxTimeNoResponse / 2); len(t.claimants) == 0 {
		if t.state == PeerActive {
			r.sendPresence(t, true)
			r.connect(&t.conn) // if there is no link yet
		}
		if t.state == PeerActive || at.Before(r.timers.At(&t.watch)) {
			r.timers.Arm(&t.watch, t, at)
		}
	}
	if !slices.Contains(t.claimants, p.id) {
		t.claimants = append(t.claimants, p.id)
	}
}

// claimedDue: a peer that others say is dead has not responded. late tells that this registrar may
// only not have heard it.
func (r *Registrar) claimedDue(t *peer, late bool) {
	if late {
		r.timers.Arm(&t.watch, t, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
		return
	}
	r.yieldTo(t)
}

// yieldTo agrees with those that say that a peer is dead. Of several the greatest will win.
func (r *Registrar) yieldTo(t *peer) {
	claimants := t.claimants
	t.claimants = nil
	r.setPeerState(t, PeerYielded)
	for _, id := range claimants {
		p := r.peers.byID[id]
		if p == nil {
			continue
		}
		if t.rival == nil || p.id > t.rival.id {
			t.rival = p
		}
		r.tell(p, &enrp.InitTakeoverAck{Sender: r.id, Receiver: p.id, Target: t.id})
	}
}

// onInitTakeover: RFC 5353, Section 3.5.1, but this registrar agrees only if it does not hear the target
// itself. One that it knows from others only may live as well. It agrees at once to the takeover of one
// that it does not know: that changes nothing here, and an initiator that gets no acknowledgement may
// wait for it without end.
func (r *Registrar) onInitTakeover(p *peer, a *link, m *enrp.InitTakeover) {
	if m.Target == r.id {
		r.tellAlive(p)
		return
	}
	if t := r.peers.byID[m.Target]; t != nil && t != p {
		switch {
		case t.state == PeerTaken:
			return
		case t.state == PeerDying && (r.id > p.id || t.hasWaited(r.now)):
			if !slices.Contains(t.takeover.rivals, p) {
				t.takeover.rivals = append(t.takeover.rivals, p)
			}
			return
		case t.state == PeerActive || t.state == PeerSuspect:
			r.claimedDead(t, p)
			return
		}
		if t.heir == nil {
			if t.state != PeerYielded {
				r.setPeerState(t, PeerYielded)
			}
			if t.rival == nil || p.id > t.rival.id {
				t.rival = p // of several, the one that will win
			}
		}
	}
	r.write(a, &enrp.InitTakeoverAck{Sender: r.id, Receiver: p.id, Target: m.Target})
}

func (r *Registrar) onInitTakeoverAck(p *peer, m *enrp.InitTakeoverAck) {
	if t := r.peers.byID[m.Target]; t != nil {
		r.agreed(t, p)
	}
}

// agreed: q agrees to the takeover of p, or is dead.
func (r *Registrar) agreed(p, q *peer) {
	t := p.takeover
	if t == nil || p.state != PeerDying || !slices.Contains(t.awaiting, q) {
		return
	}
	t.awaiting = slices.DeleteFunc(t.awaiting, func(x *peer) bool { return x == q })
	if len(t.awaiting) == 0 {
		r.takeOver(p)
	}
}

// takeOver: RFC 5353, Section 3.5.2.
func (r *Registrar) takeOver(p *peer) {
	p.takeover.voucher = p.takeover.whoVouches()
	r.setPeerState(p, PeerTaken)
	if p.takeover.voucher != nil {
		r.stats.Takeovers.Stopped++
		return
	}
	r.stats.Takeovers.Won++
	r.tellAll(&enrp.TakeoverServer{Sender: r.id, Target: p.id})
}

// adoptSome makes some of the peer's elements own ones, its members first, or stands in for the peer.
// Suspects stay what they are, and are called like the others.
func (r *Registrar) adoptSome(p *peer) {
	for range takeBatch {
		f := p.roster.FirstOfAll()
		if f == nil {
			r.forget(p)
			break
		}
		if p.takeover.voucher != nil {
			r.standInFor(f, p.takeover.probes)
		} else {
			r.adopt(f, p.takeover.probes)
		}
	}
	r.runProbes()
	if p.roster.LenAll() > 0 {
		r.timers.Arm(&p.watch, p, r.now.Add(takeGap))
	}
}

// tellAlive: a peer takes this registrar for dead. All peers get a presence, but at most once in
// aliveGap: a presence to all is many messages for one. In between, only that peer gets one.
func (r *Registrar) tellAlive(p *peer) {
	if ps := &r.peers; ps.alive.IsZero() || r.now.Sub(ps.alive) >= aliveGap {
		ps.alive = r.now
		r.tellAll(r.presence(0, false))
		return
	}
	r.sendPresence(p, false)
}

// aliveGap is the least time between two presences to all peers that messages of peers cause.
const aliveGap = time.Second

// onTakeoverServer: the peer has become the home of the target's elements (RFC 5353,
// Section 3.5.2). If this registrar has not found the target dead, the message is ignored: a
// dead registrar will be found dead.
func (r *Registrar) onTakeoverServer(p *peer, m *enrp.TakeoverServer) {
	t := r.peers.byID[m.Target]
	switch {
	case m.Target == r.id:
		r.tellAlive(p)
		return
	case t == nil || t == p || t.state != PeerDying && t.state != PeerYielded || t.heir == p:
		return
	}
	r.logf(true, "registrar %v is taken over by %v", t.id, p.id)
	if t.state != PeerYielded {
		r.setPeerState(t, PeerYielded)
	}
	t.rival, t.heir = nil, p
	r.inherit(t)
}

// inherit gives some of a dead peer's elements to its heir.
func (r *Registrar) inherit(t *peer) {
	for range moveBatch {
		e := t.roster.FirstOfAll()
		if e == nil {
			r.forget(t)
			return
		}
		r.publish(r.ledger.Move(e, t.heir.roster, foreign(&e.PE().PoolElement)), byHome)
		if e.State() == ledger.Suspect {
			t.heir.missed, t.heir.checked = true, false // it may not have known the suspect, and the checksum does not tell
			r.watchSuspects(t.heir, e.Since())
		}
	}
	r.timers.Arm(&t.watch, t, r.now.Add(takeGap))
}

// inherits reports whether the peer is an heir that does not have all elements yet.
func (r *Registrar) inherits(p *peer) bool {
	return slices.ContainsFunc(r.peers.list, func(t *peer) bool { return t.heir == p })
}

// belongs reports whether the peer is the element's home, or the heir of its home.
func (r *Registrar) belongs(f *entry, p *peer) bool {
	home := r.peers.byID[f.Roster().Home()]
	return home == p || home != nil && home.heir == p
}
