package registrar

import (
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// claim is a message that waits until it is known whether the present element is alive:
//
//   - a registration of its identifier by another host. If the element is alive, the
//     registration is refused as Non-unique PE Identifier (RFC 5354, Section 3.12.5).
//     Otherwise the element is removed and the registration granted.
//   - a deregistration by another process of its host. If the element is alive, the
//     deregistration is refused as Rejected due to Security Considerations. Otherwise
//     the element is removed and the deregistration granted.
//
// The registrar sends an own element a keep-alive. For a foreign element, it asks the home:
// elements of the reference implementation acknowledge keep-alives of no other registrar.
//
// A silent element has farewellTime to answer either kind. One for whose home this registrar stands
// in may answer its home only: see livesElsewhere.
//
// In RFC 5352, Section 3.1, and in the reference implementation, a re-registration
// takes over the element over any association. Then any client could take a living element
// out of service. The rule is for an element that has moved to another host: here, its
// registration waits a keep-alive timeout, which is below the sender's T2-registration
// timer of 30 s (RFC 5352, Section 7.1).
type claim struct {
	on    *entry
	assoc *client
	// msg is an *asap.Registration or an *asap.Deregistration. An element has at most
	// one claim of each kind.
	msg  asap.Message
	next *claim // on the same element

	// timer is when the home is asked again, or when the time for the acknowledgement of an
	// own element ends, if that is shorter than for other keep-alives.
	timer timer
	until time.Time // when a claim on a foreign element is given up
	// granted is when a claim on a foreign element is granted, if that is a suspect; zero while
	// it is none.
	granted time.Time
}

// farewellTime is how long an element may take to acknowledge the keep-alive that a
// deregistration by another process of its host has caused, or any claim if the element is
// silent. If the element is probed, that includes the time to connect.
const farewellTime = time.Second

func (c *claim) isRegistration() bool {
	_, ok := c.msg.(*asap.Registration)
	return ok
}

// claim has a registration or a deregistration wait until it is known whether the
// element lives.
func (r *Registrar) claim(on *entry, a *client, m asap.Message) {
	c := &claim{on: on, assoc: a}
	switch m := m.(type) {
	case *asap.Registration:
		msg := *m
		msg.Handle = on.Handle() // one copy will do
		c.msg = &msg
	case *asap.Deregistration:
		c.msg = &asap.Deregistration{Handle: on.Handle(), ID: m.ID}
	}
	for x := on.Note.claim; x != nil; x = x.next {
		switch {
		case x.isRegistration() != c.isRegistration():
		case x.assoc == a: // sent again
			x.msg = c.msg
			return
		default:
			r.refuseClaim(c)
			return
		}
	}
	if len(a.claims) >= r.cfg.Limits.ClaimsPerAssoc {
		r.rejectClaim(c, rserpool.CauseLackOfResources, fmt.Sprintf("%d registrations and deregistrations of this association wait for the answers of elements", len(a.claims)))
		return
	}
	c.next, on.Note.claim = on.Note.claim, c
	a.claims = append(a.claims, c)
	r.leaveIdle(a)
	r.stats.Claims++
	if e := r.find(on.Handle(), on.ID()); e != nil {
		r.askClaimed(e)
		r.awaitFarewell(e)
		return
	}
	c.until = r.now.Add(r.claimTime())
	c.Due(r, nil)
}

// claimTime is how long a claim on a foreign element waits: until the home has found
// out whether the element is alive, or until this registrar has found the home dead, taken
// it over and probed the element.
func (r *Registrar) claimTime() time.Duration {
	t := &r.cfg.Timers
	return max(2*t.KeepAliveTimeout, 2*t.MaxTimeNoResponse) + t.ProbeTimeout + minAskGap
}

// Due asks the home of a foreign element again, which may be another one by now, or
// gives up. An own element has not acknowledged in time and is removed, unless it may live for its home.
func (c *claim) Due(r *Registrar, _ *timer) {
	if e := r.find(c.on.Handle(), c.on.ID()); e != nil {
		switch {
		case e.livesElsewhere():
			r.refuseClaims(e.entry)
		case c.isRegistration():
			r.remove(e, RemovedClaimed)
		default:
			r.remove(e, RemovedDeregistered)
		}
		return
	}
	if c.on.State() == ledger.Suspect {
		r.claimSuspect(c)
		return
	}
	c.granted = time.Time{}
	if !c.until.After(r.now) {
		r.dropClaim(c)
		r.refuseClaim(c)
		return
	}
	again := r.now.Add(minAskGap + r.cfg.Timers.KeepAliveTimeout)
	if again.After(c.until) {
		again = c.until
	}
	r.timers.Arm(&c.timer, c, again)
	r.askHome(c.on)
}

// claimSuspect grants a claim on a suspect of a peer, unless the element answers its home now.
// The home has it answer within farewellTime, and then removes it, which grants the claim; but
// the home may be of another kind, or dead. It leaves the element to this registrar.
func (r *Registrar) claimSuspect(c *claim) {
	switch {
	case c.granted.IsZero():
		c.granted = r.now.Add(2 * farewellTime)
		r.askHome(c.on)
	case !c.granted.After(r.now):
		r.vacate(c.on, nil, left)
		return
	}
	r.timers.Arm(&c.timer, c, c.granted)
}

// hastenClaims: an element is a suspect of a peer, so claims on it have less time from now on. It
// grants none, which would end them all in the middle of their list: one whose time is over has its
// timer.
func (r *Registrar) hastenClaims(f *entry) {
	for c := f.Note.claim; c != nil; c = c.next {
		if c.granted.IsZero() {
			r.claimSuspect(c)
		}
	}
}

// restClaims: the home of an element is not asked any more whether it lives: this registrar cares for
// it.
func (r *Registrar) restClaims(f *entry) {
	for c := f.Note.claim; c != nil; c = c.next {
		r.timers.Stop(&c.timer)
		c.granted = time.Time{}
	}
}

// askHome has the home of a foreign element send the element a keep-alive. The message
// states that the home has the element: see offerOwn. If the element is alive, the home
// answers with an update. If not, it removes the element and tells all peers. The
// reference implementation ignores the message; it sends its elements the next keep-alive
// only when that is due.
func (r *Registrar) askHome(f *entry) {
	if p := r.peers.byID[f.Roster().Home()]; p != nil {
		r.tell(p, &enrp.HandleUpdate{Sender: r.id, Receiver: p.id, Action: enrp.AddPE, Handle: f.Handle(), Element: f.PE().PoolElement})
	}
}

// awaitFarewell limits the time in which an own element that is asked or probed must
// acknowledge, if a deregistration waits for it, or the element is silent.
func (r *Registrar) awaitFarewell(e *element) {
	for c := e.Note.claim; c != nil; c = c.next {
		switch {
		case c.timer.Armed():
		case e.silence != nil:
			r.timers.Arm(&c.timer, c, r.answerTime(e))
		case !c.isRegistration() && (e.waiting || e.probe != nil):
			r.timers.Arm(&c.timer, c, r.now.Add(farewellTime))
		}
	}
}

// endClaims takes all claims from an element and returns the first.
func (r *Registrar) endClaims(on *entry) *claim {
	first := on.Note.claim
	on.Note.claim = nil
	for c := first; c != nil; c = c.next {
		r.timers.Stop(&c.timer)
		c.assoc.claims = slices.DeleteFunc(c.assoc.claims, func(x *claim) bool { return x == c })
		r.leaveIdle(c.assoc)
	}
	return first
}

// dropClaim takes one claim from its element.
func (r *Registrar) dropClaim(c *claim) {
	r.timers.Stop(&c.timer)
	for p := &c.on.Note.claim; *p != nil; p = &(*p).next {
		if *p == c {
			*p = c.next
			break
		}
	}
	c.next = nil
	c.assoc.claims = slices.DeleteFunc(c.assoc.claims, func(x *claim) bool { return x == c })
	if c.assoc.up {
		r.leaveIdle(c.assoc)
	}
}

// dropClaims drops the claims of an association that has ended.
func (r *Registrar) dropClaims(a *client) {
	for len(a.claims) > 0 {
		r.dropClaim(a.claims[0])
	}
}

// dropOwnClaim drops a waiting registration of the same association, because the one
// that is granted now has the only response.
func (r *Registrar) dropOwnClaim(on *entry, a *client) {
	for c := on.Note.claim; c != nil; c = c.next {
		if c.assoc == a && c.isRegistration() {
			r.dropClaim(c)
			return
		}
	}
}

// refuseClaims refuses all claims, because the element is alive.
func (r *Registrar) refuseClaims(on *entry) {
	for c := r.endClaims(on); c != nil; c = c.next {
		r.refuseClaim(c)
	}
}

func (r *Registrar) refuseClaim(c *claim) {
	if c.isRegistration() {
		r.rejectClaim(c, rserpool.CauseNonUniquePEIdentifier, "")
	} else {
		r.rejectClaim(c, rserpool.CauseSecurity, "")
	}
}

// rejectClaim refuses a claim. detail is what the log says beside the cause; it may be "".
func (r *Registrar) rejectClaim(c *claim, cause rserpool.CauseCode, detail string) {
	switch m := c.msg.(type) {
	case *asap.Registration:
		r.reject(c.assoc, m, rserpool.Cause{Code: cause}, detail)
	case *asap.Deregistration:
		r.rejectDeregistration(c.assoc, m, cause, detail)
	}
}
