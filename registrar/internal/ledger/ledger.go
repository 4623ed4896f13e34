package ledger

import (
	"errors"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Ledger is all pool elements of a scope. N is what the caller notes on each entry.
type Ledger[N any] struct {
	// Limits may be changed at any time.
	Limits Limits
	// Check returns why an element may not be in a pool of the handlespace, whatever the
	// pool's kind; nil if it may. The error is a *handlespace.InconsistentError. If Check
	// changes for a pool, Refit has to follow. A nil Check admits all.
	Check func(rserpool.PoolHandle, *handlespace.Element) error

	space       *handlespace.Space
	pools       map[rserpool.PoolHandle]*pool[N]
	elements    int // entries of all pools
	aside       int // those of them that are set aside
	handleBytes int // see Limits.HandleBytes
	bytes       int // see Limits.ElementBytes
	cursors     []*Cursor[N]
}

// pool is the entries of one handle. It lasts as long as it has one.
type pool[N any] struct {
	handle  rserpool.PoolHandle
	entries map[rserpool.PEID]*Entry[N]
	aside   int
}

// Entry is one pool element. After Remove it keeps its handle and description.
type Entry[N any] struct {
	pool  *pool[N]
	id    rserpool.PEID // pe's, which may be out of the processor's cache
	bytes int32         // of pe, as Limits.ElementBytes counts them
	pe    *handlespace.Element

	// Note is the caller's.
	Note N

	roster *Roster[N]
	place  chain.Place[Entry[N]] // in the roster
	aside  bool
}

// Handle is the pool's handle.
func (e *Entry[N]) Handle() rserpool.PoolHandle { return e.pool.handle }

// PE is the element's description. It is immutable.
func (e *Entry[N]) PE() *handlespace.Element { return e.pe }

// ID is the element's identifier.
func (e *Entry[N]) ID() rserpool.PEID { return e.id }

// Roster is that of the element's home; nil after Remove.
func (e *Entry[N]) Roster() *Roster[N] { return e.roster }

// Aside reports whether the element is not in the handlespace, since it does not fit
// its pool.
func (e *Entry[N]) Aside() bool { return e.aside }

// Change is what one call has done to one element.
type Change[N any] struct {
	Entry *Entry[N]
	// From and To are the rosters before and after; nil where the element was not
	// there.
	From, To *Roster[N]
	// Visible tells that pool users see a difference, in this element or in others
	// that were set aside until now.
	Visible bool
	// Emptied tells that the handlespace has lost the pool with it.
	Emptied bool
	// Conflict is why the element is set aside; nil if it is not, or was before.
	Conflict error
}

// New returns a ledger without elements, that writes to an empty handlespace.
func New[N any](space *handlespace.Space, limits Limits) *Ledger[N] {
	return &Ledger[N]{Limits: limits, space: space, pools: make(map[rserpool.PoolHandle]*pool[N])}
}

// Aside is the number of elements that are set aside.
func (l *Ledger[N]) Aside() int { return l.aside }

// Handle returns the pool handle of these bytes, "" if there is no such pool. It
// does not allocate.
func (l *Ledger[N]) Handle(b []byte) rserpool.PoolHandle {
	if p := l.pools[rserpool.PoolHandle(b)]; p != nil {
		return p.handle
	}
	return ""
}

// Handles yields the handles of all pools, in no particular order.
func (l *Ledger[N]) Handles(yield func(rserpool.PoolHandle) bool) {
	for h := range l.pools {
		if !yield(h) {
			return
		}
	}
}

// Find returns the entry of an element, nil if there is none.
func (l *Ledger[N]) Find(h rserpool.PoolHandle, id rserpool.PEID) *Entry[N] {
	if p := l.pools[h]; p != nil {
		return p.entries[id]
	}
	return nil
}

// ErrFull is Put's error where the limits have no room.
var ErrFull = errors.New("the registrar's limits have no room for the pool element")

// Put makes pe an element of to's home, in place of e, which is what Find returns: nil
// for a new element. The ledger sets the Home of pe. The error is ErrFull, or a
// *handlespace.InconsistentError unless fit is SetAside; then nothing has changed.
func (l *Ledger[N]) Put(e *Entry[N], to *Roster[N], h rserpool.PoolHandle, pe *handlespace.Element, fit Fit) (Change[N], error) {
	if !l.Room(e, h, &pe.PoolElement) {
		return Change[N]{}, ErrFull
	}
	return l.put(e, to, h, pe, fit)
}

// Move makes an element of the ledger one of to's home, described by pe. Where that
// does not fit the pool, the element is set aside.
func (l *Ledger[N]) Move(e *Entry[N], to *Roster[N], pe *handlespace.Element) Change[N] {
	c, _ := l.put(e, to, e.pool.handle, pe, SetAside)
	return c
}

// put enters pe in place of e, which is nil for a new element.
func (l *Ledger[N]) put(e *Entry[N], to *Roster[N], h rserpool.PoolHandle, pe *handlespace.Element, fit Fit) (Change[N], error) {
	pe.Home = to.home
	served := e != nil && !e.aside
	refitted, conflict := l.install(h, pe, fit)
	if conflict != nil && fit != SetAside {
		return Change[N]{}, conflict
	}
	c := Change[N]{To: to, Visible: refitted}
	if e == nil {
		e = l.add(h, pe.ID)
		c.Visible = true
	} else {
		c.From = e.roster
		c.Visible = c.Visible || !e.pe.SameToUsers(pe)
	}
	if c.From != nil && c.From != to {
		l.delist(e)
	}
	e.pe = pe
	l.weigh(e, size(&pe.PoolElement))
	if c.From != to {
		to.enlist(e)
	}
	if l.setAside(e, conflict != nil) {
		c.Conflict = conflict
		c.Emptied = served && l.space.Pool(h) == nil
	}
	c.Entry = e
	return c, nil
}

// Remove takes an element out.
func (l *Ledger[N]) Remove(e *Entry[N]) Change[N] {
	p := e.pool
	c := Change[N]{Entry: e, From: e.roster, Visible: true}
	served := !e.aside
	l.space.Remove(p.handle, e.id)
	l.setAside(e, false)
	l.delist(e)
	l.weigh(e, 0)
	delete(p.entries, e.id)
	l.elements--
	if served {
		l.refit(p)
		c.Emptied = l.space.Pool(p.handle) == nil
	}
	if len(p.entries) == 0 {
		delete(l.pools, p.handle)
		l.handleBytes -= handlespace.HandleSize(p.handle)
	}
	return c
}

// add makes an entry, in a new pool if need be.
func (l *Ledger[N]) add(h rserpool.PoolHandle, id rserpool.PEID) *Entry[N] {
	p := l.pools[h]
	if p == nil {
		p = &pool[N]{handle: h, entries: make(map[rserpool.PEID]*Entry[N])}
		l.pools[h] = p
		l.handleBytes += handlespace.HandleSize(h)
	}
	e := &Entry[N]{pool: p, id: id}
	p.entries[id] = e
	l.elements++
	return e
}
