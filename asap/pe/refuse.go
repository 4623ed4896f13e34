package pe

import (
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	// maxRedraws is how often a random identifier that is in use is drawn anew.
	maxRedraws = 3
	// claimTime is how long a given identifier that is in use is tried again: the
	// element that has it may have died a moment ago. The pause between two tries
	// grows from retryPause to maxClaimPause.
	claimTime     = 75 * time.Second
	maxClaimPause = 10 * time.Second
	// retryPause is the pause after the first refusal at a home that stays. It
	// doubles up to RETRAN-MAX.
	retryPause = time.Second
	maxShift   = 16 // of a pause
)

// refusals are those of registrations since the last one that was accepted.
type refusals struct {
	n     int // of registrations
	tries int // at the home
	since time.Time
	last  error
	spell spell
	busy  busy
}

// rejection is the error for a refused registration.
func (k *core) rejection(at rserpool.Registrar, list []rserpool.Cause) *RejectedError {
	return &RejectedError{Pool: k.pool, ID: k.element.ID, Registrar: at.String(), Addrs: slices.Clone(k.element.UserTransport.Addrs), Offered: k.element.Kind(), Causes: list}
}

// rejected takes a registration that the home has refused. RFC 5352, Section
// 3.1 forbids to repeat it without a correction. So the first registration of
// all ends the element, and its user sees the mistake. The exceptions:
//
//   - An identifier in use. A random one is corrected. One that was given may be
//     that of an element that has just died; it is tried for a while.
//   - Lack of resources is the registrar's trouble. It passes, as when the
//     registrar has just begun, and others need not have it: see waitForRoom.
//   - An element that was accepted once is no mistake of its user's. Others'
//     mistakes must not end a server that works (docs/deviations.md): it goes on
//     to other registrars, and tries again after pauses that grow.
//   - So is an element that is refused for the first time after Config.MistakeTime.
func (k *core) rejected(now time.Time, list []rserpool.Cause) {
	err := k.rejection(k.homeAt, list)
	inUse := err.Is(rserpool.CauseNonUniquePEIdentifier)
	noRoom := err.Is(rserpool.CauseLackOfResources)
	if !noRoom {
		k.refusals.busy = busy{}
		if k.blamed.IsZero() {
			k.blamed = now
		}
	}
	switch {
	case inUse && k.drawID != nil && !k.accepted && k.redraws < maxRedraws:
		k.redraw(now, err)
	case noRoom && !k.served && k.waitForRoom(now, err):
	case k.proven:
		k.refused(now, err)
	case noRoom:
		k.noRoom(now, err)
	case inUse && k.drawID == nil && k.tryClaim(now, err):
	case k.mistake != 0 && k.blamed.Sub(k.wanted) >= k.mistake:
		k.refused(now, err)
	default:
		// A first registration that was refused leaves nothing behind.
		k.mayBeKnown = false
		k.fail(now, err)
	}
}

// noRoom goes on to another registrar with the first registration.
func (k *core) noRoom(now time.Time, err *RejectedError) {
	k.mayBeKnown = false
	if k.noted(now, err) {
		k.tell(Event{Type: HomeLost, Err: refusal{err}, Unserved: !k.served})
	}
	k.drop(k.home)
	k.homeless(now, refusal{err})
}

// redraw registers with another identifier.
func (k *core) redraw(now time.Time, err error) {
	k.redraws++
	k.warn(now, "%w; trying another identifier", err)
	k.element.ID = k.drawID()
	k.attempts = 0
	k.sendRegistration(now)
}

// tryClaim tries a given identifier again after a pause, for at most claimTime.
func (k *core) tryClaim(now time.Time, err *RejectedError) bool {
	if k.claimBy.IsZero() {
		k.claimBy = now.Add(claimTime)
	}
	left := k.claimBy.Sub(now)
	if left <= 0 {
		return false
	}
	k.mayBeKnown = false // it is the other element that is known
	k.noteRefusal(now, err)
	k.attempts, k.answerBy = 0, time.Time{}
	k.renewAt = now.Add(min(k.pause(k.refusals.n, maxClaimPause), left))
	return true
}

// refused continues after a refusal. If the home has accepted the element before, that
// registration may still stand there, so the association stays: its end would be treated
// as the end of the element. The element tries the home again after a pause, and other
// registrars meanwhile.
func (k *core) refused(now time.Time, err *RejectedError) {
	k.noteRefusal(now, err)
	k.attempts, k.answerBy = 0, time.Time{}
	if k.life > 0 && now.Sub(k.acceptedAt) >= k.life {
		k.standing = false // it has expired, in the shorter reading
	}
	if !k.served {
		k.mayBeKnown = k.accepted
		if !err.Is(rserpool.CauseLackOfResources) {
			k.hunt.Hurry(now, 0, 0) // it was found
		}
		k.drop(k.home)
		k.homeless(now, refusal{err})
		return
	}
	k.phase = registered
	k.refusals.tries++
	k.renewAt = now.Add(k.pause(k.refusals.tries, k.timers.RetranMax))
	k.seekOther(now, k.homeAt, refusal{err})
}

// seekOther looks for an alternative to a home that refuses the element.
func (k *core) seekOther(now time.Time, failed rserpool.Registrar, why error) {
	if k.phase == registered && k.refusals.n > 0 && k.hunt.Alternatives(now, k.homeAt) {
		k.hunt.Begin(now, failed, why)
	}
}

// noted counts a refusal, and reports whether to tell of it: the first few, and then one
// from time to time.
func (k *core) noted(now time.Time, err *RejectedError) bool {
	r := &k.refusals
	if r.n == 0 {
		r.since = now
	}
	r.n++
	r.last = err
	return r.spell.tell(now)
}

// noteRefusal counts a refusal, and tells of it if noted says so.
func (k *core) noteRefusal(now time.Time, err *RejectedError) {
	if !k.noted(now, err) {
		return
	}
	ev := Event{Type: Refused, Err: err}
	if r := &k.refusals; r.n > 1 {
		ev.Err = fmt.Errorf("%w (refused %d times in %v)", err, r.n, now.Sub(r.since).Round(time.Second))
	}
	k.tell(ev)
}

// pause is the pause before the n-th repetition, which doubles from retryPause
// to a limit. It varies, so that elements do not come in step.
func (k *core) pause(n int, limit time.Duration) time.Duration {
	return k.vary(min(retryPause<<min(n-1, maxShift), limit))
}

// vary varies a pause by 25 %.
func (k *core) vary(p time.Duration) time.Duration {
	if k.rand != nil {
		p = time.Duration(float64(p) * (0.75 + 0.5*k.rand.Float64()))
	}
	return p
}
