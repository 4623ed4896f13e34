package pu

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// cacheCore is the cache of a pool user (RFC 5352, Section 3.3, C1 to C4) without clock,
// lock and goroutine. The driver calls pick, sends what take returns, and tells the
// results with answered.
//
// An entry is true as long as the registrar sends updates for it (live). Without them it
// is stale after Stale: a selection is served all the same, and a new answer requested
// (C3). After veryStale times Stale a selection waits for the answer, unless no
// registrar can be reached. After MaxAge the entry is worth nothing.
type cacheCore struct {
	cfg     CacheConfig
	rnd     *rand.Rand
	space   *handlespace.Space // the policies and their state
	entries map[rserpool.PoolHandle]*cacheEntry
	holds   map[rserpool.PoolHandle]int // sessions that are open
	lastID  askID
	orders  []cacheOrder
}

const (
	veryStale = 10
	// idleTime is how long after a selection a pool is in use. Updates of other pools
	// are ignored.
	idleTime = 5 * time.Minute
	// askGap is the least time between two requests for a pool because all cached
	// elements are left out. Registrars need about that time to find out that an element
	// is dead.
	askGap = time.Second
)

// askID names a request of the cache.
type askID uint64

// cacheOrder is a request to send, or one to end.
type cacheOrder struct {
	id     askID
	pool   rserpool.PoolHandle
	watch  bool
	cancel bool
}

// verdict is the result of a pick.
type verdict uint8

const (
	picked    verdict = iota
	awaiting          // an answer is on its way; pick again then
	exhausted         // no element is left
	full              // all entries wait for answers
)

// choice says which element is wanted.
type choice struct {
	want     rserpool.PEID   // this one if it is known, 0: by policy
	without  []rserpool.PEID // not these
	families handlespace.Families
	fresh    bool // after a new answer
	// answered says that an answer has come since the selection began: pick does not
	// request another one.
	answered bool
}

func newCacheCore(cfg CacheConfig, rnd *rand.Rand) *cacheCore {
	return &cacheCore{
		cfg:     cfg.withDefaults(),
		rnd:     rnd,
		space:   handlespace.New(rnd),
		entries: make(map[rserpool.PoolHandle]*cacheEntry),
		holds:   make(map[rserpool.PoolHandle]int),
	}
}

// take returns what is to be sent since the last call.
func (c *cacheCore) take() []cacheOrder {
	orders := c.orders
	c.orders = nil
	return orders
}

// pick selects an element of a pool. The element belongs to the cache.
func (c *cacheCore) pick(now time.Time, h rserpool.PoolHandle, w choice) (*handlespace.Element, verdict) {
	e := c.entries[h]
	if e == nil {
		if w.answered {
			return nil, exhausted // the answer was negative
		}
		if e = c.add(now, h); e == nil {
			return nil, full
		}
	}
	e.used = now
	switch {
	case w.answered && !e.live && e.age(now) > c.cfg.MaxAge:
		return nil, exhausted // the answer was an error
	case !w.answered && (w.fresh && !e.sought() || !c.usable(now, e)):
		c.ask(now, e)
		return nil, awaiting
	}
	if el := e.pick(now, c.space, w); el != nil {
		if !w.answered && c.stale(now, e) {
			c.ask(now, e)
		}
		return el, picked
	}
	if !w.answered && !e.unreachable {
		if now.Sub(e.asked) >= askGap {
			c.ask(now, e)
		}
		if e.asking() {
			return nil, awaiting
		}
	}
	if el := e.pickFailed(c.space, w); el != nil {
		return el, picked
	}
	return nil, exhausted
}

// known returns an element that a registrar has named, nil if none has. It selects nothing, and
// is no use of the pool.
func (c *cacheCore) known(now time.Time, h rserpool.PoolHandle, id rserpool.PEID) *handlespace.Element {
	if e := c.entryOf(h, id); e == nil || !c.usable(now, e) {
		return nil
	}
	return c.space.Pool(h).Element(id)
}

