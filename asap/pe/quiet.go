package pe

import (
	"time"

	"github.com/rserpool/coredns-rserpool/internal/hunt"
)

const (
	// quietSlack is added to the time in which the next keep-alive is expected.
	quietSlack = 100 * time.Millisecond
	// minGap and maxGap bound the assumed interval of keep-alives.
	minGap = time.Second
	maxGap = 5 * time.Minute
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
type quiet struct {
	asked time.Time     // the last keep-alive of the home, or its acceptance of the element
	gap   time.Duration // the longest of the last times between two of them; 0: not known
	at    time.Time     // when to send a HEARTBEAT; zero: never
	pause time.Duration // until the next one
}

// heard notes a keep-alive of the home registrar. One long gap at most doubles the assumed
// interval: the registrar may have been suspended. Of a former interval little is left
// after some keep-alives.
func (q *quiet) heard(now time.Time) {
	gap := now.Sub(q.asked)
	if q.gap > 0 {
		gap = min(max(gap, q.gap-q.gap/16), 2*q.gap)
	}
	q.gap = min(max(gap, minGap), maxGap)
	q.begin(now)
}

// begin begins to wait for the next keep-alive.
func (q *quiet) begin(now time.Time) {
	q.asked, q.at, q.pause = now, time.Time{}, q.gap
	if q.gap > 0 {
		q.at = now.Add(q.gap + q.gap/8 + quietSlack)
	}
}

// end waits for no keep-alive.
func (q *quiet) end() { q.at = time.Time{} }

// askHome sends the home registrar a HEARTBEAT, and again after pauses that grow from the
// interval of the keep-alives: it may have reasons to ask no more.
func (k *core) askHome(now time.Time) {
	k.actions = append(k.actions, hunt.Heartbeat{Assoc: k.home})
	q := &k.quiet
	q.at = now.Add(k.vary(q.pause))
	q.pause = max(q.gap, min(2*q.pause, maxPause))
}
