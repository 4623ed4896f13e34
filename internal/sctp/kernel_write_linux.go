package sctp

import (
	"fmt"
	"time"
)

const (
	// kernelRetryMin and kernelRetryMax bound how soon a full send buffer is
	// tried again.
	kernelRetryMin = time.Millisecond
	kernelRetryMax = 10 * time.Millisecond
	// kernelStuck is how long a shared send buffer may be full, without a
	// message of anybody getting in, before the peer that has not taken its
	// share for the longest time is cut off.
	kernelStuck = time.Second
)

// schedule has the writer send what the association has queued. a.mu is held.
func (a *kernelAssoc) schedule() {
	if a.listed {
		return
	}
	a.listed = true
	e := a.e
	e.pendingMu.Lock()
	e.pending = append(e.pending, a)
	e.pendingMu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// writeLoop sends what could not be sent at once.
func (e *kernelEndpoint) writeLoop() {
	for {
		select {
		case <-e.wake:
		case <-e.done:
			return
		}
		retry, taken, since := kernelRetryMin, e.taken.Load(), time.Now()
		for e.writePending() {
			if !e.pause(retry) {
				return
			}
			retry = min(2*retry, kernelRetryMax)
			if now := e.taken.Load(); now != taken {
				taken, since = now, time.Now()
			} else if time.Since(since) >= kernelStuck {
				e.relieve()
				since = time.Now()
			}
		}
	}
}

// writePending lets the waiting associations send in turn. It says whether the
// kernel's send buffer was full before all had their turn.
func (e *kernelEndpoint) writePending() (full bool) {
	e.pendingMu.Lock()
	list := e.pending
	e.pending = nil
	e.pendingMu.Unlock()
	for i, a := range list {
		a.mu.Lock()
		err := a.flush()
		a.listed = err != nil
		a.mu.Unlock()
		if err != nil {
			// All share the buffer. Who was first stays first.
			e.pendingMu.Lock()
			e.pending = append(list[i:], e.pending...)
			e.pendingMu.Unlock()
			return true
		}
	}
	return false
}

// relieve cuts off the peer that has not taken its share of a full send buffer
// for the longest time. Where no association is known to be such, all are
// asked, and the next call knows.
func (e *kernelEndpoint) relieve() {
	if !e.waiting.Load() {
		return // what the kernel says of the associations is not all read
	}
	e.mu.RLock()
	all := make([]*kernelAssoc, 0, len(e.assocs))
	for _, a := range e.assocs {
		all = append(all, a)
	}
	e.mu.RUnlock()
	var worst *kernelAssoc
	oldest := time.Now().Add(-kernelStuck)
	for _, a := range all {
		a.mu.Lock()
		if a.held > 0 && !a.askedDry {
			a.askDry()
		} else if a.askedDry && a.askedAt.Before(oldest) {
			worst, oldest = a, a.askedAt
		}
		a.mu.Unlock()
	}
	if worst != nil {
		worst.abort(Overrun, fmt.Errorf("the peer has taken nothing since %v, and the send buffer that all share is full",
			oldest.Format(time.TimeOnly)))
	}
}
