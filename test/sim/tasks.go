package sim

import "time"

// task is something to be done at a time, counted from the simulation's start.
type task struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (t *task) before(o *task) bool {
	if t.at != o.at {
		return t.at < o.at
	}
	return t.seq < o.seq
}

// tasks is a binary heap; of those at the same time the one that was added first
// comes first.
type tasks []task

func (q *tasks) push(t task) {
	h := append(*q, t)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			break
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
	*q = h
}

// pop takes the first one. There has to be one.
func (q *tasks) pop() task {
	h := *q
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], task{}
	h = h[:last]
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
	*q = h
	return first
}
