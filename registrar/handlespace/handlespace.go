package handlespace

import (
	"iter"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Space is a handlespace: all pools of an operational scope. Put, Remove and
// whatever else changes it are for one goroutine at a time; all other methods,
// and those of Pool, are safe for any number of goroutines beside it.
type Space struct {
	table    table
	seed     *rand.Rand // the writer's
	changes  atomic.Uint64
	serial   serial
	pools    atomic.Int64
	elements atomic.Int64
}

// New returns an empty handlespace. Its random policies draw from sources
// seeded only by seed. The writer takes from seed when it makes a pool with a
// random policy; New itself takes nothing.
func New(seed *rand.Rand) *Space {
	s := &Space{seed: seed}
	s.table.init()
	return s
}

// Put adds an element to the pool, which it creates where there is none, or
// replaces the one with the same ID, which it returns. An element that does
// not fit into the pool changes nothing: the error is an *InconsistentError.
// That holds for an element that is alone in its pool, too: the same tests are
// made for a re-registration (RFC 5352, Section 3.1, rule 3).
//
// A replacement keeps the element's turn: it is neither served earlier nor
// later than it would have been, but for what its new values change. Its
// degradation counter starts at 0 again (RFC 5356, Section 5.2.2).
//
// Put takes O(log N) amortized for a pool of N elements.
func (s *Space) Put(h rserpool.PoolHandle, e *Element) (old *Element, err error) {
	p := s.Pool(h)
	if p == nil {
		p = newPool(h, e, s.seed)
		p.put(e)
		s.table.add(p)
		s.pools.Add(1)
		s.elements.Add(1)
		s.changes.Add(1)
		return nil, nil
	}
	if err := p.check(e); err != nil {
		return nil, err
	}
	old = p.put(e)
	if old == nil {
		s.elements.Add(1)
	}
	if old == nil || !old.same(e) {
		s.changes.Add(1)
	}
	return old, nil
}

// Renew is Put, but an element that is alone in its pool need not fit what the pool
// was: it makes the pool another one, in one step, so that no reader finds it without
// an element. A reader that has found the former pool before goes on with its element.
func (s *Space) Renew(h rserpool.PoolHandle, e *Element) (old *Element, err error) {
	p := s.Pool(h)
	if p == nil || p.check(e) == nil || p.Len() > 1 {
		return s.Put(h, e)
	}
	if old = p.Element(e.ID); old == nil {
		return s.Put(h, e)
	}
	next := newPool(h, e, s.seed)
	next.put(e)
	s.table.replace(p, next)
	s.changes.Add(1)
	return old, nil
}

// Remove takes an element out and returns it, nil if it was not there. A pool
// without elements is gone. No selection that starts after Remove has returned
// picks the element.
func (s *Space) Remove(h rserpool.PoolHandle, id rserpool.PEID) *Element {
	p := s.Pool(h)
	if p == nil || p.Element(id) == nil {
		return nil
	}
	if p.Len() == 1 { // unlinked first: nobody finds an empty pool
		s.table.remove(p)
		s.pools.Add(-1)
	}
	e := p.remove(id)
	s.elements.Add(-1)
	s.changes.Add(1)
	return e
}

// Pool returns the pool of that handle, nil if there is none. It does not
// allocate.
func (s *Space) Pool(h rserpool.PoolHandle) *Pool {
	name := string(h)
	if n := find(&s.table, s.table.hashString(name), name); n != nil {
		return exact(n, name)
	}
	return nil
}

// Lookup finds what a DNS name stands for. name is the name's labels joined
// by '.', with escapes undone; ASCII case does not count, and name is not
// kept. The pool is the one whose handle is exactly name, or else the bytewise
// lowest of those that differ in case only; nil if there is none. below tells
// that some handle ends in '.' and name, so that the name is an empty
// non-terminal if it is no pool itself; handles that no DNS name can carry do
// not count for below. Lookup does not allocate.
func (s *Space) Lookup(name []byte) (p *Pool, below bool) {
	n := find(&s.table, s.table.hash(name), name)
	if n == nil {
		return nil, false
	}
	p = exact(n, name)
	if p == nil {
		p = n.pool
	}
	return p, n.below > 0
}

// Alike returns how many pools there are whose handles differ from h in ASCII
// case only, or not at all. They share one place in the table, so that adding
// one more takes time in proportion.
func (s *Space) Alike(h rserpool.PoolHandle) int {
	name := string(h)
	n := find(&s.table, s.table.hashString(name), name)
	if n == nil || n.pool == nil {
		return 0
	}
	return 1 + len(n.others)
}

// nameSize is about what a name above a pool takes in the table.
const nameSize = 128

// HandleSize is about how many bytes a pool's handle takes: its own, and those
// of the table for each of the names above it.
func HandleSize(h rserpool.PoolHandle) int {
	size := len(h)
	for range namesAbove(string(h)) {
		size += nameSize
	}
	return size
}

// Pools iterates over the pools in no particular order. Pools that come and go
// meanwhile may or may not be seen.
func (s *Space) Pools() iter.Seq[*Pool] {
	return s.table.all
}

// Len returns the numbers of pools and elements.
func (s *Space) Len() (pools, elements int) {
	return int(s.pools.Load()), int(s.elements.Load())
}

// Changes counts the changes of the handlespace. A re-registration that only
// prolongs the registration life is no change: it would have every secondary
// transfer the same zone again.
func (s *Space) Changes() uint64 { return s.changes.Load() }

// Serial returns the serial number of the zone (RFC 1035, Section 3.3.13), at the
// time now, which any reader may tell; see serial. A reader that needs one that
// belongs to what it reads asks for it first.
func (s *Space) Serial(now time.Time) uint32 { return s.serial.at(now, &s.changes) }
