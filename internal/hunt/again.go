package hunt

import (
	"errors"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// again is when registrars that have failed in this round are tried again. A registrar
// that restarts refuses for a moment; it must not wait for registrars that do not answer,
// nor behind any number of announced ones.
type again struct {
	at    time.Time // zero: not planned
	pause time.Duration
}

// planAgain plans to try a registrar again that has just failed, while others are being
// tried.
func (h *Hunt) planAgain(now time.Time) {
	if h.on && h.again.at.IsZero() {
		h.again.pause = h.longer(now, h.again.pause)
		h.again.at = now.Add(h.vary(h.again.pause))
	}
}

// tryAgain puts registrars that have failed into the queue again: configured ones behind the
// configured ones that were not tried yet, announced ones at the end. Registrars that were silent
// come in the next round: they would take the places of those that fail at once.
func (h *Hunt) tryAgain(now time.Time) {
	if h.again.at.IsZero() || now.Before(h.again.at) {
		return
	}
	h.again.at = time.Time{}
	var failed []rserpool.Registrar
	for i, a := range h.report {
		tried := slices.ContainsFunc(h.trying, func(t attempt) bool { return t.report == i })
		switch {
		case a.Err == nil || tried || errors.As(a.Err, new(silentError)) || slices.ContainsFunc(h.queue, a.Registrar.Equal):
		case h.isConfigured(a.Registrar):
			failed = append(failed, a.Registrar)
		default:
			h.queue = append(h.queue, a.Registrar)
		}
	}
	behind := 0
	for i, r := range h.queue {
		if h.waits(r) {
			behind = i + 1
		}
	}
	h.queue = slices.Insert(h.queue, behind, failed...)
	h.tryNext(now)
}

// entry returns the place of a registrar in the report. The reason for an earlier failure
// in this round stays there.
func (h *Hunt) entry(now time.Time, to rserpool.Registrar) int {
	if i := slices.IndexFunc(h.report, func(a rserpool.Attempt) bool { return a.Registrar.Equal(to) }); i >= 0 {
		h.report[i].Since = now
		return i
	}
	h.report = append(h.report, rserpool.Attempt{Registrar: to, Since: now})
	return len(h.report) - 1
}

// next is the place in the queue of the registrar to try next, -1 if none may be tried.
// Announced registrars leave one place to configured ones: anyone can announce registrars
// that do not answer.
func (h *Hunt) next() int {
	if len(h.queue) == 0 || len(h.trying) >= maxAttempts {
		return -1
	}
	strangers := 0
	for _, a := range h.trying {
		if !h.isConfigured(a.to) {
			strangers++
		}
	}
	if len(h.cfg.Registrars) == 0 || strangers < maxAttempts-1 {
		return 0
	}
	return slices.IndexFunc(h.queue, h.isConfigured)
}

// turn has the announced registrars begin with the one whose turn it is.
func (h *Hunt) turn(all []rserpool.Registrar) []rserpool.Registrar {
	n := len(h.known.configured)
	i := slices.IndexFunc(all, h.first.Equal)
	if len(h.first.Addrs) == 0 || i < n {
		return all
	}
	return slices.Concat(all[:n], all[i:], all[n:i])
}

// isConfigured reports whether a registrar was not only announced.
func (h *Hunt) isConfigured(r rserpool.Registrar) bool {
	return slices.ContainsFunc(h.cfg.Registrars, func(c rserpool.Registrar) bool { return c.Equal(r) || sameName(c, r) })
}
