package kernel

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Send returns a message to the kernel, or queues it where the kernel does not
// take it at once.
func (a *assoc) Send(m sctp.Message) error {
	if len(m.Data) == 0 {
		return errors.New("SCTP cannot send an empty message (RFC 9260, Section 3.3.1)")
	}
	if m.Stream >= streams {
		return fmt.Errorf("stream %d: an association has the streams 0 to %d", m.Stream, streams-1)
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

// push returns a message to the kernel. unix.EAGAIN means not now, ErrNoAssoc
// that it is too late.
func (a *assoc) push(m *sctp.Message) error {
	err := a.sock.send(&a.out, m.Data, sndInfo{stream: m.Stream, ppid: htonl(m.PPID), assoc: a.kid})
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

// schedule has the queue sent. a.mu is held, and Close waits for that.
func (a *assoc) schedule() {
	if a.writing {
		return
	}
	a.writing = true
	a.armStalled()
	a.e.wg.Go(a.write)
}

// write sends the queue as the kernel takes it, until there is none.
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

// retryAfter is when to try again where the kernel has no memory at all.
const retryAfter = 10 * time.Millisecond

// armStalled has the association end if the kernel takes nothing for a time.
// a.mu is held.
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

// cutStalled ends the association if there is a queue.
func (a *assoc) cutStalled() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.writing {
		a.abortLocked(sctp.Overrun, sctp.ErrStalled)
	}
}

// flush sends what is queued as far as the kernel takes it, and says whether
// its buffer is full. a.mu is held.
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
