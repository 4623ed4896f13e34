package sctp_test

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// TestSendQueueTotal fills the queues of several peers: when they are full
// together, each still has its share.
func TestSendQueueTotal(t *testing.T) {
	var n sctp.Counters
	lim := sctp.Limits{SendQueueTotal: 100 * (1000 + sctp.MessageCost), SendQueueBytes: 80_000}.WithDefaults()
	queue := func() *sctp.SendQueue { return &sctp.SendQueue{Total: &n.Queued} }
	fill := func(q *sctp.SendQueue, size int) (taken int) {
		for q.Push(sctp.Message{Data: make([]byte, size)}, lim) {
			taken += size
		}
		return taken
	}
	a, b, c, d := queue(), queue(), queue(), queue()
	if got := fill(a, 1000); got != 80_000 {
		t.Errorf("First peer: got %d bytes in, want its own limit", got)
	}
	if got := fill(b, 1000); got != 20_000 {
		t.Errorf("Second peer: got %d bytes in, want what is left of all", got)
	}
	if got := fill(c, 1000); got != sctp.QueueShare/1000*1000 {
		t.Errorf("Third peer: got %d bytes in, want its share", got)
	}
	if got := fill(d, 60_000); got != 60_000 {
		t.Errorf("Fourth peer: got %d bytes in, want one message", got)
	}
	a.Keep(0)
	b.Unpush()
	if got := fill(b, 1000); got != 17_000 {
		t.Errorf("Second peer later: got %d bytes in, want what others have left", got)
	}
	for _, q := range []*sctp.SendQueue{b, c, d} {
		q.Drain()
	}
	sctptest.CheckQueued(t, &n, true)
}
