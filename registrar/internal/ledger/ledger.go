package ledger

import (
	"errors"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/registrar/internal/slots"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Ledger is all pool elements of a scope. N is what the caller notes on each entry.
type Ledger[N any] struct {
	// Limits may be changed at any time.
	Limits Limits
	// Check returns why an element may not be in a pool of the handlespace, whatever the
	// pool's kind; nil if it may. If Check changes for a pool, Refit has to follow, or Move for each
	// of its elements. A nil Check admits all.
	Check func(rserpool.PoolHandle, *handlespace.Element) error
	// Guard returns how a pool is guarded. If that changes for a pool, Reguard has to follow.
	// A nil Guard is the zero rule for all pools.
	Guard func(rserpool.PoolHandle) GuardRule
	// New returns the memory of a new entry of a roster, a zero one. With a nil New, it is new.
	New func(*Roster[N]) *Entry[N]

	space       *handlespace.Space
	pools       map[rserpool.PoolHandle]*pool[N]
	elements    int        // entries of all pools
	aside       int        // those of them that are set aside
	suspects    int        // those of them that are suspects
	guarded     int        // guarded pools
	queue       []*pool[N] // those whose suspects Step has to move
	batch       int        // see the constant
	handleBytes int        // see Limits.HandleBytes
	bytes       int        // see Limits.ElementBytes
	cursors     []*Cursor[N]
}

// pool is the entries of one handle. It lasts as long as it has one.
type pool[N any] struct {
	handle  rserpool.PoolHandle
	slots   slots.Index // of entries
	entries []*Entry[N]
	special *special[N] // nil if no entry needs it
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
	state  State
	at     location
	idle   bool      // it is counted as idle in its pool
	barred bool      // it is set aside because Check excludes it
	doubt  *doubt[N] // nil unless it is a suspect
}

// location is where an element is.
type location uint8

const (
	served location = iota // in the handlespace
	aside                  // known, but it does not fit its pool
	out                    // a suspect that its pool does without
)

// Handle is the pool's handle.
func (e *Entry[N]) Handle() rserpool.PoolHandle { return e.pool.handle }

// PE is the element's description. It is immutable.
func (e *Entry[N]) PE() *handlespace.Element { return e.pe }

// ID is the element's identifier.
func (e *Entry[N]) ID() rserpool.PEID { return e.id }

// Roster is that of the element's home; nil after Remove.
func (e *Entry[N]) Roster() *Roster[N] { return e.roster }

// Aside reports whether the element is not in the handlespace because it does not fit its
// pool.
func (e *Entry[N]) Aside() bool { return e.at == aside }

// Served reports whether the element is in the handlespace.
func (e *Entry[N]) Served() bool { return e.at == served }

// Change is what one call has done to one element.
type Change[N any] struct {
	Entry *Entry[N]
	// From and To are the rosters before and after; nil where the element was not
	// there.
	From, To *Roster[N]
	// Visible tells that pool users see a difference, in this element or in others of its
	// pool.
	Visible bool
	// Emptied tells that the handlespace has lost the pool with it.
	Emptied bool
	// Conflict is why the element is set aside; nil if it is not, or was before.
	Conflict error
	// Guarded is 1 if the guard of the pool has begun, -1 if it has ended.
	Guarded int8
}

// New returns a ledger without elements, that writes to an empty handlespace.
func New[N any](space *handlespace.Space, limits Limits) *Ledger[N] {
	return &Ledger[N]{Limits: limits, space: space, batch: batch, pools: make(map[rserpool.PoolHandle]*pool[N])}
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
		return p.find(id)
	}
	return nil
}

// ErrFull is Put's error where the limits have no room.
var ErrFull = errors.New("the registrar's limits have no room for the pool element")

// Put makes pe an element of to's home, in place of e, which is what Find returns: nil
// for a new element. It is a member then. The ledger sets the Home of pe. The error is
// ErrFull, or a *handlespace.InconsistentError unless fit is SetAside; then nothing has
// changed.
func (l *Ledger[N]) Put(e *Entry[N], to *Roster[N], h rserpool.PoolHandle, pe *handlespace.Element, fit Fit) (Change[N], error) {
	return l.PutAs(e, to, h, pe, fit, Member, time.Time{})
}

