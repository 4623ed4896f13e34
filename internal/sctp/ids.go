package sctp

import "sync/atomic"

// idAllocator gives out association names that are unique over all the kinds
// an endpoint joins. Its zero value is ready; it may be used from any
// goroutine.
type idAllocator struct{ last atomic.Uint64 }

// next returns a name never given before, starting with 1.
func (a *idAllocator) next() AssocID { return AssocID(a.last.Add(1)) }
