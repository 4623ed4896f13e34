package handlespace

import (
	"sync"
	"sync/atomic"
	"time"
)

// serial is a zone's serial number: the Unix time, in seconds, when it was first read
// after the latest change. It is compared in serial number arithmetic (RFC 1982).
// There, a change makes it larger if the last one was less than 68 years before.
//
// It is never ahead of the clock, however fast the changes are, so that it does not go
// back over a restart. So several changes within a second have one serial: a change
// after the serial was read gets a new one from the next second on. A reader that has
// read the former serial together with the former or the new content finds the new
// serial later.
//
// Setting the clock while the program runs makes no difference: after the first reading
// only the elapsed time counts.
type serial struct {
	mu sync.Mutex
	// start is when it was first read, value the latest serial, covers the number of
	// changes that it includes.
	start  time.Time
	value  int64
	covers uint64
}

// at returns the serial at a time, after a number of changes.
func (s *serial) at(now time.Time, changes *atomic.Uint64) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.start.IsZero() {
		// Perhaps a former process has used the same second as its last serial. So this
		// one includes no change, and the next second has another one.
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
