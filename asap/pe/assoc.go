package pe

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// maxPeers bounds the associations of an element, which anyone may open.
const maxPeers = 16

// calls are the associations that the hunt sets up, three at most.
type calls struct {
	refs   map[uint64]endpoint.Registrar // not named yet
	assocs map[sctp.AssocID]endpoint.Registrar
}

func newCalls() calls {
	return calls{make(map[uint64]endpoint.Registrar), make(map[sctp.AssocID]endpoint.Registrar)}
}

// note notes a call among the hunt's actions.
func (c *calls) note(a endpoint.Action) {
	if a, ok := a.(endpoint.Connect); ok {
		c.refs[a.Ref] = a.To
	}
}

// connecting tells the name of the association that a Connect made.
func (k *core) connecting(now time.Time, ref uint64, a sctp.AssocID, err error) {
	if a != 0 {
		k.calls.assocs[a] = k.calls.refs[ref]
	}
	delete(k.calls.refs, ref)
	k.hunt.Connecting(now, ref, a, err)
	k.tellRounds(now) // before the next round, which has no reasons yet
}

// up tells that an association is established, by the hunt or by another.
func (k *core) up(now time.Time, a sctp.AssocID, peer []netip.AddrPort) {
	delete(k.calls.assocs, a)
	at, ours := k.hunt.Up(a)
	if !ours {
		at = endpoint.Registrar{Addrs: peer}
	}
	k.peers[a] = at
	if ours {
		k.reached(now, a, at)
	} else if k.phase >= closing {
		k.closeAssoc(a)
	} // else perhaps a new home registrar
	k.evict()
}

// reached goes on with the registrar that the hunt has found.
func (k *core) reached(now time.Time, a sctp.AssocID, at endpoint.Registrar) {
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
	case active && k.trial.assoc == 0:
		k.tryOther(now, a, at)
	default: // not wanted any more
		k.closeAssoc(a)
	}
}

// settleAt makes the registrar at the other end of an association the home.
func (k *core) settleAt(now time.Time, a sctp.AssocID, at endpoint.Registrar) {
	k.home, k.homeAt, k.hunted, k.since = a, at, true, now
	if k.addrs != nil {
		k.element.UserTransport.Addrs, k.moving = k.addrs, false
	}
}

// Of homes that accept the element and fail within steadyTime, maxFlaps may do so
// before the hunt pauses.
const (
	steadyTime = 10 * time.Second
	maxFlaps   = 3
)

// steady reports whether the home has been it for a while.
func (k *core) steady(now time.Time) bool { return now.Sub(k.since) >= steadyTime }

// trust ends the pauses of the hunt once the home has accepted the element, unless
// homes have failed soon after that time and again.
func (k *core) trust(now time.Time) {
	if k.steady(now) {
		k.flaps = 0
	}
	if k.flaps < maxFlaps {
		k.hunt.Settled()
	}
}

// evict ends an association of no use where there are too many: the oldest of
// the host that has the most, so that one host's cannot drive out another's.
// The newest may be a new home registrar's.
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

// drop ends an association that is of no use at once.
func (k *core) drop(a sctp.AssocID) {
	delete(k.peers, a)
	k.actions = append(k.actions, endpoint.Close{Assoc: a, Abort: true})
}

// down tells that an association is gone, or never came up.
func (k *core) down(now time.Time, a sctp.AssocID, err error) {
	to := k.calls.assocs[a]
	delete(k.calls.assocs, a)
	if errors.Is(err, sctp.ErrConnected) && k.connected(now, a, to) {
		return
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

// connected takes a call that is not needed, because the registrar has called the
// element before; it reports whether that association will do. One that only claims
// the registrar's address, among others, keeps the element from the registrar, and
// is ended.
func (k *core) connected(now time.Time, a sctp.AssocID, to endpoint.Registrar) bool {
	for _, p := range slices.Sorted(maps.Keys(k.peers)) {
		at := k.peers[p]
		claims := slices.ContainsFunc(at.Addrs, func(ap netip.AddrPort) bool { return slices.Contains(to.Addrs, ap) })
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

// sendFailed tells that a message could not be delivered (RFC 5352, Section
// 3.7.1).
func (k *core) sendFailed(now time.Time, a sctp.AssocID, err error) {
	err = fmt.Errorf("message not delivered: %w", err)
	switch {
	case a == k.home && !k.answerBy.IsZero():
		k.dropHome(now, err)
	case a != 0 && a == k.trial.assoc:
		k.trialFailed(now, err)
	}
}
