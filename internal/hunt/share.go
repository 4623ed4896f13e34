package hunt

import (
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// maxShares is in how many parts T5-Serverhunt is divided at most: as many as there are sets of
// three among the addresses of a name, so that the handshake of one has a second.
const maxShares = (maxHostAddrs + maxAttempts - 1) / maxAttempts

// share is the part of T5-Serverhunt after which attempts give way to registrars that were not
// tried yet: see giveWay. If more than three registrars are configured, or a name has more than
// three addresses, each three get the same part, so that the last ones are tried before
// T5-Serverhunt has expired. Announced registrars do not count: anyone can announce many.
func (h *Hunt) share() time.Duration {
	n := h.waiting()
	for _, a := range h.report {
		if h.isConfigured(a.Registrar) {
			n++
		}
	}
	return h.t5 / time.Duration(min(max((n+maxAttempts-1)/maxAttempts, 1), maxShares))
}

// waits reports whether a registrar of the queue is configured, and was not tried in this round.
func (h *Hunt) waits(r rserpool.Registrar) bool {
	tried := slices.ContainsFunc(h.report, func(a rserpool.Attempt) bool { return a.Registrar.Equal(r) })
	return !tried && h.isConfigured(r)
}

// waiting counts the registrars of the queue for which waits holds.
func (h *Hunt) waiting() int {
	n := 0
	for _, r := range h.queue {
		if h.waits(r) {
			n++
		}
	}
	return n
}

// silentError is the failure of an attempt that T5-Serverhunt, or a share of it, has ended.
type silentError struct{ within time.Duration }

func (e silentError) Error() string {
	return fmt.Sprintf("no answer within %v", e.within.Round(time.Millisecond))
}

func silent(now time.Time) func(attempt) error {
	return func(a attempt) error { return silentError{now.Sub(a.set)} }
}

// longerT5 doubles T5-Serverhunt, up to RETRAN-MAX.
func (h *Hunt) longerT5() { h.t5 = min(2*h.t5, h.cfg.RetranMax) }

// expire handles the end of T5-Serverhunt or of a share of it (SH5). Once all configured registrars
// have been tried, the attempts go on until T5-Serverhunt has expired. Their end ends the round, so
// that the configured registrars are tried again; the next round continues with the announced ones.
func (h *Hunt) expire(now time.Time) {
	switch {
	case h.lone():
		h.report[0].Err = silentError{h.t5}
		h.count()
		h.t5End = now.Add(h.t5)
	case len(h.cfg.Registrars) == 0 && len(h.queue) > 0:
		h.abandon(silent(now))
		h.longerT5()
		h.tryNext(now)
	case h.waiting() > 0:
		h.giveWay(now)
	case now.Before(h.end):
		h.t5End = h.end
	default:
		h.abandon(silent(now))
		h.cut = true
		h.first = rserpool.Registrar{}
		if i := slices.IndexFunc(h.queue, func(r rserpool.Registrar) bool { return !h.isConfigured(r) }); i >= 0 {
			h.first = h.queue[i]
		}
		h.exhausted(now, false)
	}
}

// giveWay ends an attempt of an earlier share, the last one that began, for a registrar that waits.
// If more registrars wait, the next attempt ends after a head start, unless the registrar tried in
// its place has failed meanwhile and left the place to them. So an attempt with a slow registrar
// goes on if its place is not needed.
func (h *Hunt) giveWay(now time.Time) {
	share := h.share()
	if !now.Before(h.set.Add(share)) {
		h.set = now
	}
	if i := h.earlier(); i >= 0 && len(h.trying) == maxAttempts {
		h.giveUp(i, silent(now))
		h.cut = true
	}
	h.tryNext(now)
	h.t5End = h.set.Add(share)
	if next := now.Add(min(h.cfg.headStart, share/maxAttempts)); h.earlier() >= 0 && h.waiting() > 0 && next.Before(h.t5End) {
		h.t5End = next
	}
}

// earlier is the place of the last attempt that began in an earlier share, -1 if there is none.
func (h *Hunt) earlier() int {
	for i := len(h.trying) - 1; i >= 0; i-- {
		if h.trying[i].set.Before(h.set) {
			return i
		}
	}
	return -1
}
