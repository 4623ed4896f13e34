package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// restored is what a former process has left. Its elements are in the handlespace before the
// registrar serves. They are unconfirmed: pool users find them, and the peers are not told of
// them. Probes call them as soon as the registrar serves, and what becomes of them is as with
// any element whose association has ended. An element that acknowledges, or registers, is a
// member from then on, and the peers are told.
//
// With peers, the registrar first has to learn whether elements have moved to other
// registrars meanwhile. Until the start is over, an acknowledgement is only noted. What a
// peer says wins: an element that has another home is that one's, and one whose home is this
// registrar is a member, since the peers have it as such.
type restored struct {
	any      bool // elements were restored
	alive    time.Time
	probes   probesAt
	queue    []*probe         // in the order of their elements
	to       []netip.AddrPort // working memory
	elements int
	away     time.Duration // between the processes, by the clock
	// elements that were left out
	missed, old, full, void int
	peers                   [][]netip.AddrPort
}

// Answers reports whether pool users may be told of the elements in the handlespace: it is
// that of the scope (see Ready), or has at least the own elements of a former process.
func (r *Registrar) Answers() bool { return r.Ready() || r.restored.any }

func (r *Registrar) onRestore(ev Restore) {
	s := &r.restored
	if s.probes == nil {
		s.probes = make(probesAt)
		r.timers.Grow(ev.All)
	}
	if ev.Alive.After(s.alive) {
		s.alive = ev.Alive
		s.away = r.now.Sub(s.alive)
	}
	s.peers = append(s.peers, ev.Peers...)
	r.memory.inBlock = true
	for i := range ev.Elements {
		r.restore(&ev.Elements[i])
	}
	r.memory.inBlock = false
}

// restore enters an element of a former process. One that was silent for GuardLife, or whose
// registrar was, is left out: pool users would hardly reach it.
func (r *Registrar) restore(k *Kept) {
	s := &r.restored
	heard, state := s.alive, ledger.Unconfirmed
	ahead := k.Suspect.After(r.now) // the clock was set back
	if !k.Suspect.IsZero() {
		k.Suspect = r.now.Add(-max(r.now.Sub(k.Suspect), 0)) // it does not follow the clock any more
		heard, state = k.Suspect, ledger.Suspect
	}
	if err := r.unauthorized(k.PE.Identity, k.Handle); err != nil {
		s.void++
		r.stats.RightsRefused.Elements++
		r.act(Keep{Handle: k.Handle, ID: k.PE.ID})
		return
	}
	if r.now.Sub(heard) > r.cfg.Timers.GuardLife {
		if s.away > r.cfg.Timers.GuardLife {
			s.missed++
		} else {
			s.old++
		}
		r.act(Keep{Handle: k.Handle, ID: k.PE.ID})
		return
	}
	if k.PE.Life > 0 {
		k.PE.Expires = r.now.Add(time.Duration(k.PE.Life) * time.Second)
	}
	c, err := r.ledger.PutAs(r.ledger.Find(k.Handle, k.PE.ID), r.roster, k.Handle, k.PE, ledger.SetAside, state, k.Suspect)
	if err != nil {
		s.full++
		r.act(Keep{Handle: k.Handle, ID: k.PE.ID})
		return
	}
	e := r.newElement(c.Entry)
	e.ownASAP = k.OwnASAP
	if state == ledger.Suspect {
		r.adoptSuspect(e)
	}
	r.beginLife(e)
	if ahead {
		r.keep(e.entry)
	}
	s.any = true
	s.elements++
	r.stats.Restored++
	r.probeRestored(e, k)
}

// probeRestored has an element probed once the registrar serves, together with the others at
// the same place.
func (r *Registrar) probeRestored(e *element, k *Kept) {
	s := &r.restored
	to, ofHost := k.Host, !k.OwnASAP && len(k.Host) > 0
	if !ofHost {
		to = appendAddrPorts(s.to[:0], &e.PE().ASAPTransport)
		s.to = to
	}
	b := append(appendAddrsKey(r.buf[:0], to), byte(k.EncapPort>>8), byte(k.EncapPort), byte(k.Via))
	r.buf = b
	p := s.probes[string(b)]
	if p == nil {
		// The transport does not know any more from which UDP port the element was heard.
		p = &probe{via: k.Via, to: slices.Clone(to), heard: k.EncapPort, encap: k.EncapPort}
		if p.host = p.to; !ofHost {
			p.host = slices.Clone(k.Host)
		}
		if k.Via == rserpool.ViaAuto { // it has not been heard since this registrar became its home
			p.adopt(e.PE().EncapPort)
		}
		s.probes[string(b)] = p
		s.queue = append(s.queue, p)
		r.countProbe()
		r.queueProbe(p)
	}
	p.add(r, e)
}

