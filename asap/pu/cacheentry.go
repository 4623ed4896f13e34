package pu

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// cacheEntry is what the cache knows of a pool. Its elements are in the core's
// handlespace.
type cacheEntry struct {
	handle rserpool.PoolHandle
	used   time.Time // last selection

	// Requests. Of a watch, watchAsks says that its answer is awaited.
	watch, once askID
	watchAsks   bool
	asked       time.Time

	confirmed   time.Time // the registrar said so
	live        bool      // the registrar sends updates
	unreachable bool      // the last request got no answer

	// first is the element at the head of the first answer. The first selection picks
	// it (RFC 5356, Sections 4.1.3 and 5.1.3): the registrar shares its turns among all
	// users, which otherwise would all begin with the same element.
	first   rserpool.PEID
	isFirst bool

	failures map[rserpool.PEID]*failure
	back     time.Time // when the next one is taken in again; zero: none
}

// failure is an element that was found dead.
type failure struct {
	until   time.Time // it is left out until then
	times   int       // in a row
	out     bool
	offered bool // handed out all the same, because nothing else was left
}

const (
	// maxDoublings limits the time for which an element is left out to 16 times Retry.
	maxDoublings = 4
	// busyTime is to a busy element what Retry is to a dead one.
	busyTime = time.Second
)

func (e *cacheEntry) asking() bool { return e.once != 0 || e.watchAsks }

// pick selects an element by policy, or the one that is wanted.
func (e *cacheEntry) pick(now time.Time, s *handlespace.Space, w choice) *handlespace.Element {
	p := s.Pool(e.handle)
	if p == nil {
		return nil
	}
	if !e.back.IsZero() && !now.Before(e.back) {
		e.takeBack(now, s)
	}
	if w.want != 0 {
		if el := p.Element(w.want); el != nil && w.admits(el) && !e.leftOut(w.want) {
			return el
		}
	}
	if e.isFirst {
		e.isFirst = false
		if !slices.Contains(w.without, e.first) && !e.leftOut(e.first) {
			if got, ok := p.Pick(w.families, allBut(p, e.first)...); ok {
				return got.Element
			}
		}
	}
	if got, ok := p.Pick(w.families, w.without...); ok {
		return got.Element
	}
	return nil
}

// pickFailed selects the element that is to be taken in next, although it was found
// dead: nothing else is left.
func (e *cacheEntry) pickFailed(s *handlespace.Space, w choice) *handlespace.Element {
	p := s.Pool(e.handle)
	if p == nil {
		return nil
	}
	var best *handlespace.Element
	for _, el := range p.Elements(nil) {
		f := e.failures[el.ID]
		if f == nil || !f.out || !w.admits(el) {
			continue
		}
		if best == nil || f.until.Before(e.failures[best.ID].until) {
			best = el
		}
	}
	if best != nil {
		e.failures[best.ID].offered = true
	}
	return best
}

// admits reports whether an element is a candidate.
func (w *choice) admits(el *handlespace.Element) bool {
	return !slices.Contains(w.without, el.ID) && (w.families == 0 || w.families&el.Families() != 0)
}

// allBut returns the identifiers of the other elements.
func allBut(p *handlespace.Pool, id rserpool.PEID) []rserpool.PEID {
	var others []rserpool.PEID
	for _, el := range p.Elements(nil) {
		if el.ID != id {
			others = append(others, el.ID)
		}
	}
	return others
}

// apply replaces the elements by those of an answer. One that stays keeps its turn, and
// is left out as long as before, unless it has another transport: a registrar names a
// dead element until it has found out itself. An element that was absent is a new one.
func (e *cacheEntry) apply(c *cacheCore, res *Resolution) {
	list := res.Elements
	list = list[:min(len(list), c.cfg.Elements)]
	p := c.space.Pool(e.handle)
	if p != nil && !alike(p, res.Policy.Type, &list[0]) {
		e.clear(c.space)
		p = nil
	}
	cold := p == nil
	named := make(map[rserpool.PEID]bool, len(list))
	for i := range list {
		named[list[i].ID] = true
		e.put(c.space, &list[i], res.Policy.Type)
	}
	p = c.space.Pool(e.handle)
	for _, el := range p.Elements(nil) {
		if !named[el.ID] {
			c.space.Remove(e.handle, el.ID)
			delete(e.failures, el.ID)
		}
	}
	if cold {
		e.start(p, list, c)
	}
}

