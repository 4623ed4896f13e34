package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
)

// Silence is not evidence. An element that does not answer may be dead; but its network or
// this registrar's may be broken as well, or its machine busy. So an element that is silent
// becomes a suspect: its pool does without it as long as another one of the pool is none, and
// everything about it is remembered. It is asked on, at growing intervals, and the first word
// from it makes it a member again. Evidence removes an element, in any state:
//
//   - It deregisters.
//   - Its host refuses a new association: nobody serves the port of its ASAP transport.
//   - Another process or host claims its identifier, and it does not answer; see claim.
//   - It answers, but its registration life is over; see lifeOver.
//   - The operator removes it, or more than MaxBadPEReport clients report it.
//
//   - Its home does not name it any more, and it does not answer this registrar either.
//
// Everything else is silence: missing acknowledgements, associations that time out, calls
// that nobody answers or for which the host has no room, errors of this machine such as an
// unreachable network, and the end of an association by this registrar. The end of an
// association by the element has it called at once, and says nothing if the call is not
// answered: the element may have given up a registrar that it did not hear. A certificate that is
// not valid at this time is silence, too: nobody here knows which clock is right, and the fault of
// this registrar's would empty all pools at once.
//
// A suspect is removed when it has been silent for SuspectLife, or when its registration life
// is over. While its pool is guarded, because all others are suspects, too, it stays for up
// to GuardLife; see also guard. One that may acknowledge keep-alives of another home stays for
// longer: see mayLive.

// silence is what is noted of an element that is silent: of a suspect, and of one that is
// spared because the registrar's guard is on.
type silence struct {
	on      *element
	suspect bool
	since   time.Time
	pause   time.Duration        // of a suspect, before the next keep-alive
	place   chain.Place[element] // among the silent ones of its association
	all     chain.Place[element] // among all silent ones
	over    timer                // when a suspect is removed
	claimed timer                // when a suspect is removed that a peer has claimed
}

const (
	// maxSilentPause is the longest time between two keep-alives to a suspect, or two calls.
	maxSilentPause = time.Minute
	// overdueGap is how long a suspect may stay that would have been removed, had its pool
	// not been guarded then, or its host not accepted associations.
	overdueGap = time.Minute
)

// isSuspect reports whether the element is a suspect.
func (e *element) isSuspect() bool { return e.silence != nil && e.silence.suspect }

// SilentReason says how an element's silence was noticed.
type SilentReason uint8

// The reasons.
const (
	// SilentNoAck: it has not acknowledged a keep-alive in time.
	SilentNoAck SilentReason = iota
	// SilentSendFailed: a keep-alive to it could not be delivered.
	SilentSendFailed
	// SilentUnreachable: its association has ended, and no new one could be opened.
	SilentUnreachable
	// SilentDisplaced: another one answers calls at its address; see displaced.
	SilentDisplaced
	// SilentUntimely: its certificate has ended, or has not begun, by the clock of this registrar.
	SilentUntimely
)

// silentReasons is the number of values of SilentReason.
const silentReasons = int(SilentUntimely) + 1

// String says the reason in words.
func (w SilentReason) String() string {
	switch w {
	case SilentNoAck:
		return "it has not acknowledged a keep-alive"
	case SilentSendFailed:
		return "a keep-alive to it could not be delivered"
	case SilentUnreachable:
		return "its association has ended, and nobody answers calls at its address"
	case SilentDisplaced:
		return "its association has ended, and another one answers calls at its address"
	case SilentUntimely:
		return "its certificate has ended, or is not yet valid, by the clock of this registrar"
	default:
		return "unknown reason"
	}
}

// silent: an element does not answer. A peer that contests it keeps it, and a process or host
// that claims its identifier gets it. Otherwise it becomes a suspect, unless it is one or is spared.
func (r *Registrar) silent(e *element, why SilentReason) {
	switch {
	case e.contested != nil && r.yield(e):
		return
	case e.disowned && r.verdict(e) == judgedSilent:
		r.remove(e, RemovedUnreachable)
		return
	case e.Note.claim != nil && !e.livesElsewhere():
		r.remove(e, RemovedClaimed)
		return
	}
	r.refuseClaims(e.entry)
	if e.isSuspect() {
		r.askLater(e)
		return
	}
	switch r.verdict(e) {
	case judgedOpen:
		r.postpone(e, why)
	case judgedBlind:
		r.spare(e)
	case judgedSilent:
		r.setSuspect(e, why)
	}
}

