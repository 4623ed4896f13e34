package registrar

import (
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// entry is a pool element of the handlespace in the roster of its home
// registrar. It is part of an [element] if that is this registrar.
type entry struct {
	pool   *pool
	pe     *handlespace.Element // as it is in the handlespace, unless it is a misfit
	roster *roster
	size   int // of pe, as Limits.ElementBytes counts it
	misfit bool

	before, after *entry // in the roster

	// claim is what waits for the element's end, nil if nothing does. former are
	// the associations that have owned it and were superseded, the latest first,
	// then zeros; nil at first.
	claim  *claim
	former *[maxFormerOwners]AssocID

	// seen is the audit in which its home has named it last.
	seen uint64
}

// roster are the elements of one home registrar, in the order in which they
// became its own, with their PE checksum (RFC 5353, Section 3.6.2).
type roster struct {
	home       rserpool.ServerID
	sum        enrp.Checksum
	head, tail *entry
	n          int
	sweep      *entry // where an audit's sweep goes on
}

// enlist puts e, which is in no roster, at the end of one.
func (r *Registrar) enlist(l *roster, e *entry) {
	e.size = variableSize(&e.pe.PoolElement)
	r.size += e.size
	e.roster, e.before, e.after = l, l.tail, nil
	if l.tail != nil {
		l.tail.after = e
	} else {
		l.head = e
	}
	l.tail = e
	l.n++
	l.sum.Add(e.pool.handle, e.pe.ID)
}

// delist takes e out of its roster. A reader of the roster goes on
// behind it.
func (r *Registrar) delist(e *entry) {
	l := e.roster
	r.size -= e.size
	for _, s := range r.peers.sessions {
		if s.next == e {
			s.next = e.after
		}
	}
	if l.sweep == e {
		l.sweep = e.after
	}
	if e.before != nil {
		e.before.after = e.after
	} else {
		l.head = e.after
	}
	if e.after != nil {
		e.after.before = e.before
	} else {
		l.tail = e.before
	}
	l.n--
	l.sum.Remove(e.pool.handle, e.pe.ID)
	e.roster, e.before, e.after = nil, nil, nil
}

// replace puts a new description in place of an entry's.
func (r *Registrar) replace(e *entry, pe *handlespace.Element) {
	size := variableSize(&pe.PoolElement)
	r.size += size - e.size
	e.pe, e.size = pe, size
}

// entry is the element of that handle and identifier, whichever registrar its home is, nil if
// there is none.
func (r *Registrar) entry(h rserpool.PoolHandle, id rserpool.PEID) *entry {
	if e := r.find(h, id); e != nil {
		return &e.entry
	}
	return r.findForeign(h, id)
}

// fits reports whether there is room for an element's bytes in place of those
// of e, which may be nil.
func (r *Registrar) fits(e *entry, pe *rserpool.PoolElement) bool {
	former := 0
	if e != nil {
		former = e.size
	}
	return r.size-former+variableSize(pe) <= r.cfg.Limits.ElementBytes
}
