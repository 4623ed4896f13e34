package registrar

import (
	"fmt"
	"strconv"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// logger bounds the log lines. Warnings have a bound of their own: many elements that fall silent
// are many lines, and the guard that begins for that is one of the last.
type logger struct {
	bucket, warnings bucket
	pools            bucket    // see warnOfPools
	names            bucket    // see warnOfNames
	left             int       // lines dropped that the log was not told of
	told             time.Time // when it was told last
}

// logf writes a log line, unless there were LogsPerSecond of them, and reports whether it has.
func (r *Registrar) logf(warn bool, format string, args ...any) bool {
	l := &r.log
	b := &l.bucket
	if warn {
		b = &l.warnings
	}
	if !b.allow(r.now, r.cfg.Limits.LogsPerSecond) {
		l.left++
		return false
	}
	if l.left > 0 && r.now.Sub(l.told) >= time.Second {
		l.told = r.now
		r.act(Log{Warn: true, Text: fmt.Sprintf("%d log lines dropped: more than the limit allows", l.left)})
		l.left = 0
	}
	r.act(Log{Warn: warn, Text: fmt.Sprintf(format, args...)})
	return true
}

// poolLogs and nameLogs are the parts of LogsPerSecond of which the lines are about pools, and about
// registrars with the same server identifier.
const (
	poolLogs = 2
	nameLogs = 10
)

// peerLogs is the part of LogsPerSecond that the messages of one peer may have: a peer that sends only
// mistakes must not hide what others do.
const peerLogs = 10

// warnOf is logf for a warning that a peer can cause as often as it likes.
func (r *Registrar) warnOf(a *assoc, format string, args ...any) {
	r.warnWithin(&a.logs, peerLogs, format, args...)
}

// warnOfPools is logf for a warning about a pool that peers and elements can cause as often as they
// like, and that cannot be counted to one association.
func (r *Registrar) warnOfPools(format string, args ...any) bool {
	return r.warnWithin(&r.log.pools, poolLogs, format, args...)
}

// warnOfNames is the same for a warning that another registrar has the identifier of this one, or of
// a peer: such ones come from more and more associations, or by multicast.
func (r *Registrar) warnOfNames(format string, args ...any) {
	r.warnWithin(&r.log.names, nameLogs, format, args...)
}

func (r *Registrar) warnWithin(b *bucket, part int, format string, args ...any) bool {
	if !b.allow(r.now, max(1, r.cfg.Limits.LogsPerSecond/part)) {
		r.log.left++
		return false
	}
	return r.logf(true, format, args...)
}

// handleText is a pool handle that is quoted and cut only if it is really logged.
type handleText rserpool.PoolHandle

func quote(h rserpool.PoolHandle) handleText { return handleText(h) }

// maxLoggedHandle is how many bytes of a handle go into a log line.
const maxLoggedHandle = 64

func (h handleText) String() string {
	if len(h) > maxLoggedHandle {
		return strconv.QuoteToASCII(string(h[:maxLoggedHandle])) + "..."
	}
	return strconv.QuoteToASCII(string(h))
}
