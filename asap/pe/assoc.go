package pe

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// maxPeers bounds the associations of an element, which anyone may open.
const maxPeers = 16

// calls are the associations that the hunt sets up, at most three.
type calls struct {
	refs   map[uint64]rserpool.Registrar // not named yet
	assocs map[sctp.AssocID]rserpool.Registrar
}

func newCalls() calls {
	return calls{make(map[uint64]rserpool.Registrar), make(map[sctp.AssocID]rserpool.Registrar)}
}

// note remembers a Connect among the hunt's actions.
func (c *calls) note(a hunt.Action) {
	if a, ok := a.(hunt.Connect); ok {
		c.refs[a.Ref] = a.To
	}
}

// Connecting tells the name of the association that a Connect made.
func (k *core) Connecting(now time.Time, ref uint64, a sctp.AssocID, err error) {
	if a != 0 {
		k.calls.assocs[a] = k.calls.refs[ref]
	}
	delete(k.calls.refs, ref)
	k.hunt.Connecting(now, ref, a, err)
	k.tellRounds(now) // before the next round, which has no reasons yet
}

// Up tells that an association is established, by the hunt or by another.
func (k *core) Up(now time.Time, a sctp.AssocID, peer []netip.AddrPort) {
	delete(k.calls.assocs, a)
	at, ours := k.hunt.Up(a)
	if !ours {
		at = registrarAt(peer)
	}
	k.peers[a] = at
	if ours {
		k.reached(now, a, at)
	} else if k.phase >= closing {
		k.closeAssoc(a)
	} // else it may be that of a new home registrar
	k.evict()
}

// registrarAt is a registrar that has connected from the addresses.
func registrarAt(peer []netip.AddrPort) (r rserpool.Registrar) {
	for _, a := range peer {
		r.Addrs, r.Port = append(r.Addrs, a.Addr()), a.Port()
	}
	return r
}

// reached goes on with the registrar that the hunt has found.
func (k *core) reached(now time.Time, a sctp.AssocID, at rserpool.Registrar) {
	active := k.phase == registering || k.phase == registered
	switch {
	case k.phase == hunting:
		k.settleAt(now, a, at)
		k.sendRegistration(now)
	case k.phase == leaving && k.home == 0:
		k.settleAt(now, a, at)
		k.leave(now)
	case active && !k.served && k.moving: // nothing stands at the present home
		k.drop(k.home)
		k.settleAt(now, a, at)
		k.attempts = 0
		k.sendRegistration(now)
	case k.phase == idle && k.home == 0 && len(k.req.list) > 0:
		k.settleAt(now, a, at)
		k.hunt.Stop()
	case active && k.trial.assoc == 0:
		k.tryOther(now, a, at)
	default: // not wanted any more
		k.closeAssoc(a)
	}
}

// settleAt makes the registrar at the other end of an association the home registrar.
func (k *core) settleAt(now time.Time, a sctp.AssocID, at rserpool.Registrar) {
	if !at.Equal(k.homeAt) {
		k.notRenewed()
	}
	k.home, k.homeAt, k.hunted, k.since = a, at, true, now
	if k.addrs != nil {
		k.element.UserTransport.Addrs, k.moving = k.addrs, false
	}
	k.askAll(now)
}

// maxFlaps is how many homes in a row may accept the element and fail within steadyTime
// before the hunt pauses.
const (
	steadyTime = 10 * time.Second
	maxFlaps   = 3
)

// steady reports whether the home registrar has served for steadyTime.
func (k *core) steady(now time.Time) bool { return now.Sub(k.since) >= steadyTime }

// trust ends the pauses of the hunt once the home has accepted the element, unless
// several homes in a row have failed soon after that: then the hunt for the next home
// begins with a pause. See hurry for its length.
func (k *core) trust(now time.Time) {
	if k.steady(now) {
		k.flaps = 0
	}
	if k.flaps < maxFlaps {
		k.hunt.Settled()
	}
}

// countFlap counts a home that is being lost soon after it has accepted the element. One
// that has served for steadyTime ends the count.
func (k *core) countFlap(now time.Time) {
	switch {
	case !k.served || k.renewing:
	case k.steady(now):
		k.trust(now)
	case k.hunted:
		k.flaps++
	}
}

// evict ends an association that is not needed if there are too many: the oldest of the
// host that has the most, so that one host cannot displace the associations of another.
// The newest may be that of a new home registrar.
func (k *core) evict() {
	if len(k.peers) <= maxPeers {
		return
	}
	hosts := make(map[netip.Addr]int)
	for _, at := range k.peers {
		hosts[hostOf(at)]++
	}
	var victim sctp.AssocID
	most := 0
	for _, a := range slices.Sorted(maps.Keys(k.peers)) {
		if n := hosts[hostOf(k.peers[a])]; a != k.home && a != k.trial.assoc && a != k.back.former && n > most {
			victim, most = a, n
		}
	}
	k.drop(victim)
}

// drop aborts an association that is not needed.
func (k *core) drop(a sctp.AssocID) {
	delete(k.peers, a)
	k.actions = append(k.actions, hunt.Close{Assoc: a, Abort: true})
}

// Down handles the end of an association, or one that was never established.
func (k *core) Down(now time.Time, a sctp.AssocID, err error) {
	to := k.calls.assocs[a]
	delete(k.calls.assocs, a)
	if errors.Is(err, sctp.ErrConnected) {
		if k.connected(now, a, to) {
			return
		}
		err = &takenError{err}
	}
	if k.hunt.Down(now, a, err) {
		k.tellRounds(now)
		return
	}
	_, known := k.peers[a]
	delete(k.peers, a)
	for i := range k.shunned {
		if k.shunned[i].assoc == a {
			k.shunned[i].assoc = 0
		}
	}
	switch {
	case !known:
	case a == k.home:
		k.lostHome(now, err)
	case a == k.trial.assoc:
		k.trialFailed(now, err)
	}
}

// takenError is the failure of a connect because of another association with the registrar that
// cannot be used. Usually the registrar has restarted and connects to the element: the element
// hears of that association when it is established, which is a little later.
type takenError struct{ err error }

func (e *takenError) Error() string {
	return "another association with it is being set up or ended"
}

func (e *takenError) Unwrap() error { return e.err }

// connected handles a connect that is not needed because the registrar has connected to
// the element before; it reports whether that association can be used instead. An
// association that only claims the registrar's address, among others, prevents one with
// the registrar, and is ended.
func (k *core) connected(now time.Time, a sctp.AssocID, to rserpool.Registrar) bool {
	for _, p := range slices.Sorted(maps.Keys(k.peers)) {
		at := k.peers[p]
		claims := at.Port == to.Port && slices.ContainsFunc(at.Addrs, func(a netip.Addr) bool { return slices.Contains(to.Addrs, a) })
		switch {
		case p == k.home || p == k.trial.assoc || !claims:
		case !cameFrom(at, to):
			k.drop(p)
		default:
			if at, ours := k.hunt.Up(a); ours {
				k.peers[p] = at
				k.reached(now, p, at)
				return true
			}
		}
	}
	return false
}

// SendFailed tells that a message could not be delivered (RFC 5352, Section
// 3.7.1).
func (k *core) SendFailed(now time.Time, a sctp.AssocID, err error) {
	err = fmt.Errorf("message not delivered: %w", err)
	switch {
	case a == k.home && !k.answerBy.IsZero():
		k.dropHome(now, err)
	case a != 0 && a == k.trial.assoc:
		k.trialFailed(now, err)
	}
}
