package secure

import "sync"

// freshShare: of so many turns in a row, one is for a handshake that has not begun, if one waits.
// So neither those that have begun nor peers that send theirs in many pieces can keep out all others.
const freshShare = 4

// turns limits how many handshakes compute at a time. The others wait in their order, and those
// that have begun go before those that have not: one that has begun has cost something, and both
// sides give up after a while. If each one waited twice behind all others, thousands that come
// at the same time would all be late.
type turns struct {
	mu    sync.Mutex
	free  int
	begun []chan struct{} // guarded by mu, as is what follows
	fresh []chan struct{}
	row   int // turns in a row that were not for fresh
}

func newTurns(n int) *turns { return &turns{free: n} }

// take waits for a turn of a handshake that has begun, or has not.
func (t *turns) take(begun bool) {
	t.mu.Lock()
	if t.free > 0 {
		t.free--
		t.mu.Unlock()
		return
	}
	turn := make(chan struct{})
	if begun {
		t.begun = append(t.begun, turn)
	} else {
		t.fresh = append(t.fresh, turn)
	}
	t.mu.Unlock()
	<-turn
}

// give ends a turn, and hands it to the next one.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := &t.begun
	if len(t.begun) == 0 || len(t.fresh) > 0 && t.row >= freshShare-1 {
		from = &t.fresh
	}
	if len(*from) == 0 {
		t.free++
		return
	}
	if from == &t.fresh {
		t.row = 0
	} else {
		t.row++
	}
	close((*from)[0])
	(*from)[0] = nil
	if *from = (*from)[1:]; len(*from) == 0 {
		*from = nil
	}
}
