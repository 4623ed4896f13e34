// Package deadline keeps the deadlines of a state machine in order. It has no clock: the
// state machine asks for the first deadline, and says when it is reached.
package deadline

import (
	"slices"
	"time"
)

// Timer is a deadline of the type that embeds it or has it as a field. Its zero value is
// not armed. R is what its owner is given when it is due.
type Timer[R any] struct {
	owner Owner[R]
	at    time.Duration // since Queue.epoch
	place uint32        // in the heap, counted from 1; 0 if not armed
	slot  uint32        // in Queue.timers, while it is armed
}

// Owner has timers and is notified when one of them is due. By then it is no longer armed.
type Owner[R any] interface {
	Due(r R, t *Timer[R])
}

// Armed reports whether the timer has a deadline.
func (t *Timer[R]) Armed() bool { return t.place > 0 }

// Queue is a binary heap of the armed timers; of those with the same deadline, the one
// armed first is due first. Arming and stopping take O(log N).
//
// The heap has numbers of timers, not pointers: a garbage collection would follow those in the
// order of the deadlines, and wait for the memory of each timer.
type Queue[R any] struct {
	heap   []armed
	timers []*Timer[R] // by slot
	free   []uint32    // slots without a timer
	seq    uint64
	epoch  time.Time // century before the first deadline of all
}

// century is far enough for the deadline of a timer that was never armed to be long over.
const century = 100 * 365 * 24 * time.Hour

// armed is a timer with its rank, so that a comparison does not have to wait for the
// timer's memory.
type armed struct {
	at   time.Duration // since Queue.epoch
	seq  uint64
	slot uint32
}

func (a armed) before(b armed) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

// Arm sets t's deadline, in place of an earlier one.
func (q *Queue[R]) Arm(t *Timer[R], owner Owner[R], at time.Time) {
	if q.seq == 0 {
		q.epoch = at.Add(-century)
	}
	q.seq++
	t.at, t.owner = at.Sub(q.epoch), owner
	if !t.Armed() {
		q.heap = append(q.heap, armed{})
		t.place, t.slot = uint32(len(q.heap)), q.enter(t)
	}
	q.settle(int(t.place-1), armed{t.at, q.seq, t.slot})
}

// enter gives a timer a slot.
func (q *Queue[R]) enter(t *Timer[R]) (slot uint32) {
	if last := len(q.free) - 1; last >= 0 {
		slot = q.free[last]
		q.free = q.free[:last]
		q.timers[slot] = t
		return slot
	}
	q.timers = append(q.timers, t)
	return uint32(len(q.timers) - 1)
}

// Grow makes room for n timers more.
func (q *Queue[R]) Grow(n int) {
	q.heap = slices.Grow(q.heap, n)
	q.timers = slices.Grow(q.timers, max(0, n-len(q.free)))
}

// Stop takes t's deadline away, if it has one.
func (q *Queue[R]) Stop(t *Timer[R]) {
	if !t.Armed() {
		return
	}
	i, last := int(t.place-1), len(q.heap)-1
	a := q.heap[last]
	q.heap = q.heap[:last]
	q.timers[t.slot] = nil
	q.free = append(q.free, t.slot)
	t.place, t.owner = 0, nil
	if i < last {
		q.settle(i, a)
	}
}

// At is t's last deadline, whether it is reached or not. That of a timer that was never
// armed is long over.
func (q *Queue[R]) At(t *Timer[R]) time.Time { return q.epoch.Add(t.at) }

// First returns the timer that is due first, nil if none is armed.
func (q *Queue[R]) First() *Timer[R] {
	if len(q.heap) == 0 {
		return nil
	}
	return q.timers[q.heap[0].slot]
}

// settle gives a, for which the place i is free, a place between its parent and its
// children.
func (q *Queue[R]) settle(i int, a armed) {
	for i > 0 && a.before(q.heap[(i-1)/2]) {
		q.put(i, q.heap[(i-1)/2])
		i = (i - 1) / 2
	}
	for {
		child := 2*i + 1
		if child+1 < len(q.heap) && q.heap[child+1].before(q.heap[child]) {
			child++
		}
		if child >= len(q.heap) || !q.heap[child].before(a) {
			break
		}
		q.put(i, q.heap[child])
		i = child
	}
	q.put(i, a)
}

func (q *Queue[R]) put(i int, a armed) {
	q.heap[i] = a
	q.timers[a.slot].place = uint32(i + 1)
}

// Next stops the timer that is due first, if it is due until a time, and returns it with
// its owner, which the caller notifies; nil if no timer is due.
func (q *Queue[R]) Next(until time.Time) (*Timer[R], Owner[R]) {
	t := q.First()
	if t == nil || t.at > until.Sub(q.epoch) {
		return nil, nil
	}
	owner := t.owner
	q.Stop(t)
	return t, owner
}
