// Package msgconn makes a net.Conn of the messages of a session: a stream of bytes, with
// deadlines. Message boundaries do not count.
package msgconn

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// Messages are the two directions of a session. Both methods wait until they can do their
// work or ctx ends; then they return ctx.Err().
type Messages interface {
	// Send sends a message and does not keep data.
	Send(ctx context.Context, data []byte) error
	// Receive returns a message that the caller owns.
	Receive(ctx context.Context) ([]byte, error)
	// Close ends the session. Later calls of Send and Receive fail.
	Close() error
	LocalAddr() net.Addr
	RemoteAddr() net.Addr
}

// chunk is how many bytes Write puts into a message. SCTP sends a message as a whole or not
// at all, so that a larger one would wait longer for room.
const chunk = 16 << 10

// Conn is a stream of bytes. Any goroutine may call its methods.
type Conn struct {
	m           Messages
	read, write deadline
	closed      chan struct{}
	once        sync.Once
	err         error // of Close

	reading sync.Mutex
	rest    []byte // of the last message; reading is locked
	writing sync.Mutex
}

var _ net.Conn = (*Conn)(nil)

// New makes a Conn. Its Close closes m.
func New(m Messages) *Conn {
	c := &Conn{m: m, closed: make(chan struct{})}
	c.read.init()
	c.write.init()
	return c
}

// Read reads what has arrived, and waits if that is nothing.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	wait := c.wait(&c.read)
	if err := wait.Err(); err != nil {
		return 0, c.opError("read", err)
	}
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.rest) == 0 {
		data, err := c.m.Receive(wait)
		if err != nil {
			return 0, c.opError("read", err)
		}
		c.rest = data
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write sends p in messages of at most 16 KiB.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	wait := c.wait(&c.write)
	if err := wait.Err(); err != nil {
		return 0, c.opError("write", err)
	}
	for len(p) > 0 {
		part := p[:min(len(p), chunk)]
		if err := c.m.Send(wait, part); err != nil {
			return n, c.opError("write", err)
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// opError is an error in the form of package net. The end of the stream remains io.EOF.
func (c *Conn) opError(op string, err error) error {
	select {
	case <-c.closed:
		err = net.ErrClosed
	default:
	}
	if any(err) == any(io.EOF) { // not errors.Is: an error that wraps io.EOF is no good end
		return err
	}
	return &net.OpError{Op: op, Net: "sctp", Source: c.m.LocalAddr(), Addr: c.m.RemoteAddr(), Err: err}
}

// Close closes the session. Read and Write return.
func (c *Conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.err = c.m.Close()
	})
	return c.err
}

// LocalAddr returns the address of this side.
func (c *Conn) LocalAddr() net.Addr { return c.m.LocalAddr() }

// RemoteAddr returns the address of the other side.
func (c *Conn) RemoteAddr() net.Addr { return c.m.RemoteAddr() }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline has Read fail from a time on, also one that waits already; never if t is
// zero.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.set(&c.read, t) }

// SetWriteDeadline has Write fail from a time on, also one that waits already; never if t
// is zero.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.set(&c.write, t) }

func (c *Conn) set(d *deadline, t time.Time) error {
	select {
	case <-c.closed:
		return c.opError("set", net.ErrClosed)
	default:
		d.set(t)
		return nil
	}
}
