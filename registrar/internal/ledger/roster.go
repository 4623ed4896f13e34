package ledger

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Roster is the elements of one home registrar, those that are set aside included. Its members
// are what the home is known by to other registrars. It has lists of the suspects and of
// the unconfirmed elements beside them.
type Roster[N any] struct {
	home  rserpool.ServerID
	sum   enrp.Checksum
	lists [states]chain.List[Entry[N]]
}

// NewRoster returns a roster without elements.
func NewRoster[N any](home rserpool.ServerID) *Roster[N] { return &Roster[N]{home: home} }

// Home is the registrar whose elements these are.
func (r *Roster[N]) Home() rserpool.ServerID { return r.home }

// LenAll is the number of elements in all states.
func (r *Roster[N]) LenAll() (n int) {
	for i := range r.lists {
		n += r.lists[i].Len()
	}
	return n
}

// LenOf is the number of elements in a state.
func (r *Roster[N]) LenOf(s State) int { return r.lists[s].Len() }

// FirstOf is the element that has been in a state longest; nil if there is none.
func (r *Roster[N]) FirstOf(s State) *Entry[N] { return r.lists[s].First() }

// FirstOfAll is the first member, or if there is none the first element in another state; nil if
// there is none.
func (r *Roster[N]) FirstOfAll() *Entry[N] {
	for i := range r.lists {
		if e := r.lists[i].First(); e != nil {
			return e
		}
	}
	return nil
}

// Next is the element that follows one of the roster in the same state; nil if it is the last.
func (r *Roster[N]) Next(e *Entry[N]) *Entry[N] { return e.place.Next() }

// Checksum is the PE checksum of the members (RFC 5353, Section 3.6.2).
func (r *Roster[N]) Checksum() uint16 { return r.sum.Value() }

// Sum is the checksum of the members, to be joined with that of others.
func (r *Roster[N]) Sum() enrp.Checksum { return r.sum }

// relist has an entry, which may be in a roster, be in one in a state.
func (l *Ledger[N]) relist(e *Entry[N], to *Roster[N], s State) {
	if e.roster == to && e.state == s {
		return
	}
	if e.roster != nil {
		l.delist(e)
	}
	e.state, e.roster = s, to
	to.lists[s].Add(e, &e.place)
	if s == Member {
		to.sum.Add(e.pool.handle, e.id)
	}
}

// delist takes an entry out of its roster. Readers of the roster continue behind it.
func (l *Ledger[N]) delist(e *Entry[N]) {
	for _, c := range l.cursors {
		if c.next == e {
			c.next = e.place.Next()
		}
	}
	e.place.Leave()
	if e.state == Member {
		e.roster.sum.Remove(e.pool.handle, e.id)
	}
	e.roster = nil
}

// Cursor reads the entries of rosters, one roster after the other.
type Cursor[N any] struct {
	next    *Entry[N]
	states  []State      // to be read of each roster, in this order
	rosters []*Roster[N] // not begun yet, or only some states are
	begun   int          // states of the first roster
}

// Open returns a cursor before the first member of the rosters. It has to be closed.
func (l *Ledger[N]) Open(rosters ...*Roster[N]) *Cursor[N] {
	return l.open(&Cursor[N]{rosters: rosters, states: []State{Member}})
}

// OpenAll is Open for the members and the suspects, first the members of a roster, then its
// suspects. It misses a suspect that becomes a member after the cursor has passed the members.
func (l *Ledger[N]) OpenAll(rosters ...*Roster[N]) *Cursor[N] {
	return l.open(&Cursor[N]{rosters: rosters, states: []State{Member, Suspect}})
}

// OpenEach is OpenAll with the unconfirmed elements between the members and the suspects.
func (l *Ledger[N]) OpenEach(rosters ...*Roster[N]) *Cursor[N] {
	return l.open(&Cursor[N]{rosters: rosters, states: []State{Member, Unconfirmed, Suspect}})
}

// OpenSuspects is Open for the suspects.
func (l *Ledger[N]) OpenSuspects(rosters ...*Roster[N]) *Cursor[N] {
	return l.open(&Cursor[N]{rosters: rosters, states: []State{Suspect}})
}

func (l *Ledger[N]) open(c *Cursor[N]) *Cursor[N] {
	l.cursors = append(l.cursors, c)
	return c
}

// Close ends the use of a cursor, which may be nil.
func (l *Ledger[N]) Close(c *Cursor[N]) {
	l.cursors = slices.DeleteFunc(l.cursors, func(x *Cursor[N]) bool { return x == c })
}

// Peek returns the next entry without going past it, nil at the end.
func (c *Cursor[N]) Peek() *Entry[N] {
	for c.next == nil && len(c.rosters) > 0 {
		if c.begun == len(c.states) {
			c.rosters, c.begun = c.rosters[1:], 0
			continue
		}
		c.next = c.rosters[0].FirstOf(c.states[c.begun])
		c.begun++
	}
	return c.next
}

// Next returns the next entry and goes past it, nil at the end.
func (c *Cursor[N]) Next() *Entry[N] {
	e := c.Peek()
	if e != nil {
		c.next = e.place.Next()
	}
	return e
}
