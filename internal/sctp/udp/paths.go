package udp

import (
	"bytes"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

const (
	// maxWays bounds the addresses of a peer that are used.
	maxWays = 8
	// wayDoubt is how long nothing must have come by a way, or have been
	// acknowledged, for what is sent again to go by another one. It is less
	// than the least time until that (RTO.Min of RFC 9260, Section 16).
	wayDoubt = 500 * time.Millisecond
	// waySettle is how long a way that is doubted has to answer before the
	// other one takes its place.
	waySettle = time.Second
	// verifyMax is how rarely an address that has not answered is asked.
	verifyMax = 30 * time.Second
)

// way is how one of a peer's addresses is reached. pion knows nothing of it:
// pionConn sends what pion sends again by another way where a path is dead
// (RFC 9260, Section 6.4.1).
//
// The first failure changes only where packets go (assoc.out), and asks all
// ways by a HEARTBEAT. If the primary way answers, packets go there again: a
// packet was lost, and no more. If it does not, the other one becomes the
// primary way. Data go only to addresses that have acknowledged a HEARTBEAT
// (Section 5.4).
type way struct {
	index byte
	nonce uint64 // of HEARTBEATs, known only to those that receive them
	path  atomic.Pointer[path]
	heard atomic.Int64 // stamp: when a packet last came from there
	acked atomic.Int64 // stamp: when a HEARTBEAT was last acknowledged; 0 is never
	since atomic.Int64 // stamp: when packets began to go there
	// refused says that the peer's machine has said that nobody listens there.
	refused atomic.Bool
}

func (w *way) usable() bool { return w.acked.Load() != 0 && !w.refused.Load() }

// makeWays finds the ways to the peer. The first is the one by which the
// handshake came. a.mu is held.
func (a *assoc) makeWays(first path, now time.Time) {
	w := &way{nonce: newNonce()}
	w.path.Store(&first)
	w.acked.Store(a.m.clock.stamp(now))
	w.heard.Store(a.m.clock.stamp(now))
	a.ways, a.primary = []*way{w}, w
	for _, ip := range a.peer.Addrs {
		if ip == first.to.Addr() || len(a.ways) == maxWays {
			continue
		}
		if p, ok := a.ep.pathTo(ip, first.to.Port()); ok {
			w := &way{index: byte(len(a.ways)), nonce: newNonce()}
			w.path.Store(&p)
			a.ways = append(a.ways, w)
		}
	}
	a.verifyAt, a.verifyWait = now, rtoInitial
	a.out.Store(w)
}

func newNonce() uint64 { return uint64(random32())<<32 | uint64(random32()) }

// wayOf gives the way to where a packet came from; nil if there is none.
func (a *assoc) wayOf(in arrival) *way {
	for _, w := range a.ways {
		if w.path.Load().to.Addr() == in.from.Addr() {
			return w
		}
	}
	return nil
}

// outPath is where packets go. It may be called without a.mu.
func (a *assoc) outPath() *path {
	if w := a.out.Load(); w != nil {
		return w.path.Load()
	}
	return a.path.Load()
}

// failover gives the way to go on by after another has failed, the one that has
// last shown that it works. pion's goroutines call it with locks of pion's
// held, so it takes none.
func (a *assoc) failover(from *way) *way {
	var best *way
	for _, w := range a.ways {
		if w != from && w.usable() && (best == nil || w.acked.Load() > best.acked.Load()) {
			best = w
		}
	}
	if best == nil {
		return from
	}
	a.goBy(from, best)
	return a.out.Load()
}

// goBy lets packets go by another way, and has run ask all ways.
func (a *assoc) goBy(from, to *way) {
	to.since.Store(a.m.clock.stampNow())
	if a.out.CompareAndSwap(from, to) {
		a.doubted.Store(true)
		a.poke()
	}
}

// heartbeat asks whether a way works. An address that has not answered yet may be
// anybody's, who must not get more of this than of what is out of the blue. a.mu
// is held.
func (a *assoc) heartbeat(w *way) {
	p := w.path.Load()
	if !w.usable() && !a.m.blue.allow(p.to.Addr(), a.m.clock.now()) {
		return
	}
	a.transmit(p, a.peerTag.Load(), wire.Chunk{Type: wire.ChunkHeartbeat, Body: a.heartbeatInfo(w)})
}

// heartbeatInfo can be acknowledged only by a peer that has received it there.
func (a *assoc) heartbeatInfo(w *way) []byte {
	info := binary.BigEndian.AppendUint64([]byte{w.index, 0, 0, 0}, w.nonce)
	return wire.AppendTLV(nil, 1, info)
}

// onHeartbeatAck takes in that a way works. a.mu is held.
func (a *assoc) onHeartbeatAck(in arrival, body []byte) {
	w := a.wayOf(in)
	if w == nil || !bytes.Equal(body, a.heartbeatInfo(w)) {
		return
	}
	before, confirmed := w.acked.Swap(a.m.clock.stampNow()), w.refused.Swap(false)
	if before == 0 || confirmed {
		a.reindex()
	}
	if before == 0 {
		a.readdressed = true
		a.poke()
	}
	out := a.out.Load()
	switch {
	case w == a.primary && w != out:
		// The one packet was lost, or the network is back in time.
		a.out.Store(w)
		a.doubtAt = time.Time{}
	case w != out && (out.refused.Load() || out != a.primary && out.acked.Load() < out.since.Load()):
		// The way that is taken does not work either, as it seems.
		a.goBy(out, w)
	}
}

// onWay takes in that a packet has come by a way: its UDP port may have changed
// (RFC 6951, Section 5.4), and a peer that sends data or acknowledgements by
// another one than ours, which is silent, is followed. a.mu is held.
func (a *assoc) onWay(in arrival, carries bool, now time.Time) {
	w := a.wayOf(in)
	if w == nil {
		return
	}
	w.heard.Store(a.m.clock.stamp(now))
	if in.from != w.path.Load().to {
		w.path.Store(&path{in.sock, in.to, in.from})
		if w == a.primary {
			a.setPath(*w.path.Load())
		} else {
			a.reindex()
		}
		a.learn()
	}
	out := a.out.Load()
	silent := now.Sub(a.m.clock.at(max(out.heard.Load(), out.since.Load())))
	if w != out && w.usable() && silent >= wayDoubt && (carries || a.misses > 0) {
		a.goBy(out, w)
	}
}

// superviseWays does what is due for the ways, and says when it wants to be
// called next. a.mu is held.
func (a *assoc) superviseWays(now time.Time) (next time.Time) {
	if len(a.ways) < 2 {
		return time.Time{}
	}
	if a.doubted.Swap(false) {
		a.doubtAt = now
		for _, w := range a.ways {
			if w.usable() {
				a.reroute(w)
				a.heartbeat(w)
			}
		}
	}
	if out := a.out.Load(); out != a.primary && !now.Before(a.doubtAt.Add(waySettle)) {
		a.settle(out)
	}
	if !now.Before(a.verifyAt) {
		a.verify(now)
	}
	if a.out.Load() != a.primary {
		return earlier(a.verifyAt, a.doubtAt.Add(waySettle))
	}
	return a.verifyAt
}

// settle makes a way the primary one. a.mu is held.
func (a *assoc) settle(w *way) {
	a.primary = w
	a.setPath(*w.path.Load())
	a.learn()
	a.readdressed = true
	a.poke()
}

// verify asks the addresses that have not shown yet that they are the peer's,
// ever more rarely.
func (a *assoc) verify(now time.Time) {
	for _, w := range a.ways {
		if !w.usable() {
			a.reroute(w)
			a.heartbeat(w)
		}
	}
	a.verifyAt = now.Add(a.verifyWait)
	a.verifyWait = min(2*a.verifyWait, verifyMax)
}

// reroute looks by which of our addresses a way goes now.
func (a *assoc) reroute(w *way) {
	old := w.path.Load()
	if p, ok := a.ep.pathTo(old.to.Addr(), old.to.Port()); ok && w != a.primary && p != *old {
		w.path.Store(&p)
	}
}

// refusedAt takes in that nobody listens at an address. The association ends
// when there is no other address left to ask. a.mu is held.
func (a *assoc) refusedAt(u *unreachableError) {
	left := false
	for _, w := range a.ways {
		if w.path.Load().to == u.to {
			w.refused.Store(true)
		}
		left = left || !w.refused.Load()
	}
	if !left {
		a.end(a.lostReason(), u)
		return
	}
	if out := a.out.Load(); out.refused.Load() {
		a.failover(out)
	}
	a.verifyAt, a.verifyWait = a.m.clock.now(), rtoInitial
	a.poke()
}

// earlier gives the first of two times that are set.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
