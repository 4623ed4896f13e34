package msgconn

import (
	"context"
	"net"
	"os"
	"sync"
	"time"
)

// deadline is a time at which those who wait give up. It can be changed while they wait.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	over  chan struct{} // closed when the time has come
}

func (d *deadline) init() { d.over = make(chan struct{}) }

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.isOver() {
		d.over = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	left := time.Until(t)
	if left <= 0 {
		close(d.over)
		return
	}
	over := d.over
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer { // not set anew meanwhile
			close(over)
		}
	})
	d.timer = timer
}

func (d *deadline) isOver() bool {
	select {
	case <-d.over:
		return true
	default:
		return false
	}
}

// wait is the context of one Read or Write: it ends with the deadline, or when the Conn is
// closed.
type wait struct {
	over   chan struct{}
	closed chan struct{}
}

var _ context.Context = (*wait)(nil)

// wait returns the context of an operation that begins now.
func (c *Conn) wait(d *deadline) *wait {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &wait{over: d.over, closed: c.closed}
}

// Done ends with the deadline alone: Close has Send and Receive return by closing the
// session.
func (w *wait) Done() <-chan struct{} { return w.over }

// Err is os.ErrDeadlineExceeded or net.ErrClosed, nil before.
func (w *wait) Err() error {
	select {
	case <-w.closed:
		return net.ErrClosed
	default:
	}
	select {
	case <-w.over:
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// Deadline says that the deadline may change.
func (w *wait) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value has none.
func (w *wait) Value(any) any { return nil }
