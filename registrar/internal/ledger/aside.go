package ledger

import (
	"cmp"
	"maps"
	"slices"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Fit says what becomes of an element that does not fit its pool.
type Fit uint8

const (
	// Refuse the element.
	Refuse Fit = iota
	// Renew is Refuse, but an element takes the place of its former self if that was
	// alone in the pool, and the pool becomes another one.
	Renew
	// SetAside is Renew, but an element that does not fit even so is set aside.
	SetAside
)

// install puts an element into the handlespace, in place of its former self. It
// reports whether others that were set aside are in the handlespace now, and why this
// one is not.
func (l *Ledger[N]) install(h rserpool.PoolHandle, pe *handlespace.Element, fit Fit) (refitted bool, conflict error) {
	p, put := l.pools[h], l.space.Put
	if fit != Refuse && (p == nil || p.aside == 0) { // those set aside come first
		put = l.space.Renew
	}
	excluded := l.excluded(h, pe)
	if conflict = excluded; conflict == nil {
		_, conflict = put(h, pe)
	}
	if conflict != nil && fit == SetAside && l.space.Remove(h, pe.ID) != nil { // it fitted so far
		refitted = l.refit(p)
		if excluded == nil {
			_, conflict = l.space.Put(h, pe)
		}
	}
	return refitted, conflict
}

func (l *Ledger[N]) excluded(h rserpool.PoolHandle, pe *handlespace.Element) error {
	if l.Check == nil {
		return nil
	}
	return l.Check(h, pe)
}

// setAside notes whether an element is set aside, and reports whether that is new.
func (l *Ledger[N]) setAside(e *Entry[N], aside bool) bool {
	if e.aside == aside {
		return false
	}
	n := 1
	if !aside {
		n = -1
	}
	e.aside = aside
	e.pool.aside += n
	l.aside += n
	return true
}

// refit makes elements that are set aside the pool, if the handlespace has none of
// it any more. It reports whether there are any that fit.
func (l *Ledger[N]) refit(p *pool[N]) bool {
	if p.aside == 0 || l.space.Pool(p.handle) != nil {
		return false
	}
	return len(l.admit(p)) > 0
}

// admit adds the elements that are set aside to the handlespace, if they fit, and returns
// them.
func (l *Ledger[N]) admit(p *pool[N]) (admitted []*Entry[N]) {
	for _, e := range p.sorted() {
		if !e.aside || l.excluded(p.handle, e.pe) != nil {
			continue
		}
		if _, err := l.space.Put(p.handle, e.pe); err == nil {
			l.setAside(e, false)
			admitted = append(admitted, e)
		}
	}
	return admitted
}

// sorted returns the pool's entries, ordered by identifier.
func (p *pool[N]) sorted() []*Entry[N] {
	return slices.SortedFunc(maps.Values(p.entries), func(a, b *Entry[N]) int { return cmp.Compare(a.id, b.id) })
}

// Refit is to be called after Check has changed for a pool. It sets aside the elements that
// Check excludes, and then adds those to the handlespace that fit.
func (l *Ledger[N]) Refit(h rserpool.PoolHandle) (changes []Change[N]) {
	p := l.pools[h]
	if p == nil {
		return nil
	}
	was := l.space.Pool(h) != nil
	for _, e := range p.sorted() {
		if e.aside {
			continue
		}
		if err := l.excluded(h, e.pe); err != nil {
			l.space.Remove(h, e.id)
			changes = append(changes, Change[N]{Entry: e, From: e.roster, To: e.roster, Visible: true, Conflict: err})
		}
	}
	for _, e := range l.admit(p) {
		changes = append(changes, Change[N]{Entry: e, From: e.roster, To: e.roster, Visible: true})
	}
	for i := range changes {
		l.setAside(changes[i].Entry, changes[i].Conflict != nil)
		changes[i].Emptied = was && l.space.Pool(h) == nil
	}
	return changes
}
