package udp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

const (
	// maxWays is how many addresses of a peer are used.
	maxWays = 8
	// wayDoubt is how long nothing must have been received or acknowledged over a
	// way before retransmissions use another one. It is less than RTO.Min
	// (RFC 9260, Section 16), so that the first retransmission does.
	wayDoubt = 500 * time.Millisecond
	// waySettle is how long the primary way has to answer a HEARTBEAT before the
	// way that is used instead becomes the primary one.
	waySettle = time.Second
	// verifyMax is the longest interval of HEARTBEATs to an address that has not
	// answered.
	verifyMax = 30 * time.Second
)

// way is one of the paths of RFC 9260: one of the peer's addresses and how packets get
// there. pion has only one path: pionConn sends pion's retransmissions over another way
// if the one in use fails (Section 6.4.1).
//
// The first failure changes only where packets are sent (assoc.out), and sends a
// HEARTBEAT over every way. If the primary way answers, only a packet was lost, and
// packets are sent there again. If it does not, the other way becomes the primary one.
// Data are sent only to addresses that have acknowledged a HEARTBEAT (Section 5.4).
type way struct {
	index byte
	nonce uint64 // of HEARTBEATs; only a host that receives them knows it
	path  atomic.Pointer[path]
	heard atomic.Int64 // stamp: when a packet was last received from there
	acked atomic.Int64 // stamp: when a HEARTBEAT was last acknowledged; 0 is never
	since atomic.Int64 // stamp: when it was last chosen for sending
	// refused says that the machine there has reported that nobody listens.
	refused atomic.Bool
}

func (w *way) usable() bool { return w.acked.Load() != 0 && !w.refused.Load() }

// makeWays makes the ways to the peer. The first is that of the handshake. a.mu is held.
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

// wayOf returns the way to the address that a packet came from; nil if there is none.
func (a *assoc) wayOf(in arrival) *way {
	for _, w := range a.ways {
		if w.path.Load().to.Addr() == in.from.Addr() {
			return w
		}
	}
	return nil
}

// outPath returns where packets are sent. It may be called without a.mu.
func (a *assoc) outPath() *path {
	if w := a.out.Load(); w != nil {
		return w.path.Load()
	}
	return a.path.Load()
}

// failover returns the way to use after another has failed: the one that has last
// acknowledged a HEARTBEAT. pion's goroutines call it with locks of pion held, so it
// must not lock anything.
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

// goBy sends packets over another way from now on, and has run send HEARTBEATs over all.
func (a *assoc) goBy(from, to *way) {
	to.since.Store(a.m.clock.stampNow())
	if a.out.CompareAndSwap(from, to) {
		a.doubted.Store(true)
		a.poke()
	}
}

// heartbeat sends a HEARTBEAT over a way. An address that has not answered yet may be
// that of another host, so that HEARTBEATs to it are limited like other unrequested
// packets. a.mu is held.
func (a *assoc) heartbeat(w *way) {
	p := w.path.Load()
	if !w.usable() && !a.m.ootb.allow(p.to.Addr(), a.m.clock.now()) {
		return
	}
	a.transmit(p, a.peerTag.Load(), wire.Chunk{Type: wire.ChunkHeartbeat, Body: a.heartbeatInfo(w)})
}

// Heartbeat implements sctp.Association. It does not count as a miss if it is not answered.
func (a *assoc) Heartbeat() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == stateEstablished {
		a.heartbeat(a.out.Load())
	}
}

// heartbeatInfo returns a Heartbeat Info that only a receiver at the address knows.
func (a *assoc) heartbeatInfo(w *way) []byte {
	info := binary.BigEndian.AppendUint64([]byte{w.index, 0, 0, 0}, w.nonce)
	return wire.AppendTLV(nil, 1, info)
}

// onHeartbeatAck handles a HEARTBEAT ACK: the way works. a.mu is held.
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
		a.learn(w)
		a.readdressed = true
		a.poke()
	}
	out := a.out.Load()
	switch {
	case w == a.primary && w != out:
		// Only a packet was lost, or the network is back in time.
		a.out.Store(w)
		a.doubtAt = time.Time{}
	case w != out && (out.refused.Load() || out != a.primary && out.acked.Load() < out.since.Load()):
		// The way in use seems not to work either.
		a.goBy(out, w)
	}
}

// learn remembers the UDP port of one of the peer's addresses for later connections, if the
// address is confirmed: a peer can list the address of another host, and send packets in its
// name. a.mu is held.
func (a *assoc) learn(w *way) {
	if to := w.path.Load().to; w.acked.Load() != 0 {
		a.m.encap.Learn(netip.AddrPortFrom(to.Addr(), a.peerPort), to.Port())
	}
}

// onWay notes that a packet has arrived over a way. The peer's UDP port may have changed
// (RFC 6951, Section 5.4). If the way in use is silent and the peer sends data or
// acknowledgements over another one, that one is used. a.mu is held.
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
		a.learn(w)
	}
	out := a.out.Load()
	silent := now.Sub(a.m.clock.at(max(out.heard.Load(), out.since.Load())))
	if w != out && w.usable() && silent >= wayDoubt && (carries || a.misses > 0) {
		a.goBy(out, w)
	}
}

// superviseWays does what is due for the ways and returns when something is due next;
// zero is never. a.mu is held.
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
	a.readdressed = true
	a.poke()
}

// verify sends HEARTBEATs to addresses that have not answered yet, at growing intervals.
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

// reroute looks up again which local address a way starts from.
func (a *assoc) reroute(w *way) {
	old := w.path.Load()
	if p, ok := a.ep.pathTo(old.to.Addr(), old.to.Port()); ok && w != a.primary && p != *old {
		w.path.Store(&p)
	}
}

// refusedAt handles the report that nobody listens at an address. The association ends if
// that is the case at all addresses. Its error then names the primary one: the user may not
// know the others, which the peer lists. a.mu is held.
func (a *assoc) refusedAt(u *unreachableError) {
	for _, w := range a.ways {
		if w.path.Load().to == u.to {
			w.refused.Store(true)
		}
	}
	primary := a.primary.path.Load().to
	if u.to == primary {
		a.refusal = u
	}
	if a.refusal != nil && a.refusal.to == primary {
		u = a.refusal
	}
	a.withoutRefused(u)
}

// withoutRefused goes on over ways that are not refused, or ends the association if there
// are none. a.mu is held.
func (a *assoc) withoutRefused(why error) {
	if !slices.ContainsFunc(a.ways, func(w *way) bool { return !w.refused.Load() }) {
		a.end(a.lostReason(), why)
		return
	}
	if out := a.out.Load(); out.refused.Load() {
		a.failover(out)
	}
	a.verifyAt, a.verifyWait = a.m.clock.now(), rtoInitial
	a.poke()
}

// earlier returns the earlier of two times; a zero time does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