// postpone gives an element that is supervised a few more tries, in which it is found out
// whether others are silent as well. A probe waits itself.
func (r *Registrar) postpone(e *element, why SilentReason) {
	if e.undecided || e.assoc == nil {
		r.setSuspect(e, why)
		return
	}
	e.undecided, e.waiting, e.tries = true, true, triesToWonder
	r.wonder(e.line(), e.asked)
	r.timers.Arm(&e.keepAlive, e, r.now.Add(e.try()))
}

// setSuspect makes a member a suspect.
func (r *Registrar) setSuspect(e *element, why SilentReason) {
	s := r.noteSilence(e)
	r.leaveLine(e)
	s.suspect, s.pause = true, r.keepAliveInterval(e.Handle())
	r.guard.spares--
	r.stats.Suspected[why]++
	r.logf(false, "pool element %v of pool %s is a suspect: %s; it is registered at %v", e.ID(), quote(e.Handle()), why, &e.PE().UserTransport)
	occasion := fellSilent
	if e.standsIn() {
		occasion = unclaimed
	}
	r.publish(r.ledger.Suspect(e.entry, s.since), occasion)
	r.callFormer(e.entry)
	r.askLater(e)
	if e.isExpired() {
		r.overdue(e)
		return
	}
	r.timers.Arm(&s.over, s, s.since.Add(r.cfg.Timers.SuspectLife))
}

// adoptSuspect begins the care for a suspect that becomes an own element.
func (r *Registrar) adoptSuspect(e *element) {
	since := e.Since()
	s := &silence{on: e, suspect: true, since: since, pause: r.keepAliveInterval(e.Handle())}
	e.silence = s
	r.rally.silent.Add(e, &s.all)
	r.timers.Arm(&s.over, s, since.Add(r.cfg.Timers.SuspectLife))
}

// spare leaves an element that is silent what it is, because the registrar's guard is on, or was when
// the element was asked or called. Then it is asked again soon, and judged.
func (r *Registrar) spare(e *element) {
	r.noteSilence(e)
	r.spareLine(e.line())
	r.askLater(e)
	if !r.guard.on {
		r.rallySpared()
	}
}

// noteSilence notes since when an element is silent, and lists it among the silent ones of
// its association.
func (r *Registrar) noteSilence(e *element) *silence {
	s := e.silence
	if s == nil {
		s = &silence{on: e, since: r.now}
		e.silence = s
		r.rally.silent.Add(e, &s.all)
		e.undecided = false
		r.guard.spares++
	}
	r.listSilent(e)
	return s
}

// listSilent puts an element at the end of its association's list of silent ones.
func (r *Registrar) listSilent(e *element) {
	if e.silence != nil && e.assoc != nil {
		e.assoc.silent.Add(e, &e.silence.place)
	}
}

// dropSilence forgets that an element was silent.
func (r *Registrar) dropSilence(e *element) {
	s := e.silence
	if s == nil {
		return
	}
	r.timers.Stop(&s.over)
	r.timers.Stop(&s.claimed)
	s.place.Leave()
	s.all.Leave()
	e.silence = nil
	if !s.suspect {
		r.guard.spares--
	}
}

// heard: a word has come from an element. It reports whether the element was a suspect and
// is a member again, which the peers have been told. A registration has made it a member
// already.
func (r *Registrar) heard(e *element) (back bool) {
	if e.silence != nil && e.isExpired() { // its re-registrations may have been lost
		r.renewLife(e)
	}
	r.endSilence(e)
	if e.State() == ledger.Member {
		return false
	}
	if e.standsIn() {
		r.unsuspect(e)
		return false
	}
	if r.confirmLater(e) {
		return true
	}
	r.publish(r.ledger.Confirm(e.entry), byElement)
	return true
}

// endSilence ends the silence of an element that is heard.
func (r *Registrar) endSilence(e *element) {
	r.hearFirst(e)
	s := e.silence
	if s == nil {
		return
	}
	r.dropSilence(e)
	r.rallyAll(s.since)
	if !s.suspect {
		return
	}
	r.joinLine(e)
	after := r.now.Sub(s.since)
	r.stats.Returned++
	if after < r.cfg.Timers.KeepAliveTimeout {
		r.stats.FalseAlarms++
	}
	r.logf(false, "pool element %v of pool %s answers again, %v after it was found silent, and is not a suspect any more", e.ID(), quote(e.Handle()), after.Round(time.Millisecond))
}

