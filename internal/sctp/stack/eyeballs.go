package stack

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// attemptDelay is the Connection Attempt Delay (RFC 8305, Section 5): the next
// transport is tried after it, or as soon as the one before has failed.
const attemptDelay = 50 * time.Millisecond

// eyeballs is a Connect of Kind Any: Happy Eyeballs (RFC 8305) over transports. The
// first attempt that comes up wins, and the others are aborted. The Handler sees
// one association, whose name is neither of the attempts'.
type eyeballs struct {
	e  *endpoint
	id sctp.AssocID
	to sctp.Dest

	mu       sync.Mutex
	waiting  []kindEndpoint // not tried yet
	attempts []*attempt     // begun and not down
	winner   *attempt
	stopped  bool // by Shutdown or Abort
	over     bool
	errs     []error
	distrust error          // of an attempt that ended with ErrUntrusted
	queue    sctp.SendQueue // until there is a winner
	timer    *time.Timer
}

// errNotConnected is the error of an attempt whose transport gives none.
var errNotConnected = errors.New("cannot connect")

// attempt is an association over one transport.
type attempt struct {
	y  *eyeballs
	k  kindEndpoint
	id sctp.AssocID
}

// connectAny implements Connect for Kind Any.
func (e *endpoint) connectAny(to sctp.Dest) sctp.AssocID {
	var kinds []kindEndpoint
	for _, k := range e.kinds {
		if k.kind != sctp.TCP {
			kinds = append(kinds, k)
		}
	}
	if e.s.kernelEncaps {
		// The kernel has only one association with a peer: it tries SCTP over IP
		// first, and SCTP in UDP when that has failed.
		kinds = append(kinds, kindEndpoint{kinds[0].Endpoint, sctp.UDP})
	}
	if len(kinds) == 0 {
		return e.failed(errors.New("this process offers only TCP, and the peer must be reached over SCTP"))
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
	y := &eyeballs{e: e, id: e.s.ids.Next(), to: to, waiting: kinds}
	e.eyeballs[y.id] = y
	e.mu.Unlock()
	y.mu.Lock()
	y.startNext()
	y.mu.Unlock()
	return y.id
}

// startNext begins the next attempt. y.mu is held.
func (y *eyeballs) startNext() {
	if len(y.waiting) == 0 || y.winner != nil || y.stopped {
		return
	}
	k := y.waiting[0]
	y.waiting = y.waiting[1:]
	to := y.to
	to.Kind = k.kind
	t := &attempt{y: y, k: k}
	// While the endpoint is locked, events of the new association wait: its name
	// is not in the table yet.
	y.e.mu.Lock()
	if t.id = k.Connect(to); t.id != 0 {
		y.e.attempts[t.id] = t
		y.attempts = append(y.attempts, t)
	}
	y.e.mu.Unlock()
	if len(y.waiting) > 0 && y.waiting[0].Endpoint != k.Endpoint {
		y.timer = time.AfterFunc(attemptDelay, func() {
			y.mu.Lock()
			defer y.mu.Unlock()
			y.startNext()
		})
	}
}

// eyeballsOf returns what a name belongs to; nil if it is not one of connectAny.
func (e *endpoint) eyeballsOf(a sctp.AssocID) *eyeballs {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.eyeballs[a]
}

// handle is the Handler of all transports.
func (e *endpoint) handle(ev sctp.Event) {
	if e.s.cfg.TLS == nil && e.astray(&ev) {
		return
	}
	e.mu.RLock()
	t := e.attempts[ev.Assoc]
	e.mu.RUnlock()
	if t == nil {
		e.h(ev)
		return
	}
	ev.Assoc = t.y.id
	pass := t.y.handle(t, &ev)
	if ev.Type == sctp.Down {
		e.mu.Lock()
		delete(e.attempts, t.id)
		if pass { // the last event of all attempts
			delete(e.eyeballs, t.y.id)
		}
		e.mu.Unlock()
	}
	if pass {
		e.h(ev)
	}
}

// handle reports whether the event of an attempt is for the Handler.
func (y *eyeballs) handle(t *attempt, ev *sctp.Event) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	switch {
	case ev.Type == sctp.Up && y.winner == nil && !y.stopped && y.distrust == nil:
		y.win(t)
		return true
	case ev.Type == sctp.Up:
		t.k.Abort(t.id)
		return false
	case y.winner == t:
		if ev.Type == sctp.Down {
			y.over = true
		}
		return true
	case ev.Type == sctp.Down:
		return y.lost(t, ev)
	}
	return false
}

