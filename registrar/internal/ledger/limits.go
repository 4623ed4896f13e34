package ledger

import (
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Limits bound the ledger. See registrar.Limits, which has the first four by the same
// names.
type Limits struct {
	Pools, Elements           int
	HandleBytes, ElementBytes int
	// Alike bounds the pools whose handles differ in ASCII case only.
	Alike int
}

// Used is how much of the limits is in use.
func (l *Ledger[N]) Used() Limits {
	return Limits{Pools: len(l.pools), Elements: l.elements, HandleBytes: l.handleBytes, ElementBytes: l.bytes}
}

// Fullness is which limit has no room for an element.
type Fullness uint8

// The limits, by the names of their fields in Limits.
const (
	HasRoom Fullness = iota // there is none
	FullPools
	FullElements
	FullHandleBytes
	FullElementBytes
	FullAlike
)

// Full returns which limit has no room for an element in place of e, which is nil
// for a new element. One that is present needs room only for what it grows by.
func (l *Ledger[N]) Full(e *Entry[N], h rserpool.PoolHandle, pe *rserpool.PoolElement) Fullness {
	bytes := l.bytes + size(pe)
	if e != nil {
		bytes -= int(e.bytes)
	}
	switch {
	case bytes > l.Limits.ElementBytes:
		return FullElementBytes
	case e != nil:
		return HasRoom
	case l.elements >= l.Limits.Elements:
		return FullElements
	case l.pools[h] != nil:
		return HasRoom
	case len(l.pools) >= l.Limits.Pools:
		return FullPools
	case l.handleBytes+handlespace.HandleSize(h) > l.Limits.HandleBytes:
		return FullHandleBytes
	case l.space.Alike(h) >= l.Limits.Alike:
		return FullAlike
	}
	return HasRoom
}

// Room reports whether all limits have room, see Full.
func (l *Ledger[N]) Room(e *Entry[N], h rserpool.PoolHandle, pe *rserpool.PoolElement) bool {
	return l.Full(e, h, pe) == HasRoom
}

// size is about how many bytes an element takes beside those that each one does.
func size(e *rserpool.PoolElement) int {
	const addr, raw = 24, 48 // in a slice, a raw parameter with its own memory
	n := addr*(len(e.UserTransport.Addrs)+len(e.ASAPTransport.Addrs)) + len(e.UserTransport.Opaque) + len(e.Identity)
	for _, u := range e.Unknown {
		n += raw + len(u.Value)
	}
	return n
}

// Size is what Limits.ElementBytes counts for two transports.
func Size(user, asap rserpool.Transport) int {
	return size(&rserpool.PoolElement{UserTransport: user, ASAPTransport: asap})
}

// Reserve counts so many bytes more, or less, that belong to elements and are kept
// outside of the ledger.
func (l *Ledger[N]) Reserve(bytes int) { l.bytes += bytes }

// weigh notes how many bytes an element takes.
func (l *Ledger[N]) weigh(e *Entry[N], bytes int) {
	l.bytes += bytes - int(e.bytes)
	e.bytes = int32(bytes)
}
