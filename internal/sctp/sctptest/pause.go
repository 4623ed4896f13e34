package sctptest

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// CheckPause checks Pause, Resume and Writable. y does not read what x sends over the
// association a, which is b for y; z has the association c with y, which is d for y.
func CheckPause(t *testing.T, x, y, z *Site, a, b, c, d sctp.AssocID) {
	t.Helper()
	y.Pause(b)
	const size = 1000
	sent := fill(t, x, a, size)
	// The sender's queue and the buffers of both sides.
	if sent*size > 2<<20 {
		t.Errorf("%d bytes were taken for a peer that does not read, want at most 2 MiB", sent*size)
	}
	early := 0
	for range 100 {
		z.Say(c, "ping")
		for y.Next(sctp.Received).Assoc == b {
			early++
		}
		y.Say(d, "pong")
		z.Next(sctp.Received)
	}
	if early > 4 {
		t.Errorf("%d messages came after Pause, want at most 4", early)
	}
	y.None()
	x.None()
	y.Resume(b)
	for i := early; i < sent; i++ {
		if got := y.Next(sctp.Received).Message.Data; len(got) != size || binary.BigEndian.Uint32(got) != uint32(i) {
			t.Fatalf("Got message of %d bytes, number %x, want %d", len(got), got[:4], i)
		}
	}
	x.Next(sctp.Writable)
	x.None()

	// The end comes behind the messages, without Resume.
	y.Pause(b)
	for range 5 {
		x.Say(a, "last")
	}
	x.Shutdown(a)
	x.Down(sctp.LocalClose)
	for range 5 {
		y.Next(sctp.Received)
	}
	y.Down(sctp.PeerShutdown)

	// Abort ends a paused association.
	y.Pause(d)
	y.Abort(d)
	y.Down(sctp.LocalClose)
	z.Down(sctp.PeerAbort)
}

// fill sends numbered messages until the queue is full, and returns how many.
func fill(t *testing.T, x *Site, a sctp.AssocID, size int) (n int) {
	t.Helper()
	for {
		b := make([]byte, size)
		binary.BigEndian.PutUint32(b, uint32(n))
		err := x.Send(a, sctp.Message{Data: b, PPID: 11})
		if errors.Is(err, sctp.ErrQueueFull) && x.Full(a) {
			return n
		}
		if err != nil {
			t.Fatalf("message %d: got %v, want %v at last", n, err, sctp.ErrQueueFull)
		}
		n++
	}
}
