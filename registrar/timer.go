package registrar

import "time"

// timer is a deadline of the type that embeds it. Its zero value is not armed.
type timer struct {
	at    time.Time
	seq   uint64
	place int // in the heap, counted from 1; 0 if not armed
	owner timed
}

// timed owns timers and is told when one of them is due; by then it is no
// longer armed.
type timed interface {
	due(r *Registrar, t *timer)
}

func (t *timer) armed() bool { return t.place > 0 }

// timers is a binary heap of the armed timers; of those with the same
// deadline, the one armed first is due first. Arming and stopping take O(log N).
type timers struct {
	heap []*timer
	seq  uint64
}

// arm sets t's deadline, in place of an earlier one.
func (q *timers) arm(t *timer, owner timed, at time.Time) {
	q.seq++
	t.at, t.seq, t.owner = at, q.seq, owner
	if !t.armed() {
		q.heap = append(q.heap, t)
		t.place = len(q.heap)
	}
	q.up(t.place - 1)
	q.down(t.place - 1)
}

// stop takes t's deadline away, if it has one.
func (q *timers) stop(t *timer) {
	if !t.armed() {
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

// first returns the timer that is due first, nil if none is armed.
func (q *timers) first() *timer {
	if len(q.heap) == 0 {
		return nil
	}
	return q.heap[0]
}

func (q *timers) less(i, j int) bool {
	a, b := q.heap[i], q.heap[j]
	if c := a.at.Compare(b.at); c != 0 {
		return c < 0
	}
	return a.seq < b.seq
}

func (q *timers) swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.heap[i].place, q.heap[j].place = i+1, j+1
}

func (q *timers) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !q.less(i, parent) {
			return
		}
		q.swap(i, parent)
		i = parent
	}
}

func (q *timers) down(i int) {
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

// bucket is a token bucket that lets rate events a second through, and twice
// as many at once. Its zero value is full.
type bucket struct {
	used float64 // tokens, at time at
	at   time.Time
}

// allow reports whether one more event may pass.
func (b *bucket) allow(now time.Time, rate int) bool { return b.allowN(now, rate, 1) }

// allowN is allow for an event that counts as n.
func (b *bucket) allowN(now time.Time, rate, n int) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*float64(rate))
	b.at = now
	if b.used+float64(n) > 2*float64(rate) {
		return false
	}
	b.used += float64(n)
	return true
}

// spend takes tokens that may not be there.
func (b *bucket) spend(now time.Time, rate, n int) {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*float64(rate)) + float64(n)
	b.at = now
}

// wait is the time until no more tokens are used than one second gives.
func (b *bucket) wait(now time.Time, rate int) time.Duration {
	over := b.used - now.Sub(b.at).Seconds()*float64(rate) - float64(rate)
	return time.Duration(max(0, over) / float64(rate) * float64(time.Second))
}
