package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
)

// rally asks silent elements when there is news: one of them is heard, or the registrar's guard
// has ended. Many fall silent for one cause, and when it is over, all of them are back as soon
// as they are asked. Without it, the first one of a pool would get all of the pool's requests
// until the pauses of the others are over. It asks those whose silence began at about the same
// time, each at most once a second.
type rally struct {
	silent   chain.List[element] // all silent elements
	from, to time.Time           // those whose silence began in this time are asked
	left     int                 // how many of the list are still to be looked at
	again    bool                // there was more news since
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
	from, to := since.Add(-oneCause), since.Add(oneCause)
	if !w.timer.Armed() {
		w.from, w.to = from, to
		r.timers.Arm(&w.timer, w, r.now)
		return
	}
	w.again = true
	if from.Before(w.from) {
		w.from = from
	}
	if to.After(w.to) {
		w.to = to
	}
}

// Due asks the next elements.
func (w *rally) Due(r *Registrar, _ *timer) {
	if w.left == 0 {
		w.left, w.again = w.silent.Len(), false
	}
	w.left = min(w.left, w.silent.Len())
	asked, most := 0, max(1, r.cfg.Timers.KeepAliveRate*int(rallyGap/time.Millisecond)/1000)
	for range moveBatch {
		if w.left == 0 || asked == most {
			break
		}
		w.left--
		e := w.silent.First()
		w.silent.Add(e, &e.silence.all)
		if s := e.silence; !s.since.Before(w.from) && !s.since.After(w.to) && r.askRallied(e) {
			asked++
		}
	}
	if w.left > 0 || w.again && w.silent.Len() > 0 {
		r.timers.Arm(&w.timer, w, r.now.Add(rallyGap))
	}
}

// askRallied asks or calls a silent element, unless that was done in the last second.
func (r *Registrar) askRallied(e *element) bool {
	switch {
	case e.probe != nil:
		return e.probe.hasten(r)
	case e.waiting || r.now.Sub(e.asked) < minAskGap:
		return false
	}
	r.askSilent(e, true)
	return true
}
