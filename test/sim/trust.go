package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const domain = "sim.example"

// trust are the rights of a trusted scope, the same ones for all registrars but lax ones.
type trust struct {
	allowed map[string]rserpool.PoolHandle // pools of identities that are none of an element's own
	denied  map[string]bool
	// withdrawn are registrars that may not be any; closed has only some users resolve.
	withdrawn map[string]bool
	closed    bool
	rights    *identity.Rights
	changed   time.Duration
	thief     *stranger // nil while there is none
	users     []*user
}

// reviewTime is more than a registrar of this size takes to look at all after new rights.
const reviewTime = time.Second

// lax are the rights of a registrar that lets everybody register that has a certificate.
type lax struct{ *identity.Rights }

func (l lax) Registers(name string, _ rserpool.PoolHandle) bool { return name != "" && !l.Denied(name) }

// thiefGap is the time between two tries of a thief.
const thiefGap = 3 * time.Second

// beginTrust gives all processes identities, and the registrars rights. Some elements may not
// register in their pool.
func (s *Sim) beginTrust() {
	s.trust = &trust{allowed: make(map[string]rserpool.PoolHandle), denied: make(map[string]bool), withdrawn: make(map[string]bool)}
	for i, n := range s.nodes {
		n.h.identity = s.named(identity.Registrar(domain, fmt.Sprintf("r%d", i)))
	}
	if len(s.nodes) > 2 && s.net.chance(3) {
		s.nodes[s.net.rand.IntN(len(s.nodes))].lax = true
	}
	for _, e := range s.elements {
		pool := e.pool
		if s.net.chance(6) {
			pool = "elsewhere"
		}
		e.h.identity = s.named(identity.Pool(domain, pool, fmt.Sprintf("e%d", e.id)))
		e.spare.identity = e.h.identity // wherever it runs it has its certificate
		if pool != e.pool && s.net.chance(2) {
			s.trust.allowed[e.h.identity] = e.pool
		}
	}
	for i := range 2 {
		s.trust.users = append(s.trust.users, s.newUser(i))
	}
	s.setRights()
}

// named is a name, which cannot be wrong.
func (s *Sim) named(name string, err error) string {
	if err != nil {
		s.fail("%v", err)
	}
	return name
}

// setRights makes rights of what is allowed and denied, and tells all registrars. Those that
// stand still hear of them later.
func (s *Sim) setRights() {
	t := s.trust
	rules := identity.Rules{Deny: slices.Sorted(maps.Keys(t.denied))}
	for _, name := range slices.Sorted(maps.Keys(t.allowed)) {
		rules.Allow = append(rules.Allow, identity.Allow{Pools: string(t.allowed[name]), Names: name})
	}
	if len(t.withdrawn) > 0 {
		rules.Registrars = []string{"dns:" + domain} // in case that all are
	}
	for _, n := range s.nodes {
		if len(t.withdrawn) > 0 && !t.withdrawn[n.h.identity] {
			rules.Registrars = append(rules.Registrars, n.h.identity)
		}
	}
	if t.closed {
		rules.Resolvers = []string{s.userName(0)}
	}
	rights, err := identity.New(rules)
	if err != nil {
		s.fail("rights: %v", err)
		return
	}
	former := t.rights
	t.rights, t.changed = rights, s.net.now
	for _, e := range s.elements {
		if !s.permits(e) || !former.Registers(e.h.identity, e.pool) {
			e.proves()
			e.sure = false
		}
	}
	for _, n := range s.nodes {
		if n.h.proc != nil {
			n.h.do(n.h.life, func() { n.entrust(rights) })
		}
	}
}

// entrust tells a registrar the rights.
func (n *node) entrust(rights *identity.Rights) {
	n.rights, n.entrusted = rights, n.s.net.now
	n.handle(registrar.Trust{Rights: n.told(rights)})
}

