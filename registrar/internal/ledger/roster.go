package ledger

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Roster is the elements of one home registrar, those that are set aside included.
type Roster[N any] struct {
	home    rserpool.ServerID
	sum     enrp.Checksum
	entries chain.List[Entry[N]]
}

// NewRoster returns a roster without elements.
func NewRoster[N any](home rserpool.ServerID) *Roster[N] { return &Roster[N]{home: home} }

// Home is the registrar whose elements these are.
func (r *Roster[N]) Home() rserpool.ServerID { return r.home }

// Len is the number of elements.
func (r *Roster[N]) Len() int { return r.entries.Len() }

// First is the element that has been in the roster longest; nil if there is none.
func (r *Roster[N]) First() *Entry[N] { return r.entries.First() }

// Next is the element that follows one of the roster; nil if it is the last.
func (r *Roster[N]) Next(e *Entry[N]) *Entry[N] { return e.place.Next() }

// Checksum is the PE checksum of the elements (RFC 5353, Section 3.6.2).
func (r *Roster[N]) Checksum() uint16 { return r.sum.Value() }

// enlist puts an entry that is in no roster at the end.
func (r *Roster[N]) enlist(e *Entry[N]) {
	e.roster = r
	r.entries.Add(e, &e.place)
	r.sum.Add(e.pool.handle, e.id)
}

// delist takes an entry out of its roster. Readers of the roster continue behind it.
func (l *Ledger[N]) delist(e *Entry[N]) {
	for _, c := range l.cursors {
		if c.next == e {
			c.next = e.place.Next()
		}
	}
	r := e.roster
	e.place.Leave()
	r.sum.Remove(e.pool.handle, e.id)
	e.roster = nil
}

// Cursor reads the entries of rosters, one roster after the other.
type Cursor[N any] struct {
	next    *Entry[N]
	rosters []*Roster[N] // not begun yet
}

// Open returns a cursor before the first entry of the rosters. It has to be closed.
func (l *Ledger[N]) Open(rosters ...*Roster[N]) *Cursor[N] {
	c := &Cursor[N]{rosters: rosters}
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
		c.next, c.rosters = c.rosters[0].First(), c.rosters[1:]
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
