package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	// maxBacklog limits the text that waits to be written, in bytes.
	maxBacklog = 64 << 10
	// flushTime is how long rsp waits at its end for lines that are not written yet.
	flushTime = time.Second
)

// backlog is a writer for log lines that never blocks and never fails, so that a log
// that cannot be written does not end the server. Lines that cannot be written,
// because the pipe has no reader or the disk is full, are lost. backlog counts them, and
// writes their number before the next line that can be written.
type backlog struct {
	w io.Writer

	mu     sync.Mutex
	queue  []entry
	size   int           // bytes in the queue
	lost   int           // lines dropped because the queue was full, after the last entry
	failed int           // lines that could not be written
	idle   chan struct{} // closed when nothing is left to write; nil before the first line
	busy   bool          // a goroutine writes
}

// entry is a piece of log.
type entry struct {
	text []byte
	lost int // lines lost before it
}

func newBacklog(w io.Writer) *backlog { return &backlog{w: w} }

// Write queues whole lines.
func (l *backlog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+len(b) > maxBacklog {
		l.lost += lines(b)
		return len(b), nil
	}
	l.queue = append(l.queue, entry{slices.Clone(b), l.lost})
	l.size += len(b)
	l.lost = 0
	if !l.busy {
		l.busy, l.idle = true, make(chan struct{})
		go l.drain()
	}
	return len(b), nil
}

// flush waits until everything is written, for d at most.
func (l *backlog) flush(d time.Duration) {
	l.mu.Lock()
	idle := l.idle
	l.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-time.After(d):
	}
}

// drain writes until nothing is left.
func (l *backlog) drain() {
	for {
		e, ok := l.next()
		if !ok {
			return
		}
		if !l.write(e) {
			l.mu.Lock()
			l.failed += e.lost + lines(e.text)
			l.mu.Unlock()
		}
	}
}

func (l *backlog) write(e entry) bool {
	if e.lost > 0 {
		if _, err := fmt.Fprintf(l.w, "rsp: %d log lines were lost: standard error was blocked or closed\n", e.lost); err != nil {
			return false
		}
	}
	_, err := l.w.Write(e.text)
	return err == nil
}

// next takes the next entry off the queue.
func (l *backlog) next() (entry, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var e entry
	switch {
	case len(l.queue) > 0:
		e = l.queue[0]
		l.queue = l.queue[1:]
		l.size -= len(e.text)
	case l.lost > 0:
		e.lost, l.lost = l.lost, 0
	default:
		l.busy, l.queue = false, nil
		close(l.idle)
		return e, false
	}
	e.lost += l.failed
	l.failed = 0
	return e, true
}

func lines(b []byte) int { return bytes.Count(b, []byte("\n")) }
