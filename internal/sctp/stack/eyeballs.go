package stack

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// raceLead is how long the first kind is alone before the next one starts,
// unless it fails sooner.
const raceLead = 50 * time.Millisecond

// race is a call of Kind Any over several kinds: the first to come up is it,
// and the others are aborted without a word. It has a name of its own, which
// the Handler knows the winner by.
type race struct {
	e  *endpoint
	id sctp.AssocID
	to sctp.Dest

	mu      sync.Mutex
	waiting []kindEndpoint // not started yet
	runners []*runner      // started and not down
	winner  *runner
	stopped bool // by Shutdown or Abort
	over    bool
	errs    []error
	queue   sctp.SendQueue // until there is a winner
	timer   *time.Timer
}

// runner is a race's association of one kind.
type runner struct {
	r  *race
	k  kindEndpoint
	id sctp.AssocID
}

// race starts a call of Kind Any.
func (e *endpoint) race(to sctp.Dest) sctp.AssocID {
	var kinds []kindEndpoint
	for _, k := range e.kinds {
		if k.kind != sctp.TCP {
			kinds = append(kinds, k)
		}
	}
	if e.s.kernelEncaps {
		// The kernel has one association with a peer, so it tries one after
		// the other.
		kinds = append(kinds, kindEndpoint{kinds[0].Endpoint, sctp.UDP})
	}
	if len(kinds) == 0 {
		return e.failed(errors.New("only TCP is offered here, and the peer is to be reached over SCTP"))
	}
	if len(kinds) == 1 {
		to.Kind = kinds[0].kind
		return kinds[0].Connect(to)
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return 0
	}
	r := &race{e: e, id: e.s.ids.Next(), to: to, waiting: kinds}
	e.races[r.id] = r
	e.mu.Unlock()
	r.mu.Lock()
	r.startNext()
	r.mu.Unlock()
	return r.id
}

// startNext lets the next kind run. r.mu is held.
func (r *race) startNext() {
	if len(r.waiting) == 0 || r.winner != nil || r.stopped {
		return
	}
	k := r.waiting[0]
	r.waiting = r.waiting[1:]
	to := r.to
	to.Kind = k.kind
	run := &runner{r: r, k: k}
	// The endpoint's lock keeps events of the new association back until its
	// name is known.
	r.e.mu.Lock()
	if run.id = k.Connect(to); run.id != 0 {
		r.e.inner[run.id] = run
		r.runners = append(r.runners, run)
	}
	r.e.mu.Unlock()
	if len(r.waiting) > 0 && r.waiting[0].Endpoint != k.Endpoint {
		r.timer = time.AfterFunc(raceLead, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.startNext()
		})
	}
}

// raced gives the race that a name is of.
func (e *endpoint) raced(a sctp.AssocID) *race {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.races[a]
}

// handle takes the events of all kinds.
func (e *endpoint) handle(ev sctp.Event) {
	e.mu.RLock()
	run := e.inner[ev.Assoc]
	e.mu.RUnlock()
	if run == nil {
		e.h(ev)
		return
	}
	ev.Assoc = run.r.id
	pass := run.r.handle(run, &ev)
	if ev.Type == sctp.Down {
		e.mu.Lock()
		delete(e.inner, run.id)
		if pass { // the last event of the race, then
			delete(e.races, run.r.id)
		}
		e.mu.Unlock()
	}
	if pass {
		e.h(ev)
	}
}

// handle says whether an event of a runner is one of the race.
func (r *race) handle(run *runner, ev *sctp.Event) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case ev.Type == sctp.Up && r.winner == nil && !r.stopped:
		r.win(run)
		return true
	case ev.Type == sctp.Up:
		run.k.Abort(run.id)
		return false
	case r.winner == run:
		if ev.Type == sctp.Down {
			r.over = true
		}
		return true
	case ev.Type == sctp.Down:
		return r.lost(run, ev)
	}
	return false
}

// win makes a runner the winner and aborts the others. r.mu is held.
func (r *race) win(run *runner) {
	r.winner, r.waiting = run, nil
	if r.timer != nil {
		r.timer.Stop()
	}
	for _, o := range r.runners {
		if o != run {
			o.k.Abort(o.id)
		}
	}
	for _, m := range r.queue.Msgs {
		_ = run.k.Send(run.id, m) // the kind's queue is as long as ours
	}
	r.queue = sctp.SendQueue{}
}

// lost takes a runner out of the race, which is over when it was the last.
// r.mu is held.
func (r *race) lost(run *runner, ev *sctp.Event) bool {
	for i, o := range r.runners {
		if o == run {
			r.runners = append(r.runners[:i:i], r.runners[i+1:]...)
			break
		}
	}
	if ev.Err != nil {
		r.errs = append(r.errs, fmt.Errorf("%v: %w", run.k.kind, ev.Err))
	}
	if r.winner != nil {
		return false
	}
	if r.timer != nil {
		r.timer.Stop()
	}
	r.startNext()
	if len(r.runners) > 0 {
		return false
	}
	r.over = true
	if !r.stopped && ev.Reason != sctp.LocalClose {
		ev.Reason, ev.Err = sctp.ConnectFailed, errors.Join(r.errs...)
	} else {
		ev.Reason, ev.Err = sctp.LocalClose, nil
	}
	return true
}

// send passes a message to the winner, or keeps it until there is one.
func (r *race) send(m sctp.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.over || r.stopped:
		return sctp.ErrNoAssoc
	case r.winner != nil:
		return r.winner.k.Send(r.winner.id, m)
	case !r.queue.Push(m, r.e.s.cfg.Limits):
		return sctp.ErrQueueFull
	}
	return nil
}

// stop ends the race, or what it has led to, by Shutdown or Abort.
func (r *race) stop(how func(sctp.Endpoint, sctp.AssocID)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.winner != nil {
		how(r.winner.k, r.winner.id)
		return
	}
	r.stopped, r.waiting = true, nil
	if r.timer != nil {
		r.timer.Stop()
	}
	for _, run := range r.runners {
		how(run.k, run.id)
	}
}
