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

// install puts an element into the handlespace, in place of its former self e, and returns
// where it is to be. If that is aside, conflict says why, and the handlespace is as before. A
// suspect that is not in the handlespace stays out of it for now.
func (l *Ledger[N]) install(h rserpool.PoolHandle, e *Entry[N], pe *handlespace.Element, fit Fit, s State) (at location, conflict error) {
	if conflict = l.excluded(h, pe); conflict != nil {
		return aside, conflict
	}
	p := l.pools[h]
	switch {
	case s == Suspect && (e == nil || e.at != served):
		if conflict = l.fits(h, pe); conflict == nil {
			return out, nil
		}
	case e != nil && e.at == out:
		conflict = l.space.Resume(h, pe, e.doubt.standing)
	case fit != Refuse && (p == nil || p.special == nil || p.special.fitting() == 0): // those set aside come first
		_, conflict = l.space.Renew(h, pe)
	default:
		_, conflict = l.space.Put(h, pe)
	}
	if conflict != nil {
		return aside, conflict
	}
	return served, nil
}

// fits returns why an element does not fit the present pool of the handlespace.
func (l *Ledger[N]) fits(h rserpool.PoolHandle, pe *handlespace.Element) error {
	if sp := l.space.Pool(h); sp != nil {
		return sp.Fits(pe)
	}
	return nil
}

func (l *Ledger[N]) excluded(h rserpool.PoolHandle, pe *handlespace.Element) error {
	if l.Check == nil {
		return nil
	}
	return l.Check(h, pe)
}

// refit makes elements that are set aside the pool, if the handlespace has none of it any
// more. The others have precedence over last.
func (l *Ledger[N]) refit(p *pool[N], last *Entry[N], c *Change[N]) {
	if l.space.Pool(p.handle) != nil {
		return
	}
	for _, except := range []*Entry[N]{last, nil} {
		if p.special == nil || p.special.fitting() == 0 {
			return
		}
		for _, e := range l.admit(p, except) {
			c.Visible = c.Visible || e.at == served
		}
		l.settle(p, nil, c)
	}
}

// admit has the elements that are set aside, except for one, be in their pool, if they fit,
// and returns them. Suspects among them are not in the handlespace yet, and do not say what
// fits.
func (l *Ledger[N]) admit(p *pool[N], except *Entry[N]) (admitted []*Entry[N]) {
	all := p.sorted()
	for _, suspects := range []bool{false, true} {
		for _, e := range all {
			if e.at != aside || e == except || (e.state == Suspect) != suspects || l.excluded(p.handle, e.pe) != nil {
				continue
			}
			at, err := out, error(nil)
			if suspects {
				err = l.fits(p.handle, e.pe)
			} else {
				at = served
				_, err = l.space.Put(p.handle, e.pe)
			}
			if err == nil {
				l.recount(e, at)
				admitted = append(admitted, e)
			}
		}
	}
	return admitted
}

// sorted returns the pool's entries, ordered by identifier.
func (p *pool[N]) sorted() []*Entry[N] {
	return slices.SortedFunc(slices.Values(p.entries), func(a, b *Entry[N]) int { return cmp.Compare(a.id, b.id) })
}

// Refit is to be called after Check has changed for a pool. It sets aside the elements that
// Check excludes, and then those that fit are in the pool again. The first change says what
// has become of the pool's guard.
func (l *Ledger[N]) Refit(h rserpool.PoolHandle) (changes []Change[N]) {
	p := l.pools[h]
	if p == nil {
		return nil
	}
	had := l.space.Pool(h) != nil
	var all Change[N]
	var leave []*Entry[N]
	for _, e := range p.sorted() {
		if e.at == aside {
			l.recount(e, aside) // it may be barred, or not be barred any more
			continue
		}
		if err := l.excluded(h, e.pe); err != nil {
			if e.at == served {
				leave = append(leave, e)
			}
			changes = append(changes, Change[N]{Entry: e, From: e.roster, To: e.roster, Visible: e.at == served, Conflict: err})
			l.recount(e, aside)
		}
	}
	if len(changes) > 0 {
		l.settle(p, nil, &all) // suspects take their place before they leave
	}
	for _, e := range leave {
		l.space.Remove(h, e.id)
	}
	if p.special != nil && p.special.fitting() > 0 {
		for _, e := range l.admit(p, nil) {
			changes = append(changes, Change[N]{Entry: e, From: e.roster, To: e.roster, Visible: true})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	l.settle(p, nil, &all)
	for i := range changes {
		changes[i].Emptied = had && l.space.Pool(h) == nil
	}
	changes[0].Guarded, changes[0].Visible = all.Guarded, changes[0].Visible || all.Visible
	return changes
}

// Barred returns the elements of a pool that are set aside because Check excludes them, ordered
// by identifier.
func (l *Ledger[N]) Barred(h rserpool.PoolHandle) (barred []*Entry[N]) {
	p := l.pools[h]
	if p == nil || p.special == nil || p.special.barred == 0 {
		return nil
	}
	return slices.DeleteFunc(p.sorted(), func(e *Entry[N]) bool { return !e.barred })
}
