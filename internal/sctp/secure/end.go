package secure

import (
	"errors"
	"io"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// errTruncated: anybody who can send packets in the peer's name could end an association
// early, but not say so inside of TLS.
var errTruncated = untrusted("association was ended within a message, and not by TLS: something may be missing")

// end ends the association by a method of the transport. The first reason counts.
func (a *assoc) end(reason sctp.Reason, err error, how func(sctp.Endpoint, sctp.AssocID)) {
	a.mu.Lock()
	a.endLocked(reason, err)
	a.mu.Unlock()
	how(a.e.below, a.id)
}

// endLocked notes why the association ends. a.mu is held.
func (a *assoc) endLocked(reason sctp.Reason, err error) {
	if !a.ended {
		a.ended, a.reason, a.err = true, reason, err
	}
	a.w.close(errEnded)
}

// errEnded is what the handshake of an association gets that this side ends.
var errEnded = errors.New("this side has ended the association")

// Shutdown implements sctp.Association.
func (a *assoc) Shutdown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shutLocked(nil)
}

// shut shuts the association down, and reports an error with its end.
func (a *assoc) shut(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shutLocked(err)
}

// shutLocked ends the association behind what is queued. a.mu is held.
func (a *assoc) shutLocked(err error) {
	if a.closing || a.aborted {
		return
	}
	if !a.ended {
		a.ended, a.reason, a.err = true, sctp.LocalClose, err
	}
	a.closing = true
	a.resume()
	if a.phase != phaseUp && len(a.queue.Msgs) == 0 {
		a.abort()
		return
	}
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timer = time.AfterFunc(sctp.GraceTime, a.Abort)
	if a.phase == phaseUp {
		a.pump()
	}
}

// Abort implements sctp.Association.
func (a *assoc) Abort() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ended {
		a.ended, a.reason = true, sctp.LocalClose
	}
	a.abort()
}

// abort ends the association at once. a.mu is held.
func (a *assoc) abort() {
	a.aborted = true
	a.resume()
	a.w.close(errEnded)
	a.e.below.Abort(a.id)
}

// down handles the end of the transport. What has arrived before it is reported first.
func (a *assoc) down(ev sctp.Event) {
	a.mu.Lock()
	a.ending(&ev)
	shaking := a.phase == phaseHandshake
	a.mu.Unlock()
	if shaking {
		return // the handshake goes on with what has arrived, and then ends
	}
	a.emitMu.Lock()
	defer a.emitMu.Unlock()
	a.conclude()
}

// conclude reports what has arrived before the end, and Down, unless that has been done.
// emitMu is held.
func (a *assoc) conclude() {
	a.mu.Lock()
	up := a.phase == phaseUp
	a.mu.Unlock()
	switch {
	case a.finished:
		return
	case up:
		a.deliver()
	}
	a.finished = true
	a.finish()
}

// ending notes the end of the transport. a.mu is held.
func (a *assoc) ending(ev *sctp.Event) {
	a.over, a.paused = ev, false
	if ev.Kind != sctp.Any {
		a.kind = ev.Kind
	}
	a.w.close(io.EOF)
}

// finish reports Down. emitMu is held.
func (a *assoc) finish() {
	a.mu.Lock()
	reason, err := a.why()
	told, ended := a.phase == phaseUp, a.ended
	a.conn = nil
	if a.timer != nil {
		a.timer.Stop()
	}
	unsent := a.queue.Drain()
	a.mu.Unlock()
	a.e.watch.Remove(a.session)
	a.e.settled(a)
	a.e.Remove(a.id)
	switch {
	case reason == sctp.Overrun:
		a.e.n.Cut(a.kind, a.peer, err)
	case !told && !a.ours && ended && err != nil:
		a.e.n.Refuse(a.kind, a.peer, err)
	}
	if !told && !a.ours {
		return // nobody knows of it
	}
	if reason != sctp.LocalClose {
		for _, m := range unsent {
			a.emit(sctp.Event{Type: sctp.SendFailed, Message: m, Err: err})
		}
	}
	a.emit(sctp.Event{Type: sctp.Down, Reason: reason, Err: err, Farewell: a.farewell && reason == sctp.PeerShutdown})
}

// why says why the association has ended. a.mu is held.
func (a *assoc) why() (sctp.Reason, error) {
	by := a.over
	byPeer := by.Reason == sctp.PeerAbort || by.Reason == sctp.PeerShutdown
	switch {
	case a.ended:
		return a.reason, a.err
	case a.lost && by.Reason == sctp.LocalClose:
		return sctp.Overrun, untrusted("a record of TLS could not be delivered")
	case a.phase == phaseUp && by.Reason == sctp.PeerShutdown && (a.truncated || len(a.cut.part) > 0):
		return sctp.PeerAbort, errTruncated
	case a.phase == phaseUp, a.phase == phaseBelow, by.Reason == sctp.LocalClose:
		return by.Reason, by.Err
	case !byPeer || errors.Is(by.Err, sctp.ErrRestarted):
		return sctp.ConnectFailed, by.Err
	case a.w.silent():
		return sctp.ConnectFailed, ErrUnanswered
	}
	return sctp.ConnectFailed, errCutShort
}