// win makes an attempt the winner and aborts the others. y.mu is held.
func (y *eyeballs) win(t *attempt) {
	y.winner, y.waiting = t, nil
	if y.timer != nil {
		y.timer.Stop()
	}
	for _, o := range y.attempts {
		if o != t {
			o.k.Abort(o.id)
		}
	}
	for _, m := range y.queue.Msgs {
		_ = t.k.Send(t.id, m) // its queue is as long as ours
	}
	y.queue = sctp.SendQueue{}
}

// lost handles the end of an attempt and reports whether it was the last.
// y.mu is held.
func (y *eyeballs) lost(t *attempt, ev *sctp.Event) bool {
	y.attempts = slices.DeleteFunc(y.attempts, func(o *attempt) bool { return o == t })
	err := ev.Err
	if err == nil {
		err = errNotConnected
	}
	y.errs = append(y.errs, fmt.Errorf("%v: %w", t.k.kind, err))
	if y.winner != nil {
		return false
	}
	if errors.Is(err, sctp.ErrUntrusted) && y.distrust == nil {
		// The peer has answered, and one of the two does not trust the other. Another
		// transport would only hide that behind a time-out.
		y.distrust, y.waiting = y.errs[len(y.errs)-1], nil
		for _, o := range y.attempts {
			o.k.Abort(o.id)
		}
	}
	if y.timer != nil {
		y.timer.Stop()
	}
	y.startNext()
	if len(y.attempts) > 0 {
		return false
	}
	y.over = true
	if y.distrust != nil && !y.stopped {
		ev.Reason, ev.Err = sctp.ConnectFailed, y.distrust
	} else if !y.stopped && ev.Reason != sctp.LocalClose {
		ev.Reason, ev.Err = sctp.ConnectFailed, sctp.JoinFailures(y.errs)
	} else {
		ev.Reason, ev.Err = sctp.LocalClose, nil
	}
	return true
}

// send sends a message by the winner, or keeps it until there is one.
func (y *eyeballs) send(m sctp.Message) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	switch {
	case y.over || y.stopped:
		return sctp.ErrNoAssoc
	case y.winner != nil:
		return y.winner.k.Send(y.winner.id, m)
	case !y.queue.Push(m, y.e.s.cfg.Limits):
		return sctp.ErrQueueFull
	}
	return nil
}

// full is Full of the winner, or of the queue until there is one.
func (y *eyeballs) full() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.winner != nil {
		return y.winner.k.Full(y.winner.id)
	}
	return y.queue.Full(y.e.s.cfg.Limits)
}

// behind is Behind of the winner, or of the queue until there is one.
func (y *eyeballs) behind() bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.winner != nil {
		return y.winner.k.Behind(y.winner.id)
	}
	return y.queue.Behind()
}

// call calls a method for the winner.
func (y *eyeballs) call(method func(sctp.Endpoint, sctp.AssocID)) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.winner != nil {
		method(y.winner.k, y.winner.id)
	}
}

// stop ends all attempts, or the winner, by Shutdown or Abort.
func (y *eyeballs) stop(how func(sctp.Endpoint, sctp.AssocID)) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.winner != nil {
		how(y.winner.k, y.winner.id)
		return
	}
	y.stopped, y.waiting = true, nil
	if y.timer != nil {
		y.timer.Stop()
	}
	for _, t := range y.attempts {
		how(t.k, t.id)
	}
}
