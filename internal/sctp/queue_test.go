package sctp

import (
	"encoding/binary"
	"runtime"
	"testing"
	"time"
)

// TestUDPStalled has a peer that answers heartbeats and acknowledges no data.
func TestUDPStalled(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration
		ends  bool
	}{{"limited", time.Minute, true}, {"unlimited", 0, false}} {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, Limits{Stalled: tt.limit}, func(t *testing.T, _ *wire, y *site, p *rawPeer) {
				p.connect()
				a := y.next(Up).Assoc
				begin := time.Now()
				if err := y.Send(a, Message{Data: []byte("x")}); err != nil {
					t.Fatal(err)
				}
				aborted := time.Duration(0)
				for time.Since(begin) < 3*time.Minute && aborted == 0 {
					switch _, c := p.recv(); c.typ {
					case chunkHeartbeat:
						p.send(chunk{typ: chunkHeartbeatAck, body: c.body})
					case chunkAbort:
						aborted = time.Since(begin)
					}
				}
				if ends := aborted != 0; ends != tt.ends {
					t.Fatalf("Got an end after %v, want one: %v", aborted, tt.ends)
				}
				if tt.ends {
					if aborted < time.Minute || aborted > 75*time.Second {
						t.Errorf("Got the end after %v, want it after a minute", aborted)
					}
					y.next(SendFailed)
					y.down(Lost)
				}
				y.mux().n.checkQueued(t, tt.ends)
			})
		})
	}
}

// checkQueued compares the bytes in all queues with 0 or more.
func (c *counters) checkQueued(t *testing.T, empty bool) {
	t.Helper()
	if n := c.queued.Load(); (n == 0) != empty || n < 0 {
		t.Errorf("Got %d bytes queued, want none: %v", n, empty)
	}
}

// TestSendQueueTotal fills the queues of several peers: when they are full
// together, each still has its share.
func TestSendQueueTotal(t *testing.T) {
	var n counters
	lim := Limits{SendQueueTotal: 100 * (1000 + messageCost), SendQueueBytes: 80_000}.withDefaults()
	queue := func() *sendQueue { return &sendQueue{total: &n.queued} }
	fill := func(q *sendQueue, size int) (taken int) {
		for q.push(Message{Data: make([]byte, size)}, lim) {
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
	if got := fill(c, 1000); got != queueShare/1000*1000 {
		t.Errorf("Third peer: got %d bytes in, want its share", got)
	}
	if got := fill(d, 60_000); got != 60_000 {
		t.Errorf("Fourth peer: got %d bytes in, want one message", got)
	}
	a.keep(0)
	b.unpush()
	if got := fill(b, 1000); got != 17_000 {
		t.Errorf("Second peer later: got %d bytes in, want what others have left", got)
	}
	for _, q := range []*sendQueue{b, c, d} {
		q.take()
	}
	n.checkQueued(t, true)
}

// TestSendQueueTotalCounts sends and has all acknowledged.
func TestSendQueueTotalCounts(t *testing.T) {
	onWire(t, Limits{}, func(t *testing.T, w *wire, x, y *site) {
		a := x.Connect(to(addrY))
		x.next(Up)
		y.next(Up)
		for range 100 {
			if err := x.Send(a, Message{Data: make([]byte, 1000)}); err != nil {
				t.Fatal(err)
			}
		}
		x.mux().n.checkQueued(t, false)
		for range 100 {
			y.next(Received)
		}
		time.Sleep(time.Minute)
		x.mux().n.checkQueued(t, true)
	})
}

// TestTCPTakesMemoryLate has peers announce large messages that do not come.
func TestTCPTakesMemoryLate(t *testing.T) {
	const n, most = 50, 20 << 10
	_, x, addr := tcpSite(t, Limits{})
	conns := make([]interface{ Close() error }, 0, n)
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	for range n {
		c := dialTCP(t, addr)
		conns = append(conns, c)
		_, _ = c.Write([]byte{5, 0, 0, 4, 1, 0, 0xff, 0xf0, 1, 2, 3})
		x.next(Up)
		x.next(Received)
	}
	if got := (heap() - before) / n; got > most {
		t.Errorf("Got %d bytes for a message that has not come, want at most %d", got, most)
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// TestTCPLargeMessages: they arrive as they were, in whatever pieces.
func TestTCPLargeMessages(t *testing.T) {
	_, x, addr := tcpSite(t, Limits{})
	c := dialTCP(t, addr)
	for _, n := range []int{4, readStep - 4, readStep, readStep + 1, 2 * readStep, 3*readStep + 2, 65535} {
		b := make([]byte, padded(n))
		for i := range b[:n] {
			b[i] = byte(i * 7)
		}
		binary.BigEndian.PutUint16(b[2:], uint16(n))
		for i := 0; i < len(b); i += 1001 {
			if _, err := c.Write(b[i:min(len(b), i+1001)]); err != nil {
				t.Fatal(err)
			}
		}
		if n == 4 {
			x.next(Up)
		}
		if got := x.next(Received).Message.Data; string(got) != string(b[:n]) {
			t.Errorf("Got a message of %d bytes that is not the one of %d bytes that was sent", len(got), n)
		}
	}
	_ = c.Close()
	x.Shutdown(x.next(PeerDone).Assoc)
	if ev := x.next(Down); ev.Reason != PeerShutdown || ev.Err != nil {
		t.Errorf("Got %v, want PeerShutdown", ev)
	}
}
