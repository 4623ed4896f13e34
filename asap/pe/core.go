package pe

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// phase is the state of an element's registration.
//
//	idle -> hunting -> registering <-> registered
//	          ^  \________|________________/
//	          |           v
//	        (hunt) <-> leaving -> idle, or -> closing -> over
//
// Beside the phase, a trial of another home may be on: see trial.go.
type phase uint8

const (
	// idle: not registered, and not to be.
	idle phase = iota
	// hunting for a registrar to register with.
	hunting
	// registering: T2-registration runs, or the pause before an identifier
	// that is in use is tried again.
	registering
	// registered: T4-reregistration runs, or the pause after a refusal.
	registered
	// leaving: T3-deregistration runs, or a hunt for a registrar that takes the
	// deregistration.
	leaving
	// closing: associations are being shut down.
	closing
	// over: the element has ended.
	over
)

// core is the protocol of a pool element. The runner calls one of its methods
// for each event, then take, and Tick no later than NextDeadline.
type core struct {
	pool    rserpool.PoolHandle
	element rserpool.PoolElement // as it will be registered next; Home is the last known
	drawID  func() rserpool.PEID // nil if the identifier was given
	timers  Timers
	life    time.Duration // 0: infinite
	mistake time.Duration // Config.MistakeTime
	rand    *rand.Rand    // varies pauses; may be nil
	hunt    *hunt.Hunt

	phase    phase
	want     bool      // the user wants to be registered
	wanted   time.Time // since when, the first time
	stopping bool      // and to end the element then
	// mayBeKnown: a REGISTRATION has been sent and no deregistration has
	// been confirmed since. wasKnown is what it was before the first REGISTRATION to the
	// home that has not answered yet.
	mayBeKnown, wasKnown bool
	accepted             bool  // one was accepted, and none was confirmed since
	served               bool  // the home registrar has accepted one
	standing             bool  // and has not dropped it
	proven               bool  // one was accepted at some time: no refusal ends the element
	failure              error // why the element ends

	home   sctp.AssocID // 0: none
	homeAt rserpool.Registrar
	addrs  []netip.Addr // to register over associations from now on; nil: as they are
	moving bool         // these are not registered yet
	moves  int          // that failed in a row
	moveAt time.Time    // not before
	hunted bool         // the hunt has found it
	since  time.Time    // it is the home
	flaps  int          // homes in a row that served for less than steadyTime
	peers  map[sctp.AssocID]rserpool.Registrar
	calls  calls
	trial  trial // of another home
	adopters
	back   goBack
	former former
	quiet  quiet
	// renewing: the association is being renewed, and no home has accepted the element since.
	renewing bool

	attempts   int  // registrations since the last response
	redraws    int  // identifiers drawn anew since the last acceptance
	expiries   int  // in a row
	dirty      bool // the policy has changed since the last registration
	lastSent   time.Time
	acceptedAt time.Time
	answerBy   time.Time // T2-registration or T3-deregistration
	renewAt    time.Time // T4-reregistration, or when to try again after a refusal
	updateAt   time.Time // when a change may be sent
	claimBy    time.Time // until when to try an identifier that is in use
	stopBy     time.Time

	refusals refusals
	blamed   time.Time // the first refusal that may be for the element itself
	inVain   vain
	rounds   int
	warned   warned
	changed  string // what the home registrar has changed, as told last

	req requests

	actions []hunt.Action
	events  []Event
}

// newCore makes a core from a prepared configuration.
func newCore(c Config, rnd *rand.Rand, drawID func() rserpool.PEID) *core {
	k := &core{
		pool:   c.Pool,
		timers: c.Timers,
		life:   c.lifetime(),

		mistake: c.MistakeTime,
		rand:    rnd,
		element: rserpool.PoolElement{
			ID:            c.ID,
			Life:          c.wireLife(),
			UserTransport: c.Transport,
			UserEncapPort: c.UserEncapPort,
			Policy:        c.Policy,
		},
		hunt: hunt.New(hunt.Config{
			Registrars: c.registrars,
			ServerHunt: c.Timers.ServerHunt,
			Outdate:    c.Timers.Outdate,
			RetranMax:  c.Timers.RetranMax,
			Rand:       rnd,
		}),
		peers: make(map[sctp.AssocID]rserpool.Registrar),
		calls: newCalls(),
	}
	if c.ID == 0 {
		k.drawID = drawID
		k.element.ID = drawID()
	}
	return k
}

