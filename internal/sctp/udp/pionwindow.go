package udp

import (
	"encoding/binary"
	"sync"

	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// lastSack is the last SACK sent, if the window that it granted was small, and
// what has been read since. A SACK that repeats it with a larger window says
// nothing untrue: a peer drops it if a later one has come already. The zero
// value is ready.
type lastSack struct {
	mu     sync.Mutex
	body   []byte // nil if the window was large
	window uint32
	read   int
}

const (
	// smallWindow is about half of what we grant at most.
	smallWindow = 64 << 10
	// windowStep is the least growth that is worth a packet.
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

// small reports whether the peer may soon have to wait for its window: then a
// SACK must not.
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

// update returns a SACK with the window as it is now, if that has grown by much
// since a small one was granted.
func (s *lastSack) update(limit uint32) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.body == nil || s.read < windowStep {
		return nil
	}
	body := s.body
	s.body = nil
	binary.BigEndian.PutUint32(body[4:], uint32(min(uint64(s.window)+uint64(s.read), uint64(limit))))
	// Duplicates have been reported once.
	binary.BigEndian.PutUint16(body[10:], 0)
	return body[:wire.SackHeaderLen+4*int(binary.BigEndian.Uint16(body[8:]))]
}
