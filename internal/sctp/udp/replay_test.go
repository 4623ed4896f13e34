package udp

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// replay is an association between two sites with somebody on the path who
// keeps all packets and sends them again.
type replay struct {
	w      *ether
	x, y   *sctptest.Site
	a, b   sctp.AssocID // x's and y's
	mu     sync.Mutex
	seen   []seenPacket
	sent   map[*sctptest.Site]uint32 // messages, counted by the PPID
	harmed bool                      // packets were changed, so anything may have come of it
}

type seenPacket struct {
	b        []byte
	from, to netip.AddrPort
}

var replaySeeds = flag.Uint64("replays", 100, "how many seeds TestUDPReplay runs")

// TestUDPReplay does at random what an attacker can do with the packets of an
// association, which goes on sending. What is repeated as it was, or comes from
// elsewhere, does no harm: every message comes once and in order. What is
// changed, with a right checksum, may end it, and then nothing is left of it.
// It is no fuzz target, as the coverage is not the same from run to run.
func TestUDPReplay(t *testing.T) {
	for seed := range *replaySeeds {
		ops := 8
		if seed%2 == 0 {
			ops = 6 // nothing changed
		}
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
				rng := rand.New(rand.NewPCG(seed, 11))
				r := newReplay(w, x, y)
				for range 10 + rng.IntN(100) {
					r.do(rng.IntN(ops), byte(rng.Uint32()), byte(rng.Uint32()))
				}
				r.verify(t)
			})
		})
	}
}

// newReplay connects x to y and keeps the packets.
func newReplay(w *ether, x, y *sctptest.Site) *replay {
	r := &replay{w: w, x: x, y: y, sent: map[*sctptest.Site]uint32{}}
	w.set(func(from, to netip.AddrPort, b []byte) (time.Duration, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.seen) < 1000 {
			r.seen = append(r.seen, seenPacket{slices.Clone(b), from, to})
		}
		return time.Millisecond, w.sent < maxReplayPackets
	})
	r.a = x.Connect(to(addrY))
	x.Next(sctp.Up)
	r.b = y.Next(sctp.Up).Assoc
	return r
}

// do is one step.
func (r *replay) do(op int, which, how byte) {
	switch op {
	case 0:
		r.send(r.x, r.a, int(how)*20+4)
	case 1:
		r.send(r.y, r.b, int(how)*20+4)
	case 2:
		time.Sleep(time.Duration(how) * 20 * time.Millisecond)
	case 3, 4: // as it was
		p := r.pick(which)
		r.w.deliver(etherPacket{b: p.b, from: p.from}, p.to)
	case 5: // from somebody else
		p := r.pick(which)
		r.w.deliver(etherPacket{b: p.b, from: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 9, how}), p.from.Port())}, p.to)
	case 6, 7: // changed
		r.harmed = true
		p := r.pick(which)
		b := slices.Clone(p.b)
		b[int(how)%len(b)] ^= 1 << (which % 8)
		if op == 7 {
			b = b[:wire.CommonHeaderLen+int(how)%(len(b)-wire.CommonHeaderLen+1)]
		}
		r.w.deliver(etherPacket{b: wire.SealPacket(b), from: p.from}, p.to)
	}
	synctest.Wait()
}

// pick gives one of the packets: the handshake's or the latest.
func (r *replay) pick(which byte) seenPacket {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.seen)
	if which < 16 {
		return r.seen[int(which)%n]
	}
	return r.seen[n-1-int(which)%n]
}

func (r *replay) send(s *sctptest.Site, id sctp.AssocID, size int) {
	if s.Send(id, sctp.Message{Data: sctptest.Message(size, byte(r.sent[s])), PPID: r.sent[s] + 1}) == nil {
		r.sent[s]++
	}
}

// maxReplayPackets is more than the longest run has reason for.
const maxReplayPackets = 20000

func (r *replay) verify(t *testing.T) {
	time.Sleep(2 * time.Minute) // all that is under way has come, or is lost
	if n := r.w.packets(); n >= maxReplayPackets {
		t.Fatalf("Got %d packets of it: it does not end", n)
	}
	for _, end := range []struct {
		s    *sctptest.Site
		from *sctptest.Site
	}{{r.x, r.y}, {r.y, r.x}} {
		got, downs, ups := uint32(0), 0, 1
		for len(end.s.Events) > 0 {
			switch ev := <-end.s.Events; ev.Type {
			case sctp.Received:
				if got++; ev.Message.PPID != got && !r.harmed {
					t.Fatalf("Got message %d, want %d", ev.Message.PPID, got)
				}
			case sctp.Down:
				downs++
			case sctp.Up:
				ups++
			}
		}
		if !r.harmed && (downs > 0 || ups > 1 || got != r.sent[end.from]) {
			t.Errorf("Got %d messages of %d, %d Ups, %d Downs; want all, 1, 0", got, r.sent[end.from], ups, downs)
		}
		m := muxOf(end.s)
		m.mu.RLock()
		if left := ups - downs; len(m.tags) != left || len(m.peers) > left {
			t.Errorf("Got %d tags and %d peers in the tables after %d Ups and %d Downs", len(m.tags), len(m.peers), ups, downs)
		}
		m.mu.RUnlock()
		if n := m.n.Panics.Load(); n != 0 {
			t.Errorf("Got %d panics", n)
		}
	}
}
