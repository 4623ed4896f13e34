package sctp

import (
	"fmt"
	"maps"
	"net/netip"
	"runtime/debug"
	"strings"
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
	// Deferred counts INITs and COOKIE ECHOs that were not answered because of
	// Limits.Backlog.
	Deferred uint64
	// Refused counts associations refused because a limit was reached, and failures to
	// accept a TCP connection: ten a second while one waits.
	Refused uint64
	// Overruns counts associations that were aborted because the peer exceeded a
	// limit, did not read what was sent to it, or broke the protocol.
	Overruns uint64
	// Dropped counts received packets for which an association had no room.
	Dropped uint64
	// Panics counts recovered panics.
	Panics uint64
}

// Counters are the counters of one transport. Any goroutine may use them.
type Counters struct {
	BadChecksum, Malformed, OutOfTheBlue, BadCookie, Deferred atomic.Uint64
	refused, Overruns, Dropped, Panics                        atomic.Uint64
	// Queued is the total of all send queues (SendQueue.Total).
	Queued atomic.Int64

	// Logf, if set, logs which peers are aborted or refused, and panics.
	Logf     func(format string, args ...any)
	mu       sync.Mutex
	logged   map[string]time.Time // the last line for each reason
	unlogged int                  // peers without a line since the last one
}

// Panicked counts and logs a recovered panic, which is a mistake of this program. The stack is in
// the line, so that it can be reported.
func (c *Counters) Panicked(where string, p any) {
	c.Panics.Add(1)
	if c.Logf != nil {
		stack := strings.Join(strings.Fields(string(debug.Stack())), " ")
		c.Logf("sctp: recovered from a panic in %s; please report it: %v: %s", where, p, stack)
	}
}

// logEvery is the least time between two lines about peers that are aborted or refused for the
// same reason, so that no peer can fill the log; logReasons is how many reasons count at a time.
// A flood of one kind does not hide the others.
const (
	logEvery   = 10 * time.Second
	logReasons = 50
)

// Cut counts and logs that an association was aborted because of what its peer did.
func (c *Counters) Cut(kind Kind, peer netip.AddrPort, why error) {
	c.Overruns.Add(1)
	c.log(why, "aborted the association (%v) with %v: %v", kind, peer, why)
}

// Refuse counts and logs that a peer was refused an association.
func (c *Counters) Refuse(kind Kind, peer netip.AddrPort, why error) {
	c.refused.Add(1)
	c.log(why, "refused an association (%v) with %v: %v", kind, peer, why)
}

// NotAccepted counts and logs that a connection cannot be accepted, and waits.
func (c *Counters) NotAccepted(kind Kind, why error) {
	c.refused.Add(1)
	c.log(why, "cannot accept an association (%v): %v", kind, why)
}

// Unserved logs that a peer called a port that no endpoint has.
func (c *Counters) Unserved(kind Kind, peer netip.AddrPort, why error) {
	c.log(why, "refused an association (%v) with %v: %v", kind, peer, why)
}

func (c *Counters) log(why error, format string, args ...any) {
	if c.Logf == nil {
		return
	}
	c.mu.Lock()
	if !c.mayLog(fmt.Sprint(why), time.Now()) {
		c.unlogged++
		c.mu.Unlock()
		return
	}
	more := c.unlogged
	c.unlogged = 0
	c.mu.Unlock()
	line := "sctp: " + fmt.Sprintf(format, args...)
	if more > 0 {
		line += fmt.Sprintf(" (%d more aborted or refused since the last such line)", more)
	}
	c.Logf("%s", line)
}

// mayLog reports whether there may be a line for a reason, and notes it. c.mu is held.
func (c *Counters) mayLog(why string, now time.Time) bool {
	if at, ok := c.logged[why]; ok && now.Sub(at) < logEvery {
		return false
	}
	if len(c.logged) >= logReasons {
		maps.DeleteFunc(c.logged, func(_ string, at time.Time) bool { return now.Sub(at) >= logEvery })
	}
	if len(c.logged) >= logReasons {
		return false
	}
	if c.logged == nil {
		c.logged = make(map[string]time.Time)
	}
	c.logged[why] = now
	return true
}

// Stats returns the values of the counters.
func (c *Counters) Stats() Stats {
	return Stats{
		BadChecksum:  c.BadChecksum.Load(),
		Malformed:    c.Malformed.Load(),
		OutOfTheBlue: c.OutOfTheBlue.Load(),
		BadCookie:    c.BadCookie.Load(),
		Deferred:     c.Deferred.Load(),
		Refused:      c.refused.Load(),
		Overruns:     c.Overruns.Load(),
		Dropped:      c.Dropped.Load(),
		Panics:       c.Panics.Load(),
	}
}
