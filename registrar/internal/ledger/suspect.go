package ledger

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// State is how the registrar sees an element.
type State uint8

// The states.
const (
	// Member: in its home's roster, and in the pool unless it is set aside.
	Member State = iota
	// Unconfirmed: in the pool like a member, because it was there before the registrar has
	// started again, but its home has not heard from it since; or because the caller looks after
	// it in place of its home.
	Unconfirmed
	// Suspect: silent. It is in the pool only while the pool is guarded.
	Suspect
)

const states = int(Suspect) + 1

// State is how the registrar sees the element; after Remove, how it did.
func (e *Entry[N]) State() State { return e.state }

// Since is since when the element is a suspect, zero if it is none.
func (e *Entry[N]) Since() time.Time {
	if e.doubt == nil {
		return time.Time{}
	}
	return e.doubt.since
}

// GuardRule says when a pool is guarded, which is when its suspects are served like members.
// The zero rule guards a pool in which only suspects could serve.
type GuardRule struct {
	// Off: never.
	Off bool
	// Share guards a pool, too, if that share of its elements, or more, are suspects; 0 for
	// no such share.
	Share float64
}

// special is what a pool needs for entries that are set aside, suspects, or never selected.
type special[N any] struct {
	aside int
	// barred are those set aside that Check excludes, whatever the pool's kind. It is out of
	// date between a change of Check and Refit or Move.
	barred int
	idle   int // members and unconfirmed ones that are not set aside, but do not serve
	// in and out are the suspects that are not set aside: those that are in the handlespace,
	// and the others. While the pool is guarded, all are to be in, and otherwise out.
	in, out chain.List[Entry[N]]
	// displacedIn and displacedOut are the same for those at whose places others are: they are
	// served only if the pool has nothing else, which lastResort tells.
	displacedIn, displacedOut chain.List[Entry[N]]
	guarded, lastResort       bool
	queued                    bool // in the ledger's queue
}

// doubt is what a suspect has beside other entries.
type doubt[N any] struct {
	since     time.Time
	standing  handlespace.Standing // while it is out
	place     chain.Place[Entry[N]]
	displaced bool
}

// fitting is how many of those set aside could be in the pool if that had another kind.
func (s *special[N]) fitting() int { return s.aside - s.barred }

// suspects is the number of suspects that are not set aside.
func (s *special[N]) suspects() int { return s.silent() + s.displacedIn.Len() + s.displacedOut.Len() }

// silent is the number of those that are not displaced.
func (s *special[N]) silent() int { return s.in.Len() + s.out.Len() }

// lists are where the suspects are that are out and in, displaced ones or others.
func (s *special[N]) lists(displaced bool) (out, in *chain.List[Entry[N]]) {
	if displaced {
		return &s.displacedOut, &s.displacedIn
	}
	return &s.out, &s.in
}

// count counts an entry that has a location from now on. since is that of a suspect.
func (l *Ledger[N]) count(e *Entry[N], at location, since time.Time) {
	p := e.pool
	e.at = at
	e.idle = e.state != Suspect && at != aside && !handlespace.Serves(&e.pe.Policy)
	if e.state != Suspect {
		e.doubt = nil
		if at != aside && !e.idle {
			return
		}
	}
	if p.special == nil {
		p.special = new(special[N])
	}
	if e.idle {
		p.special.idle++
	}
	if at == aside {
		p.special.aside++
		l.aside++
		if e.barred = l.excluded(p.handle, e.pe) != nil; e.barred {
			p.special.barred++
		}
	}
	if e.state != Suspect {
		return
	}
	l.suspects++
	if e.doubt == nil {
		e.doubt = new(doubt[N])
	}
	e.doubt.since = since
	away, in := p.special.lists(e.doubt.displaced)
	switch at {
	case served:
		in.Add(e, &e.doubt.place)
	case out:
		away.Add(e, &e.doubt.place)
	case aside:
		e.doubt.standing = handlespace.Standing{}
	}
}

