// Package slots numbers the elements of a pool, so that what is known of them is in slices.
// A map of pointers would be dear to the garbage collector: it would follow them in the map's
// order, which is random, and wait for memory at each one. It is for one goroutine at a time.
package slots

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Index has the slots of identifiers, numbered from 0 without gaps. The zero Index is empty.
// It has no pointers to follow but to its own memory.
type Index struct {
	ids  []rserpool.PEID          // by slot
	many map[rserpool.PEID]uint32 // nil while a search through ids is as fast
}

// few identifiers take one cache line.
const few = 16

// Find returns the slot of an identifier.
func (x *Index) Find(id rserpool.PEID) (slot uint32, ok bool) {
	if x.many != nil {
		slot, ok = x.many[id]
		return slot, ok
	}
	i := slices.Index(x.ids, id)
	return uint32(i), i >= 0
}

// Add gives an identifier that has none the next slot.
func (x *Index) Add(id rserpool.PEID) {
	x.ids = append(x.ids, id)
	switch {
	case x.many != nil:
		x.many[id] = uint32(len(x.ids) - 1)
	case len(x.ids) > few:
		x.renew()
	}
}

// Remove takes an identifier out, and returns the slot that it had. The identifier of the last
// slot has it from now on. Memory is kept if room is to be left.
func (x *Index) Remove(id rserpool.PEID, room bool) (slot uint32) {
	slot, _ = x.Find(id)
	last := len(x.ids) - 1
	x.ids[slot] = x.ids[last]
	if x.many != nil {
		x.many[x.ids[slot]] = slot
		delete(x.many, id)
	}
	x.ids = x.ids[:last]
	if room {
		return slot
	}
	had := cap(x.ids)
	if x.ids = Shrink(x.ids); cap(x.ids) < had {
		x.renew()
	}
	return slot
}

// renew makes the map anew, if there is to be one.
func (x *Index) renew() {
	x.many = nil
	if len(x.ids) <= few {
		return
	}
	x.many = make(map[rserpool.PEID]uint32, cap(x.ids))
	for slot, id := range x.ids {
		x.many[id] = uint32(slot)
	}
}

// Shrink frees the memory of a slice that is much too large.
func Shrink[T any](s []T) []T {
	if cap(s) < 64 || len(s) > cap(s)/4 {
		return s
	}
	return append(make([]T, 0, 2*len(s)), s...)
}
