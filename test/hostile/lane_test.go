package hostile

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// lane is a plain SCTP association as a stream of bytes. What is written at once is one
// message. Package tls can run on it, and then the attacker holds what is below TLS.
type lane struct {
	ep   sctp.Endpoint
	id   sctp.AssocID
	ppid uint32
	pad  bool // the peer's messages are padded as over TCP
	// tap sees each message that is sent or received, and may change it.
	tap func(out bool, b []byte) []byte

	mu   sync.Mutex
	in   []byte
	end  error
	more chan struct{}
}

// carrier are the transports of an attacker, without TLS.
func carrier(t *testing.T) *stack.Stack {
	t.Helper()
	s, err := stack.New(stack.Config{Only: sctp.UDP})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// lanes counts the lanes. Each has an SCTP port of its own: the server calls elements that have
// gone, and would find another lane.
var lanes atomic.Uint32

// openLane makes an association over SCTP in UDP.
func openLane(t *testing.T, via *stack.Stack, to netip.AddrPort, encap uint16, ppid uint32) *lane {
	t.Helper()
	l := &lane{ppid: ppid, more: make(chan struct{}, 1), tap: func(_ bool, b []byte) []byte { return b }}
	up := make(chan struct{})
	var err error
	at := netip.AddrPortFrom(loopback, uint16(10_000+lanes.Add(1)%50_000))
	l.ep, err = via.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{at}, PPID: ppid}, func(ev sctp.Event) {
		switch ev.Type {
		case sctp.Up:
			close(up)
		case sctp.Received:
			l.came(ev.Message.Data, nil)
		case sctp.Down:
			l.came(nil, errors.Join(io.EOF, ev.Err))
		case sctp.SendFailed, sctp.PeerAddrs, sctp.Writable, sctp.PeerDone:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.ep.Close() })
	l.id = l.ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{to}, Kind: sctp.UDP, EncapPort: encap})
	select {
	case <-up:
	case <-time.After(patience):
		t.Fatal("no association within 30 s")
	}
	return l
}

// came adds what has come.
func (l *lane) came(b []byte, end error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b = l.tap(false, b); l.pad {
		b = append(b[:len(b):len(b)], make([]byte, -len(b)&3)...)
	}
	l.in = append(l.in, b...)
	if end != nil {
		l.end = end
	}
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// wire has the tap changed while nothing comes.
func (l *lane) wire(tap func(out bool, b []byte) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tap = tap
}

// patience is the longest wait for an event.
const patience = 30 * time.Second

// Read waits for at most 30 s.
func (l *lane) Read(b []byte) (int, error) {
	late := time.After(patience)
	for {
		l.mu.Lock()
		n, end := copy(b, l.in), l.end
		l.in = l.in[n:]
		l.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case end != nil:
			return 0, end
		}
		select {
		case <-l.more:
		case <-late:
			return 0, os.ErrDeadlineExceeded
		}
	}
}

// Write sends a message.
func (l *lane) Write(b []byte) (int, error) {
	l.mu.Lock()
	data := l.tap(true, append([]byte(nil), b...))
	l.mu.Unlock()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		err := l.ep.Send(l.id, sctp.Message{Data: data, PPID: l.ppid})
		if !errors.Is(err, sctp.ErrQueueFull) || time.Since(start) > patience {
			return len(b), err
		}
	}
}

// Close shuts the association down.
func (l *lane) Close() error {
	l.ep.Shutdown(l.id)
	return nil
}

// The other methods of net.Conn. Read has a deadline of its own.

func (l *lane) LocalAddr() net.Addr              { return nil }
func (l *lane) RemoteAddr() net.Addr             { return nil }
func (l *lane) SetDeadline(time.Time) error      { return nil }
func (l *lane) SetReadDeadline(time.Time) error  { return nil }
func (l *lane) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = (*lane)(nil)
