package pe

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	// trialTimeout is how long a registrar that wants to be the home may take
	// to accept the element. Nothing is lost meanwhile, so it is generous.
	trialTimeout = 10 * time.Second
	// shunTime is how long a registrar is not tried again that asked to be the home
	// and then did not accept the element.
	shunTime = 2 * time.Minute
	// maxShunned bounds the list of such registrars. While the list is full, no
	// registrar is adopted, so that peers with many addresses cannot cause more
	// trials.
	maxShunned = 16
	// The home changes by adoption at most maxAdoptions times in adoptionTime.
	maxAdoptions = 4
	adoptionTime = time.Minute
)

// trial is a registration with a registrar that may become the home: a registrar that
// asks for it with the H flag of a keep-alive, an alternative to a home that refuses the
// element, or the home itself over an association from other addresses. Until the
// registrar has accepted the element, the home and the registration there stay, and a
// hunt continues: anyone who can reach the element can send a keep-alive with the H flag.
type trial struct {
	assoc    sctp.AssocID // 0: no trial is on
	at       rserpool.Registrar
	server   rserpool.ServerID
	adopter  bool // it has asked for it
	moved    bool // it was called from other addresses
	addrs    []netip.Addr
	sent     int // registrations
	answerBy time.Time
}

// adopters are registrars that have asked to be the home.
type adopters struct {
	shunned []shunned
	adopted []time.Time // the last maxAdoptions
	backs   int         // from adopters that are not known
	known   time.Time   // until then, only known ones while there is a home
}

// shunned is a registrar that asked to be the home and did not accept the element.
type shunned struct {
	host  netip.Addr
	until time.Time
	assoc sctp.AssocID // the registration went there; 0 once it was answered
	trial trial
}

// tryAdopter begins a trial of a registrar that asks to be the home (RFC 5352, Section
// 3.4, KA2.4). An element that no registrar has accepted is not known to any.
func (k *core) tryAdopter(now time.Time, a sctp.AssocID, server rserpool.ServerID) {
	at, up := k.peers[a]
	if up && k.accepted && k.trial.assoc == 0 && k.mayAdopt(now, at) {
		k.trial = trial{assoc: a, at: at, server: server, adopter: true, addrs: k.element.UserTransport.Addrs}
		k.sendTrial(now, min(trialTimeout, k.timers.Registration))
	}
}

// tryOther begins a trial of a registrar that the hunt has found. If the element
// has moved, it sends no more registrations with its former addresses.
func (k *core) tryOther(now time.Time, a sctp.AssocID, at rserpool.Registrar) {
	k.trial = trial{assoc: a, at: at, moved: k.moving, addrs: k.element.UserTransport.Addrs}
	if k.addrs != nil {
		k.trial.addrs = k.addrs
	}
	if k.trial.moved {
		k.phase = registered
		k.answerBy, k.renewAt, k.updateAt = time.Time{}, time.Time{}, time.Time{}
	}
	k.sendTrial(now, k.timers.Registration)
}

// sendTrial registers with the registrar on trial.
func (k *core) sendTrial(now time.Time, timeout time.Duration) {
	t := &k.trial
	t.sent++
	t.answerBy = now.Add(timeout)
	e := k.element
	e.Home, e.UserTransport.Addrs = t.server, t.addrs
	k.send(t.assoc, &asap.Registration{Handle: k.pool, Element: e})
}

// trialUnanswered: T2-registration for the registrar on trial.
func (k *core) trialUnanswered(now time.Time) {
	t := &k.trial
	if !t.adopter && t.sent < k.timers.MaxRegAttempt {
		k.sendTrial(now, k.timers.Registration)
		return
	}
	k.trialFailed(now, fmt.Errorf("no answer to %d registrations", t.sent))
}

// mayAdopt reports whether a registrar may become the home.
func (k *core) mayAdopt(now time.Time, at rserpool.Registrar) bool {
	k.shunned = slices.DeleteFunc(k.shunned, func(s shunned) bool { return !now.Before(s.until) })
	host := hostOf(at)
	isIt := func(s shunned) bool { return s.host == host }
	if k.served && now.Before(k.known) && !k.knows(now, at) {
		return false
	}
	if len(k.shunned) >= maxShunned || slices.ContainsFunc(k.shunned, isIt) {
		return false
	}
	return len(k.adopted) < maxAdoptions || now.Sub(k.adopted[0]) >= adoptionTime
}

