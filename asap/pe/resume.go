package pe

import (
	"errors"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	// hurryTime is how long the pauses of the hunt for a registrar stay short after the loss
	// of a home that served: no longer than the interval in which it has sent keep-alives,
	// or minHurry. With that bound, elements that look for a registrar cause no more calls
	// than the registrar would send keep-alives.
	hurryTime = 5 * time.Minute
	minHurry  = 2 * time.Second
	// callTime is how long an element waits for the first keep-alive of a registrar that
	// has restarted and has connected to it. A registrar that calls thousands of elements
	// may take seconds for that, and answers users with them meanwhile; with registrations
	// it would take longer still.
	callTime = 3 * time.Second
)

// former is the home registrar whose association was lost while the registration stood
// there. A registrar that has kept its state over a restart connects to its elements and
// sends them keep-alives. Then the registration stands, without another one.
type former struct {
	stands  bool              // there is one
	server  rserpool.ServerID // 0: not known, since it has not asked yet
	at      rserpool.Registrar
	renewAt time.Time
	callBy  time.Time // it has connected; until then, its keep-alive is waited for
}

// remember notes the home registrar that is being lost.
func (k *core) remember() {
	k.former = former{}
	if (k.phase == registering || k.phase == registered) && k.served && k.standing && k.refusals.n == 0 {
		k.former = former{stands: true, server: k.element.Home, at: k.homeAt, renewAt: k.renewAt}
	}
}

// hurry has the hunt be quick to find a registrar that has served. This holds also when
// several homes in a row have failed soon: nobody can tell registrars that take and lose the
// element from one that was restarted several times and is healthy now. With a pause before
// each call, the former cost no more calls than a registrar that is down.
func (k *core) hurry(now time.Time) {
	if k.served {
		k.hunt.Hurry(now, max(k.quiet.gap, minHurry), hurryTime)
	}
}

// awaitCall waits for the keep-alive of a home registrar that has restarted, and has
// connected to the element for that.
func (k *core) awaitCall(now time.Time, why error) bool {
	if !k.former.stands || !errors.Is(why, sctp.ErrRestarted) {
		return false
	}
	k.former.callBy = now.Add(callTime)
	return true
}

// uncalled: no keep-alive has come, so that the element registers again.
func (k *core) uncalled(now time.Time) {
	k.former.callBy = time.Time{}
	if k.phase == hunting && k.home == 0 {
		k.beginHunt(now, nil)
	}
}

// mayResume reports whether a keep-alive shows that the registration stands at the former
// home registrar.
func (k *core) mayResume(a sctp.AssocID, m *asap.EndpointKeepAlive) bool {
	f := &k.former
	return k.phase == hunting && k.home == 0 && k.trial.assoc == 0 &&
		f.stands && (m.Server == f.server || f.server == 0) && cameFrom(k.peers[a], f.at) &&
		!k.moving && (k.addrs == nil || slices.Equal(k.addrs, k.element.UserTransport.Addrs))
}

// resume goes on at the former home registrar. The next registration is sent when it would
// have been, or soon if that time is over: not at once, because the registrar has called
// all its elements at the same time.
func (k *core) resume(now time.Time, a sctp.AssocID, server rserpool.ServerID) {
	f := k.former
	k.former = former{}
	k.phase = registered
	k.home, k.homeAt, k.element.Home = a, f.at, server
	k.hunted, k.since = true, now
	k.served, k.standing = true, true
	k.hunt.Stop()
	k.trust(now)
	k.renewAt = later(f.renewAt, now.Add(k.vary(k.timers.Reregistration/4)))
	if k.life > 0 {
		if end := k.acceptedAt.Add(k.life / 2); end.Before(k.renewAt) {
			k.renewAt = later(end, now)
		}
	}
	k.inVain = vain{}
	k.quiet.begin(now)
	k.scheduleUpdate(now)
	k.askAll(now)
	if !k.renewing {
		k.tell(Event{Type: Resumed})
	}
	k.renewing = false
}