// PutAs is Put for an element in a state; since is since when it is a suspect. A suspect is
// always set aside if it does not fit its pool.
func (l *Ledger[N]) PutAs(e *Entry[N], to *Roster[N], h rserpool.PoolHandle, pe *handlespace.Element, fit Fit, s State, since time.Time) (Change[N], error) {
	if !l.Room(e, h, &pe.PoolElement) {
		return Change[N]{}, ErrFull
	}
	return l.put(e, to, h, pe, fit, s, since)
}

// Move makes an element of the ledger one of to's home, described by pe, in the same state.
// Where that does not fit the pool, the element is set aside.
func (l *Ledger[N]) Move(e *Entry[N], to *Roster[N], pe *handlespace.Element) Change[N] {
	return l.MoveAs(e, to, pe, e.state, e.Since())
}

// MoveAs is Move for an element that is in a state from now on; see PutAs.
func (l *Ledger[N]) MoveAs(e *Entry[N], to *Roster[N], pe *handlespace.Element, s State, since time.Time) Change[N] {
	c, _ := l.put(e, to, e.pool.handle, pe, SetAside, s, since)
	return c
}

// put enters pe in place of e, which is nil for a new element.
func (l *Ledger[N]) put(e *Entry[N], to *Roster[N], h rserpool.PoolHandle, pe *handlespace.Element, fit Fit, s State, since time.Time) (Change[N], error) {
	if pe.Home != to.home { // it may be one that readers have
		pe.Home = to.home
	}
	had := l.space.Pool(h) != nil
	at, conflict := l.install(h, e, pe, fit, s)
	if conflict != nil && fit != SetAside && s != Suspect {
		return Change[N]{}, conflict
	}
	c := Change[N]{To: to}
	leaves := false // the handlespace
	if e == nil {
		e = l.add(to, h, pe.ID)
		c.Visible = s != Suspect
	} else {
		c.From = e.roster
		c.Visible = at != out && !e.pe.SameToUsers(pe) || at == served && e.at != served
		leaves = at == aside && e.at == served
		if e.at == aside {
			conflict = nil
		}
		l.uncount(e)
	}
	l.relist(e, to, s)
	e.pe = pe
	l.weigh(e, size(&pe.PoolElement))
	l.count(e, at, since)
	c.Entry = e
	l.settle(e.pool, e, &c)
	if leaves {
		l.space.Remove(h, pe.ID)
	}
	l.finish(e, had, &c)
	if e.at == aside {
		c.Conflict = conflict
	}
	return c, nil
}

// Remove takes an element out.
func (l *Ledger[N]) Remove(e *Entry[N]) Change[N] {
	p := e.pool
	had := l.space.Pool(p.handle) != nil
	c := Change[N]{Entry: e, From: e.roster, Visible: e.at != out}
	l.uncount(e)
	l.delist(e)
	l.weigh(e, 0)
	p.remove(e)
	l.elements--
	l.settle(p, nil, &c) // suspects take its place before it leaves
	if e.at == served {
		l.space.Remove(p.handle, e.id)
	}
	e.at = out
	l.finish(e, had, &c)
	if len(p.entries) == 0 {
		delete(l.pools, p.handle)
		l.handleBytes -= handlespace.HandleSize(p.handle)
	}
	return c
}

func (l *Ledger[N]) newEntry(of *Roster[N]) *Entry[N] {
	if l.New != nil {
		return l.New(of)
	}
	return new(Entry[N])
}

// add makes an entry for a roster, in a new pool if need be.
func (l *Ledger[N]) add(of *Roster[N], h rserpool.PoolHandle, id rserpool.PEID) *Entry[N] {
	p := l.pools[h]
	if p == nil {
		p = &pool[N]{handle: h}
		l.pools[h] = p
		l.handleBytes += handlespace.HandleSize(h)
	}
	e := l.newEntry(of)
	e.pool, e.id = p, id
	p.slots.Add(id)
	p.entries = append(p.entries, e)
	l.elements++
	return e
}

// find returns the entry with that identifier, nil if there is none.
func (p *pool[N]) find(id rserpool.PEID) *Entry[N] {
	if slot, ok := p.slots.Find(id); ok {
		return p.entries[slot]
	}
	return nil
}

// remove takes an entry out.
func (p *pool[N]) remove(e *Entry[N]) {
	slot, last := p.slots.Remove(e.id, false), len(p.entries)-1
	p.entries[slot], p.entries[last] = p.entries[last], nil
	p.entries = slots.Shrink(p.entries[:last])
}