// askLater sets the time for the next keep-alive to a silent element. Its probe has times of
// its own. A suspect is asked less and less often.
func (r *Registrar) askLater(e *element) {
	if e.assoc == nil {
		return
	}
	s := e.silence
	pause := r.keepAliveInterval(e.Handle())
	if s.suspect {
		s.pause = min(2*s.pause, max(pause, maxSilentPause))
		pause = s.pause
	}
	r.timers.Arm(&e.keepAlive, e, r.now.Add(r.jitter(pause)))
}

// askSilent sends a keep-alive to a silent element that is supervised. Nothing waits for the
// acknowledgement. One that is spared is judged again.
func (r *Registrar) askSilent(e *element, home bool) {
	if !e.isSuspect() {
		if r.silent(e, SilentNoAck); e.silence == nil || e.assoc == nil || e.waiting {
			return
		}
	}
	r.listSilent(e)
	r.sendKeepAlive(e, e.assoc, home)
	r.askLater(e)
	r.awaitFarewell(e)
}

// wake asks the silent elements of an association from which a message has come: those that
// were not asked in the last second, some at a time, and all in all not more than KeepAliveRate
// says. Their acknowledgements are messages that have the next ones asked.
func (r *Registrar) wake(a *client) {
	for range min(a.silent.Len(), askWindow) {
		e := a.silent.First()
		if e == nil {
			return
		}
		if r.now.Sub(e.asked) >= minAskGap {
			if !r.wakes.allow(r.now, r.cfg.Timers.KeepAliveRate) {
				return
			}
			r.askSilent(e, true)
		}
		r.listSilent(e)
	}
}

// overdue: a suspect was silent for too long, or its registration life is over. While its
// pool is guarded, or the registrar takes its own network for the cause, it stays; and while it may
// acknowledge keep-alives of its home.
func (r *Registrar) overdue(e *element) {
	s := e.silence
	life, stays := r.cfg.Timers.GuardLife, r.guard.on && !e.Displaced() || r.isGuarded(e)
	if e.mayLive() {
		life, stays = max(life, standInLife), true
	}
	if last := s.since.Add(life); stays && last.After(r.now) {
		at := r.now.Add(min(overdueGap, r.cfg.Timers.SuspectLife))
		if at.After(last) {
			at = last
		}
		r.timers.Arm(&s.over, s, at)
		return
	}
	if e.isExpired() {
		r.remove(e, RemovedExpired)
		return
	}
	r.remove(e, RemovedSilent)
}

// isGuarded reports whether the element's pool is guarded, and the element is in its answers
// because of that.
func (r *Registrar) isGuarded(e *element) bool {
	return r.ledger.Pool(e.Handle()).Guarded && (e.Served() || !e.Displaced())
}

// claimedByPeer: another registrar asks whether a suspect lives, because another process claims
// its identifier there (see askHome). The suspect has a second to answer. Of a member, the
// registrar knows it soon: see offerOwn.
func (r *Registrar) claimedByPeer(e *element) {
	r.askClaimed(e)
	if s := e.silence; s != nil && !s.claimed.Armed() {
		r.timers.Arm(&s.claimed, s, r.answerTime(e))
	}
}

// askClaimed asks an element that is claimed, or has its probe call.
func (r *Registrar) askClaimed(e *element) {
	if p := e.probe; p != nil {
		p.pause = 0 // it does not wait for those that have found only silence
		p.hasten(r)
	} else {
		r.check(e)
	}
}

// answerTime is until when a silent element that is claimed may answer.
func (r *Registrar) answerTime(e *element) time.Time {
	at := r.now
	if next := e.asked.Add(minAskGap); e.assoc != nil && e.asked.Before(r.now) && next.After(at) { // see check
		at = next
	}
	return at.Add(farewellTime)
}

// Due removes a suspect that was silent for too long, or is claimed by a peer.
func (s *silence) Due(r *Registrar, t *timer) {
	if t == &s.claimed {
		r.remove(s.on, RemovedClaimed)
		return
	}
	r.overdue(s.on)
}
