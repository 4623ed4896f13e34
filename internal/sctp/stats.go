package sctp

import "sync/atomic"

// Stats counts what a Stack's user-space transports met since its making.
type Stats struct {
	// BadChecksum counts packets with a wrong CRC32c, Malformed those that
	// break the packet format in another way.
	BadChecksum, Malformed uint64
	// OutOfTheBlue counts packets that belong to no association
	// (RFC 9260, Section 8.4).
	OutOfTheBlue uint64
	// BadCookie counts COOKIE ECHOs with a cookie that is forged, stale or
	// for another address.
	BadCookie uint64
	// Refused counts associations refused for lack of room.
	Refused uint64
	// Overruns counts associations cut off because the peer went past a limit.
	Overruns uint64
	// Dropped counts packets dropped because an association did not take
	// them fast enough.
	Dropped uint64
	// Panics counts panics that ended an association each. There should be none.
	Panics uint64
}

// counters are the live values of Stats.
type counters struct {
	badChecksum, malformed, outOfTheBlue, badCookie atomic.Uint64
	refused, overruns, dropped, panics              atomic.Uint64
	// queued is the bytes in all send queues now.
	queued atomic.Int64
}

func (c *counters) stats() Stats {
	return Stats{
		BadChecksum:  c.badChecksum.Load(),
		Malformed:    c.malformed.Load(),
		OutOfTheBlue: c.outOfTheBlue.Load(),
		BadCookie:    c.badCookie.Load(),
		Refused:      c.refused.Load(),
		Overruns:     c.overruns.Load(),
		Dropped:      c.dropped.Load(),
		Panics:       c.panics.Load(),
	}
}
