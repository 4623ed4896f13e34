package sctp

import (
	"net/netip"
	"slices"
	"time"
)

// memAssoc is one side of an association.
type memAssoc struct {
	id      AssocID
	ep      *memEndpoint
	peer    *memAssoc // nil while connecting
	to      Dest
	kind    Kind
	told    bool // Up has been handled
	closing bool // Shutdown was called
	ended   bool
	timer   *time.Timer // until ConnectFailed or Lost
	held    sendQueue   // not yet with the peer's endpoint
	inbox   int         // messages from the peer not yet handled

	confirmed, claimed []netip.AddrPort // of the peer, as in Event
}

func (e *memEndpoint) newAssoc(kind Kind) *memAssoc {
	if kind == Any {
		kind = Kernel
	}
	a := &memAssoc{id: e.nw.ids.next(), ep: e, kind: kind}
	e.assocs = append(e.assocs, a)
	return a
}

// connect tries to bring an association up: at once if one of the peer's
// addresses answers, not at all if all refuse, and later if there is silence.
func (a *memAssoc) connect() {
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
			a.end(ConnectFailed, ErrConnected)
			return
		default:
			a.join(e, ap)
			return
		}
	}
	if !silent {
		a.end(ConnectFailed, errRefused)
	}
}

// has says whether there is an association with another endpoint.
func (e *memEndpoint) has(o *memEndpoint) bool {
	return slices.ContainsFunc(e.assocs, func(a *memAssoc) bool { return a.peer != nil && a.peer.ep == o })
}

// join makes the peer's side of an association that it answers at an address.
func (a *memAssoc) join(e *memEndpoint, at netip.AddrPort) {
	a.stopTimer()
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

// up tells the Handler of a new association with a peer, which is at the first of
// its addresses.
func (a *memAssoc) up(peer []netip.AddrPort) {
	a.confirmed, a.claimed = peer[:1:1], peer[1:]
	a.ep.push(memEvent{Event{Type: Up, Peer: a.confirmed, Claimed: slices.Clone(a.claimed)}, a})
}

// confirm tells the Handler which more of the peer's addresses have answered.
func (a *memAssoc) confirm() {
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
	a.ep.push(memEvent{Event{Type: PeerAddrs, Peer: a.confirmed, Claimed: a.claimed}, a})
}

// check delivers what is held if the peer can be reached, and starts the time
// until it is lost if not.
func (a *memAssoc) check() {
	if a.ended || a.peer == nil || a.ep.frozen {
		return
	}
	b := a.peer
	if !b.ended && (b.ep.frozen || !a.linked()) {
		if a.timer == nil {
			a.after(a.ep.nw.LostTime, func() { a.end(Lost, errTimeout) })
		}
		return
	}
	a.stopTimer()
	if !b.ended {
		a.confirm()
	}
	for _, m := range a.held.msgs {
		m.Data = slices.Clone(m.Data)
		b.inbox++
		b.ep.push(memEvent{Event{Type: Received, Message: m}, b})
	}
	a.held = sendQueue{}
	if a.closing {
		b.end(PeerShutdown, nil)
		a.end(LocalClose, nil)
	}
}

// linked says whether any pair of the two sides' addresses is.
func (a *memAssoc) linked() bool {
	return slices.ContainsFunc(a.peer.ep.addrs, func(ap netip.AddrPort) bool { return a.ep.reach(ap.Addr()) })
}

// end is the end of one side.
func (a *memAssoc) end(r Reason, err error) {
	if a.ended {
		return
	}
	a.ended = true
	a.stopTimer()
	if a.closing {
		r, err = LocalClose, nil
	}
	if r != LocalClose {
		for _, m := range a.held.msgs {
			a.ep.push(memEvent{Event{Type: SendFailed, Message: m, Err: err}, a})
		}
	}
	a.ep.push(memEvent{Event{Type: Down, Reason: r, Err: err}, a})
	a.ep.assocs = slices.DeleteFunc(a.ep.assocs, func(x *memAssoc) bool { return x == a })
}

// leave ends a side at once; the other one sees why, if it can be reached.
func (a *memAssoc) leave(peerSees Reason) {
	b := a.peer
	if b != nil && !b.ended && !a.ep.frozen && a.linked() && !b.ep.frozen {
		b.end(peerSees, nil)
	} else if b != nil && !b.ended && b.timer == nil && !b.ep.frozen {
		b.after(a.ep.nw.LostTime, func() { b.end(Lost, errTimeout) })
	}
	a.end(LocalClose, nil)
}

// after sets the side's timer.
func (a *memAssoc) after(d time.Duration, f func()) {
	a.timer = time.AfterFunc(d, func() {
		a.ep.nw.mu.Lock()
		defer a.ep.nw.mu.Unlock()
		f()
	})
}

func (a *memAssoc) stopTimer() {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
}