// told are the rights that the registrar gets; nil without a trusted scope.
func (n *node) told(rights *identity.Rights) registrar.Rights {
	switch {
	case rights == nil:
		return nil
	case n.lax:
		return lax{rights}
	case n.s.misled != nil:
		return n.s.misled(rights)
	}
	return rights
}

// permits reports whether an element may register in its pool.
func (s *Sim) permits(e *element) bool {
	return s.trust == nil || s.trust.rights.Registers(e.h.identity, e.pool)
}

// permits reports whether an element may be in the registrar's answers.
func (n *node) permits(name string, h rserpool.PoolHandle) bool {
	switch {
	case n.rights == nil:
		return true
	case n.lax:
		return lax{n.rights}.Registers(name, h)
	}
	return n.rights.Registers(name, h)
}

// changeRights denies an identity everything or its pool, or lets it in again.
func (s *Sim) changeRights(e *element) {
	t := s.trust
	if t == nil {
		return
	}
	name := e.h.identity
	_, allowed := t.allowed[name]
	own, _ := identity.PoolOf(name)
	switch {
	case t.denied[name]:
		delete(t.denied, name)
	case own == e.pool || s.net.chance(3):
		t.denied[name] = true
	case allowed:
		delete(t.allowed, name)
	default:
		t.allowed[name] = e.pool
	}
	s.setRights()
	s.trace("element %v may register: %v", e.id, s.permits(e))
}

// checkPermitted: who may not register in a pool is in no answer.
func (n *node) checkPermitted(h rserpool.PoolHandle, pe *handlespace.Element) {
	s := n.s
	if s.trust == nil || n.permits(pe.Identity, h) || s.net.now-n.entrusted < reviewTime {
		return
	}
	s.fail("registrar %v has element %v of %s in its answers, and %q may not register there", n.r.ID(), pe.ID, h, pe.Identity)
}

// steal has a thief run: it has a certificate for the pool of the element whose identifier it
// registers.
func (s *Sim) steal() {
	if t := s.trust; t != nil && t.thief == nil {
		s.trace("a thief begins")
		t.thief = s.newThief()
	}
}

// reformThief ends the thief.
func (s *Sim) reformThief() {
	if s.trust != nil && s.trust.thief != nil {
		s.trust.thief.h.end()
	}
}

// stolen reports whether it is a thief that has an element's place.
func (s *Sim) stolen(pe *handlespace.Element) bool {
	t := s.trust
	return t != nil && t.thief != nil && pe.UserTransport.Addrs[0] == t.thief.h.addr
}

// claimed is the element whose identifier a thief wants of this registrar, if the element is
// there, and nothing has happened to it but silence.
func (n *node) claimed() *element {
	if n.s.trust == nil || n.s.trust.thief == nil {
		return nil
	}
	x := n.s.trust.thief
	if x.h.proc == nil || x.at != n.h || !n.stays(x.of) {
		return nil
	}
	if at, ok := n.sight(x.of); !ok || at.Transport.Addrs[0] != x.of.h.addr {
		return nil
	}
	return x.of
}

// checkClaimed: a living element keeps its identifier against other identities.
func (n *node) checkClaimed(e *element) {
	if e == nil {
		return
	}
	if x, ok := n.sight(e); ok && x.Transport.Addrs[0] == n.s.trust.thief.h.addr {
		n.s.fail("a thief gets the identifier of element %v, which lives, of registrar %v", e.id, n.r.ID())
	}
}

// entitled are the elements of a list that may register.
func (s *Sim) entitled(list []known) []known {
	if s.trust == nil {
		return list
	}
	return slices.DeleteFunc(list, func(k known) bool { return !s.permits(s.element(k.id)) })
}

// entitled reports whether the element may register, and its home knows that.
func (e *element) entitled() bool {
	return e.s.trust == nil || e.s.permits(e) && e.s.net.now-e.s.trust.changed >= reviewTime
}

// patience is how long an element waits before it looks for another home.
func (e *element) patience(gap time.Duration) time.Duration {
	if e.s.permits(e) {
		return gap
	}
	return max(gap, lazyGap)
}
