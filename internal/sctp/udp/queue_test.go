package udp

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// TestUDPStalled has a peer that answers heartbeats and acknowledges no data.
func TestUDPStalled(t *testing.T) {
	for _, tt := range []struct {
		name  string
		limit time.Duration
		ends  bool
	}{{"limited", time.Minute, true}, {"unlimited", 0, false}} {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, sctp.Limits{Stalled: tt.limit}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) {
				p.connect()
				a := y.Next(sctp.Up).Assoc
				begin := time.Now()
				if err := y.Send(a, sctp.Message{Data: []byte("x")}); err != nil {
					t.Fatal(err)
				}
				aborted := time.Duration(0)
				for time.Since(begin) < 3*time.Minute && aborted == 0 {
					switch _, c := p.recv(); c.Type {
					case wire.ChunkHeartbeat:
						p.send(wire.Chunk{Type: wire.ChunkHeartbeatAck, Body: c.Body})
					case wire.ChunkAbort:
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
					y.Next(sctp.SendFailed)
					y.Down(sctp.Lost)
				}
				sctptest.CheckQueued(t, &muxOf(y).n, tt.ends)
			})
		})
	}
}

// TestSendQueueTotalCounts sends and has all acknowledged.
func TestSendQueueTotalCounts(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		a := x.Connect(to(addrY))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		for range 100 {
			if err := x.Send(a, sctp.Message{Data: make([]byte, 1000)}); err != nil {
				t.Fatal(err)
			}
		}
		sctptest.CheckQueued(t, &muxOf(x).n, false)
		if !x.Behind(a) {
			t.Error("Got no queue behind which a message waits, want one of 100,000 bytes")
		}
		for range 100 {
			y.Next(sctp.Received)
		}
		time.Sleep(time.Minute)
		if x.Behind(a) {
			t.Error("Got a queue behind which a message waits, want none")
		}
		sctptest.CheckQueued(t, &muxOf(x).n, true)
	})
}

// TestUDPCutLogged has a peer break the protocol, and another take nothing.
func TestUDPCutLogged(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		do         func(y *sctptest.Site, a sctp.AssocID, p *rawPeer)
	}{
		{"violation", "SACK of a wrong length", func(_ *sctptest.Site, _ sctp.AssocID, p *rawPeer) {
			p.send(wire.Chunk{Type: wire.ChunkSack, Body: make([]byte, 5)})
		}},
		{"stalled", sctp.ErrStalled.Error(), func(y *sctptest.Site, a sctp.AssocID, p *rawPeer) {
			_ = y.Send(a, sctp.Message{Data: []byte("x")})
			for _, c := p.recv(); c.Type != wire.ChunkAbort; _, c = p.recv() {
				if c.Type == wire.ChunkHeartbeat {
					p.send(wire.Chunk{Type: wire.ChunkHeartbeatAck, Body: c.Body})
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, sctp.Limits{Stalled: time.Minute}, func(t *testing.T, _ *ether, y *sctptest.Site, p *rawPeer) {
				lines := sctptest.KeepLog(&muxOf(y).n)
				p.connect()
				tt.do(y, y.Next(sctp.Up).Assoc, p)
				for ev := range y.Events {
					if ev.Type == sctp.Down {
						break
					}
				}
				if got, want := lines(), "sctp: aborted the association (udp) with 10.0.0.3:7777: "+tt.want+"\n"; got != want {
					t.Errorf("Got %q, want %q", got, want)
				}
				if n := muxOf(y).n.Overruns.Load(); n != 1 {
					t.Errorf("Got %d cuts counted, want 1", n)
				}
			})
		})
	}
}

// TestUDPAcknowledged: what the peer acknowledges leaves the queue at once, although nothing else
// comes from the peer and nobody asks for the queue.
func TestUDPAcknowledged(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, _ *ether, x, y *sctptest.Site) {
		a := x.Connect(to(addrY))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		if err := x.Send(a, sctp.Message{Data: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
		y.Next(sctp.Received)
		time.Sleep(100 * time.Millisecond)
		if n := muxOf(x).n.Queued.Load(); n != 0 {
			t.Errorf("%d bytes are queued after the acknowledgement, want none", n)
		}
	})
}
