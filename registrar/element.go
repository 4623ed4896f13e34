package registrar

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/registrar/internal/slab"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// element is what the registrar knows of an own element beside its entry in the ledger.
// It is either supervised over the association that owns it, or, after that has ended,
// in the care of a probe. In both cases it is one of these:
//
//	           silent, and the registrar's          silent
//	           guard is on or begins
//	spared <-------------------------- member ----------------> suspect
//	  |  |            heard           ^ |  ^        heard        ^  |
//	  |  +----------------------------+ |  +---------------------+  |
//	  |             still silent after the guard                 |  |
//	  +----------------------------------------------------------+  |
//	                                    |                           |
//	                    evidence        v    evidence, or silent    |
//	                    that it left  (none)     for too long   <---+
//
// A member is in the roster, its checksum and the answers, and so is one that is spared. A
// suspect is remembered only. An element of the stored state is unconfirmed at first: it is
// in the answers, and in no roster. It leaves that state as a member leaves its own, or
// becomes a member when it is heard.
//
// Silence and evidence are told apart in silent and in remove; see suspect.go.
type element struct {
	*entry

	// keepAlive is when the next keep-alive is sent. While one is unanswered (waiting),
	// it is when the time for the present try ends.
	keepAlive timer
	asked     time.Time // when the last keep-alive was sent
	waiting   bool
	tries     uint8 // how many tries of the present keep-alive are unanswered
	held      uint8 // how many did not count, because the host was late
	written   uint8 // how many tries of it were sent to this element
	surplus   uint8 // how many repeats of the last keep-alive may be acknowledged yet
	shares    bool  // keep-alives to other elements of the association stood for one of them
	queued    bool  // the next try waits for its turn; see askInTurn and repeat
	brief     bool  // the interval that goes on began before a rush; see prolong
	undecided bool  // the time was extended once, because too little was known of others
	confirmed bool  // it is a member when the start is over; see confirmLater
	// disowned tells that its former home does not name the element any more. If it does not
	// answer now, it is removed.
	disowned bool
	// mute tells that this registrar has never heard from the element, but only a peer has named
	// it; see hearFirst.
	mute bool
	// ownASAP tells that the element has named its ASAP transport. Otherwise that is
	// made of the association's addresses.
	ownASAP bool
	// adopt has the next keep-alive carry the H flag, because the element may have
	// another home; adopting tells that the last one carried it.
	adopt, adopting bool
	// standIn is the home for which this registrar stands in, as far as it is known; 0 if this
	// registrar is the home, or may be. See standInFor.
	standIn rserpool.ServerID
	// keptRound and keptSum tell what the host has been given: see keepAll and sum.
	keptRound uint32
	keptSum   uint64

	assoc *client // nil while it is probed
	probe *probe  // nil while it is supervised

	place chain.Place[element] // in the list of its association or its probe

	allowed  time.Duration // for all tries of the present keep-alive
	interval time.Duration // as it is counted; see intervals
	// silence is nil unless the element is a suspect or spared.
	silence *silence

	// claimed is when a probe has sent a keep-alive with the H flag for want of an
	// answer.
	claimed time.Time

	// life is when the registration life ends. It is not armed if there is no end, or if
	// the life is over and it is not known yet whether the element answers.
	life timer

	awaits *awaits // addresses that are not confirmed yet; nil if there are none

	reports []report

	// contested is the element as described by the peer that contests it; see contest.
	contested *handlespace.Element
}

// host returns the addresses of the element's association, or of the last one.
func (e *element) host() []netip.AddrPort {
	if e.assoc != nil {
		return e.assoc.peer
	}
	return e.probe.host
}

// mayActFor reports whether the association is the element's own, or comes from the
// element's host. Only the address that the peer has proved to be at counts, not those
// that it lists.
func (a *client) mayActFor(e *element) bool {
	return e.assoc == a || hasAddr(e.host(), a.primary())
}

// Due runs the element's timers.
func (e *element) Due(r *Registrar, t *timer) {
	if t == &e.life {
		r.lifeOver(e)
		return
	}
	r.keepAliveDue(e)
}

// lifeOver: the registration life has ended. An element that answers has not renewed it, and
// is removed (RFC 5352, Section 3.2); so it is asked now, unless the answer to an earlier
// keep-alive is still to come. The re-registrations of a silent element may have been lost:
// see silent.
//
// If the timer is far behind, the registrar could not hear re-registrations. The life begins
// anew.
func (r *Registrar) lifeOver(e *element) {
	switch {
	case r.now.Sub(r.timers.At(&e.life)) > r.cfg.Timers.KeepAliveTimeout/2:
		r.renewLife(e)
	case e.isSuspect():
		r.overdue(e)
	case e.silence == nil && e.probe == nil && !e.waiting:
		r.ask(e, true)
	}
}

// isExpired reports whether the registration life is over.
func (e *element) isExpired() bool { return !e.PE().Expires.IsZero() && !e.life.Armed() }

// beginLife has the registration life end when the element's description says.
func (r *Registrar) beginLife(e *element) {
	if at := e.PE().Expires; at.IsZero() {
		r.timers.Stop(&e.life)
	} else {
		r.timers.Arm(&e.life, e, at)
	}
}

// renewLife has the registration life begin anew.
func (r *Registrar) renewLife(e *element) {
	r.timers.Arm(&e.life, e, r.now.Add(time.Duration(e.PE().Life)*time.Second))
}

// supervise makes a the element's association.
func (r *Registrar) supervise(e *element, a *client) {
	if e.assoc == a {
		return
	}
	r.unsupervise(e)
	e.assoc = a
	a.elements.Add(e, &e.place)
	r.joinLine(e)
	r.leaveIdle(a)
	r.extend(e)
}

// unsupervise takes the element from its association or probe.
func (r *Registrar) unsupervise(e *element) {
	r.leaveLine(e)
	e.place.Leave()
	if a := e.assoc; a != nil {
		e.assoc = nil
		if a.up {
			r.leaveIdle(a)
		}
	}
	if p := e.probe; p != nil {
		e.probe = nil
		p.shrunk(r)
	}
}

// newElement begins this registrar's care for an entry of its own roster.
func (r *Registrar) newElement(x *entry) *element {
	e := r.memory.elementOf(x)
	e.entry, x.Note.own = x, e
	r.countInterval(e, 1)
	return e
}

// memory is where own elements come from. An entry that begins as an own one is in one piece
// with its element: a third less for the garbage collector to look at, which with very many
// elements takes a part of the time for each answer.
type memory struct {
	blocks  slab.Of[ownEntry]
	inBlock bool      // many come at once
	last    *ownEntry // whose element is not used yet
}

type ownEntry struct {
	entry   entry
	element element
}

// newEntry returns the memory of an entry of a roster.
func (m *memory) newEntry(own bool) *entry {
	switch {
	case !own:
		return new(entry)
	case m.inBlock:
		m.last = m.blocks.New()
	default:
		m.last = new(ownEntry)
	}
	return &m.last.entry
}

// elementOf returns the memory of an element with that entry.
func (m *memory) elementOf(x *entry) *element {
	last := m.last
	if m.last = nil; last != nil && x == &last.entry {
		return &last.element
	}
	return new(element)
}

// letGo ends this registrar's care for the element. The caller changes the ledger.
func (r *Registrar) letGo(e *element) {
	e.Note.own = nil
	r.countInterval(e, -1)
	r.timers.Stop(&e.keepAlive)
	r.timers.Stop(&e.life)
	r.await(e, nil)
	r.unsupervise(e)
	r.dropSilence(e)
}
