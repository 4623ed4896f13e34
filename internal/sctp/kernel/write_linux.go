package kernel

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Send passes a message to the kernel, or queues it if the kernel has no room.
func (a *assoc) Send(m sctp.Message) error {
	if len(m.Data) == 0 {
		return errors.New("message is empty: SCTP cannot send it (RFC 9260, Section 3.3.1)")
	}
	if m.Stream >= streams {
		return fmt.Errorf("stream %d does not exist: use 0 to %d", m.Stream, streams-1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state >= stateEnding || a.eof {
		return sctp.ErrNoAssoc
	}
	if a.state == stateUp && len(a.queue.Msgs) == 0 {
		if err := a.push(&m); !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	if !a.queue.Push(m, a.e.lim) {
		return sctp.ErrQueueFull
	}
	if a.state == stateUp {
		a.schedule()
	}
	return nil
}

// push passes a message to the kernel. unix.EAGAIN means that it has no room, ErrNoAssoc
// that the association has ended.
func (a *assoc) push(m *sctp.Message) error {
	info := sndInfo{stream: m.Stream, ppid: htonl(m.PPID), assoc: a.kid}
	if m.Unordered {
		info.flags = sndUnordered
	}
	err := a.sock.send(&a.out, m.Data, info)
	switch {
	case err == nil:
		return nil
	case isFull(err):
		return unix.EAGAIN
	case isGone(err), errors.Is(err, unix.EINVAL) && m.Stream == 0:
		return sctp.ErrNoAssoc // the kernel no longer knows the name
	default:
		return fmt.Errorf("send %d bytes: %w", len(m.Data), err)
	}
}

// schedule starts write, unless it runs. a.mu is held. Close waits for write.
func (a *assoc) schedule() {
	if a.writing {
		return
	}
	a.writing = true
	a.armStalled()
	a.e.wg.Go(a.write)
}

// write passes the queue to the kernel as it has room, until the queue is empty.
func (a *assoc) write() {
	done := func(uintptr) bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		full := a.flush()
		a.writing = full
		if !full && a.stalled != nil {
			a.stalled.Stop()
		}
		return !full
	}
	for a.sock.raw.Write(done) == nil {
		a.mu.Lock()
		writing := a.writing
		a.mu.Unlock()
		if !writing || !a.e.pause(retryAfter) {
			return
		}
	}
}

// retryAfter is the time to the next try if the kernel has no memory.
const retryAfter = 10 * time.Millisecond

// armStalled starts the time Limits.Stalled, after which the association is aborted unless
// a message leaves the queue. a.mu is held.
func (a *assoc) armStalled() {
	d := a.e.lim.Stalled
	switch {
	case d <= 0:
	case a.stalled == nil:
		a.stalled = time.AfterFunc(d, func() { a.cutStalled() })
	default:
		a.stalled.Reset(d)
	}
}

// cutStalled aborts the association if there is a queue.
func (a *assoc) cutStalled() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.writing {
		a.abortLocked(sctp.Overrun, sctp.ErrStalled)
	}
}

// flush passes the queue to the kernel as far as it has room, and returns whether its buffer
// is full. a.mu is held.
func (a *assoc) flush() (full bool) {
	if a.state == stateConnecting || a.state == stateEnded {
		return false
	}
	sent := 0
	for sent < len(a.queue.Msgs) && !full {
		m := &a.queue.Msgs[sent]
		switch err := a.push(m); {
		case errors.Is(err, unix.EAGAIN):
			full = true
			continue
		case err != nil && !errors.Is(err, sctp.ErrNoAssoc):
			failed := sctp.Event{Type: sctp.SendFailed, Message: *m, Err: err}
			a.e.wg.Go(func() { a.emit(failed) })
		}
		sent++
	}
	a.dequeue(sent)
	if a.queue.Relieved(a.e.lim) {
		a.e.wg.Go(func() { a.emit(sctp.Event{Type: sctp.Writable}) })
	}
	if sent > 0 {
		a.armStalled()
	}
	if a.eof && !a.eofSent && !full {
		a.eofSent = true
		_ = a.sock.send(&a.out, nil, sndInfo{flags: sndEOF, assoc: a.kid})
	}
	return full
}

// dequeue removes the first n messages.
func (a *assoc) dequeue(n int) {
	for _, m := range a.queue.Msgs[:n] {
		a.queue.Add(-1, -len(m.Data))
	}
	a.queue.Msgs = slices.Delete(a.queue.Msgs, 0, n)
}
