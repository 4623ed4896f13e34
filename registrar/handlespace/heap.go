package handlespace

import (
	"math/bits"
	"slices"
)

// key is the sort key of an order, a number of 128 bits.
type key struct{ hi, lo uint64 }

// before reports whether k is less than o. It does not branch.
func (k key) before(o key) bool {
	_, borrow := bits.Sub64(k.lo, o.lo, 0)
	_, borrow = bits.Sub64(k.hi, o.hi, borrow)
	return borrow != 0
}

// item is a slot in a heap.
type item struct {
	key
	slot uint32
}

func (it item) before(o item) bool { return it.key.before(o.key) }

// heap is a 4-ary heap: an item is not before its parent, the first one is before all
// others. at holds the place of each slot's item. Items have no pointers and are in one
// block, so that a step down the heap costs at most three cache lines.
//
// A small heap is a sorted list, which is a valid 4-ary heap, too: the next items of an
// answer follow each other. The parent of each item is the one before it.
type heap []item

const (
	arity = 4
	small = 16 // items of a list
)

// children returns the items below one, and the place of the first of them.
func (h heap) children(at uint32) (first int, items []item) {
	first = arity*int(at) + 1
	if first >= len(h) {
		return 0, nil
	}
	return first, h[first:min(first+arity, len(h))]
}

func (h heap) parent(i int) int {
	if len(h) <= small {
		return i - 1
	}
	return (i - 1) / arity
}

// push adds an item.
func (h *heap) push(it item, at []uint32) {
	*h = append(*h, it)
	h.up(len(*h)-1, it, at)
}

// remove removes the item at place i. The caller frees memory.
func (h *heap) remove(i uint32, at []uint32) {
	at[(*h)[i].slot] = nowhere
	last := len(*h) - 1
	it := (*h)[last]
	*h = (*h)[:last]
	switch {
	case last == small: // a list from now on
		if int(i) != last {
			(*h)[i] = it
		}
		for i, it := range *h {
			h.up(i, it, at)
		}
	case int(i) != last:
		h.set(i, it, at)
	}
}

// set replaces the item at a place.
func (h heap) set(i uint32, it item, at []uint32) {
	if i > 0 && it.before(h[h.parent(int(i))]) {
		h.up(int(i), it, at)
	} else {
		h.down(i, it, at)
	}
}

// up puts an item at place i or closer to the root.
func (h heap) up(i int, it item, at []uint32) {
	for i > 0 {
		parent := h.parent(i)
		if !it.before(h[parent]) {
			break
		}
		h[i] = h[parent]
		at[h[i].slot] = uint32(i)
		i = parent
	}
	h[i] = it
	at[it.slot] = uint32(i)
}

// down puts an item at place i or farther from the root.
func (h heap) down(i uint32, it item, at []uint32) {
	if len(h) <= small {
		for ; int(i)+1 < len(h) && h[i+1].before(it); i++ {
			h[i] = h[i+1]
			at[h[i].slot] = i
		}
		h[i] = it
		at[it.slot] = i
		return
	}
	for {
		first, items := h.children(i)
		if len(items) == 0 {
			break
		}
		least := 0
		for c := 1; c < len(items); c++ {
			if items[c].before(items[least]) {
				least = c
			}
		}
		if !items[least].before(it) {
			break
		}
		h[i] = items[least]
		at[h[i].slot] = i
		i = uint32(first + least)
	}
	h[i] = it
	at[it.slot] = i
}

// sort restores the order after keys were changed in place.
func (h heap) sort(at []uint32) {
	sortItems(h)
	for i, it := range h {
		at[it.slot] = uint32(i)
	}
}

func sortItems(items []item) {
	slices.SortFunc(items, func(a, b item) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
}
