package secure

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Handshake puts TLS on a connection of TCP, whose deadline must be set. host is that of the peer
// (sctp.HostOf) if the peer is the client, else it is not valid. end is called when the session is to
// be ended in good order, and why. If Handshake fails, the peer may be waiting for the alert that
// says why.
func (w *Watch) Handshake(c net.Conn, host netip.Addr, end func(error)) (*Session, error) {
	looks := w.looked()
	var v verdict
	cfg, err := w.cfg.prepare(host, &v)
	if err != nil {
		return nil, err
	}
	first := &firstLook{Conn: c}
	conn := tls.Client(first, cfg)
	if host.IsValid() {
		conn = tls.Server(first, cfg)
	}
	err = conn.Handshake()
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("TLS handshake: %w", sctp.ErrTimeout)
	case first.taken == 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)):
		return nil, ErrUnanswered
	default:
		return nil, w.cfg.refusal(ownOf(cfg), host, first.last.explain(err, &v))
	}
	first.done = true
	s := w.session(conn, cfg, host, &v, end)
	forget(cfg)
	if err := w.add(s, looks); err != nil {
		return nil, err
	}
	return s, nil
}

// firstLook looks at the first byte of a connection, and counts what is read during the
// handshake.
type firstLook struct {
	net.Conn
	taken int
	last  lastBytes
	done  bool
}

func (f *firstLook) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	switch {
	case f.done || n == 0:
	case f.taken == 0 && b[0] != recordHandshake && b[0] != recordAlert:
		return 0, ErrPlainPeer
	case f.taken > maxHandshake:
		return 0, errLongHandshake
	default:
		f.taken += n
		f.last.add(b[:n])
	}
	return n, err
}

// Conn is the connection of a session over TCP. Errors of TLS are sctp.ErrUntrusted.
type Conn struct {
	*tls.Conn
	s              *Session
	sent, received atomic.Uint64 // records
}

// Conn returns the connection of a session over TCP.
func (s *Session) Conn() *Conn { return &Conn{Conn: s.conn, s: s} }

// Read implements net.Conn.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && c.s.ours {
		c.wear(&c.received, 1)
	}
	var errno syscall.Errno
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, net.ErrClosed), errors.As(err, &errno):
		return n, err
	}
	return n, c.s.cfg.refusal(c.s.own, c.s.host, explain(err, nil))
}

// Write implements net.Conn.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wear(&c.sent, uint64(len(b)/maxContent+1))
	return n, err
}

// wear counts records, and ends the association when it needs new keys.
func (c *Conn) wear(count *atomic.Uint64, more uint64) {
	if now := count.Add(more); now >= c.s.records && now-more < c.s.records {
		c.s.end(sctp.ErrRenew)
	}
}

// Reason is how an association ends because of an sctp.ErrUntrusted.
func Reason(err error) sctp.Reason {
	if errors.Is(err, errAlerted) {
		return sctp.PeerAbort
	}
	return sctp.Overrun
}
