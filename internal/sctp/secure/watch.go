package secure

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Session is the TLS of one association whose peer is known.
type Session struct {
	// Name is that of the peer.
	Name  string
	conn  *tls.Conn
	until time.Time
	end   func(error)
	cfg   *Config
	own   []byte     // this side's certificate, nil without one
	ours  bool       // this side renews it: see sctp.Renewal
	host  netip.Addr // of the client, if this side is the server
	renew time.Time  // when; zero if nothing demands it
	// records is how many may be sent, or received if this side renews it.
	records uint64
}

// Watch has the sessions of an endpoint. It ends those whose peer's certificate has run out
// or is not accepted any more, and those that are to be renewed. Any goroutine may use it.
type Watch struct {
	cfg  *Config
	kind sctp.Renewal

	mu     sync.Mutex
	all    map[*Session]struct{}
	looks  uint64 // how often Recheck was called
	timer  *time.Timer
	due    time.Time // of the timer; zero if it does not run
	closed bool
}

// NewWatch makes a Watch that renews some of its sessions.
func NewWatch(cfg *Config, kind sctp.Renewal) *Watch {
	return &Watch{cfg: cfg, kind: kind, all: map[*Session]struct{}{}}
}

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
	w.arm(s.renew)
	missed := w.looks != looks
	w.mu.Unlock()
	if !missed {
		return nil
	}
	if err := w.judge(s); err != nil {
		w.Remove(s)
		return err
	}
	own, known := w.cfg.own()
	w.compare(s, own, known)
	return nil
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

// expire ends the sessions whose peer's certificate has run out, and those to renew.
func (w *Watch) expire() {
	w.mu.Lock()
	over := map[*Session]error{}
	now := time.Now()
	w.due = time.Time{}
	for s := range w.all {
		switch {
		case !s.until.IsZero() && !now.Before(s.until):
			over[s] = s.distrust("certificate of the peer has expired at "+s.until.Format(time.RFC3339), ErrEnded)
		case !s.renew.IsZero() && !now.Before(s.renew):
			over[s] = sctp.ErrRenew
		default:
			w.arm(s.until)
			w.arm(s.renew)
			continue
		}
		delete(w.all, s)
	}
	w.mu.Unlock()
	for s, why := range over {
		s.end(why)
	}
}

// distrust is the error of a session whose peer's certificate does not hold any more. This
// side, if it renews the session, finds out whether the peer has a new one.
func (s *Session) distrust(text string, why error) error {
	err := errors.Join(ErrTheirs, why)
	if s.ours {
		err = errors.Join(err, sctp.ErrRenew)
	}
	return &failure{text, err}
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
	own, known := w.cfg.own()
	for _, s := range all {
		if w.isClosed() {
			return
		}
		if err := w.judge(s); err != nil {
			s.end(err)
		} else {
			w.compare(s, own, known)
		}
	}
}

// compare has a session renewed that began with another certificate of this side than the
// present one, if that is known.
func (w *Watch) compare(s *Session, own []byte, known bool) {
	if known && !bytes.Equal(own, s.own) {
		w.renewSoon(s)
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
		return s.distrust(fmt.Sprintf("certificate of the peer is not accepted any more: %v", err), err)
	case name != s.Name:
		return untrusted("certificate of the peer now names %q, and not %q", name, s.Name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.until = until
	w.arm(until)
	return nil
}
