package sim

import (
	"maps"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ruled are the operator's rules for pools, the same ones for all registrars.
type ruled map[rserpool.PoolHandle]registrar.PoolRule

func (m ruled) of(h rserpool.PoolHandle) registrar.PoolRule { return m[h] }

// told is what a registrar is told of them.
func (s *Sim) told() registrar.PoolRules {
	if s.misruled {
		return func(rserpool.PoolHandle) registrar.PoolRule {
			return registrar.PoolRule{Guard: registrar.Guard{Off: true}}
		}
	}
	return s.rules.of
}

// someRule is a rule by chance.
func (s *Sim) someRule() (rule registrar.PoolRule) {
	switch s.net.rand.IntN(6) {
	case 0:
		rule.Guard.Off = true
	case 1, 2:
		rule.Guard.Share = float64(1+s.net.rand.IntN(9)) / 10
	}
	if s.net.chance(4) {
		rule.KeepAliveInterval = time.Second
	}
	return rule
}

// ruleAll gives rules to all pools.
func (s *Sim) ruleAll() {
	s.rules = maps.Clone(s.rules)
	for _, e := range s.elements {
		if _, ok := s.rules[e.pool]; !ok {
			s.rules[e.pool] = s.someRule()
		}
	}
	s.sendRules()
}

// changeRule changes the rule of one pool.
func (s *Sim) changeRule(h rserpool.PoolHandle) {
	rule := s.someRule()
	s.trace("%s has the rule %+v", h, rule)
	s.rules = maps.Clone(s.rules) // the registrars have the former ones
	s.rules[h] = rule
	s.sendRules()
}

// sendRules tells the rules to all registrars. Those that stand still hear of them later.
func (s *Sim) sendRules() {
	rules, told := s.rules, s.told()
	for _, n := range s.nodes {
		if n.h.proc != nil {
			n.h.do(n.h.life, func() {
				n.rules = rules
				n.handle(registrar.Rules{Of: told})
			})
		}
	}
}

// failsClosed reports whether the operator does without silent elements of the pool even
// if there is no other one.
func (n *node) failsClosed(h rserpool.PoolHandle) bool { return n.rules[h].Guard.Off }

// remove has the operator remove an element at some registrar, which says where else it is
// done if it is not the home.
func (s *Sim) remove(h *host, e *element) {
	n, ok := h.proc.(*node)
	if !ok || h.stands() {
		return
	}
	s.trace("the operator removes element %v at %v", e.id, h)
	if x, ok := n.sight(e); ok && x.Home == n.r.ID() {
		e.proves()
		e.sure = false
	}
	n.handle(registrar.Remove{Handle: e.pool, ID: e.id})
}
