// Package slab allocates values of one type in blocks: that takes less time, less memory, and
// less work of the garbage collector than one by one. A block stays in memory until nothing
// refers to any of its values any more. So it is for values that come together and mostly last
// equally long. It is for one goroutine.
package slab

import "unsafe"

// Of is a source of values. The zero Of is ready.
type Of[T any] struct{ block []T }

// blockSize is the size of a block in bytes: one that Go's allocator has, without its header.
const blockSize = 4096 - 8

// New returns a new zero value.
func (s *Of[T]) New() *T { return &s.Slice(1)[0] }

// Slice returns n new zero values, with no room behind them.
func (s *Of[T]) Slice(n int) []T {
	if n > len(s.block) {
		var v T
		most := max(1, blockSize/int(max(1, unsafe.Sizeof(v))))
		if n > most/4 && n > 1 {
			return make([]T, n)
		}
		s.block = make([]T, most)
	}
	values := s.block[:n:n]
	s.block = s.block[n:]
	return values
}
