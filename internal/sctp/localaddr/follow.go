package localaddr

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// settle is how long a change of the machine's addresses may last. A program that renews
// an address may remove it first.
const settle = 20 * time.Millisecond

// followers are those that View.Follow calls. They have a goroutine while there are any.
type followers struct {
	mu    sync.Mutex
	all   map[*follower]struct{}
	end   chan struct{}
	ended chan struct{}
}

// follower is a function that is called after changes.
type follower struct {
	mu      sync.Mutex // held while f runs
	f       func()
	stopped bool
}

func (w *follower) call() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.f()
	}
}

// Follow calls f soon after the machine's addresses may have changed, and at least every
// Life, until stop is called. f is not called after stop has returned, and must not call
// stop. Follow does not wait for functions that run.
func (m *View) Follow(f func()) (stop func()) {
	w := &m.followers
	one := &follower{f: f}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) == 0 {
		w.all = make(map[*follower]struct{})
		w.end, w.ended = make(chan struct{}), make(chan struct{})
		go m.follow(w.end, w.ended)
	}
	w.all[one] = struct{}{}
	return func() { w.remove(one) }
}

func (w *followers) remove(one *follower) {
	one.mu.Lock()
	stopped := one.stopped
	one.stopped = true
	one.mu.Unlock()
	if stopped {
		return
	}
	w.mu.Lock()
	delete(w.all, one)
	ended := w.ended
	last := len(w.all) == 0
	if last {
		close(w.end)
	}
	w.mu.Unlock()
	if last {
		<-ended
	}
}

// list returns the followers.
func (w *followers) list() []*follower {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Keys(w.all))
}

// follow calls the followers until end is closed.
func (m *View) follow(end, ended chan struct{}) {
	defer close(ended)
	var changes <-chan struct{}
	var stop func()
	m.Inside(func() { changes, stop = Changes() })
	defer stop()
	tick := time.NewTicker(Life)
	defer tick.Stop()
	for {
		select {
		case <-end:
			return
		case <-changes:
			m.forget()
		case <-tick.C:
		}
		for _, one := range m.followers.list() {
			one.call()
		}
	}
}

// wait waits, and returns false if end is closed meanwhile.
func wait(d time.Duration, end chan struct{}) bool {
	select {
	case <-end:
		return false
	case <-time.After(d):
		return true
	}
}

// Changes returns a channel that is filled 20 ms after changes of the machine's interfaces
// and addresses, as far as the system reports them (Linux), until stop is called.
func Changes() (changed <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	w, err := newWatch()
	if err != nil {
		return c, func() {}
	}
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for w.wait() == nil && wait(settle, end) {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	})
	return c, func() {
		close(end)
		_ = w.close()
		wg.Wait()
	}
}

// forget has the addresses be read again by the next Now.
func (m *View) forget() {
	m.mu.Lock()
	m.asked = time.Time{}
	m.mu.Unlock()
}

// Usable reports whether packets can be sent from an address: the machine has it, and its
// interface is up.
func (s *State) Usable(a netip.Addr) bool {
	a = a.WithZone("")
	if !s.Own(a) {
		return false
	}
	for _, o := range s.Other {
		if o.Addr == a && o.down {
			return false
		}
	}
	return true
}