// callRestored begins to call the restored elements: the registrar serves, and knows the
// addresses of its machine.
func (r *Registrar) callRestored() {
	s := &r.restored
	if s.elements+s.missed+s.old+s.full+s.void > 0 {
		r.logf(s.missed+s.full+s.void > 0, "started with %s of the stored state%s", elementsText(s.elements), r.leftOut())
	}
	for _, p := range s.queue {
		if e := p.waiting.First(); e.ownASAP {
			p.to = r.asapAddrs(e)
		}
		r.setLine(&p.line, lineSpared)
	}
	if r.roster.LenOf(ledger.Unconfirmed) > 0 {
		r.beginGuard()
	}
	s.probes, s.queue = nil, nil
	r.runProbes()
}

func (r *Registrar) leftOut() string {
	s, text := &r.restored, ""
	if s.missed > 0 {
		text += fmt.Sprintf(", without %d because this registrar was away for %v by its clock (GUARD-LIFE %v)", s.missed, s.away.Round(time.Second), r.cfg.Timers.GuardLife)
	}
	if s.old > 0 {
		text += ", without " + strconv.Itoa(s.old) + " that were silent for too long"
	}
	if s.full > 0 {
		text += ", without " + strconv.Itoa(s.full) + " for which the limits have no room"
	}
	if s.void > 0 {
		text += ", without " + strconv.Itoa(s.void) + " whose identities may not register in their pools"
	}
	return text
}

// connectStored connects to where the peers of the former process were.
func (r *Registrar) connectStored() {
	for _, at := range r.restored.peers {
		n := len(r.peers.seeds)
		if r.remember(at); len(r.peers.seeds) > n {
			r.connect(r.peers.seeds[n])
		}
	}
	r.restored.peers = nil
}

// confirmLater notes a sign of life from an element that is no member, and reports true, if
// another registrar may be its home, because the start is running. A suspect is in the answers
// again.
func (r *Registrar) confirmLater(e *element) bool {
	if !r.start.running {
		return false
	}
	e.confirmed = true
	r.unsuspect(e)
	return true
}

// confirmHeard makes the elements members that have acknowledged during the start.
func (r *Registrar) confirmHeard() {
	for x := r.roster.FirstOf(ledger.Unconfirmed); x != nil; {
		next := r.roster.Next(x)
		if x.Note.own.confirmed {
			r.publish(r.ledger.Confirm(x), byElement)
		}
		x = next
	}
}

// takeWord does with an unconfirmed element, or one for whose home this registrar stands in, what a peer
// says of it. If this registrar is the home, it knows best whether the element is a suspect.
func (r *Registrar) takeWord(e *element, home *peer, pe *rserpool.PoolElement) {
	x := e.entry
	if home == nil { // this registrar
		r.endStandIn(e)
		own := &handlespace.Element{PoolElement: *pe, Expires: e.PE().Expires}
		own.Identity = e.PE().Identity
		state := ledger.Member
		if e.isSuspect() {
			state = ledger.Suspect
		}
		if !own.ASAPTransport.Present() || !r.ledger.Room(x, x.Handle(), &own.PoolElement) {
			own = e.PE()
		}
		r.publish(r.ledger.MoveAs(x, r.roster, own, state, e.Since()), adopted)
		return
	}
	r.refuseClaims(x)
	theirs := foreign(pe)
	if !r.ledger.Room(x, x.Handle(), pe) { // without the new description it needs no more room
		theirs = foreign(&e.PE().PoolElement)
	}
	r.letGo(e)
	r.publish(r.ledger.MoveAs(x, home.roster, theirs, ledger.Member, time.Time{}), byHome)
}