// uncount undoes count, before anything that it has looked at changes.
func (l *Ledger[N]) uncount(e *Entry[N]) {
	s := e.pool.special
	if e.idle {
		s.idle--
	}
	if e.at == aside {
		s.aside--
		l.aside--
	}
	if e.barred {
		e.barred = false
		s.barred--
	}
	if e.state == Suspect {
		l.suspects--
		e.doubt.place.Leave()
	}
}

// recount gives an entry another location.
func (l *Ledger[N]) recount(e *Entry[N], at location) {
	l.uncount(e)
	l.count(e, at, e.Since())
}

// Suspect makes a member, or an unconfirmed element, a suspect. It does nothing to one that is
// a suspect.
func (l *Ledger[N]) Suspect(e *Entry[N], since time.Time) Change[N] {
	if e.state == Suspect {
		return Change[N]{Entry: e, From: e.roster, To: e.roster}
	}
	return l.become(e, Suspect, since)
}

// Displace notes that another one is at a suspect's place. From now on its pool does without it
// as long as there is any other element, a suspect or not, until it is a member again.
func (l *Ledger[N]) Displace(e *Entry[N]) Change[N] {
	had := l.space.Pool(e.pool.handle) != nil
	c := Change[N]{Entry: e, From: e.roster, To: e.roster}
	if e.state != Suspect || e.doubt.displaced {
		return c
	}
	l.uncount(e)
	e.doubt.displaced = true
	l.count(e, e.at, e.doubt.since)
	l.finish(e, had, &c)
	return c
}

// Displaced reports whether another one is at the place of the element, a suspect.
func (e *Entry[N]) Displaced() bool { return e.doubt != nil && e.doubt.displaced }

// Confirm makes any element a member. One that does not fit its pool any more is set aside.
func (l *Ledger[N]) Confirm(e *Entry[N]) Change[N] {
	c, _ := l.put(e, e.roster, e.pool.handle, e.pe, SetAside, Member, time.Time{})
	return c
}

func (l *Ledger[N]) become(e *Entry[N], s State, since time.Time) Change[N] {
	had := l.space.Pool(e.pool.handle) != nil
	c := Change[N]{Entry: e, From: e.roster, To: e.roster}
	l.uncount(e)
	l.relist(e, e.roster, s)
	l.count(e, e.at, since)
	l.settle(e.pool, e, &c)
	l.finish(e, had, &c)
	return c
}

// finish has elements that are set aside become a pool that the handlespace has lost.
func (l *Ledger[N]) finish(e *Entry[N], had bool, c *Change[N]) {
	p := e.pool
	l.settle(p, nil, c)
	if p.special != nil && p.special.fitting() > 0 && l.space.Pool(p.handle) == nil {
		l.refit(p, e, c)
	}
	c.Emptied = had && e.at != served && l.space.Pool(p.handle) == nil
}

// batch is how many suspects enter or leave the handlespace at a time, which takes about a
// millisecond, whatever the size of the pool.
const batch = 256

// settle begins or ends the guard of a pool, and has suspects enter or leave the handlespace:
// a batch of them, first among them e, which may be nil. It tells c.
func (l *Ledger[N]) settle(p *pool[N], e *Entry[N], c *Change[N]) {
	s := p.special
	if s == nil {
		return
	}
	var rule GuardRule
	if l.Guard != nil && s.suspects() > 0 {
		rule = l.Guard(p.handle)
	}
	was := s.guarded
	s.guarded, s.lastResort = p.needsGuard(rule)
	for range l.batch {
		if !l.moveOne(p, e) {
			break
		}
		c.Visible, e = true, nil
		s.guarded, s.lastResort = p.needsGuard(rule)
	}
	l.noteGuard(p, was, c)
	if !s.queued && s.toMove() != nil {
		s.queued = true
		l.queue = append(l.queue, p)
	}
	if *s == (special[N]{}) {
		p.special = nil
	}
}

// noteGuard counts guarded pools and tells the pool's readers.
func (l *Ledger[N]) noteGuard(p *pool[N], was bool, c *Change[N]) {
	s := p.special
	if s.guarded != was {
		n := 1
		if was {
			n = -1
		}
		l.guarded += n
		c.Guarded += int8(n)
	}
	l.space.SetDoubt(p.handle, s.suspects(), s.guarded)
}

