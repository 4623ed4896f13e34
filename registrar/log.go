package registrar

import (
	"fmt"
	"strconv"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// logger bounds what the operator is told.
type logger struct {
	bucket bucket
	left   int // lines left out since the last one
}

// logf tells the operator something, unless there was too much of late.
func (r *Registrar) logf(warn bool, format string, args ...any) {
	l := &r.log
	if !l.bucket.allow(r.now, r.cfg.Limits.LogsPerSecond) {
		l.left++
		return
	}
	if l.left > 0 {
		r.act(Log{Warn: true, Text: fmt.Sprintf("%d log lines were left out: too many in a short time", l.left)})
		l.left = 0
	}
	r.act(Log{Warn: warn, Text: fmt.Sprintf(format, args...)})
}

// handleText is a pool handle that is written out, quoted and cut, only if it
// is really logged.
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
