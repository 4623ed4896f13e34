package secure

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// The heads of TLS records and of the handshake messages in them (RFC 8446, Sections 4 and
// 5.1).
const (
	recordHeader    = 5
	recordAlert     = 0x15
	recordHandshake = 0x16
	clientHello     = 1
	// randomAt is where the random of a ClientHello is in its record: behind the heads of
	// the record and the message, and a version.
	randomAt, randomLen = recordHeader + 4 + 2, 32
)

const (
	// maxContent is the most that a record has inside (RFC 8446, Section 5.1).
	maxContent = 16 << 10
	// maxHandshake is how many bytes a peer may send for a handshake: chains of
	// certificates have a few kilobytes.
	maxHandshake = 64 << 10
	// maxEarly is how much may wait behind a handshake before the transport is paused.
	maxEarly = 32 << 10
	// maxBacklog is what may be encrypted and have no room in the transport: a message and
	// the answers to key updates.
	maxBacklog = 256 << 10
)

var (
	errLongHandshake = untrusted("peer sends more than %d bytes in the TLS handshake", maxHandshake)
	errReflected     = untrusted("peer sends our own ClientHello back")
	errBacklog       = untrusted("peer asks for more key updates than it takes")
	// errServe: both sides have begun as client, and this one is to be the server.
	errServe = errors.New("both sides are TLS client")
)

// wire is the net.Conn below the TLS of one association. Its Write sends a message for each
// record. Its Read waits during the handshake. Later it does not wait, and reports a time-out
// if nothing is there: package tls takes that for temporary, so that its Read can be called
// again.
type wire struct {
	send func(record []byte) error
	// turns: a handshake that waits for its peer gives its turn back.
	turns *turns
	// made is when the wire was made. since is how long after that the handshake began to wait
	// for its peer, in nanoseconds, 0 if it does not, and spent how long it has waited before.
	made         time.Time
	since, spent atomic.Int64

	mu     sync.Mutex
	come   sync.Cond // in or end has changed
	in     [][]byte  // not yet read
	size   int       // of in
	end    error     // what Read returns behind in
	over   bool      // Read has returned it
	polled bool      // the handshake is over
	taken  int       // bytes read in the handshake
	last   lastBytes // of them
	judged bool      // the peer's first bytes have been looked at
	client bool
	random []byte // of the own ClientHello

	backlog     [][]byte // encrypted, and refused by the transport
	backlogSize int
	maxBacklog  int
	full        bool   // a record was lost, because the backlog had no room
	records     uint64 // written
}

func newWire(client bool, turns *turns, send func([]byte) error) *wire {
	w := &wire{made: time.Now(), client: client, turns: turns, send: send, maxBacklog: maxBacklog}
	w.come.L = &w.mu
	return w
}

// waited is how long the handshake has waited for its peer so far, 0 if it does not wait for it now.
// A peer that sends its part in many pieces gains no time.
func (w *wire) waited() time.Duration {
	// In this order: a wait that ends meanwhile must not count twice.
	spent, since := w.spent.Load(), w.since.Load()
	if since == 0 {
		return 0
	}
	return time.Since(w.made) - time.Duration(since-spent)
}

// push adds what has arrived, which the wire owns then. It returns how much waits.
func (w *wire) push(b []byte) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in = append(w.in, b)
	w.size += len(b)
	w.come.Broadcast()
	return w.size
}

// close has Read return an error behind what has arrived.
func (w *wire) close(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end == nil {
		w.end = err
	}
	w.come.Broadcast()
}

// poll ends the handshake: Read does not wait any more.
func (w *wire) poll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.polled, w.random = true, nil
}

// Read implements net.Conn.
func (w *wire) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.polled {
		if err := w.await(); err != nil {
			return 0, err
		}
	}
	switch {
	case w.size > 0:
	case w.end != nil:
		w.over = true
		return 0, w.end
	default:
		return 0, errEmpty{}
	}
	n := copy(b, w.in[0])
	w.drop(n)
	if !w.polled {
		w.taken += n
		w.last.add(b[:n])
	}
	return n, nil
}

// drop removes the first n bytes of in, which are all in its first piece. w.mu is held.
func (w *wire) drop(n int) {
	w.size -= n
	if w.in[0] = w.in[0][n:]; len(w.in[0]) > 0 {
		return
	}
	w.in[0] = nil
	if w.in = w.in[1:]; len(w.in) == 0 {
		w.in = nil
	}
}

