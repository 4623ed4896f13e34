package registrar

import (
	"fmt"
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
	// Guard says when answers have the pool's suspects.
	Guard Guard
}

// Guard says when the suspects of a pool, which are elements that are silent, are in
// answers all the same. With the zero value they are if the pool has no other elements: so
// silence alone never empties a pool.
type Guard struct {
	// Off: suspects are never in answers.
	Off bool
	// Share of the pool's elements, from 0 to 1: they are in answers if at least this share
	// is suspect. 0 stands for all.
	Share float64
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
	var cause rserpool.CauseCode
	switch {
	case rule.Policy != 0 && rule.Policy != kind.Policy:
		cause = rserpool.CauseInconsistentPolicy
	case rule.Transport != 0 && rule.Transport != kind.Transport:
		cause = rserpool.CauseInconsistentTransportType
	default:
		return nil
	}
	return &ruleError{
		InconsistentError: &handlespace.InconsistentError{Cause: cause, Policy: rule.Policy, Transport: rule.Transport, Element: kind},
		demand:            rule.demand(cause),
	}
}

// demand says which part of the rule is why an element is refused with the cause, as the
// operator has it in the Corefile.
func (rule PoolRule) demand(c rserpool.CauseCode) string {
	line := "transport " + rule.Transport.String()
	if c == rserpool.CauseInconsistentPolicy {
		line = "policy " + rule.Policy.String()
	}
	return fmt.Sprintf("; the operator's rule for this pool demands that (%q in a pool line)", line)
}

// ruleError says that a rule excludes an element, whatever is in the pool.
type ruleError struct {
	*handlespace.InconsistentError
	demand string
}

func (e *ruleError) Error() string { return e.InconsistentError.Error() + e.demand }
func (e *ruleError) Unwrap() error { return e.InconsistentError }

// demands reports whether the rule is why an element is refused with the cause.
func (rule PoolRule) demands(c rserpool.CauseCode, e rserpool.PoolKind) bool {
	return c == rserpool.CauseInconsistentPolicy && rule.Policy != 0 && rule.Policy != e.Policy ||
		c == rserpool.CauseInconsistentTransportType && rule.Transport != 0 && rule.Transport != e.Transport
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
		r.applyRule(h, former.of(h))
		r.poolSettled(r.ledger.Reguard(h))
	}
	r.hurryKeepAlives(former)
}

func (r *Registrar) applyRule(h rserpool.PoolHandle, former PoolRule) {
	aside, back, emptied := 0, 0, false
	for _, c := range r.ledger.Refit(h) {
		if c.Conflict != nil {
			aside++
		} else {
			back++
		}
		emptied = emptied || c.Emptied
	}
	switch all, why := r.ruledOut(h); {
	case all == 0:
	case aside > 0:
		r.logf(true, "the new rule of pool %s sets elements aside that are registered, %d in all, so that they are in no answer: %v", quote(h), all, why)
	case !former.sameKind(r.cfg.Rules.of(h)):
		r.logf(true, "the new rule of pool %s keeps elements set aside, %d in all, so that they are in no answer: %v", quote(h), all, why)
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

// sameKind reports whether two rules admit the same elements.
func (rule PoolRule) sameKind(other PoolRule) bool {
	return rule.Policy == other.Policy && rule.Transport == other.Transport
}

// ruledOut returns how many elements of a pool its rule excludes, and why it excludes the last
// of them.
func (r *Registrar) ruledOut(h rserpool.PoolHandle) (n int, why error) {
	rule := r.cfg.Rules.of(h)
	for _, x := range r.ledger.Barred(h) {
		if err := rule.check(x.PE()); err != nil {
			n, why = n+1, err
		}
	}
	return n, why
}

// hurryKeepAlives has elements whose interval is shorter now wait no longer than that.
func (r *Registrar) hurryKeepAlives(former PoolRules) {
	all := r.ledger.OpenEach(r.roster)
	defer r.ledger.Close(all)
	for x := all.Next(); x != nil; x = all.Next() {
		e := x.Note.own
		if former.of(x.Handle()).KeepAliveInterval == r.cfg.Rules.of(x.Handle()).KeepAliveInterval {
			continue
		}
		r.countInterval(e, -1)
		r.countInterval(e, 1)
		if !e.keepAlive.Armed() || e.waiting {
			continue
		}
		e.brief = false
		pause := r.keepAliveInterval(x.Handle())
		if s := e.silence; e.isSuspect() {
			s.pause = min(s.pause, max(pause, maxSilentPause))
			pause = s.pause
		}
		if r.timers.At(&e.keepAlive).Sub(r.now) > pause*11/10 {
			e.queued = false
			r.timers.Arm(&e.keepAlive, e, r.now.Add(r.jitter(pause)))
		}
	}
}

// poolEmptied: the handlespace has lost a pool.
func (r *Registrar) poolEmptied(h rserpool.PoolHandle) {
	r.stats.PoolsEmptied++
	if r.ledger.Pool(h).Suspects > 0 {
		r.settling.dark[h] = true
		r.tellPool(h, poolFine, poolDark)
	} else {
		r.tellPool(h, poolFine, poolLost)
	}
	r.dropIdlePool(h)
}
