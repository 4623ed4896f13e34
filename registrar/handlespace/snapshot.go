package handlespace

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"time"
	"weak"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Snapshot is a handlespace at one moment. It does not change. It has about 40 bytes for
// each pool and 8 bytes for each element, and keeps elements that have been replaced since.
type Snapshot struct {
	// Serial is the zone's serial number at that moment.
	Serial uint32

	pools []PoolSnapshot // those that the reader has taken
	saved []PoolSnapshot // those that the writer has saved before it changed them
	find  sync.Once
	index snapshotIndex
}

// PoolSnapshot is a pool at one moment.
type PoolSnapshot struct {
	// Pool has the properties that never change: handle, policy type, transport.
	Pool *Pool
	// Elements are ordered by identifier.
	Elements []*Element
}

// snapshots makes the snapshots of a space.
type snapshots struct {
	mu   sync.Mutex // held while one is made
	last weak.Pointer[Snapshot]
}

// capture is a snapshot that is being made, by copy on write. The reader goes through the
// table while the writer goes on. Before the writer changes a pool for the first time, it
// saves the pool's elements, unless the reader has been there.
type capture struct {
	mark  bool // see Pool.captured
	taken []PoolSnapshot
	saved []PoolSnapshot // the writer's
	room  []*Element     // for the elements of the next pools
}

// Snapshot returns the handlespace at a moment after the call began, or, if another
// goroutine still uses a snapshot with the present serial number, that one. A change that
// is not in it has another serial number, a second later at most.
//
// The writer goes on in the meantime. A change waits while the elements of its pool are
// copied, 8 bytes each, once for a pool and snapshot.
func (s *Space) Snapshot(now time.Time) *Snapshot {
	s.snapshots.mu.Lock()
	defer s.snapshots.mu.Unlock()
	if last := s.snapshots.last.Value(); last != nil && last.Serial == s.Serial(now) {
		return last
	}
	c, serial := s.beginCapture(now)
	for p := range s.table.all {
		c.take(p)
	}
	snap := &Snapshot{Serial: serial, pools: c.taken, saved: s.endCapture()}
	for p := range snap.Pools() {
		slices.SortFunc(p.Elements, byID)
	}
	s.snapshots.last = weak.Make(snap)
	return snap
}

func (s *Space) beginCapture(now time.Time) (c *capture, serial uint32) {
	pools, _ := s.Len()
	c = &capture{taken: make([]PoolSnapshot, 0, pools)}
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mark = !s.mark
	c.mark = s.mark
	s.capture = c
	return c, s.Serial(now)
}

func (s *Space) endCapture() (saved []PoolSnapshot) {
	s.writing.Lock()
	defer s.writing.Unlock()
	saved = s.capture.saved
	s.capture = nil
	return saved
}

// beforeChange saves a pool for the snapshot that is being made. The caller holds writing.
func (s *Space) beforeChange(p *Pool) {
	c := s.capture
	if c == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.captured != c.mark {
		p.captured = c.mark
		c.saved = append(c.saved, PoolSnapshot{p, append([]*Element(nil), p.members.elems...)})
	}
}

// capturePart is the number of elements for which a capture allocates memory at once.
const capturePart = 4096

// take adds a pool that the writer has not changed since the moment of the snapshot.
func (c *capture) take(p *Pool) {
	for {
		n, done := c.tryTake(p)
		if done {
			return
		}
		// The memory is written here, so that the kernel provides it while no lock is held.
		c.room = make([]*Element, max(n+n/16, capturePart))
		clear(c.room)
	}
}

// tryTake is take if there is room for the pool's elements. Otherwise it returns how many
// there are.
func (c *capture) tryTake(p *Pool) (n int, done bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.captured == c.mark {
		return 0, true
	}
	n = len(p.members.elems)
	if n > len(c.room) {
		return n, false
	}
	copy(c.room, p.members.elems)
	c.taken = append(c.taken, PoolSnapshot{p, c.room[:n:n]})
	c.room = c.room[n:]
	p.captured = c.mark
	return n, true
}

