package soak

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// leanTLS is the TLS of an element that has connected to the registrar, as internal/sctp/secure
// has it: in order on stream 0, with a record in each message. Its handshake has a goroutine, and
// has c.sctp locked only to send and to receive. Then there is none: the throng's own goroutine
// decrypts what arrives.
type leanTLS struct {
	c    *leanThrong
	e    *lean
	conn *tls.Conn
	in   bytes.Buffer // records
	come sync.Cond    // in or over has changed
	up   bool         // the handshake is over
	over bool         // the association is
	part []byte       // decrypted, of a message that is not whole
}

// certificates reads the files of all elements of a trusted scope.
func (c *leanThrong) certificates(dir string) {
	c.certs = make([]tls.Certificate, len(c.elements))
	for i := range c.certs {
		f := throngFiles(dir, i)
		var err error
		c.certs[i], err = tls.LoadX509KeyPair(f.Cert, f.Key)
		c.must(err)
	}
}

// secure begins the handshake. The registrar's chain of certificates is not verified, which
// nobody sees on the wire: its signature is.
func (c *leanThrong) secure(e *lean) {
	t := &leanTLS{c: c, e: e}
	t.come.L = &c.sctp
	cert := &c.certs[e.i]
	t.conn = tls.Client(t, &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		InsecureSkipVerify:          true,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		GetClientCertificate:        func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	})
	e.tls = t
	go t.handshake()
}

func (t *leanTLS) handshake() {
	t.c.sctp.Lock()
	t.c.turns.take(&t.c.sctp, false)
	t.c.sctp.Unlock()
	err := t.conn.Handshake()
	t.c.sctp.Lock()
	defer t.c.sctp.Unlock()
	t.c.turns.give()
	t.up = true
	switch {
	case t.over: // the element has gone on
	case err != nil:
		t.c.packet(t.e, t.e.peerTag, wire.Chunk{Type: wire.ChunkAbort})
		t.c.failed(t.e, err.Error())
	default:
		t.c.register(t.e)
		t.deliver() // what has come behind the handshake
	}
	t.c.arm(t.e)
}

// end has the handshake end.
func (t *leanTLS) end() {
	t.over = true
	t.come.Broadcast()
}

// push takes what has arrived.
func (t *leanTLS) push(b []byte) {
	t.in.Write(b)
	if t.up {
		t.deliver()
	} else {
		t.come.Signal()
	}
}

// deliver decrypts what has arrived, and cuts it into messages.
func (t *leanTLS) deliver() {
	for {
		b := t.c.plain[:]
		n, err := t.conn.Read(b)
		if n == 0 {
			if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.c.must(err)
			}
			return // nothing more, or the registrar shuts down
		}
		if b = b[:n]; len(t.part) > 0 {
			b = append(t.part, b...)
		}
		for len(b) >= asap.HeaderLen && wire.Padded(asap.MessageLen(b)) <= len(b) {
			t.c.onMessage(t.e, b[:asap.MessageLen(b)])
			b = b[wire.Padded(asap.MessageLen(b)):]
		}
		t.part = bytes.Clone(b)
	}
}

// Read implements net.Conn. It waits only during the handshake.
func (t *leanTLS) Read(b []byte) (int, error) {
	if !t.up {
		t.c.sctp.Lock()
		defer t.c.sctp.Unlock()
	}
	for t.in.Len() == 0 {
		switch {
		case t.over:
			return 0, io.EOF
		case t.up:
			return 0, os.ErrDeadlineExceeded // which package tls takes for temporary
		}
		t.c.turns.give()
		for t.in.Len() == 0 && !t.over {
			t.come.Wait()
		}
		t.c.turns.take(&t.c.sctp, true)
	}
	return t.in.Read(b)
}

// Write implements net.Conn.
func (t *leanTLS) Write(b []byte) (int, error) {
	if !t.up {
		t.c.sctp.Lock()
		defer t.c.sctp.Unlock()
	}
	if t.over {
		return 0, io.EOF
	}
	const head = 5
	for rest := b; len(rest) > 0; {
		n := min(head+int(binary.BigEndian.Uint16(rest[3:])), len(rest))
		t.c.send(t.e, rest[:n], 0)
		rest = rest[n:]
	}
	t.c.flush(t.e)
	t.c.arm(t.e)
	return len(b), nil
}

// Close implements net.Conn, as do the other methods, which have no use here.
func (t *leanTLS) Close() error { return nil }

func (t *leanTLS) LocalAddr() net.Addr              { return nil }
func (t *leanTLS) RemoteAddr() net.Addr             { return nil }
func (t *leanTLS) SetDeadline(time.Time) error      { return nil }
func (t *leanTLS) SetReadDeadline(time.Time) error  { return nil }
func (t *leanTLS) SetWriteDeadline(time.Time) error { return nil }

// leanTurns limits how many handshakes compute at a time. Those that the registrar has answered go
// first: an element on a machine of its own would answer at once. The lock is held.
type leanTurns struct {
	free         int
	begun, fresh []chan struct{} // that wait
}

func (t *leanTurns) take(lock sync.Locker, begun bool) {
	if t.free > 0 {
		t.free--
		return
	}
	turn := make(chan struct{})
	if begun {
		t.begun = append(t.begun, turn)
	} else {
		t.fresh = append(t.fresh, turn)
	}
	lock.Unlock()
	<-turn
	lock.Lock()
}

func (t *leanTurns) give() {
	for _, queue := range []*[]chan struct{}{&t.begun, &t.fresh} {
		if len(*queue) > 0 {
			close((*queue)[0])
			*queue = (*queue)[1:]
			return
		}
	}
	t.free++
}
