package handlespace

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ring holds the slots of a pool in an order that depends only on the identifiers, so that
// all registrars, and each of them after a restart, find the same elements after the same
// place. It is a list of sorted chunks: an insertion moves at most one chunk. No choice of
// identifiers makes it slower, as it would a hash table.
type ring struct{ chunks [][]spot }

// spot is the place of a slot. Rank is in the upper half of at, the place on the circle in
// the lower one.
type spot struct {
	at   uint64
	slot uint32
}

const (
	chunkLen = 128 // the most spots of a chunk
	rankBits = 32
)

// cursor is a place in the ring: before a spot, or behind the last one.
type cursor struct{ chunk, i int }

// spotOf returns where an element is. Only the policy Priority has ranks.
func (r *rule) spotOf(e *Element) uint64 {
	at := uint64(scatter(uint32(e.ID)))
	if r.policy == rserpool.Priority {
		at |= uint64(^e.Policy.Priority) << rankBits
	}
	return at
}

// scatter mixes the bits of a number, so that identifiers which follow each other are
// evenly spread (the last step of MurmurHash3). Different numbers stay different.
func scatter(x uint32) uint32 {
	x ^= x >> 16
	x *= 0x85ebca6b
	x ^= x >> 13
	x *= 0xc2b2ae35
	return x ^ x>>16
}

// build fills an empty ring.
func (r *ring) build(m *members, ru *rule) {
	all := make([]spot, len(m.elems))
	for slot, e := range m.elems {
		all[slot] = spot{ru.spotOf(e), uint32(slot)}
	}
	slices.SortFunc(all, func(a, b spot) int {
		if a.at < b.at {
			return -1
		}
		return 1
	})
	for part := range slices.Chunk(all, chunkLen*3/4) {
		room := min(chunkLen, len(all)) // a small pool needs no more
		r.chunks = append(r.chunks, append(make([]spot, 0, room), part...))
	}
}

// find returns the first place that is not before at.
func (r *ring) find(at uint64) cursor {
	low, high := 0, len(r.chunks)
	for low < high {
		if mid := (low + high) / 2; r.chunks[mid][len(r.chunks[mid])-1].at < at {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if low == len(r.chunks) {
		return cursor{low, 0}
	}
	i, _ := slices.BinarySearchFunc(r.chunks[low], at, func(s spot, at uint64) int {
		if s.at < at {
			return -1
		}
		return 1
	})
	return cursor{low, i}
}

func (r *ring) next(c cursor) cursor {
	if c.i++; c.i == len(r.chunks[c.chunk]) {
		return cursor{c.chunk + 1, 0}
	}
	return c
}

func (r *ring) insert(s spot) {
	c := r.find(s.at)
	if c.chunk == len(r.chunks) { // behind all
		if c.chunk == 0 {
			r.chunks = append(r.chunks, make([]spot, 0, chunkLen))
		} else {
			c.chunk--
		}
		c.i = len(r.chunks[c.chunk])
	}
	switch chunk := r.chunks[c.chunk]; {
	case len(chunk) < cap(chunk):
	case len(chunk) < chunkLen: // append may take too much
		r.chunks[c.chunk] = append(make([]spot, 0, min(chunkLen, 2*len(chunk))), chunk...)
	default:
		half := append(make([]spot, 0, chunkLen), chunk[chunkLen/2:]...)
		r.chunks[c.chunk] = chunk[:chunkLen/2]
		r.chunks = slices.Insert(r.chunks, c.chunk+1, half)
		if c.i > chunkLen/2 {
			c = cursor{c.chunk + 1, c.i - chunkLen/2}
		}
	}
	r.chunks[c.chunk] = slices.Insert(r.chunks[c.chunk], c.i, s)
}

// remove takes out the spot at a place, and joins chunks that have become small.
func (r *ring) remove(at uint64) {
	c := r.find(at)
	r.chunks[c.chunk] = slices.Delete(r.chunks[c.chunk], c.i, c.i+1)
	for i := max(0, c.chunk-1); i <= c.chunk && i < len(r.chunks); i++ {
		switch {
		case len(r.chunks[i]) == 0:
			r.chunks = slices.Delete(r.chunks, i, i+1)
		case i+1 < len(r.chunks) && len(r.chunks[i])+len(r.chunks[i+1]) <= chunkLen/2:
			r.chunks[i] = append(r.chunks[i], r.chunks[i+1]...)
			r.chunks = slices.Delete(r.chunks, i+1, i+2)
		}
	}
}

// renumber: the element at a place has another slot.
func (r *ring) renumber(at uint64, slot uint32) {
	c := r.find(at)
	r.chunks[c.chunk][c.i].slot = slot
}

// walk visits the slots by rank, and within a rank from one place of the circle on, until
// visit returns false.
func (r *ring) walk(from uint32, visit func(slot uint32) bool) {
	for first, end := (cursor{}), (cursor{len(r.chunks), 0}); first != end; {
		rank := r.chunks[first.chunk][first.i].at >> rankBits << rankBits
		start, last := r.find(rank|uint64(from)), end
		if rank>>rankBits < 1<<rankBits-1 {
			last = r.find(rank + 1<<rankBits)
		}
		if !r.visit(start, last, visit) || !r.visit(first, start, visit) {
			return
		}
		first = last
	}
}

// visit visits the slots from one place to another.
func (r *ring) visit(from, to cursor, visit func(slot uint32) bool) bool {
	for c := from; c != to; c = r.next(c) {
		if !visit(r.chunks[c.chunk][c.i].slot) {
			return false
		}
	}
	return true
}
