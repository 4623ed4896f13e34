package ledger

import (
	"cmp"
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
	_, conflict = put(h, pe)
	if conflict != nil && fit == SetAside && l.space.Remove(h, pe.ID) != nil { // it fitted so far
		refitted = l.refit(p)
		_, conflict = l.space.Put(h, pe)
	}
	return refitted, conflict
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
// it any more. It reports whether there are any.
func (l *Ledger[N]) refit(p *pool[N]) bool {
	if p.aside == 0 || l.space.Pool(p.handle) != nil {
		return false
	}
	var all []*Entry[N]
	for _, e := range p.entries {
		if e.aside {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *Entry[N]) int { return cmp.Compare(a.id, b.id) })
	for _, e := range all {
		if _, err := l.space.Put(p.handle, e.pe); err == nil {
			l.setAside(e, false)
		}
	}
	return true
}
