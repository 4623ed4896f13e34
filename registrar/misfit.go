package registrar

import (
	"cmp"
	"slices"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// All elements of a pool have one policy type and one kind of user transport,
// which the first one fixes (RFC 5352, Section 3.1). Two registrars that cannot
// see one another, or not yet, can each let another one be the first. No rule
// could say which of the two kinds of elements is in the right, and none of them
// shall be lost: so each registrar goes on with the kind that it had first, and
// keeps the others aside as misfits. They belong to their home's roster and its
// checksum, are passed on to peers and taken over, but are not in our
// handlespace, where clients would find them. As soon as the pool has no element
// of its kind any more, they are what it consists of.

// install puts an element into the handlespace, in place of its former self. It
// reports whether it fits there.
func (r *Registrar) install(po *pool, pe *handlespace.Element) bool {
	_, err := r.putInto(po.handle)(po.handle, pe)
	if err != nil && r.space.Remove(po.handle, pe.ID) != nil { // it fitted so far
		r.refit(po)
		_, err = r.space.Put(po.handle, pe)
	}
	if err != nil {
		r.logf(true, "pool element %v of pool %s, whose home is registrar %v, is set aside: %v", pe.ID, quote(po.handle), pe.Home, err)
	}
	return err == nil
}

// putInto is how an element is put in the place of another one that is gone: if
// that was alone in its pool, it need not have fitted it. But misfits come first.
func (r *Registrar) putInto(h rserpool.PoolHandle) putFunc {
	if p := r.pools[h]; p != nil && p.misfits > 0 {
		return r.space.Put
	}
	return r.space.Renew
}

type putFunc func(rserpool.PoolHandle, *handlespace.Element) (*handlespace.Element, error)

// setMisfit notes whether an element is kept aside.
func (r *Registrar) setMisfit(e *entry, is bool) {
	if e.misfit == is {
		return
	}
	n := 1
	if !is {
		n = -1
	}
	e.misfit = is
	e.pool.misfits += n
	r.misfits += n
}

// refit makes misfits the pool's elements where they can be: elements have left
// the pool.
func (r *Registrar) refit(po *pool) {
	if po.misfits == 0 {
		return
	}
	if sp := r.space.Pool(po.handle); sp != nil && sp.Len() > 0 {
		return
	}
	var all []*entry
	for _, f := range po.foreign {
		if f.misfit {
			all = append(all, f)
		}
	}
	for _, e := range po.elements {
		if e.misfit {
			all = append(all, &e.entry)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int { return cmp.Compare(a.pe.ID, b.pe.ID) })
	for _, e := range all {
		if _, err := r.space.Put(po.handle, e.pe); err == nil {
			r.setMisfit(e, false)
		}
	}
	r.poolChanged(po)
}