// take gives what has gathered since the last call: actions to perform and
// events to tell, both in order.
func (k *core) take() ([]hunt.Action, []Event) {
	for _, a := range k.hunt.Take() {
		k.calls.note(a)
		k.actions = append(k.actions, a)
	}
	actions, events := k.actions, k.events
	k.actions, k.events = nil, nil
	return actions, events
}

// Ended reports whether the element has ended; failure is why, if not by Stop alone.
func (k *core) Ended() bool { return k.phase == over }

// register asks for the element to be registered from now on.
func (k *core) register(now time.Time) {
	if k.want || k.stopping {
		return
	}
	k.want = true
	if k.wanted.IsZero() {
		k.wanted = now
	}
	switch k.phase {
	case idle:
		k.seek(now)
	case leaving:
		// A deregistration that has been sent is answered first. One that waits
		// for a registrar is no longer needed.
		if k.answerBy.IsZero() {
			k.phase = hunting
		}
	case hunting, registering, registered, closing, over: // under way, or too late
	}
}

// deregister asks for the element not to be registered from now on.
func (k *core) deregister(now time.Time) {
	if !k.want {
		return
	}
	k.want = false
	k.leave(now)
}

// Stop ends the element: it deregisters within Timers.Stop, and then is over.
func (k *core) Stop(now time.Time) {
	if k.stopping {
		return
	}
	k.stopping, k.want = true, false
	k.stopBy = now.Add(k.timers.Stop)
	k.endRequests(rserpool.ErrClosed)
	switch by := now.Add(k.patience(now)); {
	case k.phase != leaving:
		k.leave(now)
	case by.Before(k.answerBy):
		k.answerBy = by
	}
}

// update takes new policy values.
func (k *core) update(now time.Time, p rserpool.Policy) {
	if p == k.element.Policy {
		return
	}
	k.element.Policy, k.dirty = p, true
	k.scheduleUpdate(now)
	k.Tick(now)
}

// scheduleUpdate schedules the next registration for a change of the policy: at once, but
// not too soon after the last registration.
func (k *core) scheduleUpdate(now time.Time) {
	if k.phase != registered || !k.dirty || k.refusals.n > 0 || k.trial.moved {
		return // the next try of the registration sends it
	}
	k.updateAt = k.lastSent.Add(k.timers.MinUpdate)
	if k.updateAt.Before(now) {
		k.updateAt = now
	}
}

// seek registers with the home registrar, or looks for one.
func (k *core) seek(now time.Time) {
	if k.home != 0 {
		k.sendRegistration(now)
		return
	}
	k.phase = hunting
	k.beginHunt(now, nil)
}

func (k *core) beginHunt(now time.Time, why error) {
	k.rounds = 0
	k.hunt.Begin(now, k.homeAt, why)
}

// sendRegistration registers or re-registers (RFC 5352, Section 3.1).
func (k *core) sendRegistration(now time.Time) {
	k.phase, k.dirty = registering, false
	if k.attempts == 0 {
		k.wasKnown = k.mayBeKnown
	}
	k.mayBeKnown = true
	k.lastSent = now
	k.answerBy = now.Add(k.timers.Registration)
	k.renewAt, k.updateAt = time.Time{}, time.Time{}
	k.attempts++
	k.send(k.home, &asap.Registration{Handle: k.pool, Element: k.element})
}

// close shuts the associations down, and is over when they are.
func (k *core) close() {
	k.phase = closing
	for _, a := range slices.Sorted(maps.Keys(k.peers)) {
		k.closeAssoc(a)
	}
	if k.home == 0 {
		k.phase = over
	}
}

func (k *core) closeAssoc(a sctp.AssocID) {
	k.actions = append(k.actions, hunt.Close{Assoc: a})
}

// fail ends the element for a reason.
func (k *core) fail(now time.Time, err error) {
	k.failure = err
	k.tell(Event{Type: Rejected, Err: err})
	k.Stop(now)
}