// hostOf is the address that an association came from.
func hostOf(at rserpool.Registrar) netip.Addr {
	if len(at.Addrs) == 0 {
		return netip.Addr{}
	}
	return at.Addrs[0]
}

// settleFor makes the registrar on trial the home.
func (k *core) settleFor(now time.Time, t trial) {
	k.notRenewed()
	k.trial = trial{}
	k.hunted, k.since = !t.adopter, now
	k.home, k.homeAt, k.element.Home = t.assoc, t.at, t.server
	k.element.UserTransport.Addrs = t.addrs
	if t.moved {
		k.moving, k.moves = false, 0
	}
	k.phase, k.answerBy, k.attempts, k.wasKnown = registering, t.answerBy, t.sent, k.mayBeKnown
	k.askAll(now)
}

// onTrialResponse takes the answer of the registrar on trial.
func (k *core) onTrialResponse(now time.Time, m *asap.RegistrationResponse) {
	t := k.trial
	if m.Reject {
		err := k.rejection(t.at, m.Causes)
		switch {
		case t.adopter:
		case k.refusals.n > 0 || t.moved:
			k.noteRefusal(now, err)
		default: // the home is good enough
			k.warn(now, "%w; staying with registrar %v", err, k.homeAt)
		}
		k.trialFailed(now, err)
		return
	}
	former, formerAt, served := k.home, k.homeAt, k.served
	if !t.adopter && !k.back.at.IsZero() {
		k.cameBack(now)
	}
	if t.adopter {
		if len(k.adopted) == maxAdoptions {
			k.adopted = k.adopted[1:]
		}
		k.adopted = append(k.adopted, now)
	}
	k.settleFor(now, t)
	if t.adopter || t.at.String() != formerAt.String() {
		k.tell(Event{Type: HomeChanged})
	}
	k.granted(now, m.Causes)
	if stranger := k.planBack(now, t, former); former != 0 && !(stranger && served) {
		// Not before: a registrar treats the end of the association as the end of its
		// element. By now the new home has told the former home that it has taken the
		// element over, unless the new home is not a registrar.
		delete(k.peers, former)
		k.closeAssoc(former)
	}
}

// trialFailed goes back to the home, if there is one. The association with a registrar
// that has asked to be the home stays: if that registrar keeps the element although it
// has refused it, it would treat the end of the association as the end of the element.
func (k *core) trialFailed(now time.Time, why error) {
	t := k.trial
	k.trial = trial{}
	_, up := k.peers[t.assoc]
	if !t.adopter {
		if up {
			k.drop(t.assoc)
		}
		if t.moved {
			k.renewAt = now
			k.moves++
			k.moveAt = now.Add(k.pause(k.moves, k.timers.RetranMax))
		}
		k.seekOther(now, t.at, why)
		return
	}
	if !up {
		t.assoc = 0
	}
	k.shunned = append(k.shunned, shunned{host: hostOf(t.at), until: now.Add(shunTime), assoc: t.assoc, trial: t})
	k.tell(Event{Type: AdoptionFailed, Err: fmt.Errorf("registrar %v asked to be the home registrar and did not accept the element: %w", t.at, why)})
	k.renewSoon(now)
}

// lateAnswer handles an answer from a registrar after its trial. If it accepts the element,
// it and its peers treat it as the home from now on. Then it is the home of an element that
// has no other one: a registrar that has taken over many elements at once may be slow. An
// element with a home registers there again.
func (k *core) lateAnswer(now time.Time, a sctp.AssocID, m *asap.RegistrationResponse) {
	i := slices.IndexFunc(k.shunned, func(s shunned) bool { return s.assoc == a })
	if i < 0 || m.Reject {
		return
	}
	s := &k.shunned[i]
	s.assoc = 0
	if k.home != 0 || k.phase != hunting || k.trial.assoc != 0 || !s.trial.adopter {
		k.renewSoon(now)
		return
	}
	k.trial = s.trial
	k.shunned = slices.Delete(k.shunned, i, i+1)
	k.onTrialResponse(now, m)
}

// renewSoon registers with the home again: another registrar may have told the home that
// it has taken the element over.
func (k *core) renewSoon(now time.Time) {
	if k.phase == registered {
		k.dirty = true
		k.scheduleUpdate(now)
	}
}

// endTrial ends a trial because the element leaves.
func (k *core) endTrial() {
	if a := k.trial.assoc; a != 0 {
		k.trial = trial{}
		k.send(a, &asap.Deregistration{Handle: k.pool, ID: k.element.ID})
		k.closeAssoc(a)
	}
}
