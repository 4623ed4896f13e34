package secure

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Session is the TLS of one association whose peer is known.
type Session struct {
	// Name is that of the peer.
	Name  string
	conn  *tls.Conn
	until time.Time
	end   func(error)
}

// Watch has the sessions of an endpoint. It ends those whose peer's certificate has run out
// or is not accepted any more. Any goroutine may use it.
type Watch struct {
	cfg *Config

	mu     sync.Mutex
	all    map[*Session]struct{}
	looks  uint64 // how often Recheck was called
	timer  *time.Timer
	due    time.Time // of the timer; zero if it does not run
	closed bool
}

// NewWatch makes a Watch.
func NewWatch(cfg *Config) *Watch { return &Watch{cfg: cfg, all: map[*Session]struct{}{}} }

// longestLook is the longest time between two looks at the ends of certificates: the clock
// may be set, and a machine may sleep.
const longestLook = time.Minute

// looked returns how often Recheck was called.
func (w *Watch) looked() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.looks
}

// add begins to watch a session, whose peer was judged after a number of looks. It fails, and
// the session is not watched, if the peer must be judged again and is refused.
func (w *Watch) add(s *Session, looks uint64) error {
	w.mu.Lock()
	w.all[s] = struct{}{}
	w.arm(s.until)
	missed := w.looks != looks
	w.mu.Unlock()
	if !missed {
		return nil
	}
	err := w.judge(s)
	if err != nil {
		w.Remove(s)
	}
	return err
}

// Remove ends the watch of a session, which may be nil.
func (w *Watch) Remove(s *Session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, s)
}

// Close stops the timer.
func (w *Watch) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// arm has the timer run at a time or before. w.mu is held.
func (w *Watch) arm(at time.Time) {
	if at.IsZero() || w.closed || !w.due.IsZero() && !at.Before(w.due) {
		return
	}
	wait := min(max(time.Until(at), 0), longestLook)
	w.due = time.Now().Add(wait)
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, w.expire)
	} else {
		w.timer.Reset(wait)
	}
}

// expire ends the sessions whose peer's certificate has run out.
func (w *Watch) expire() {
	w.mu.Lock()
	var over []*Session
	now := time.Now()
	w.due = time.Time{}
	for s := range w.all {
		switch {
		case s.until.IsZero():
		case now.Before(s.until):
			w.arm(s.until)
		default:
			over = append(over, s)
			delete(w.all, s)
		}
	}
	w.mu.Unlock()
	for _, s := range over {
		s.end(&failure{"certificate of the peer has expired at " + s.until.Format(time.RFC3339), ErrTheirs})
	}
}

// Recheck implements rechecker. It ends early if the Watch is closed.
func (w *Watch) Recheck() {
	w.mu.Lock()
	w.looks++
	all := make([]*Session, 0, len(w.all))
	for s := range w.all {
		all = append(all, s)
	}
	w.mu.Unlock()
	for _, s := range all {
		if w.isClosed() {
			return
		}
		if err := w.judge(s); err != nil {
			s.end(err)
		}
	}
}

func (w *Watch) isClosed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed
}

// judge has Identify judge the peer of a session again.
func (w *Watch) judge(s *Session) error {
	name, until, err := w.cfg.Identify(s.conn.ConnectionState())
	switch {
	case err != nil:
		return &failure{fmt.Sprintf("certificate of the peer is not accepted any more: %v", err), errors.Join(ErrTheirs, err)}
	case name != s.Name:
		return untrusted("certificate of the peer now names %q, and not %q", name, s.Name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.until = until
	w.arm(until)
	return nil
}
