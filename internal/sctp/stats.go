package sctp

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Stats are the counters of a transport since its start.
type Stats struct {
	// BadChecksum counts packets with a wrong CRC32c, Malformed those that
	// break the packet format in another way.
	BadChecksum, Malformed uint64
	// OutOfTheBlue counts packets of no known association
	// (RFC 9260, Section 8.4).
	OutOfTheBlue uint64
	// BadCookie counts COOKIE ECHOs whose cookie is forged, too old or for another
	// address.
	BadCookie uint64
	// Refused counts associations refused because a limit was reached.
	Refused uint64
	// Overruns counts associations that were aborted because the peer exceeded a
	// limit, did not read what was sent to it, or broke the protocol.
	Overruns uint64
	// Dropped counts received packets for which an association had no room.
	Dropped uint64
	// Panics counts recovered panics, each of which ended an association.
	Panics uint64
}

// Counters are the counters of one transport. Any goroutine may use them.
type Counters struct {
	BadChecksum, Malformed, OutOfTheBlue, BadCookie atomic.Uint64
	refused, Overruns, Dropped, Panics              atomic.Uint64
	// Queued is the total of all send queues (SendQueue.Total).
	Queued atomic.Int64

	// Logf, if set, logs which peers are aborted or refused.
	Logf     func(format string, args ...any)
	mu       sync.Mutex
	logged   time.Time // of the last line
	unlogged int       // peers without a line since then
}

// logEvery is the least time between two lines about peers that are aborted or
// refused, so that no peer can fill the log.
const logEvery = 10 * time.Second

// Cut counts and logs that an association was aborted because of what its peer did.
func (c *Counters) Cut(kind Kind, peer netip.AddrPort, why error) {
	c.Overruns.Add(1)
	c.log("aborted the association (%v) with %v: %v", kind, peer, why)
}

// Refuse counts and logs that a peer was refused an association.
func (c *Counters) Refuse(kind Kind, peer netip.AddrPort, why error) {
	c.refused.Add(1)
	c.log("refused an association (%v) with %v: %v", kind, peer, why)
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
		line += fmt.Sprintf(" (%d more aborted or refused since the last such line)", more)
	}
	c.Logf("%s", line)
}

// Stats returns the values of the counters.
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
