package sctp

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

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
	// Overruns counts associations that were ended because the peer went past a
	// limit, did not take what was sent to it, or broke the protocol.
	Overruns uint64
	// Dropped counts packets dropped because an association did not take
	// them fast enough.
	Dropped uint64
	// Panics counts panics that ended an association each. There should be none.
	Panics uint64
}

// Counters are the live values of Stats.
type Counters struct {
	BadChecksum, Malformed, OutOfTheBlue, BadCookie atomic.Uint64
	refused, Overruns, Dropped, Panics              atomic.Uint64
	// Queued is the bytes in all send queues now.
	Queued atomic.Int64

	// Logf, if set, is told of peers that are cut off or refused.
	Logf     func(format string, args ...any)
	mu       sync.Mutex
	logged   time.Time // when logf was last told
	unlogged int       // peers since then
}

// logEvery is the least time between two lines about peers that are cut off or
// refused: no peer can fill the log.
const logEvery = 10 * time.Second

// Cut counts and logs that an association with a peer was ended because the peer
// went past a limit.
func (c *Counters) Cut(kind Kind, peer netip.AddrPort, why error) {
	c.Overruns.Add(1)
	c.log("ended the association (%v) with %v: %v", kind, peer, why)
}

// Refuse counts and logs that a peer gets no association.
func (c *Counters) Refuse(kind Kind, peer netip.AddrPort, why error) {
	c.refused.Add(1)
	c.log("refused an association (%v) to %v: %v", kind, peer, why)
}

func (c *Counters) log(format string, args ...any) {
	if c.Logf == nil {
		return
	}
	c.mu.Lock()
	now := time.Now()
	if !c.logged.IsZero() && now.Sub(c.logged) < logEvery {
		c.unlogged++
		c.mu.Unlock()
		return
	}
	more := c.unlogged
	c.logged, c.unlogged = now, 0
	c.mu.Unlock()
	line := "sctp: " + fmt.Sprintf(format, args...)
	if more > 0 {
		line += fmt.Sprintf(" (%d more peers were cut off or refused since the last line like this)", more)
	}
	c.Logf("%s", line)
}

func (c *Counters) Stats() Stats {
	return Stats{
		BadChecksum:  c.BadChecksum.Load(),
		Malformed:    c.Malformed.Load(),
		OutOfTheBlue: c.OutOfTheBlue.Load(),
		BadCookie:    c.BadCookie.Load(),
		Refused:      c.refused.Load(),
		Overruns:     c.Overruns.Load(),
		Dropped:      c.Dropped.Load(),
		Panics:       c.Panics.Load(),
	}
}