// Tick does what is due.
func (k *core) Tick(now time.Time) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	switch {
	case k.phase == over:
	case due(k.stopBy):
		if k.mayBeKnown && k.failure == nil {
			k.failure = fmt.Errorf("deregistration of element %v is not confirmed after %v; it ends with its registration life or when its registrar misses it", k.element.ID, k.timers.Stop)
		}
		k.phase = over
	case k.phase == registering && due(k.answerBy): // T2-registration
		if k.attempts < k.timers.MaxRegAttempt {
			k.sendRegistration(now)
			break
		}
		k.dropHome(now, fmt.Errorf("no answer to %d registrations within %v each", k.attempts, k.timers.Registration))
	case k.phase == leaving && due(k.answerBy): // T3-deregistration
		k.dropHome(now, fmt.Errorf("no answer to a deregistration within %v", k.patience(now)))
	case k.answerBy.IsZero() && (k.phase == registered || k.phase == registering) && (due(k.renewAt) || due(k.updateAt)):
		// T4-reregistration, the end of a pause, or new values.
		if due(k.renewAt) && k.standing {
			k.expiries = 0
		}
		k.attempts = 0
		k.sendRegistration(now)
	}
	if due(k.trial.answerBy) {
		k.trialUnanswered(now)
	}
	if due(k.back.at) {
		k.tryBack(now)
	}
	if due(k.former.callBy) {
		k.uncalled(now)
	}
	if due(k.quiet.at) {
		k.askHome(now)
	}
	k.tickRequests(now)
	k.hunt.Tick(now)
	k.tellRounds(now)
}

// NextDeadline is when Tick has something to do.
func (k *core) NextDeadline() (time.Time, bool) {
	next, ok := k.hunt.NextDeadline()
	for _, d := range []time.Time{k.answerBy, k.renewAt, k.updateAt, k.stopBy, k.trial.answerBy, k.back.at, k.former.callBy, k.quiet.at} {
		if !d.IsZero() && (!ok || d.Before(next)) {
			next, ok = d, true
		}
	}
	for _, r := range k.req.list {
		if !r.by.IsZero() && (!ok || r.by.Before(next)) {
			next, ok = r.by, true
		}
	}
	return next, ok && k.phase != over
}

// dropHome ends the association with a home registrar that does not answer, and looks for
// another registrar.
func (k *core) dropHome(now time.Time, why error) {
	k.actions = append(k.actions, hunt.Close{Assoc: k.home, Abort: true})
	k.lostHome(now, why)
}

// lostHome continues without the home registrar.
func (k *core) lostHome(now time.Time, why error) {
	if !k.renews(why) && (k.phase == registering || k.phase == registered || k.phase == leaving) {
		k.tell(Event{Type: HomeLost, Err: why, Unserved: k.phase == registering && !k.served})
	}
	k.homeless(now, why)
}

// homeless looks for another registrar at once and registers there with the same
// identifier, or ends the registration there.
func (k *core) homeless(now time.Time, why error) {
	k.renewing = k.renews(why)
	k.countFlap(now)
	k.turnedAway(why)
	k.remember()
	k.hurry(now)
	k.quiet.end()
	delete(k.peers, k.home)
	k.home = 0
	served := k.served
	k.served, k.attempts = false, 0
	if !k.renewing {
		k.forsake()
	}
	k.answerBy, k.renewAt, k.updateAt = time.Time{}, time.Time{}, time.Time{}
	k.hunt.Stop() // it was for an alternative
	k.back = goBack{}
	k.unask()
	switch {
	case k.trial.assoc != 0 && !k.trial.adopter:
		k.settleFor(now, k.trial) // its answer may still arrive
	case k.phase == registering, k.phase == registered, k.phase == leaving && k.want:
		k.phase = hunting
		if !k.awaitCall(now, why) {
			k.seekAgain(now, why)
		}
	case k.phase == leaving && !k.mayBeKnown:
		k.left(now)
	case k.phase == leaving:
		k.seekAgain(now, why)
	case k.phase == closing:
		k.phase = over
	default:
		k.seekToAsk(now)
	}
	k.tellPause(now, served)
}

// send queues a message. A message that cannot be encoded is not sent: Open has tried the
// messages with the user's values, and the others are small.
func (k *core) send(a sctp.AssocID, m asap.Message) {
	data, err := m.Append(nil)
	if err != nil {
		return
	}
	// The registrar asks for an acknowledgement again after a fraction of a second, and
	// soon holds a silent element for failed: none may wait for a lost message.
	_, ack := m.(*asap.EndpointKeepAliveAck)
	k.actions = append(k.actions, hunt.Send{Assoc: a, Data: data, Unordered: ack})
}