// list returns all elements of a pool, those that are left out as well, by identifier.
func (c *cacheCore) list(now time.Time, h rserpool.PoolHandle) []*handlespace.Element {
	e := c.entries[h]
	if e == nil || !c.usable(now, e) {
		return nil
	}
	e.used = now
	if c.stale(now, e) {
		c.ask(now, e)
	}
	return c.space.Pool(h).Elements(nil)
}

// age is how long ago the entry was last known to be true. An association with the
// registrar may be dead for a while before SCTP or TCP finds out, so that a live entry
// has an age as well.
func (e *cacheEntry) age(now time.Time) time.Duration { return now.Sub(e.confirmed) }

func (c *cacheCore) stale(now time.Time, e *cacheEntry) bool {
	if e.live {
		return e.age(now) > veryStale*c.cfg.Stale
	}
	return e.age(now) > c.cfg.Stale
}

// usable reports whether selections need not wait for an answer.
func (c *cacheCore) usable(now time.Time, e *cacheEntry) bool {
	switch {
	case c.space.Pool(e.handle) == nil:
		return false
	case e.live:
		return true
	case e.unreachable:
		return e.age(now) <= c.cfg.MaxAge
	}
	return e.age(now) <= min(veryStale*c.cfg.Stale, c.cfg.MaxAge)
}

// sought reports whether a registrar is sought already because none has answered: waiting
// for it would last as long as a round of the hunt.
func (e *cacheEntry) sought() bool { return e.unreachable && e.asking() }

// inUse reports whether updates of the entry are wanted.
func (c *cacheCore) inUse(now time.Time, e *cacheEntry) bool {
	return c.holds[e.handle] > 0 || now.Sub(e.used) <= idleTime
}

// ask requests an answer, unless one is on its way (single flight). A watch that waits
// for a registrar is on its way, too.
func (c *cacheCore) ask(now time.Time, e *cacheEntry) {
	if e.asking() {
		return
	}
	c.lastID++
	e.asked = now
	watch := e.watch == 0 && !c.cfg.NoUpdates
	if watch {
		e.watch, e.watchAsks = c.lastID, true
	} else {
		e.once = c.lastID
	}
	c.orders = append(c.orders, cacheOrder{id: c.lastID, pool: e.handle, watch: watch})
}

// populate requests an answer (RFC 5352, Section 6.3); false if the cache is full.
func (c *cacheCore) populate(now time.Time, h rserpool.PoolHandle) bool {
	e := c.entries[h]
	if e == nil {
		if e = c.add(now, h); e == nil {
			return false
		}
	}
	e.used = now
	c.ask(now, e)
	return true
}

// purge forgets a pool (RFC 5352, Section 6.4). Selections that wait for an answer get
// it.
func (c *cacheCore) purge(h rserpool.PoolHandle) {
	if e := c.entries[h]; e != nil {
		e.clear(c.space)
		if !e.asking() {
			c.drop(e)
		}
	}
}

// add makes an entry. If there are too many, the one that was not used for the longest
// time makes room, one without a session first.
func (c *cacheCore) add(now time.Time, h rserpool.PoolHandle) *cacheEntry {
	if len(c.entries) >= c.cfg.Pools {
		var oldest *cacheEntry
		for _, e := range c.entries {
			if !e.asking() && (oldest == nil || c.beforeInUse(e, oldest)) {
				oldest = e
			}
		}
		if oldest == nil {
			return nil
		}
		c.drop(oldest)
	}
	e := &cacheEntry{handle: h, used: now}
	c.entries[h] = e
	return e
}

// beforeInUse is the order in which entries make room. Handles decide among equals, so
// that the order of the map does not matter.
func (c *cacheCore) beforeInUse(a, b *cacheEntry) bool {
	heldA, heldB := c.holds[a.handle] > 0, c.holds[b.handle] > 0
	switch {
	case heldA != heldB:
		return heldB
	case !a.used.Equal(b.used):
		return a.used.Before(b.used)
	}
	return a.handle < b.handle
}

