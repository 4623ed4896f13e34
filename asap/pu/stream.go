package pu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ErrFailover is in the errors of a Stream whose element has failed: [Stream.Failover]
// goes on with another element.
var ErrFailover = errors.New("the element has failed")

// Stream is a TCP connection with an element of a pool. It is a [net.Conn], so that any
// protocol that runs over one can run over a pool.
//
// If the connection fails, Read and Write return an error that is ErrFailover, and the
// element is reported to a registrar. The program then calls [Stream.Failover] to go on
// with another element, and repeats what that element has to know: TCP connections have no
// control channel, so that there are no cookies, no business cards, and nothing of what
// was sent to the former element (RFC 5352, Section 6.5.5). A [Session] has them. An
// io.EOF is no failure: the element has closed the connection. A program that misses
// something then may call Failover as well: the kernel of a process that was killed
// closes its connections, too.
//
// An element that hangs, or whose host is silent, is noticed by TCP's keep-alives only
// after minutes. A program that expects answers sets deadlines.
type Stream struct {
	user    *User
	pool    rserpool.PoolHandle
	network string
	release func()
	ended   context.Context // since Close
	end     context.CancelFunc
	turn    chan struct{} // of Failover

	mu     sync.Mutex
	conn   net.Conn
	elem   rserpool.PoolElement
	failed bool // the element was reported
	gone   bool // Failover has closed conn, and there is no other one yet
	half   bool // the writing side of conn is closed
	closed bool
	// The deadlines hold for the next connection as well.
	readBy, writeBy time.Time
}

// DialStream connects to an element of a pool of TCP elements. It selects an element as
// [User.Select] does, and reports those that do not accept a connection within
// Timers.Connect; each element is tried once, and all within 30 s. ctx ends only the
// dialing. The error is a *[FailoverError] with the reason for each element that was
// tried. A Stream stays open when the User is closed, but fails over no more.
func (u *User) DialStream(ctx context.Context, pool rserpool.PoolHandle) (*Stream, error) {
	return u.dialStream(ctx, "tcp", pool)
}

func (u *User) dialStream(ctx context.Context, network string, pool rserpool.PoolHandle) (*Stream, error) {
	s := &Stream{user: u, pool: pool, network: network, release: u.hold(pool), turn: make(chan struct{}, 1)}
	s.ended, s.end = context.WithCancel(context.Background())
	if err := s.connect(ctx, nil); err != nil {
		s.end()
		s.release()
		return nil, err
	}
	return s, nil
}

// Failover closes the connection, and connects to another element of the pool, or to the
// same one if there is no other. The element is reported unless it has closed the
// connection itself; so Failover is also the program's own word that an element does not
// serve. The error is that of DialStream; Failover may be called again. Read and Write fail
// meanwhile. Only one goroutine should call it: a second call fails over once more.
func (s *Stream) Failover(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	former, tell := s.elem.ID, !s.failed
	s.failed, s.gone = true, true
	_ = s.conn.Close()
	s.mu.Unlock()
	if tell {
		s.user.Failed(s.pool, former)
	}
	return s.connect(ctx, []rserpool.PEID{former})
}

// connect connects to an element, preferably to none of those in tried.
func (s *Stream) connect(ctx context.Context, tried []rserpool.PEID) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ended, cancel)()
	conn, elem, err := s.user.dialElements(ctx, s.network, s.pool, tried)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = conn.Close()
		return net.ErrClosed
	}
	_ = conn.SetReadDeadline(s.readBy)
	_ = conn.SetWriteDeadline(s.writeBy)
	s.conn, s.elem, s.failed, s.gone, s.half = conn, elem, false, false, false
	return nil
}

// Element returns the element of the present connection, or of the last one.
func (s *Stream) Element() rserpool.PoolElement {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.elem.Clone()
}

func (s *Stream) current() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conn
}

// isHalf reports whether the program has closed the writing side.
func (s *Stream) isHalf() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.half
}

// Read reads from the connection. The error is io.EOF if the element has closed it, and
// [ErrFailover] if it has failed, or Failover has not found another one yet.
func (s *Stream) Read(b []byte) (int, error) {
	c := s.current()
	n, err := c.Read(b)
	return n, s.check(c, err)
}

// Write writes to the connection. The error is [ErrFailover] if the element has failed.
// Some of what was written before may not have arrived then.
func (s *Stream) Write(b []byte) (int, error) {
	if s.isHalf() {
		return 0, io.ErrClosedPipe
	}
	c := s.current()
	n, err := c.Write(b)
	return n, s.check(c, err)
}

// CloseWrite closes the writing side of the connection: the element reads io.EOF. After a
// failover, the program can write again.
func (s *Stream) CloseWrite() error {
	c := s.current()
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	err := half.CloseWrite()
	if err == nil {
		s.mu.Lock()
		s.half = c == s.conn
		s.mu.Unlock()
	}
	return s.check(c, err)
}

// check looks at an error of a connection, and has the element reported if it has failed.
func (s *Stream) check(c net.Conn, err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
		if errors.Is(err, io.EOF) {
			s.shut(c)
		}
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return err
	}
	id, tell := s.elem.ID, c == s.conn && !s.failed
	if tell {
		s.failed = true
	}
	s.mu.Unlock()
	if tell {
		s.user.Failed(s.pool, id)
	}
	return fmt.Errorf("%w: element %v of pool %q: %w", ErrFailover, id, string(s.pool), err)
}

// shut notes that the element has closed the connection: Failover does not report it.
func (s *Stream) shut(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == s.conn {
		s.failed = true
	}
}

// Close closes the connection, and ends a Failover that is under way.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	s.end()
	s.release()
	if s.gone {
		return nil
	}
	return s.conn.Close()
}

// LocalAddr returns the local address of the present connection.
func (s *Stream) LocalAddr() net.Addr { return s.current().LocalAddr() }

// RemoteAddr returns the address of the element.
func (s *Stream) RemoteAddr() net.Addr { return s.current().RemoteAddr() }

// SetDeadline sets both deadlines. They hold after a failover as well.
func (s *Stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline sets the time at which Read ends with [os.ErrDeadlineExceeded].
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy = t
	if s.gone {
		return nil
	}
	return s.conn.SetReadDeadline(t)
}

// SetWriteDeadline sets the time at which Write ends with [os.ErrDeadlineExceeded].
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy = t
	if s.gone {
		return nil
	}
	return s.conn.SetWriteDeadline(t)
}
