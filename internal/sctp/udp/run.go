package udp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// run is the life of an association: its timers, and all calls of the Handler.
func (a *assoc) run() {
	defer a.ep.wg.Done()
	defer close(a.done)
	if a.after != nil {
		<-a.after.done
	}
	defer a.ep.Remove(a.id)
	defer a.recovered()
	timer := time.NewTimer(a.next(a.m.clock.now()))
	defer timer.Stop()
	for a.step() {
		timer.Reset(a.next(a.m.clock.now()))
		select {
		case <-a.wake:
		case <-timer.C:
		}
	}
}

// recovered ends an association whose goroutine panicked.
func (a *assoc) recovered() {
	r := recover()
	if r == nil {
		return
	}
	a.m.n.Panics.Add(1)
	a.m.logf("sctp: association %d ended by a panic: %v", a.id, r)
	a.abort(sctp.Lost, fmt.Errorf("panic: %v", r), wire.CauseUserAbort)
	a.m.guard(a.finish)
}

// next does what is due and says how long until the next is.
func (a *assoc) next(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != stateClosed && !a.giveUp.IsZero() && !now.Before(a.giveUp) {
		a.outOfTime()
	}
	var ways time.Time
	switch a.state {
	case stateCookieWait, stateCookieEchoed:
		if !now.Before(a.timer) {
			a.handshake(now)
		}
	case stateEstablished:
		a.reap()
		a.supervise(now)
		ways = a.superviseWays(now)
	case stateClosed:
		return 0
	}
	at := earlier(a.timer, ways)
	if !a.giveUp.IsZero() && a.giveUp.Before(at) {
		at = a.giveUp
	}
	return max(at.Sub(now), 0)
}

// outOfTime ends what has taken too long. a.mu is held.
func (a *assoc) outOfTime() {
	switch {
	case a.state != stateEstablished:
		a.abortLocked(sctp.ConnectFailed, sctp.ErrTimeout, wire.CauseUserAbort, nil)
	case a.closing:
		a.abortLocked(sctp.LocalClose, sctp.ErrTimeout, wire.CauseUserAbort, nil)
	default:
		a.abortLocked(sctp.PeerShutdown, sctp.ErrTimeout, wire.CauseUserAbort, nil)
	}
}

// supervise probes an association from which nothing has come for a while
// (RFC 9260, Section 8.3), and gives it up in the end, or when the peer has
// long taken nothing of what it was sent. a.mu is held.
func (a *assoc) supervise(now time.Time) {
	hb := a.m.lim.Heartbeat
	if s := a.m.lim.Stalled; s > 0 && len(a.queue.Msgs) > 0 && now.Sub(a.taken) >= s {
		a.abortLocked(a.lostReason(), sctp.ErrStalled, wire.CauseUserAbort, nil)
		return
	}
	if idle := a.m.clock.at(a.heard.Load()).Add(hb); now.Before(idle) {
		a.timer = idle
		return
	}
	if now.Before(a.timer) {
		return
	}
	if a.misses >= a.m.lim.Misses {
		a.abortLocked(a.lostReason(), sctp.ErrTimeout, wire.CauseUserAbort, nil)
		return
	}
	a.misses++
	a.timer = now.Add(hb)
	a.probe()
}

// probe sends a HEARTBEAT; from the second on to all of the peer's addresses.
// a.mu is held.
func (a *assoc) probe() {
	out := a.out.Load()
	a.heartbeat(out)
	if a.misses < 2 {
		return
	}
	for _, w := range a.ways {
		if w != out {
			a.reroute(w)
			a.heartbeat(w)
		}
	}
}

// lostReason is why an association whose peer is silent ends. a.mu is held.
func (a *assoc) lostReason() sctp.Reason {
	switch {
	case a.closing:
		return sctp.LocalClose
	case a.peerClosing:
		return sctp.PeerShutdown
	}
	return sctp.Lost
}

// step tells the Handler what is new, and says whether there may be more.
func (a *assoc) step() bool {
	a.mu.Lock()
	if a.state == stateEstablished && a.pionEnd.Load() {
		a.pionEnded()
	}
	closed := a.state == stateClosed
	up := a.pion != nil && !a.upTold
	readdressed := a.readdressed && a.upTold
	a.upTold = a.upTold || up
	a.readdressed = false
	ev := sctp.Event{Type: sctp.PeerAddrs, Translated: a.peer.Translated}
	if up || readdressed {
		ev.Peer, ev.Claimed = a.confirmed()
	}
	readers := slices.Clone(a.readers)
	a.mu.Unlock()
	if up {
		ev.Type, ev.EncapPort = sctp.Up, a.encapPort()
		a.tell(ev)
	} else if readdressed && !closed {
		a.tell(ev)
	}
	a.drain(readers)
	if closed {
		a.finish()
	}
	return !closed
}

// finish ends what is left of the association and tells the Handler Down.
func (a *assoc) finish() {
	a.mu.Lock()
	pion := a.pion
	a.reap()
	unsent := a.queue.Take()
	a.pion = nil
	reason, err := a.reason, a.err
	a.mu.Unlock()
	if pion != nil {
		_ = pion.Close()
	}
	if reason == sctp.Overrun || errors.Is(err, sctp.ErrStalled) {
		a.m.n.Cut(sctp.UDP, netip.AddrPortFrom(a.path.Load().to.Addr(), a.peerPort), err)
	}
	if reason != sctp.LocalClose {
		for _, m := range unsent {
			a.tell(sctp.Event{Type: sctp.SendFailed, Message: m, Err: err})
		}
	}
	a.tell(sctp.Event{Type: sctp.Down, Reason: reason, Err: err})
}

// tell calls the Handler.
func (a *assoc) tell(ev sctp.Event) {
	ev.Assoc, ev.Kind = a.id, sctp.UDP
	a.ep.h(ev)
}