// drop forgets an entry and its watch.
func (c *cacheCore) drop(e *cacheEntry) {
	e.clear(c.space)
	c.unwatch(e)
	delete(c.entries, e.handle)
}

func (c *cacheCore) unwatch(e *cacheEntry) {
	if e.watch != 0 {
		c.orders = append(c.orders, cacheOrder{id: e.watch, pool: e.handle, cancel: true})
		e.watch, e.watchAsks, e.live = 0, false, false
	}
}

// hold marks a pool as in use until release.
func (c *cacheCore) hold(h rserpool.PoolHandle) { c.holds[h]++ }

func (c *cacheCore) release(h rserpool.PoolHandle) {
	if c.holds[h]--; c.holds[h] <= 0 {
		delete(c.holds, h)
	}
}

// answered handles the result of a request: an answer, an update, an error, or the loss
// of the association that the updates came over. It reports whether selections that wait
// for the pool go on.
func (c *cacheCore) answered(now time.Time, h rserpool.PoolHandle, id askID, r result) bool {
	e := c.entries[h]
	switch {
	case e == nil || id != e.watch && id != e.once:
		return false
	case r.lost:
		if e.live {
			e.live, e.confirmed = false, now
		}
		e.watchAsks = id == e.watch
		return false
	}
	watch := id == e.watch
	if watch {
		e.watchAsks = false
	} else {
		e.once = 0
	}
	if r.err == nil {
		c.apply(now, e, r.res, watch)
	} else {
		c.refused(now, e, r, watch)
	}
	if watch && r.final {
		e.watch, e.watchAsks, e.live = 0, false, false
	}
	return true
}

// apply takes an answer in. It does not follow a pool that is not in use any more.
func (c *cacheCore) apply(now time.Time, e *cacheEntry, res *Resolution, watch bool) {
	e.apply(c, res)
	e.confirmed, e.unreachable = now, false
	if !watch {
		return
	}
	e.live = res.Subscribed
	if !e.live || !c.inUse(now, e) {
		c.unwatch(e) // without updates it would poll the registrar
	}
}

// refused handles an error. If the registrar knows no element, none is selected any
// more. If no registrar answers, the elements stay until MaxAge.
func (c *cacheCore) refused(now time.Time, e *cacheEntry, r result, watch bool) {
	var none *NoElementsError
	if errors.Is(r.err, ErrUnknownPool) || errors.As(r.err, &none) {
		c.drop(e)
		return
	}
	if watch && e.live {
		e.live, e.confirmed = false, now
	}
	var refusal *RefusedError
	e.unreachable = !errors.As(r.err, &refusal) && !errors.Is(r.err, errClosed)
	empty := c.space.Pool(e.handle) == nil
	switch {
	case empty && !e.asking():
		c.drop(e)
	case watch && (!e.unreachable || empty || !c.inUse(now, e)):
		c.unwatch(e)
	case watch:
		e.watchAsks = true // it goes on until a registrar answers
	}
}

// failed leaves an element out, and reports whether to report it (RFC 5352, Section
// 3.5): once each time that the element was handed out.
func (c *cacheCore) failed(now time.Time, h rserpool.PoolHandle, id rserpool.PEID) bool {
	e := c.entryOf(h, id)
	return e == nil || e.fail(now, c, id, c.cfg.Retry)
}

// busy leaves an element out that lives, and takes no more work at the moment.
func (c *cacheCore) busy(now time.Time, h rserpool.PoolHandle, id rserpool.PEID) {
	if e := c.entryOf(h, id); e != nil {
		e.fail(now, c, id, busyTime)
	}
}

// entryOf returns the entry that has an element, nil if none has it.
func (c *cacheCore) entryOf(h rserpool.PoolHandle, id rserpool.PEID) *cacheEntry {
	if p := c.space.Pool(h); p != nil && p.Element(id) != nil {
		return c.entries[h]
	}
	return nil
}

// reached takes an element in again.
func (c *cacheCore) reached(h rserpool.PoolHandle, id rserpool.PEID) {
	if e := c.entries[h]; e != nil {
		e.forgive(c.space, id)
	}
}
