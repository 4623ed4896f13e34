package pu

import (
	"context"
	"net"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/internal/session/msgconn"
)

// Conn returns a stream of bytes to the element that serves, for code that takes a
// [net.Conn]. Write sends messages of at most 16 KiB with SessionConfig.PPID. Read gives the
// bytes of the element's messages; where one ends does not count. Close closes the session.
// Do not use Send and Receive at the same time.
//
// When the element fails, Read and Write return an error that is [ErrFailover]. A stream
// cannot go on by itself, because nobody knows which of its bytes the element has processed.
// The session does go on, and the next element gets the cookie: call Conn again, and begin
// where both sides know what was done. The bytes that the failed element has sent are
// dropped. SessionConfig.Unacked should be Drop, so that the next element gets no message
// before the first Write. With Resend and Ask, Write waits when MaxUnacked bytes are not
// acknowledged, as Send does. SessionConfig.AnswerTimeout goes by any message, as with Drop.
//
// If the session ends, Read and Write return its error.
func (s *Session) Conn() net.Conn { return msgconn.New(&elementConn{s: s}) }

// elementConn is a session as long as one element serves it: the one that serves at the
// first use. The session's mutex guards it.
type elementConn struct {
	s   *Session
	ref session.Ref // of the association; 0 before the first use
}

// check says whether the element serves. The error is ErrFailover if another one does, and
// session.ErrWait if none has served yet. It is nil if c is nil, and if the session has
// ended.
func (c *elementConn) check(now time.Time) error {
	if c == nil || c.s.err != nil {
		return nil
	}
	serving := c.s.core.Serving()
	switch {
	case c.ref == 0 && serving == 0:
		return session.ErrWait
	case c.ref == 0:
		c.ref = serving
		c.s.core.Stream()
		c.s.core.Skip(now)
		c.s.settle(now)
	case c.ref != serving:
		return ErrFailover
	}
	return nil
}

func (c *elementConn) Send(ctx context.Context, data []byte) error {
	return c.s.send(ctx, Message{Data: data, PPID: c.s.ppid}, c)
}

func (c *elementConn) Receive(ctx context.Context) ([]byte, error) {
	m, err := c.s.receive(ctx, c)
	return m.Data, err
}

func (c *elementConn) Close() error { return c.s.Close() }

func (c *elementConn) LocalAddr() net.Addr {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.assoc == nil {
		return msgconn.Addr(nil)
	}
	return msgconn.Addr(c.s.assoc.LocalAddrs())
}

func (c *elementConn) RemoteAddr() net.Addr {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.assoc == nil {
		return msgconn.Addr(nil)
	}
	return msgconn.Addr(c.s.assoc.Peer())
}
