package handlespace

import (
	"net/netip"
	"slices"
	"sync"
)

// AddrIndex finds the elements at an address. The writer of the space keeps it up to date;
// any goroutine may read it.
type AddrIndex struct {
	space    *Space
	prefixes []netip.Prefix

	mu   sync.RWMutex
	tree addrTree
}

// indexPart is the number of elements for which the writer may wait while an index is made.
const indexPart = 256

// IndexAddrs makes an index of the elements with an address in one of the networks. It takes
// about 130 bytes for each address. Close must be called when it is not used any more.
func (s *Space) IndexAddrs(prefixes []netip.Prefix) *AddrIndex {
	x := &AddrIndex{space: s, prefixes: slices.Clone(prefixes)}
	s.writing.Lock()
	s.indexes = append(s.indexes, x)
	s.writing.Unlock()
	for p := range s.table.all {
		for part := range slices.Chunk(p.Elements(nil), indexPart) {
			x.enter(p, part)
		}
	}
	return x
}

// enter adds elements of a pool that are still there. The writer adds and removes others.
func (x *AddrIndex) enter(p *Pool, part []*Element) {
	x.space.writing.Lock()
	defer x.space.writing.Unlock()
	if x.space.Pool(p.handle) != p {
		return
	}
	for _, e := range part {
		x.change(p, nil, p.Element(e.ID))
	}
}

// Close ends the work of the writer for the index.
func (x *AddrIndex) Close() {
	s := x.space
	s.writing.Lock()
	defer s.writing.Unlock()
	s.indexes = slices.DeleteFunc(s.indexes, func(o *AddrIndex) bool { return o == x })
}

// indexChange has the indexes follow a change of a pool: e has replaced old; either may be
// nil. The caller holds writing.
func (s *Space) indexChange(p *Pool, old, e *Element) {
	for _, x := range s.indexes {
		x.change(p, old, e)
	}
}

func (x *AddrIndex) change(p *Pool, old, e *Element) {
	var gone, come []netip.Addr
	if old != nil {
		gone = old.UserTransport.Addrs
	}
	if e != nil {
		come = e.UserTransport.Addrs
	}
	if slices.Equal(gone, come) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, a := range gone {
		if x.covers(a) && !slices.Contains(come, a) {
			x.tree.remove(a, holder{p, old.ID})
		}
	}
	for _, a := range come {
		if x.covers(a) {
			x.tree.add(a, holder{p, e.ID})
		}
	}
}

func (x *AddrIndex) covers(a netip.Addr) bool {
	return slices.ContainsFunc(x.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Holder is an element that has an address, and its pool.
type Holder struct {
	Pool    *Pool
	Element *Element
}

// Lookup appends to dst the elements at an address, 128 of them if there are more, in no
// particular order.
func (x *AddrIndex) Lookup(dst []Holder, a netip.Addr) []Holder {
	for _, h := range x.holders(a) {
		if e := h.pool.Element(h.id); e != nil && slices.Contains(e.UserTransport.Addrs, a) {
			dst = append(dst, Holder{h.pool, e})
		}
	}
	return dst
}

func (x *AddrIndex) holders(a netip.Addr) []holder {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if l := x.tree.find(a); l != nil {
		return slices.Clone(l.first)
	}
	return nil
}

// Any reports whether an element has an address of a network.
func (x *AddrIndex) Any(p netip.Prefix) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.tree.any(p)
}
