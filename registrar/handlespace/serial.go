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
// It takes at most one step a second, however fast the changes are, and is not ahead of the
// clock, so that it does not go back over a restart. So several changes within a second
// have one serial: a change after the serial was read gets a new one from the next second
// on. A reader that has read the former serial together with the former or the new content
// finds the new serial later.
//
// If the clock is set forward, the serial follows it. If the clock is set back, the serial
// grows by one with a change, at most once a second, until the clock has caught up. A restart
// in that time makes it go back, unless the program remembers it: see KeepSerial. Registrars
// whose clocks agree have serials that are near one another, because none runs ahead of its
// clock for another reason.
type serial struct {
	mu sync.Mutex
	// value is the latest serial, 0 if none was read yet, covers the number of changes that
	// it includes, since when it has been the serial.
	value  int64
	covers uint64
	since  time.Time
	least  int64 // that the first one may be
}

// at returns the serial at a time, after a number of changes.
func (s *serial) at(now time.Time, changes *atomic.Uint64) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := changes.Load()
	switch next := now.Unix(); {
	case s.value == 0:
		// Perhaps a former process has used the same second as its last serial. So this
		// one includes no change, and the next second has another one.
		s.value, s.covers, s.since = max(next, s.least), noChanges, now
	case n == s.covers:
	case next > s.value:
		s.value, s.covers, s.since = next, n, now
	case now.Sub(s.since) >= time.Second: // the clock was set back
		s.value, s.covers, s.since = s.value+1, n, now
	}
	return uint32(s.value)
}

const noChanges = ^uint64(0)

// serialReserve is how much KeepSerial adds if the serial is ahead of the clock: more steps
// than it takes from one writing of the state to the next.
const serialReserve = 30

// KeepSerial returns what a next process gives to RestoreSerial, if that is the last time
// that this process is asked.
func (s *Space) KeepSerial(now time.Time) int64 {
	s.serial.mu.Lock()
	defer s.serial.mu.Unlock()
	switch v := s.serial.value; {
	case v == 0:
		return s.serial.least - 1
	case v > now.Unix():
		return v + serialReserve
	default:
		return v
	}
}

// RestoreSerial has the serials of this process begin after those of a former one, which has
// kept last. To be called before the first Serial.
func (s *Space) RestoreSerial(last int64) {
	s.serial.mu.Lock()
	defer s.serial.mu.Unlock()
	s.serial.least = last + 1
}
