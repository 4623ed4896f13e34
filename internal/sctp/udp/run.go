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

// run keeps the timers of an association and makes all calls of the Handler.
func (a *assoc) run() {
	defer a.ep.wg.Done()
	defer close(a.done)
	if a.after != nil {
		<-a.after.done
	}
	defer a.ep.Remove(a.id)
	defer a.told()
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

// told notes that the Handler knows of the association, or need not any more.
func (a *assoc) told() {
	if a.untold {
		a.untold = false
		a.ep.backlog.Add(-1)
	}
}

// recovered ends an association whose goroutine panicked.
func (a *assoc) recovered() {
	r := recover()
	if r == nil {
		return
	}
	a.m.n.Panicked(fmt.Sprintf("association %d over UDP", a.id), r)
	a.abort(sctp.Lost, fmt.Errorf("panic: %v", r), wire.CauseUserAbort)
	a.m.guard(a.finish)
}

// next does what is due and returns how long until something is due again.
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

// outOfTime ends a handshake or shutdown that has lasted too long. a.mu is held.
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

// supervise sends a HEARTBEAT if nothing has been received for Limits.Heartbeat (RFC 9260,
// Section 8.3). It aborts the association after Limits.Misses of them, or if the queue
// has made no progress for Limits.Stalled. a.mu is held.
func (a *assoc) supervise(now time.Time) {
	hb := a.m.lim.Heartbeat
	if s := a.m.lim.Stalled; s > 0 && len(a.queue.Msgs) > 0 && now.Sub(a.progress) >= s {
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

// probe sends a HEARTBEAT, from the second miss on to all of the peer's addresses. a.mu
// is held.
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

// lostReason returns the Reason if the peer is silent. a.mu is held.
func (a *assoc) lostReason() sctp.Reason {
	switch {
	case a.closing:
		return sctp.LocalClose
	case a.peerClosing:
		return sctp.PeerShutdown
	}
	return sctp.Lost
}

// step reports what is new and returns whether the association goes on.
func (a *assoc) step() bool {
	if a.writable() {
		a.emit(sctp.Event{Type: sctp.Writable})
	}
	if a.gate.Paused() != nil {
		return true
	}
	a.mu.Lock()
	closed := a.state == stateClosed
	up := a.pion != nil && !a.upSent
	readdressed := a.readdressed && a.upSent
	a.upSent = a.upSent || up
	a.readdressed = false
	ev := sctp.Event{Type: sctp.PeerAddrs, Translated: a.peer.Translated}
	if up || readdressed {
		ev.Peer, ev.Claimed = a.confirmed()
	}
	readers := slices.Clone(a.readers)
	a.mu.Unlock()
	if up {
		ev.Type, ev.EncapPort = sctp.Up, a.encapPort()
		a.emit(ev)
		a.told()
	} else if readdressed && !closed {
		a.emit(ev)
	}
	if !a.drain(readers) || !closed {
		return true
	}
	a.finish()
	return false
}

// finish releases what the association holds, and reports undelivered messages and Down.
func (a *assoc) finish() {
	a.mu.Lock()
	pion := a.pion
	a.reap()
	unsent := a.queue.Drain()
	a.pion = nil
	reason, err := a.reason, a.err
	a.mu.Unlock()
	if pion != nil {
		_ = pion.Close()
	}
	var peer []netip.AddrPort
	if p := a.path.Load(); p != nil { // the peer has answered
		peer = []netip.AddrPort{netip.AddrPortFrom(p.to.Addr(), a.peerPort)}
	}
	if reason == sctp.Overrun || errors.Is(err, sctp.ErrStalled) {
		a.m.n.Cut(sctp.UDP, peer[0], err)
	}
	if reason != sctp.LocalClose {
		for _, m := range unsent {
			a.emit(sctp.Event{Type: sctp.SendFailed, Message: m, Err: err})
		}
	}
	a.emit(sctp.Event{Type: sctp.Down, Peer: peer, Reason: reason, Err: err})
}

// emit calls the Handler.
func (a *assoc) emit(ev sctp.Event) {
	ev.Assoc, ev.Kind = a.id, sctp.UDP
	a.ep.h(ev)
}