// alike reports whether an element of the answer's policy fits the pool.
func alike(p *handlespace.Pool, policy rserpool.PolicyType, el *rserpool.PoolElement) bool {
	transport, use := p.Transport()
	t := &el.UserTransport
	return p.Policy() == policy && transport == t.Type && (transport != rserpool.SCTP || use == t.Use)
}

// put adds or replaces an element. The policy is the pool's: that of the element gives
// only its values (RFC 5352, Section 2.2.6). An element that does not fit the others is
// ignored; registrars have no such elements.
func (e *cacheEntry) put(s *handlespace.Space, el *rserpool.PoolElement, policy rserpool.PolicyType) {
	n := &handlespace.Element{PoolElement: *el}
	n.Policy.Type = policy
	p := s.Pool(e.handle)
	if p == nil {
		_, _ = s.Put(e.handle, n)
		return
	}
	old := p.Element(n.ID)
	if old != nil && old.SameToUsers(n) {
		return
	}
	if _, err := s.Put(e.handle, n); err != nil || old == nil {
		return
	}
	switch f := e.failures[n.ID]; {
	case f == nil:
	case !old.UserTransport.Equal(n.UserTransport) || old.UserEncapPort != n.UserEncapPort:
		delete(e.failures, n.ID)
	case f.out:
		s.Avoid(e.handle, n.ID, true) // Put has taken it in
	}
}

// maxSkip bounds the work of start.
const maxSkip = 1024

// start gives the policy the state with which a user begins. With weighted round robin it
// is somewhere in the round, each place with the same chance, because otherwise all users
// would begin with the elements of great weight.
func (e *cacheEntry) start(p *handlespace.Pool, list []rserpool.PoolElement, c *cacheCore) {
	e.first, e.isFirst = list[0].ID, true
	if p.Policy() != rserpool.WeightedRoundRobin {
		return
	}
	var round uint64
	for i := range list {
		round += uint64(list[i].Policy.Weight)
	}
	if round == 0 {
		return
	}
	for range c.rnd.Uint64N(min(round, maxSkip)) {
		p.Pick(0)
	}
}

// clear removes all elements.
func (e *cacheEntry) clear(s *handlespace.Space) {
	if p := s.Pool(e.handle); p != nil {
		for _, el := range p.Elements(nil) {
			s.Remove(e.handle, el.ID)
		}
	}
	e.failures, e.back, e.isFirst = nil, time.Time{}, false
}

func (e *cacheEntry) leftOut(id rserpool.PEID) bool {
	f := e.failures[id]
	return f != nil && f.out
}

// fail leaves an element out, for twice as long each time, and reports whether that is
// news.
func (e *cacheEntry) fail(now time.Time, c *cacheCore, id rserpool.PEID, retry time.Duration) bool {
	f := e.failures[id]
	if f == nil {
		f = &failure{}
		if e.failures == nil {
			e.failures = make(map[rserpool.PEID]*failure)
		}
		e.failures[id] = f
	}
	if f.out && !f.offered {
		return false
	}
	if now.Sub(f.until) > retry<<maxDoublings {
		f.times = 0 // the last time is long ago
	}
	f.until = now.Add(retry << min(f.times, maxDoublings))
	f.times++
	f.out, f.offered = true, false
	c.space.Avoid(e.handle, id, true)
	if e.back.IsZero() || f.until.Before(e.back) {
		e.back = f.until
	}
	return true
}

// takeBack takes in again what has been left out for long enough.
func (e *cacheEntry) takeBack(now time.Time, s *handlespace.Space) {
	e.back = time.Time{}
	p := s.Pool(e.handle)
	for _, el := range p.Elements(nil) { // in a fixed order
		f := e.failures[el.ID]
		switch {
		case f == nil || !f.out:
		case !now.Before(f.until):
			f.out = false
			s.Avoid(e.handle, el.ID, false)
		case e.back.IsZero() || f.until.Before(e.back):
			e.back = f.until
		}
	}
}

// forgive forgets the failures of an element.
func (e *cacheEntry) forgive(s *handlespace.Space, id rserpool.PEID) {
	if f := e.failures[id]; f != nil {
		delete(e.failures, id)
		s.Avoid(e.handle, id, false)
	}
}