// Pools iterates over the pools in no particular order.
func (s *Snapshot) Pools() iter.Seq[*PoolSnapshot] {
	return func(yield func(*PoolSnapshot) bool) {
		for _, part := range [...][]PoolSnapshot{s.pools, s.saved} {
			for i := range part {
				if !yield(&part[i]) {
					return
				}
			}
		}
	}
}

// snapshotIndex finds the pools of a snapshot.
type snapshotIndex struct {
	exact map[rserpool.PoolHandle]*PoolSnapshot
	// folded has the pools whose handles have capital letters, by the folded handle. It
	// has the bytewise greatest of several.
	folded map[string]*PoolSnapshot
}

func (s *Snapshot) indexed() *snapshotIndex {
	s.find.Do(func() {
		x := &s.index
		x.exact = make(map[rserpool.PoolHandle]*PoolSnapshot, len(s.pools)+len(s.saved))
		x.folded = make(map[string]*PoolSnapshot)
		for p := range s.Pools() {
			h := p.Pool.handle
			x.exact[h] = p
			if ascii.HasUpper(string(h)) {
				key := ascii.Fold(string(h))
				if other := x.folded[key]; other == nil || other.Pool.handle < h {
					x.folded[key] = p
				}
			}
		}
	})
	return &s.index
}

// Pool is [Space.Pool] at the moment of the snapshot. The first call, or that of Lookup,
// makes an index of all pools.
func (s *Snapshot) Pool(h rserpool.PoolHandle) *PoolSnapshot { return s.indexed().exact[h] }

// Lookup finds the pool of a DNS name as [Space.Lookup] does. A handle without capital
// letters is the greatest of those that differ in case only.
func (s *Snapshot) Lookup(name string) *PoolSnapshot {
	x, key := s.indexed(), ascii.Fold(name)
	if p := x.exact[rserpool.PoolHandle(key)]; p != nil {
		return p
	}
	return x.folded[key]
}

// Element returns the element with that identifier, nil if there is none.
func (p *PoolSnapshot) Element(id rserpool.PEID) *Element {
	i, ok := slices.BinarySearchFunc(p.Elements, id, func(e *Element, id rserpool.PEID) int { return cmp.Compare(e.ID, id) })
	if !ok {
		return nil
	}
	return p.Elements[i]
}

func byID(a, b *Element) int { return cmp.Compare(a.ID, b.ID) }

// Set returns at most n elements of the pool with an address of one of the families, for
// records that do not follow the policy's state: the values are those that the elements
// registered. Elements that the policy never selects are left out. With the policy
// Priority, the elements have the highest priorities; otherwise they have the lowest
// identifiers. They are ordered as the policy compares them, then by identifier.
func (p *PoolSnapshot) Set(n int, families Families) []Selected {
	r := ruleOf(p.Pool.policy)
	set := make([]Selected, 0, min(n, len(p.Elements)))
	for pass := range 2 {
		anyWeight := pass == 1 && r.rescue // with equal chances, if all weights are 0
		if pass == 1 && (!anyWeight || len(set) > 0) {
			break
		}
		for _, e := range p.Elements {
			if len(set) == n && r.kind != highest {
				break
			}
			value := r.registered(&e.Policy)
			if families.admits(e.Families()) && (anyWeight || value > 0 || r.kind != weighted && r.kind != inWeightedTurn) {
				set = append(set, Selected{e, value})
			}
		}
	}
	switch r.kind {
	case highest, weighted, inWeightedTurn:
		slices.SortStableFunc(set, func(a, b Selected) int { return cmp.Compare(b.Value, a.Value) })
	case lowest:
		slices.SortStableFunc(set, func(a, b Selected) int { return cmp.Compare(a.Value, b.Value) })
	case inTurn, uniform:
	}
	return set[:min(n, len(set))]
}

// registered is value without what selections have added.
func (r *rule) registered(p *rserpool.Policy) uint64 {
	switch {
	case r.base == nil:
		return 0
	case r.counts && r.kind == weighted:
		return spare(r.base(p))
	}
	return r.base(p)
}
