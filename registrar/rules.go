package registrar

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// PoolRule is what the operator has laid down for a pool. A zero field leaves it to the
// pool's first element, or to the other configuration.
type PoolRule struct {
	// Policy and Transport are those of its elements. An element with another policy or
	// user transport is refused, and set aside if it comes from a peer.
	Policy    rserpool.PolicyType
	Transport rserpool.TransportType
	// KeepAliveInterval takes the place of that of Timers.
	KeepAliveInterval time.Duration
}

// PoolRules returns the rule of a pool. It always returns the same rule for a handle, and
// may be called by any goroutine. A nil PoolRules has no rules.
type PoolRules func(rserpool.PoolHandle) PoolRule

func (rs PoolRules) of(h rserpool.PoolHandle) (rule PoolRule) {
	if rs != nil {
		rule = rs(h)
	}
	return rule
}

// check returns why an element must not be in a pool with this rule, nil if it may.
func (rule PoolRule) check(e *handlespace.Element) error {
	kind := e.Kind()
	conflict := handlespace.InconsistentError{Policy: rule.Policy, Transport: rule.Transport, Element: kind}
	switch {
	case rule.Policy != 0 && rule.Policy != kind.Policy:
		conflict.Cause = rserpool.CauseInconsistentPolicy
	case rule.Transport != 0 && rule.Transport != kind.Transport:
		conflict.Cause = rserpool.CauseInconsistentTransportType
	default:
		return nil
	}
	return &conflict
}

// demands reports whether the rule is why an element is refused with the cause.
func (rule PoolRule) demands(c rserpool.CauseCode, e rserpool.PoolKind) bool {
	return c == rserpool.CauseInconsistentPolicy && rule.Policy != 0 && rule.Policy != e.Policy ||
		c == rserpool.CauseInconsistentTransportType && rule.Transport != 0 && rule.Transport != e.Transport
}

// keepAliveInterval is the mean time between two keep-alives to the pool's elements.
func (r *Registrar) keepAliveInterval(h rserpool.PoolHandle) time.Duration {
	if d := r.cfg.Rules.of(h).KeepAliveInterval; d > 0 {
		return d
	}
	return r.cfg.Timers.KeepAliveInterval
}

// onRules: elements that the new rules exclude are set aside, and remain registered and
// supervised: they are in the answers again when the rules admit them, or when they register
// again as the rules demand. Elements that the former rules had excluded are admitted.
func (r *Registrar) onRules(ev Rules) {
	former := r.cfg.Rules
	r.cfg.Rules = ev.Of
	var changed []rserpool.PoolHandle
	for h := range r.ledger.Handles {
		if former.of(h) != ev.Of.of(h) {
			changed = append(changed, h)
		}
	}
	slices.Sort(changed)
	for _, h := range changed {
		r.applyRule(h)
	}
	r.hurryKeepAlives(former)
}

func (r *Registrar) applyRule(h rserpool.PoolHandle) {
	aside, back, emptied, conflict := 0, 0, false, error(nil)
	for _, c := range r.ledger.Refit(h) {
		if c.Conflict != nil {
			aside, conflict = aside+1, c.Conflict
		} else {
			back++
		}
		emptied = emptied || c.Emptied
	}
	if aside > 0 {
		r.logf(true, "the new rule of pool %s sets elements aside that are registered, %d in all, so that they are in no answer: %v", quote(h), aside, conflict)
	}
	if back > 0 {
		r.logf(false, "the new rule of pool %s admits elements that were set aside, %d in all", quote(h), back)
	}
	if aside+back > 0 {
		r.poolChanged(h)
	}
	if emptied {
		r.poolEmptied(h)
	}
}

// hurryKeepAlives has elements whose interval is shorter now wait no longer than that.
func (r *Registrar) hurryKeepAlives(former PoolRules) {
	for x := r.roster.First(); x != nil; x = r.roster.Next(x) {
		e := x.Note.own
		if former.of(x.Handle()).KeepAliveInterval == r.cfg.Rules.of(x.Handle()).KeepAliveInterval || !e.keepAlive.Armed() || e.waiting {
			continue
		}
		if interval := r.keepAliveInterval(x.Handle()); r.timers.At(&e.keepAlive).Sub(r.now) > interval*3/2 {
			r.alive(e)
		}
	}
}

// poolEmptied: the handlespace has lost a pool.
func (r *Registrar) poolEmptied(h rserpool.PoolHandle) {
	r.stats.PoolsEmptied++
	r.logf(true, "pool %s has lost its last element: clients do not find it until one registers", quote(h))
	r.dropIdlePool(h)
}
