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
// still has elements after twice that time, or if the other one is dead as well. If two
// registrars become home of an element, contest decides between them.
type takeover struct {
	awaiting []*peer // that have not agreed yet
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

// onInitTakeover: RFC 5353, Section 3.5.1.
func (r *Registrar) onInitTakeover(p *peer, a *link, m *enrp.InitTakeover) {
	if m.Target == r.id {
		r.tellAll(r.presence(0, false))
		return
	}
	if t := r.peers.byID[m.Target]; t != nil && t != p {
		if t.state == PeerTaken || t.state == PeerDying && r.id > p.id {
			return
		}
		if t.heir == nil {
			r.setPeerState(t, PeerYielded)
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
	r.setPeerState(p, PeerTaken)
	r.stats.Takeovers.Won++
	r.tellAll(&enrp.TakeoverServer{Sender: r.id, Target: p.id})
}

// adoptSome makes some of the peer's elements own ones, its members first. Suspects stay what
// they are, and are called like the others.
func (r *Registrar) adoptSome(p *peer) {
	for range takeBatch {
		f := p.roster.FirstOfAll()
		if f == nil {
			r.forget(p)
			break
		}
		r.adopt(f, p.takeover.probes)
	}
	r.runProbes()
	if p.roster.LenAll() > 0 {
		r.timers.Arm(&p.watch, p, r.now.Add(takeGap))
	}
}

// onTakeoverServer: the peer has become the home of the target's elements (RFC 5353,
// Section 3.5.2). If the target is active here, the message is ignored: a dead
// registrar will be found dead.
func (r *Registrar) onTakeoverServer(p *peer, m *enrp.TakeoverServer) {
	t := r.peers.byID[m.Target]
	switch {
	case m.Target == r.id:
		r.tellAll(r.presence(0, false))
		return
	case t == nil || t == p || t.state == PeerActive || t.state == PeerTaken:
		return
	}
	r.logf(true, "registrar %v is taken over by %v", t.id, p.id)
	r.setPeerState(t, PeerYielded)
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
