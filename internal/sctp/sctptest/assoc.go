package sctptest

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// assoc is one side of an association.
type assoc struct {
	id      sctp.AssocID
	ep      *endpoint
	peer    *assoc // nil while connecting
	to      sctp.Dest
	kind    sctp.Kind
	told    bool // Up has been handled
	closing bool // Shutdown was called
	ended   bool
	timer   *time.Timer    // until ConnectFailed or Lost
	held    sctp.SendQueue // not yet with the peer's endpoint
	sent    sctp.SendQueue // that the peer has not handled, those of held among them
	paused  bool

	confirmed, claimed []netip.AddrPort // of the peer, as in Event
}

func (e *endpoint) newAssoc(kind sctp.Kind) *assoc {
	if kind == sctp.Any {
		kind = sctp.Kernel
	}
	a := &assoc{id: e.nw.ids.Next(), ep: e, kind: kind}
	e.assocs = append(e.assocs, a)
	return a
}

// connect establishes the association if one of the peer's addresses answers. It fails if
// all refuse, and is called again if some are silent.
func (a *assoc) connect() {
	if a.ended {
		return
	}
	silent := false
	for _, ap := range a.to.Addrs {
		e := a.ep.nw.at(ap)
		switch {
		case a.ep.frozen || !a.ep.reach(ap.Addr()) || e != nil && e.frozen:
			silent = true
		case e == nil:
		case e.has(a.ep) || e == a.ep:
			a.end(sctp.ConnectFailed, sctp.ErrConnected)
			return
		default:
			a.join(e, ap)
			return
		}
	}
	if !silent {
		a.end(sctp.ConnectFailed, sctp.ErrRefused)
	}
}

// has reports whether there is an association with another endpoint.
func (e *endpoint) has(o *endpoint) bool {
	return slices.ContainsFunc(e.assocs, func(a *assoc) bool { return a.peer != nil && a.peer.ep == o })
}

// join makes the peer's side of the association, which it answers at an address.
func (a *assoc) join(e *endpoint, at netip.AddrPort) {
	a.stopTimer()
	e.restarts(a.ep)
	b := e.newAssoc(a.kind)
	a.peer, b.peer = b, a
	first := slices.Clone(e.addrs)
	i := slices.Index(first, at)
	first[0], first[i] = first[i], first[0]
	a.up(first)
	b.up(slices.Clone(a.ep.addrs))
	a.check()
	b.check()
}

// up reports Up. The first of the peer's addresses is confirmed.
func (a *assoc) up(peer []netip.AddrPort) {
	a.confirmed, a.claimed = peer[:1:1], peer[1:]
	a.ep.push(event{sctp.Event{Type: sctp.Up, Peer: a.confirmed, Claimed: slices.Clone(a.claimed), Identity: a.peer.ep.name}, a})
}

// confirm reports which more of the peer's addresses are confirmed.
func (a *assoc) confirm() {
	var answered, silent []netip.AddrPort
	for _, ap := range a.claimed {
		if a.ep.reach(ap.Addr()) {
			answered = append(answered, ap)
		} else {
			silent = append(silent, ap)
		}
	}
	if len(answered) == 0 {
		return
	}
	a.confirmed, a.claimed = slices.Concat(a.confirmed, answered), silent
	a.ep.push(event{sctp.Event{Type: sctp.PeerAddrs, Peer: a.confirmed, Claimed: a.claimed}, a})
}

// check delivers the waiting messages if the peer can be reached. If not, it starts the
// time until the association is lost.
func (a *assoc) check() {
	if a.ended || a.peer == nil || a.ep.frozen {
		return
	}
	b := a.peer
	if len(a.held.Msgs) > 0 && a.heartbeat() {
		return
	}
	if !b.ended && (b.ep.frozen || !a.linked()) {
		if a.timer == nil {
			a.after(a.ep.nw.lostTime, func() { a.end(sctp.Lost, sctp.ErrTimeout) })
		}
		return
	}
	a.stopTimer()
	if !b.ended {
		a.confirm()
	}
	for _, m := range a.held.Msgs {
		m.Data = slices.Clone(m.Data)
		b.ep.push(event{sctp.Event{Type: sctp.Received, Message: m}, b})
	}
	a.held.Drain()
	if a.closing {
		b.end(sctp.PeerShutdown, nil)
		a.end(sctp.LocalClose, nil)
	}
}

// heartbeat sends a packet: it ends the association if the peer's endpoint has vanished,
// and reports that.
func (a *assoc) heartbeat() (ended bool) {
	if a.ended || a.peer == nil || a.ep.frozen || !a.peer.ep.lost || !a.linked() {
		return false
	}
	if slices.ContainsFunc(a.peer.ep.addrs, func(ap netip.AddrPort) bool { return a.ep.nw.at(ap) != nil }) {
		a.end(sctp.PeerAbort, nil)
	} else {
		a.end(sctp.Lost, sctp.ErrRefused)
	}
	return true
}

// restarts ends the association that an endpoint has with a vanished one, which another one
// at the same address replaces (RFC 9260, Section 5.2.2).
func (e *endpoint) restarts(by *endpoint) {
	for _, a := range slices.Clone(e.assocs) {
		if a.peer != nil && a.peer.ep.lost && slices.Equal(a.peer.ep.addrs, by.addrs) {
			a.end(sctp.PeerAbort, sctp.ErrRestarted)
		}
	}
}

// handled notes that the peer has handled the oldest message of sent.
func (a *assoc) handled(m sctp.Message) {
	a.sent.Keep(a.sent.Bytes - len(m.Data))
	if a.told && !a.ended && a.sent.Relieved(a.ep.nw.lim) {
		a.ep.push(event{sctp.Event{Type: sctp.Writable}, a})
	}
}

// linked reports whether any two addresses of the sides are linked.
func (a *assoc) linked() bool {
	return slices.ContainsFunc(a.peer.ep.addrs, func(ap netip.AddrPort) bool { return a.ep.reach(ap.Addr()) })
}

// end ends one side.
func (a *assoc) end(r sctp.Reason, err error) {
	if a.ended {
		return
	}
	a.ended, a.paused = true, false
	a.stopTimer()
	if a.closing {
		r, err = sctp.LocalClose, nil
	}
	if r != sctp.LocalClose {
		for _, m := range a.held.Msgs {
			a.ep.push(event{sctp.Event{Type: sctp.SendFailed, Message: m, Err: err}, a})
		}
	}
	a.ep.push(event{sctp.Event{Type: sctp.Down, Reason: r, Err: err}, a})
	a.ep.assocs = slices.DeleteFunc(a.ep.assocs, func(x *assoc) bool { return x == a })
}

// leave ends a side at once. The other side gets the Reason if it can be reached.
func (a *assoc) leave(peerSees sctp.Reason) {
	b := a.peer
	if b != nil && !b.ended && !a.ep.frozen && a.linked() && !b.ep.frozen {
		b.end(peerSees, nil)
	} else if b != nil && !b.ended && b.timer == nil && !b.ep.frozen {
		b.after(a.ep.nw.lostTime, func() { b.end(sctp.Lost, sctp.ErrTimeout) })
	}
	a.end(sctp.LocalClose, nil)
}

// after sets the side's timer.
func (a *assoc) after(d time.Duration, f func()) {
	a.timer = time.AfterFunc(d, func() {
		a.ep.nw.mu.Lock()
		defer a.ep.nw.mu.Unlock()
		f()
	})
}

func (a *assoc) stopTimer() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
