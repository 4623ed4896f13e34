package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
)

// rally asks silent elements when there is news: one of them is heard, or the registrar's guard
// has ended. Many fall silent for one cause, and when it is over, all of them are back as soon
// as they are asked. Without it, the first one of a pool would get all of the pool's requests
// until the pauses of the others are over. It asks those whose silence began at about the same
// time, and after the guard all that are spared, each at most once a second.
type rally struct {
	silent   chain.List[element] // all silent elements
	on       bool
	from, to time.Time // those whose silence began in this time are asked
	spared   bool      // and so are those that are spared
	left     int       // how many of the list are still to be looked at
	again    bool      // there was more news since
	next     time.Time // when the next ones may be asked
	timer    timer
}

const (
	// oneCause is how far apart elements may fall silent for one cause: the longest time
	// between two keep-alives to an element, and the time to judge it.
	oneCause = 30 * time.Second
	// rallyGap is between two batches, of which there is one with KeepAliveRate elements a
	// second.
	rallyGap = 10 * time.Millisecond
)

// rallyAll has the elements asked that fell silent at about a time.
func (r *Registrar) rallyAll(since time.Time) {
	w := &r.rally
	w.begin(r)
	from, to := since.Add(-oneCause), since.Add(oneCause)
	if w.from.IsZero() || from.Before(w.from) {
		w.from = from
	}
	if to.After(w.to) {
		w.to = to
	}
}

// rallySpared has the elements asked that are spared, whenever they fell silent: the guard has
// ended.
func (r *Registrar) rallySpared() {
	r.rally.begin(r)
	r.rally.spared = true
}

// begin begins a rally, or has the present one look at all elements once more.
func (w *rally) begin(r *Registrar) {
	if w.on {
		w.again = true
		return
	}
	w.on, w.spared, w.from, w.to = true, false, time.Time{}, time.Time{}
	r.timers.Arm(&w.timer, w, later(r.now, w.next))
}

// Due asks the next elements.
func (w *rally) Due(r *Registrar, _ *timer) {
	if w.left == 0 {
		w.left, w.again = w.silent.Len(), false
	}
	gap, most := rallyGap, r.cfg.Timers.KeepAliveRate*int(rallyGap/time.Millisecond)/1000
	if most == 0 {
		gap, most = time.Second/time.Duration(r.cfg.Timers.KeepAliveRate), 1
	}
	asked := 0
	for range moveBatch {
		w.left = min(w.left, w.silent.Len()) // calls may remove elements
		if w.left == 0 || asked == most {
			break
		}
		w.left--
		e := w.silent.First()
		w.silent.Add(e, &e.silence.all)
		if w.calls(e.silence) && r.askRallied(e) {
			asked++
		}
	}
	if asked > 0 {
		w.next = r.now.Add(gap)
	}
	if w.on = w.left > 0 || w.again && w.silent.Len() > 0; w.on {
		r.timers.Arm(&w.timer, w, later(r.now.Add(rallyGap), w.next))
	}
}

// calls reports whether the rally is for a silent element.
func (w *rally) calls(s *silence) bool {
	return w.spared && !s.suspect || !s.since.Before(w.from) && !s.since.After(w.to)
}

// askRallied asks or calls a silent element, unless that was done in the last second. Then it is
// done a second after that. It reports whether that is sooner than otherwise.
func (r *Registrar) askRallied(e *element) bool {
	at := e.asked.Add(minAskGap)
	switch {
	case e.probe != nil:
		return e.probe.hasten(r)
	case e.waiting:
		return false
	case !at.After(r.now):
		r.askSilent(e, true)
	case at.Before(r.timers.At(&e.keepAlive)):
		r.timers.Arm(&e.keepAlive, e, at)
	default:
		return false
	}
	return true
}

// later returns the later one of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
