package registrar

import (
	"fmt"
	"strconv"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// logger bounds the log lines. Warnings have a bound of their own: many elements that fall silent
// are many lines, and the guard that begins for that is one of the last.
type logger struct {
	bucket, warnings bucket
	left             int // lines dropped since the last one
}

// logf writes a log line, unless there were LogsPerSecond of them.
func (r *Registrar) logf(warn bool, format string, args ...any) {
	l := &r.log
	b := &l.bucket
	if warn {
		b = &l.warnings
	}
	if !b.allow(r.now, r.cfg.Limits.LogsPerSecond) {
		l.left++
		return
	}
	if l.left > 0 {
		r.act(Log{Warn: true, Text: fmt.Sprintf("%d log lines dropped: more than the limit allows", l.left)})
		l.left = 0
	}
	r.act(Log{Warn: warn, Text: fmt.Sprintf(format, args...)})
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
