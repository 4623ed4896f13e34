package here

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// Span is a time, and what something took from then on.
type Span struct {
	From time.Time
	Took time.Duration
}

// Stalls are the times at which the whole machine stood still: a guest does when its host has
// other work.
type Stalls struct {
	mu   sync.Mutex
	list []Span
}

// WatchStalls notes them until the test ends. A program that takes all of a machine's processors
// delays the watch by some ten milliseconds only, which do not count, since the kernel shares the
// processors out.
func WatchStalls(t testing.TB) *Stalls {
	t.Helper()
	s, stop, ended := new(Stalls), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.watch(stop)
	}()
	t.Cleanup(func() {
		close(stop)
		<-ended
	})
	return s
}

func (s *Stalls) watch(stop chan struct{}) {
	const period, ordinary = 5 * time.Millisecond, 50 * time.Millisecond
	tick := time.NewTicker(period)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		took := time.Since(last)
		if took > ordinary {
			s.mu.Lock()
			s.list = append(s.list, Span{last, took})
			s.mu.Unlock()
		}
		last = last.Add(took)
	}
}

// Take returns the stalls so far, and forgets them.
func (s *Stalls) Take() []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// All returns the stalls so far.
func (s *Stalls) All() []Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

// Without is how long something took, without the stalls.
func (s Span) Without(stalls []Span) time.Duration {
	took := s.Took
	for _, x := range stalls {
		from, to := s.From, s.From.Add(s.Took)
		if x.From.After(from) {
			from = x.From
		}
		if end := x.From.Add(x.Took); end.Before(to) {
			to = end
		}
		took -= max(0, to.Sub(from))
	}
	return took
}