// needsGuard reports whether the suspects have to be served, and whether that includes those that
// are displaced, because there are no others. Elements that never serve are no reason to do
// without them.
func (p *pool[N]) needsGuard(rule GuardRule) (guarded, lastResort bool) {
	s := p.special
	all, n := s.suspects(), s.silent()
	if all == 0 || rule.Off {
		return false, false
	}
	others := len(p.entries) - s.aside - s.idle - all
	lastResort = n+others == 0
	share := rule.Share > 0 && n > 0 && float64(n) >= rule.Share*float64(n+others)
	return others == 0 || share, lastResort
}

// toMove returns the list of suspects that have to enter or leave the handlespace, nil if none
// has to. First some enter, so that the pool does not get lost in between.
func (s *special[N]) toMove() *chain.List[Entry[N]] {
	var leave *chain.List[Entry[N]]
	for _, displaced := range []bool{false, true} {
		out, in := s.lists(displaced)
		switch wanted := s.guarded && (!displaced || s.lastResort); {
		case wanted && out.Len() > 0:
			return out
		case !wanted && in.Len() > 0:
			leave = in
		}
	}
	return leave
}

// moveOne has a suspect enter or leave the handlespace, e if that is not where it has to be.
// It reports false if all are.
func (l *Ledger[N]) moveOne(p *pool[N], e *Entry[N]) bool {
	from := p.special.toMove()
	if from == nil {
		return false
	}
	if e == nil || e.doubt == nil || !e.doubt.place.In(from) {
		e = from.First()
	}
	if e.at == served {
		_, e.doubt.standing = l.space.Suspend(p.handle, e.id)
		l.recount(e, out)
		return true
	}
	at := served
	if l.space.Resume(p.handle, e.pe, e.doubt.standing) != nil {
		at = aside // the pool has become another one meanwhile
	}
	l.recount(e, at)
	return true
}

// PoolChange is what has become of a pool by its guard.
type PoolChange struct {
	Handle rserpool.PoolHandle
	// Guarded, Visible and Emptied are as in Change.
	Guarded          int8
	Visible, Emptied bool
}

// Reguard is to be called after Guard has changed for a pool.
func (l *Ledger[N]) Reguard(h rserpool.PoolHandle) PoolChange {
	p := l.pools[h]
	if p == nil {
		return PoolChange{Handle: h}
	}
	had := l.space.Pool(h) != nil
	var c Change[N]
	l.settle(p, nil, &c)
	l.refit(p, nil, &c)
	return PoolChange{h, c.Guarded, c.Visible, had && l.space.Pool(h) == nil}
}

// Unsettled reports whether Step has something to do: a pool is large, and its guard has begun
// or ended.
func (l *Ledger[N]) Unsettled() bool { return len(l.queue) > 0 }

// Step moves the next suspects of a large pool. The handle of the change is "" if there are
// none. Between two steps, the caller handles other events.
func (l *Ledger[N]) Step() PoolChange {
	if len(l.queue) == 0 {
		l.queue = nil
		return PoolChange{}
	}
	p := l.queue[0]
	l.queue = l.queue[1:]
	p.special.queued = false
	if l.pools[p.handle] != p {
		return PoolChange{Handle: p.handle}
	}
	return l.Reguard(p.handle)
}

// Suspects is the number of suspects, those that are set aside included.
func (l *Ledger[N]) Suspects() int { return l.suspects }

// GuardedPools is the number of pools that are guarded.
func (l *Ledger[N]) GuardedPools() int { return l.guarded }

// PoolCount is what a pool has.
type PoolCount struct {
	// Elements are all entries, Suspects and Aside some of them, Displaced some of the suspects.
	Elements, Suspects, Displaced, Aside int
	// Guarded tells that suspects are served.
	Guarded bool
}

// Pool counts the entries of a pool.
func (l *Ledger[N]) Pool(h rserpool.PoolHandle) (n PoolCount) {
	p := l.pools[h]
	if p == nil {
		return n
	}
	n.Elements = len(p.entries)
	if s := p.special; s != nil {
		n.Suspects, n.Displaced, n.Aside, n.Guarded = s.suspects(), s.suspects()-s.silent(), s.aside, s.guarded
	}
	return n
}
