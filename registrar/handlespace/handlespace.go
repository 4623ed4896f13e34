package handlespace

import (
	"iter"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Space is a handlespace: all pools of an operational scope. Put, Renew, Remove, Suspend,
// Resume, SetDoubt and Avoid are for one goroutine at a time. All other methods, and those of Pool, are safe
// for any number of goroutines, also while the handlespace changes.
type Space struct {
	// writing is held during each change, so that a snapshot begins between two of them.
	writing sync.Mutex
	capture *capture // the snapshot that is being made, nil if there is none
	// mark is what captured is in pools that no capture has to take any more.
	mark      bool
	snapshots snapshots
	indexes   []*AddrIndex // that the writer keeps up to date

	table    table
	seed     *rand.Rand // the writer's
	changes  atomic.Uint64
	serial   serial
	pools    atomic.Int64
	elements atomic.Int64
}

// New returns an empty handlespace. Its random policies draw only from sources seeded
// by seed. The writer draws from seed when it makes a pool with a random policy; New
// itself draws nothing.
func New(seed *rand.Rand) *Space {
	s := &Space{seed: seed}
	s.table.init()
	return s
}

// Put adds an element to a pool, or replaces the one with the same ID, which it
// returns. If there is no such pool, it makes one. An element that does not fit the
// pool changes nothing: the error is an *InconsistentError. That is so even if it would
// replace the only element of its pool, because a re-registration has the same tests
// (RFC 5352, Section 3.1, rule 3).
//
// A replacement keeps the element's turn: it is served neither earlier nor later than
// before, except for the effect of its new values. If the values of its policy differ,
// its sum of degradations becomes the lowest of the pool; see degradation.
//
// Put takes O(log N) amortized for a pool of N elements.
func (s *Space) Put(h rserpool.PoolHandle, e *Element) (old *Element, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.put(h, e, Standing{})
}

func (s *Space) put(h rserpool.PoolHandle, e *Element, st Standing) (old *Element, err error) {
	p := s.Pool(h)
	if p == nil {
		p = s.newPool(h, e, st)
		s.indexChange(p, nil, e)
		s.table.add(p)
		s.pools.Add(1)
		s.elements.Add(1)
		s.changes.Add(1)
		return nil, nil
	}
	if err := p.Fits(e); err != nil {
		return nil, err
	}
	s.beforeChange(p)
	old = p.put(e, st)
	s.indexChange(p, old, e)
	if old == nil {
		s.elements.Add(1)
	}
	if old == nil || !old.same(e) {
		s.changes.Add(1)
	}
	return old, nil
}

// Renew is Put, but an element that replaces the only one of its pool need not fit: the
// pool becomes another one, in one step, so that no reader finds it without an element.
// A reader that has looked up the former pool continues with its element.
func (s *Space) Renew(h rserpool.PoolHandle, e *Element) (old *Element, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	p := s.Pool(h)
	if p == nil || p.Fits(e) == nil || p.Len() > 1 {
		return s.put(h, e, Standing{})
	}
	if old = p.Element(e.ID); old == nil {
		return s.put(h, e, Standing{})
	}
	s.beforeChange(p)
	next := s.newPool(h, e, Standing{})
	_, next.selections = p.Usage()
	next.setDoubt(p.Doubt())
	s.table.replace(p, next)
	s.indexChange(p, old, nil)
	s.indexChange(next, nil, e)
	s.changes.Add(1)
	return old, nil
}

// newPool returns a pool with one element.
func (s *Space) newPool(h rserpool.PoolHandle, e *Element, st Standing) *Pool {
	p := newPool(h, e, s.seed)
	p.captured = s.mark
	p.put(e, st)
	return p
}

// Remove takes an element out and returns it, nil if it was not there. A pool without
// elements is removed. No selection that starts after Remove has returned picks the
// element.
func (s *Space) Remove(h rserpool.PoolHandle, id rserpool.PEID) *Element {
	e, _ := s.remove(h, id, false)
	return e
}

// Suspend is Remove for an element that may come back: it returns also what the element
// needs for that; see [Space.Resume]. The pool keeps the room for it until the next Remove, so
// that many elements can leave and come back at short intervals.
func (s *Space) Suspend(h rserpool.PoolHandle, id rserpool.PEID) (*Element, Standing) {
	return s.remove(h, id, true)
}

func (s *Space) remove(h rserpool.PoolHandle, id rserpool.PEID, room bool) (*Element, Standing) {
	s.writing.Lock()
	defer s.writing.Unlock()
	p := s.Pool(h)
	if p == nil || p.Element(id) == nil {
		return nil, Standing{}
	}
	s.beforeChange(p)
	if p.Len() == 1 { // unlinked first, so that no reader finds an empty pool
		s.table.remove(p)
		s.pools.Add(-1)
	}
	e, st := p.remove(id, room)
	s.indexChange(p, e, nil)
	s.elements.Add(-1)
	s.changes.Add(1)
	return e, st
}

// Resume is Put for an element that was suspended: it continues with its turn and its sum of
// degradations, as far as st holds them.
func (s *Space) Resume(h rserpool.PoolHandle, e *Element, st Standing) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.put(h, e, st)
	return err
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

// Lookup finds the pool of a DNS name. name is the name's labels joined by '.', with
// escapes undone; ASCII case does not count, and name is not kept. If handles differ in
// case only, the pool is the one with the bytewise greatest handle: lower case has
// precedence, however the name is written. p is nil if there is none. below tells that some
// handle ends in '.' and name, so that the name is an empty non-terminal if it is no pool.
// Handles that are no DNS names do not count for below. Lookup does not allocate.
func (s *Space) Lookup(name []byte) (p *Pool, below bool) {
	n := find(&s.table, s.table.hash(name), name)
	if n == nil {
		return nil, false
	}
	return n.pool, n.below > 0
}

// Alike returns the number of pools whose handles are h, or differ from it in ASCII
// case only. They share one place in the table: the time to add one grows with their
// number.
func (s *Space) Alike(h rserpool.PoolHandle) int {
	name := string(h)
	n := find(&s.table, s.table.hashString(name), name)
	if n == nil || n.pool == nil {
		return 0
	}
	return 1 + len(n.others)
}

// nameSize is about how many bytes the table needs for a name above a pool.
const nameSize = 128

// HandleSize is about how many bytes a pool's handle needs: its own, and those of the
// table for each name above it.
func HandleSize(h rserpool.PoolHandle) int {
	size := len(h)
	for range namesAbove(string(h)) {
		size += nameSize
	}
	return size
}

// Pools iterates over the pools in no particular order. A pool that is added or removed
// during the iteration may be seen or not.
func (s *Space) Pools() iter.Seq[*Pool] {
	return s.table.all
}

// Len returns the numbers of pools and elements.
func (s *Space) Len() (pools, elements int) {
	return int(s.pools.Load()), int(s.elements.Load())
}

// Changes counts the changes of the handlespace. A re-registration that only extends
// the registration life does not count: otherwise each secondary would transfer the
// same zone again.
func (s *Space) Changes() uint64 { return s.changes.Load() }

// Touch counts as a change, so that secondaries transfer the zone again: something else
// that the zone shows has changed. Any goroutine may call it.
func (s *Space) Touch() { s.changes.Add(1) }

// Serial returns the serial number of the zone (RFC 1035, Section 3.3.13) at the time
// now; see serial. A reader gets the serial before it reads the pools.
func (s *Space) Serial(now time.Time) uint32 { return s.serial.at(now, &s.changes) }
