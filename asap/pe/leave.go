package pe

import (
	"errors"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// leave ends the registration (RFC 5352, Section 3.2).
func (k *core) leave(now time.Time) {
	k.endTrial()
	k.back = goBack{}
	if k.renewing {
		k.forsake()
	}
	k.answerBy, k.renewAt, k.updateAt = time.Time{}, time.Time{}, time.Time{}
	if !k.mayBeKnown {
		k.left(now)
		return
	}
	k.phase = leaving
	if k.home == 0 {
		k.beginHunt(now, nil)
		return
	}
	k.hunt.Stop()
	k.answerBy = now.Add(k.patience(now))
	k.send(k.home, &asap.Deregistration{Handle: k.pool, ID: k.element.ID})
}

// patience is T3-deregistration. An element that ends has less time: if it knows other
// registrars, it leaves enough of Timers.Stop to ask two of them (RFC 5352, Section 3.2, D4).
// Each can remove the element of a home that hangs.
func (k *core) patience(now time.Time) time.Duration {
	if k.stopping && k.hunt.Alternatives(now, k.homeAt) {
		return min(k.timers.Deregistration, k.timers.Stop/3)
	}
	return k.timers.Deregistration
}

// turnedAway: a home registrar that ends the association in place of its answer has not accepted
// the element. If it has done so just before its process was killed, it, or who takes the element
// over, calls the element: an element that has ended is removed then. A home that is only silent
// may have accepted the element.
func (k *core) turnedAway(why error) {
	if k.attempts > 0 && !k.accepted && (errors.Is(why, sctp.ErrAborted) || client.RefusesUs(why)) {
		k.mayBeKnown = k.wasKnown
	}
}

// left continues after a deregistration was confirmed, or if none is needed.
func (k *core) left(now time.Time) {
	k.mayBeKnown, k.accepted = false, false
	k.parted(now)
}

// parted continues when nothing more can be done for a deregistration.
func (k *core) parted(now time.Time) {
	k.hunt.Stop()
	k.answerBy, k.claimBy = time.Time{}, time.Time{}
	k.attempts = 0
	k.served, k.standing = false, false
	switch {
	case k.stopping:
		k.close()
	case k.want:
		k.seek(now)
	default:
		k.phase = idle
		k.seekToAsk(now)
	}
}

// onDeregistrationResponse: RFC 5352, Section 3.2.
func (k *core) onDeregistrationResponse(now time.Time, a sctp.AssocID, m *asap.DeregistrationResponse) {
	if a != k.home || m.Handle != k.pool || m.ID != k.element.ID {
		return
	}
	switch k.phase {
	case leaving:
		switch {
		case k.answerBy.IsZero():
		case len(m.Causes) > 0:
			k.mayNotLeave(now, m.Causes)
		default:
			k.tell(Event{Type: Deregistered})
			k.left(now)
		}
	case registered, registering:
		k.expired(now)
	case idle, hunting, closing, over: // nothing is registered
	}
}

// mayNotLeave handles a refused deregistration. Another registrar would refuse it as
// well, because registrars know the element by other values; so the element only stops
// acknowledging keep-alives. It sends the deregistration once more when it ends.
func (k *core) mayNotLeave(now time.Time, list []rserpool.Cause) {
	if !k.accepted { // it was for a registration that was not confirmed
		k.left(now)
		return
	}
	err := &DeregistrationError{Pool: k.pool, ID: k.element.ID, Registrar: k.homeAt.String(), Causes: list}
	k.tell(Event{Type: DeregistrationRefused, Err: err})
	if k.stopping && k.failure == nil {
		k.failure = err
	}
	k.parted(now)
}

// expired: the registrar has removed the element, which registers again at once. A
// registration that has been sent is still answered. If the registrar removes the element
// every time, the next registration waits.
func (k *core) expired(now time.Time) {
	if !k.standing {
		return
	}
	k.tell(Event{Type: Expired})
	k.standing = false
	if k.phase == registered {
		k.dirty = true
		k.scheduleUpdate(now)
		switch {
		case k.updateAt.IsZero():
		case k.expiries == 0:
			k.updateAt = now
		default:
			at := k.lastSent.Add(min(k.timers.MinUpdate<<min(k.expiries, maxShift), k.timers.Reregistration))
			k.updateAt = later(k.updateAt, at)
		}
		k.expiries++
	}
}
