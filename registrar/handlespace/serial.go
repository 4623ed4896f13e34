package handlespace

import (
	"sync"
	"sync/atomic"
	"time"
)

// serial is a zone's serial number: the Unix time, in seconds, when it was first
// asked for after the latest change. It is compared in serial number arithmetic
// (RFC 1982), in which it grows with every change over a quiet time of up to 68
// years.
//
// It is never ahead of the clock, however fast the changes are, so that it does
// not go back over a restart. For that, several changes within a second have one
// serial: a change after the serial was read has a new one from the next second
// on. A reader that has read the former one before the change, or what is new
// with the former one, finds the new one later.
//
// A clock that is set while the program runs makes no difference: after the first
// reading only the time that has passed since counts.
type serial struct {
	mu sync.Mutex
	// start is when it was first read, value the latest one. covers is how many
	// changes that one stands for.
	start  time.Time
	value  int64
	covers uint64
}

// at returns the serial at a time, after so many changes.
func (s *serial) at(now time.Time, changes *atomic.Uint64) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.start.IsZero() {
		// Perhaps the same second as the last one of a program before this one:
		// it stands for no change, so that the next second has another one.
		s.start, s.value, s.covers = now, now.Unix(), noChanges
		return uint32(s.value)
	}
	n := changes.Load()
	if at := s.start.Unix() + int64(now.Sub(s.start)/time.Second); n != s.covers && at > s.value {
		s.value, s.covers = at, n
	}
	return uint32(s.value)
}

const noChanges = ^uint64(0)
