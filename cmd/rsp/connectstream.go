package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// stream is a conversation over TCP. receive and send may find out at the same time that
// the element has failed; one of them fails over.
type stream struct {
	s       *pu.Stream
	log     *logger
	heard   chan<- struct{}
	failing atomic.Bool // a failover is in progress

	mu       sync.Mutex
	failures int // failovers so far
	buf      [maxLine]byte
}

func (f *connectFlags) dialStream(ctx context.Context, log *logger, u *pu.User, pool rserpool.PoolHandle, heard chan<- struct{}) (conversation, error) {
	limited, cancel := context.WithTimeout(ctx, f.failover)
	defer cancel()
	s, err := u.DialStream(limited, pool)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = s.Close() }) // ends Read and Write, which take no context
	log.log(normal, "connected to element %v by TCP", s.Element().ID)
	return &stream{s: s, log: log, heard: heard}, nil
}

func (t *stream) finish() error { return t.s.CloseWrite() }
func (t *stream) close() error  { return t.s.Close() }

func (t *stream) searching() bool { return t.failing.Load() }

// seen is the number of failovers so far.
func (t *stream) seen() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failures
}

// failover goes on with another element after the connection that was there after a number
// of failovers has failed.
func (t *stream) failover(ctx context.Context, seen int, why error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failures != seen {
		return nil // the other goroutine has done so
	}
	t.failing.Store(true)
	from := t.s.Element().ID
	t.log.log(normal, "element %v has failed: %v", from, why)
	if err := t.s.Failover(ctx); err != nil {
		return err
	}
	t.failures++
	t.failing.Store(false)
	note(t.heard)
	t.log.log(normal, "failed over from element %v to %v; what it had not answered may be lost", from, t.s.Element().ID)
	return nil
}

func (t *stream) receive(ctx context.Context) ([]byte, error) {
	for {
		seen := t.seen()
		n, err := t.s.Read(t.buf[:])
		if n > 0 {
			return t.buf[:n], nil
		}
		if !errors.Is(err, pu.ErrFailover) {
			return nil, err
		}
		if err := t.failover(ctx, seen, err); err != nil {
			return nil, err
		}
	}
}

func (t *stream) send(ctx context.Context, line []byte) error {
	for {
		seen := t.seen()
		_, err := t.s.Write(line)
		if !errors.Is(err, pu.ErrFailover) {
			return err
		}
		if err := t.failover(ctx, seen, err); err != nil {
			return err
		}
	}
}
