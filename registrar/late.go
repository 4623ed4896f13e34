package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
)

// Each registration is an update to every peer (RFC 5353, Section 3.3). A client that registers an
// element and deregisters it by turns, or registers it again and again, would have as many messages
// sent as it likes, times the number of peers. So updates of what is restless wait, and all that is
// restless has lateRate of them in a second:
//
//   - an element that has more than one update in toldGap, after toldAtOnce of them at once;
//   - a new element of an association that has lost, in the last restlessTime, another one that was not
//     older than that.
//
// Only an ADD_PE waits. When its turn comes it says what the element is then. If the element has left
// by then and no peer can know it, there is none, and no DEL_PE either. So a client cannot have more
// DEL_PE sent than ADD_PE.
const (
	lateRate     = 64 // a second, twice as many at once
	lateGap      = time.Second / lateRate
	toldGap      = time.Second / 2
	toldAtOnce   = 4
	restlessTime = 10 * time.Second
)

// told is when an element may have the next update of those that need not wait, with all of
// toldAtOnce at once; 0 if it has had none. In nanoseconds, because there is one for each element.
type told int64

// allow counts an update, and reports whether it need not wait.
func (t *told) allow(now time.Time) bool {
	n := told(now.UnixNano())
	next := max(*t, n) + told(toldGap)
	if next > n+told(toldAtOnce*toldGap) {
		return false
	}
	*t = next
	return true
}

// within reports whether there was an update in that time.
func (t told) within(d time.Duration, now time.Time) bool {
	return t != 0 && now.UnixNano()-int64(t) < int64(d-toldGap)
}

// lateUpdates are the own elements of which an update waits.
type lateUpdates struct {
	list  chain.List[element] // the one that waits longest is the first
	rate  bucket
	timer timer
}

// late is what an element has while an update of it waits.
type late struct {
	place chain.Place[element]
	// fresh tells that no peer knows the element yet.
	fresh bool
}

// announceOwn tells the peers of an own element that has registered or changed, now or later. from is
// the roster in which it was before, nil if it is new.
func (r *Registrar) announceOwn(e *element, from *roster) {
	if len(r.peers.list) == 0 {
		return
	}
	l := &r.late
	quiet := e.told.allow(r.now)
	if from != r.roster {
		quiet = e.assoc == nil || !e.assoc.restless.After(r.now)
	}
	switch {
	case e.late != nil:
	case quiet, l.list.Len() == 0 && l.rate.allow(r.now, lateRate):
		r.tellOwn(e)
	default:
		e.late = &late{fresh: from == nil}
		if l.list.Add(e, &e.late.place); !l.timer.Armed() {
			r.timers.Arm(&l.timer, l, r.now.Add(lateGap))
		}
	}
}

// tellOwn tells the peers what an own element is.
func (r *Registrar) tellOwn(e *element) {
	r.dropLate(e)
	r.announceUpdate(enrp.AddPE, e.Handle(), e.PE())
}

// dropLate drops the update that waits, because the peers are told something else.
func (r *Registrar) dropLate(e *element) {
	if e.late == nil {
		return
	}
	e.late.place.Leave()
	e.late = nil
	if r.late.list.Len() == 0 {
		r.timers.Stop(&r.late.timer)
	}
}

// Due sends updates that wait.
func (l *lateUpdates) Due(r *Registrar, _ *timer) {
	for l.list.Len() > 0 && l.rate.allow(r.now, lateRate) {
		r.tellOwn(l.list.First())
	}
	if l.list.Len() > 0 {
		r.timers.Arm(&l.timer, l, r.now.Add(lateGap))
	}
}

// leaves notes that an own element is removed, and returns how the peers are told.
func (r *Registrar) leaves(e *element, why occasion) occasion {
	if a := e.assoc; a != nil && e.told.within(restlessTime, r.now) {
		a.restless = r.now.Add(restlessTime)
	}
	if why == ended && e.late != nil && e.late.fresh {
		return unclaimed
	}
	return why
}
