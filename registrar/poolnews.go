package registrar

import (
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// poolNews are the warnings about pools: a guard begins or ends, a pool has no element in answers,
// or has one again. A peer that names the only element of a pool and takes it back by turns, or an
// element that registers and deregisters, makes one with each message. So a pool has newsLines of them,
// and from then on one in newsGap, with its state, if that is another one than the log says. All
// pools together have a half of LogsPerSecond, so that other warnings are not lost.
type poolNews struct {
	timer timer
	// pools are those of which there was a line in newsGap: newsPools at most. The others are not
	// remembered, and have only the limit for all pools.
	pools []newsOf // in the order of their times
}

// newsOf is what the log says of a pool.
type newsOf struct {
	handle rserpool.PoolHandle
	state  poolState
	lines  int
	at     time.Time // of the first line, or of the last one that the timer has caused
}

const (
	newsGap   = 10 * time.Second
	newsLines = 8
	newsPools = 256
)

// poolState is what the log says of a pool.
type poolState uint8

const (
	poolFine    poolState = iota // its members are in answers
	poolGuarded                  // its suspects as well
	poolDark                     // it has only suspects, and none is in answers
	poolLost                     // it has no elements, but for those that are set aside
)

func (r *Registrar) poolState(h rserpool.PoolHandle) poolState {
	switch {
	case r.ledger.Pool(h).Guarded:
		return poolGuarded
	case r.space.Pool(h) != nil:
		return poolFine
	case r.ledger.Pool(h).Suspects > 0:
		return poolDark
	}
	return poolLost
}

// tellPool logs that a pool has left a state for another one, unless it has had its lines.
func (r *Registrar) tellPool(h rserpool.PoolHandle, from, to poolState) {
	n := &r.poolNews
	i := slices.IndexFunc(n.pools, func(p newsOf) bool { return p.handle == h })
	switch {
	case i >= 0 && n.pools[i].lines >= newsLines:
		r.log.left++ // the timer tells what has become of it
	case !r.logPool(h, from, to):
	case i >= 0:
		n.pools[i].state = to
		n.pools[i].lines++
	case len(n.pools) < newsPools:
		n.pools = append(n.pools, newsOf{h, to, 1, r.now})
		n.await(r)
	}
}

func (n *poolNews) await(r *Registrar) {
	if len(n.pools) > 0 && !n.timer.Armed() {
		r.timers.Arm(&n.timer, n, n.pools[0].at.Add(newsGap))
	}
}

// Due tells what has become of pools that have had their lines, and forgets those of which the log
// says what they are.
func (n *poolNews) Due(r *Registrar, _ *timer) {
	due := slices.IndexFunc(n.pools, func(p newsOf) bool { return p.at.Add(newsGap).After(r.now) })
	if due < 0 {
		due = len(n.pools)
	}
	for _, p := range n.pools[:due] {
		now := r.poolState(p.handle)
		if now == p.state || now == poolFine && p.state == poolLost { // registrations have lines of their own
			continue
		}
		if r.logPool(p.handle, p.state, now) {
			p.state = now
		}
		p.at = r.now
		n.pools = append(n.pools, p)
	}
	n.pools = slices.Delete(n.pools, 0, due)
	n.await(r)
}

// logPool writes the line, and reports whether the limits allow it.
func (r *Registrar) logPool(h rserpool.PoolHandle, from, to poolState) bool {
	n := r.ledger.Pool(h)
	switch {
	case to == poolGuarded:
		but := ""
		if n.Displaced > 0 && n.Displaced < n.Suspects {
			but = fmt.Sprintf(", but for %d at whose places others answer", n.Displaced)
		}
		return r.warnOfPools("pool %s is guarded: %d of its %d elements are suspects, and stay in its answers%s", quote(h), n.Suspects, n.Elements-n.Aside, but)
	case to == poolDark:
		return r.warnOfPools("pool %s has no element in answers: the last %d are suspects, and guard off leaves them out: clients do not find it until one answers or registers", quote(h), n.Suspects)
	case to == poolLost && n.Aside > 0:
		return r.warnOfPools("pool %s has no element in answers: all %d are set aside: clients do not find it until one of them fits the rules of its pool, or another one registers", quote(h), n.Aside)
	case to == poolLost:
		return r.warnOfPools("pool %s has lost its last element: clients do not find it until one registers", quote(h))
	case from == poolGuarded:
		return r.warnOfPools("pool %s is no longer guarded: %d of its %d elements are suspects", quote(h), n.Suspects, n.Elements-n.Aside)
	}
	return r.warnOfPools("pool %s has an element in answers again: %d of its %d elements are suspects", quote(h), n.Suspects, n.Elements-n.Aside)
}
