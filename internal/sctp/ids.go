package sctp

import "sync/atomic"

// IDs gives out association names that are unique over all the kinds
// an endpoint joins. Its zero value is ready; it may be used from any
// goroutine.
type IDs struct{ last atomic.Uint64 }

// Next returns a name never given before, starting with 1.
func (a *IDs) Next() AssocID { return AssocID(a.last.Add(1)) }
