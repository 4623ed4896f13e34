// Package deadline keeps the deadlines of a state machine in order. It has no clock: the
// state machine asks for the first deadline, and says when it is reached.
package deadline

import "time"

// Timer is a deadline of the type that embeds it or has it as a field. Its zero value is
// not armed. R is what its owner is given when it is due.
type Timer[R any] struct {
	at    time.Time
	seq   uint64
	place int // in the heap, counted from 1; 0 if not armed
	owner Owner[R]
}

// Owner has timers and is told when one of them is due. By then it is no longer armed.
type Owner[R any] interface {
	Due(r R, t *Timer[R])
}

// Armed reports whether the timer has a deadline.
func (t *Timer[R]) Armed() bool { return t.place > 0 }

// At is the last deadline, whether it is reached or not.
func (t *Timer[R]) At() time.Time { return t.at }

// Queue is a binary heap of the armed timers; of those with the same deadline, the one
// armed first is due first. Arming and stopping take O(log N).
type Queue[R any] struct {
	heap []*Timer[R]
	seq  uint64
}

// Arm sets t's deadline, in place of an earlier one.
func (q *Queue[R]) Arm(t *Timer[R], owner Owner[R], at time.Time) {
	q.seq++
	t.at, t.seq, t.owner = at, q.seq, owner
	if !t.Armed() {
		q.heap = append(q.heap, t)
		t.place = len(q.heap)
	}
	q.up(t.place - 1)
	q.down(t.place - 1)
}

// Stop takes t's deadline away, if it has one.
func (q *Queue[R]) Stop(t *Timer[R]) {
	if !t.Armed() {
		return
	}
	i, last := t.place-1, len(q.heap)-1
	q.swap(i, last)
	q.heap[last] = nil
	q.heap = q.heap[:last]
	t.place, t.owner = 0, nil
	if i < last {
		q.up(i)
		q.down(i)
	}
}

// First returns the timer that is due first, nil if none is armed.
func (q *Queue[R]) First() *Timer[R] {
	if len(q.heap) == 0 {
		return nil
	}
	return q.heap[0]
}

func (q *Queue[R]) less(i, j int) bool {
	a, b := q.heap[i], q.heap[j]
	if c := a.at.Compare(b.at); c != 0 {
		return c < 0
	}
	return a.seq < b.seq
}

func (q *Queue[R]) swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].place, q.heap[j].place = i+1, j+1
}

func (q *Queue[R]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !q.less(i, parent) {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

func (q *Queue[R]) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(q.heap); child++ {
			if q.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		q.swap(i, least)
		i = least
	}
}

// Next stops the timer that is due first, if it is due until a time, and returns it with
// its owner, which the caller notifies; nil if no timer is due.
func (q *Queue[R]) Next(until time.Time) (*Timer[R], Owner[R]) {
	t := q.First()
	if t == nil || t.at.After(until) {
		return nil, nil
	}
	owner := t.owner
	q.Stop(t)
	return t, owner
}