// await waits until the handshake can go on. w.mu is held.
func (w *wire) await() error {
	if w.taken > maxHandshake {
		return errLongHandshake
	}
	for need := 1; ; {
		if w.size >= need {
			var err error
			if need, err = w.judge(); err != nil || need == 0 {
				return err
			}
		}
		if w.size >= need {
			continue
		}
		if w.end != nil {
			return w.end
		}
		w.turns.give()
		since := max(int64(time.Since(w.made)), 1)
		w.since.Store(since)
		for w.size < need && w.end == nil {
			w.come.Wait()
		}
		w.since.Store(0)
		w.spent.Add(int64(time.Since(w.made)) - since)
		w.mu.Unlock()
		w.turns.take(true)
		w.mu.Lock()
	}
}

// judge looks at the first bytes that the peer has sent. It returns how many bytes must be
// there for more, 0 if the handshake can go on. w.mu is held.
func (w *wire) judge() (need int, err error) {
	if w.judged {
		return 0, nil
	}
	b := bytes.Join(w.in, nil)
	w.in = [][]byte{b}
	switch {
	case b[0] != recordHandshake && b[0] != recordAlert:
		return 0, ErrPlainPeer
	case !w.client || b[0] == recordAlert:
		w.judged = true
		return 0, nil
	case len(b) < recordHeader+1:
		return recordHeader + 1, nil
	case b[recordHeader] != clientHello:
		w.judged = true
		return 0, nil
	case len(b) < randomAt+randomLen:
		return randomAt + randomLen, nil
	}
	// Both sides have opened the association, and are client. The one with the smaller
	// random becomes the server, and the other one ignores its ClientHello.
	switch bytes.Compare(w.random, b[randomAt:randomAt+randomLen]) {
	case 0:
		return 0, errReflected
	case -1:
		return 0, errServe
	}
	hello, _ := split(b)
	if want := recordHeader + int(binary.BigEndian.Uint16(b[3:])); len(hello) < want {
		return want, nil
	}
	w.judged = true
	w.drop(len(hello))
	return 1, nil
}

// serve changes sides: the peer's ClientHello is still there to be read.
func (w *wire) serve() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.client, w.judged = false, true
}

// Write implements net.Conn.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client && w.random == nil && !w.polled && len(b) >= randomAt+randomLen {
		w.random = bytes.Clone(b[randomAt : randomAt+randomLen])
	}
	for rest := b; len(rest) > 0; {
		var record []byte
		record, rest = split(rest)
		if err := w.put(bytes.Clone(record)); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// put sends a record behind those that had no room. w.mu is held.
func (w *wire) put(record []byte) error {
	w.records++
	if len(w.backlog) == 0 {
		err := w.send(record)
		if !w.polled && errors.Is(err, sctp.ErrNoAssoc) {
			return nil // the peer has ended it, and what it has sent before is still to be read
		}
		if !errors.Is(err, sctp.ErrQueueFull) {
			return err
		}
	}
	if w.backlogSize+len(record) > w.maxBacklog {
		w.full = true
		return errBacklog
	}
	w.backlog = append(w.backlog, record)
	w.backlogSize += len(record)
	return nil
}

// flush sends what had no room before, and reports whether all of it had.
func (w *wire) flush() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.backlog) > 0 {
		if errors.Is(w.send(w.backlog[0]), sctp.ErrQueueFull) {
			return false
		}
		w.backlogSize -= len(w.backlog[0])
		w.backlog[0] = nil
		w.backlog = w.backlog[1:]
	}
	w.backlog = nil
	return true
}

// behind reports whether records wait for room.
func (w *wire) behind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.backlog) > 0
}

// readOut reports whether the end of the transport was read, and all that had arrived before it.
func (w *wire) readOut() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// overrun reports whether a record was lost, because the backlog had no room. Package tls keeps
// such an error of an answer for the next Write, and goes on with wrong keys.
func (w *wire) overrun() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.full
}

// silent reports whether the peer has sent nothing so far.
func (w *wire) silent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.judged && w.size == 0
}

// ended reports whether this side has ended the association.
func (w *wire) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Is(w.end, errEnded)
}

// written returns the number of records so far.
func (w *wire) written() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records
}

// split returns the first record of b and the rest. What is no whole record is returned as
// it is.
func split(b []byte) (record, rest []byte) {
	if len(b) < recordHeader {
		return b, nil
	}
	n := min(recordHeader+int(binary.BigEndian.Uint16(b[3:])), len(b))
	return b[:n:n], b[n:]
}

// errEmpty: nothing has arrived. Package tls takes it for temporary.
type errEmpty struct{}

func (errEmpty) Error() string   { return "nothing has arrived" }
func (errEmpty) Timeout() bool   { return true }
func (errEmpty) Temporary() bool { return true }

var _ net.Error = errEmpty{}

// Close implements net.Conn.
func (w *wire) Close() error {
	w.close(io.ErrUnexpectedEOF)
	return nil
}

// The other methods of net.Conn have no use here. A timer ends the handshake, not a deadline.

func (w *wire) LocalAddr() net.Addr              { return nil }
func (w *wire) RemoteAddr() net.Addr             { return nil }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
