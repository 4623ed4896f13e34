package sctp

import (
	"errors"
	"slices"
	"time"
)

const (
	// kernelRetryMin and kernelRetryMax bound how soon a full send buffer is
	// tried again.
	kernelRetryMin = time.Millisecond
	kernelRetryMax = 10 * time.Millisecond
	// kernelStuck is how long a shared send buffer may be full, without a
	// message of anybody getting in, before peers that do not take theirs
	// are cut off.
	kernelStuck = time.Second
	// kernelSilent is how long that may go on with peers that do not say that
	// they have no room: the network may be what is slow.
	kernelSilent = 5 * time.Second
)

var errStuck = errors.New("the peer does not take what is sent to it, and the send buffer that all share is full")

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
			// All share the buffer. The shortest messages come first next
			// time: the kernel takes any where there is room for a byte.
			rest := list[i:]
			for _, a := range rest {
				a.mu.Lock()
				a.next = firstLen(a.queue)
				a.mu.Unlock()
			}
			slices.SortStableFunc(rest, func(a, b *kernelAssoc) int { return a.next - b.next })
			e.pendingMu.Lock()
			e.pending = append(rest, e.pending...)
			e.pendingMu.Unlock()
			return true
		}
	}
	return false
}

// firstLen is the length of the first message, 0 if there is none.
func firstLen(q sendQueue) int {
	if len(q.msgs) == 0 {
		return 0
	}
	return len(q.msgs[0].Data)
}

// relieve makes room in a send buffer that is full of what peers do not take.
// It cuts off those that have not taken their share for some time and whose
// window is shut, or else the one that has taken nothing for the longest. Where
// it is not known of an association, the kernel is asked, and the next call
// knows.
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
	var oldest *kernelAssoc
	asked, shut := time.Now(), false
	for _, a := range all {
		a.mu.Lock()
		switch {
		case a.held > 0 && !a.askedDry:
			a.askDry()
		case a.askedDry && time.Since(a.askedAt) >= kernelStuck && a.windowShut():
			shut = true
			a.abortLocked(Overrun, errStuck)
		case a.askedDry && a.askedAt.Before(asked):
			oldest, asked = a, a.askedAt
		}
		a.mu.Unlock()
	}
	if !shut && oldest != nil && time.Since(asked) >= kernelSilent {
		oldest.abort(Overrun, errStuck)
	}
}

// windowShut says whether the peer has no room for a packet more.
func (a *kernelAssoc) windowShut() bool {
	st := assocStatus{assoc: a.kid}
	return getOption(a.e.sock, "SCTP_STATUS", optStatus, &st) == nil && st.window < 1500
}
