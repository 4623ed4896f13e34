package sctptest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// KeepLog keeps the lines that are logged from now on.
func KeepLog(c *sctp.Counters) (lines func() string) {
	var mu sync.Mutex
	var b strings.Builder
	c.Logf = func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&b, format+"\n", args...)
	}
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

// CheckQueued compares the bytes in all queues with 0 or more.
func CheckQueued(t *testing.T, c *sctp.Counters, empty bool) {
	t.Helper()
	if n := c.Queued.Load(); (n == 0) != empty || n < 0 {
		t.Errorf("Got %d bytes queued, want none: %v", n, empty)
	}
}

// Data is a DATA chunk.
func Data(tsn uint32, stream, ssn uint16, flags byte, user []byte) wire.Chunk {
	b := binary.BigEndian.AppendUint32(nil, tsn)
	b = binary.BigEndian.AppendUint16(b, stream)
	b = binary.BigEndian.AppendUint16(b, ssn)
	b = binary.BigEndian.AppendUint32(b, 11)
	return wire.Chunk{Type: wire.ChunkData, Flags: flags, Body: append(b, user...)}
}
