package udp

import (
	"encoding/binary"
	"sync"

	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// lastSack is the last SACK that was sent, if its window was small, and how much has been
// read since. It can be repeated with a larger window: a peer ignores it if a later one
// has arrived already. The zero value is ready.
type lastSack struct {
	mu     sync.Mutex
	body   []byte // nil if the window was large
	window uint32
	read   int
}

const (
	// smallWindow is about half of the largest window.
	smallWindow = 64 << 10
	// windowStep is the least growth for which a SACK is sent.
	windowStep = 32 << 10
)

// keep notes a SACK that is being sent.
func (s *lastSack) keep(body []byte, window uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.window, s.read = nil, window, 0
	if window < smallWindow {
		s.body = append([]byte(nil), body...)
	}
}

// small reports whether the window is small, so that SACKs must not be delayed.
func (s *lastSack) small() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.body != nil
}

// delivered notes that bytes have been read.
func (s *lastSack) delivered(n int) {
	s.mu.Lock()
	s.read += n
	s.mu.Unlock()
}

// update returns a SACK with the present window if that has grown by windowStep since the
// last SACK, or nil.
func (s *lastSack) update(limit uint32) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.body == nil || s.read < windowStep {
		return nil
	}
	body := s.body
	s.body = nil
	binary.BigEndian.PutUint32(body[4:], uint32(min(uint64(s.window)+uint64(s.read), uint64(limit))))
	// The duplicates have been reported already.
	binary.BigEndian.PutUint16(body[10:], 0)
	return body[:wire.SackHeaderLen+4*int(binary.BigEndian.Uint16(body[8:]))]
}
