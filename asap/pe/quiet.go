package pe

import (
	"cmp"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/hunt"
)

const (
	// quietSlack is added to the time in which the next keep-alive is expected.
	quietSlack = 100 * time.Millisecond
	// minGap and maxGap bound the assumed interval of keep-alives.
	minGap = time.Second
	maxGap = 5 * time.Minute
	// firstGap is the assumed interval of the first home: KEEP-ALIVE-INTERVAL's default.
	firstGap = 2 * time.Second
	// maxPause bounds the growing pauses between HEARTBEATs: the transport sends one every
	// 10 s anyway.
	maxPause = 10 * time.Second
)

// quiet notices that the home registrar sends no keep-alives any more. A registrar that was
// killed and has restarted does not know the associations of its predecessor. With SCTP in
// UDP nobody tells the element; its own HEARTBEATs, every 10 s, would take too long. So the
// element sends one as soon as a keep-alive is overdue. The interval of the keep-alives is
// what the element has seen of them: a registrar with many elements asks less often, and
// gets less HEARTBEATs.
//
// The interval of a former home is assumed of the next one. While none is known, it is
// guessed. Each guess that a home outlives costs one HEARTBEAT, and the next one is twice as
// long. A guess beyond maxPause costs none: the transport's own are as frequent.
type quiet struct {
	asked time.Time        // the last keep-alive of the home, or its acceptance of the element
	gap   time.Duration    // the longest of the last times between two of them; 0: not known
	gaps  [4]time.Duration // the last times
	next  int              // in gaps
	guess time.Duration    // while gap is not known, until the home is lost; 0: firstGap
	at    time.Time        // when to send a HEARTBEAT; zero: never
	pause time.Duration    // until the next one
}

// heard notes a keep-alive of the home registrar. One long gap at most doubles the assumed
// interval: the registrar may have been suspended. After some keep-alives, nothing is left of it,
// nor of what was assumed of a former home.
func (q *quiet) heard(now time.Time) {
	gap := now.Sub(q.asked)
	if q.gap > 0 {
		gap = min(gap, 2*q.gap)
	}
	q.gaps[q.next] = min(max(gap, minGap), maxGap)
	q.next = (q.next + 1) % len(q.gaps)
	q.gap = slices.Max(q.gaps[:])
	q.begin(now)
}

// begin begins to wait for the next keep-alive.
func (q *quiet) begin(now time.Time) {
	gap := q.interval()
	q.asked, q.at, q.pause = now, time.Time{}, gap
	if q.mayBeat() {
		q.at = now.Add(gap + gap/8 + quietSlack)
	}
}

// interval is the assumed interval of keep-alives.
func (q *quiet) interval() time.Duration { return cmp.Or(q.gap, q.guess, firstGap) }

// mayBeat reports whether an overdue keep-alive is worth a HEARTBEAT.
func (q *quiet) mayBeat() bool { return q.gap > 0 || q.guess <= maxPause }

// end waits for no keep-alive. The next home may ask more often than was guessed last.
func (q *quiet) end() { q.at, q.guess = time.Time{}, 0 }

// askHome sends the home registrar a HEARTBEAT, and again after pauses that grow from the
// interval of the keep-alives: it may have reasons to ask no more.
func (k *core) askHome(now time.Time) {
	k.actions = append(k.actions, hunt.Heartbeat{Assoc: k.home})
	q := &k.quiet
	q.at = now.Add(k.vary(q.pause))
	q.pause = max(q.interval(), min(2*q.pause, maxPause))
	if q.gap == 0 {
		q.guess = 2 * q.interval()
	}
	if !q.mayBeat() {
		q.at = time.Time{}
	}
}
