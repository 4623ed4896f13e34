package sctp

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// send gives a message to the kernel, or queues it where the kernel does not
// take it at once.
func (a *kernelAssoc) send(m Message) error {
	if len(m.Data) == 0 {
		return errors.New("SCTP cannot send an empty message (RFC 9260, Section 3.3.1)")
	}
	if m.Stream >= kernelStreams {
		return fmt.Errorf("stream %d: an association has the streams 0 to %d", m.Stream, kernelStreams-1)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state >= kernelEnding || a.eof {
		return ErrNoAssoc
	}
	if a.state == kernelUp && len(a.queue.msgs) == 0 {
		if err := a.push(&m); !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	if !a.queue.push(m, a.e.lim) {
		return ErrQueueFull
	}
	if a.state == kernelUp {
		a.schedule()
	}
	return nil
}

// push gives a message to the kernel. unix.EAGAIN means not now, ErrNoAssoc
// that it is too late.
func (a *kernelAssoc) push(m *Message) error {
	err := a.sock.send(&a.call, m.Data, sndInfo{stream: m.Stream, ppid: htonl(m.PPID), assoc: a.kid})
	switch {
	case err == nil:
		return nil
	case isFull(err):
		return unix.EAGAIN
	case isGone(err), errors.Is(err, unix.EINVAL) && m.Stream == 0:
		return ErrNoAssoc // the kernel no longer knows the name
	default:
		return fmt.Errorf("send %d bytes: %w", len(m.Data), err)
	}
}

// schedule has the queue sent. a.mu is held, and Close waits for that.
func (a *kernelAssoc) schedule() {
	if a.writing {
		return
	}
	a.writing = true
	a.armStalled()
	a.e.wg.Go(a.write)
}

// write sends the queue as the kernel takes it, until there is none.
func (a *kernelAssoc) write() {
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
		if !writing || !a.e.pause(kernelRetry) {
			return
		}
	}
}

// kernelRetry is when to try again where the kernel has no memory at all.
const kernelRetry = 10 * time.Millisecond

// armStalled has the association end if the kernel takes nothing for a time.
// a.mu is held.
func (a *kernelAssoc) armStalled() {
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
func (a *kernelAssoc) cutStalled() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.writing {
		a.abortLocked(Overrun, errStalled)
	}
}

// flush sends what is queued as far as the kernel takes it, and says whether
// its buffer is full. a.mu is held.
func (a *kernelAssoc) flush() (full bool) {
	if a.state == kernelConnecting || a.state == kernelEnded {
		return false
	}
	sent := 0
	for sent < len(a.queue.msgs) && !full {
		m := &a.queue.msgs[sent]
		switch err := a.push(m); {
		case errors.Is(err, unix.EAGAIN):
			full = true
			continue
		case err != nil && !errors.Is(err, ErrNoAssoc):
			failed := Event{Type: SendFailed, Message: *m, Err: err}
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
		_ = a.sock.send(&a.call, nil, sndInfo{flags: sndEOF, assoc: a.kid})
	}
	return full
}

// dequeue removes the first n messages.
func (a *kernelAssoc) dequeue(n int) {
	for _, m := range a.queue.msgs[:n] {
		a.queue.add(-1, -len(m.Data))
	}
	a.queue.msgs = slices.Delete(a.queue.msgs, 0, n)
}
