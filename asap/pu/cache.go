package pu

import (
	"context"
	crand "crypto/rand"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// CacheConfig configures a [Cache]. Zero and negative fields stand for the defaults.
type CacheConfig struct {
	// Stale is stale_cache_value (RFC 5352, Section 7.2): how long a pool's elements are
	// taken for true after an answer, if the registrar sends no updates; default 30 s,
	// which is how often elements renew their registrations. A selection from older ones
	// has them refreshed. After ten times Stale it waits for the answer first.
	Stale time.Duration
	// MaxAge is how old elements may be that are selected while no registrar can be
	// reached; default 1 h.
	MaxAge time.Duration
	// Retry is how long an element that was found dead is left out, if the registrar
	// names it all that time; default 10 s. It doubles with each failure, up to 16 times
	// as long.
	Retry time.Duration
	// Elements is how many elements of a pool the cache requests, and keeps; default
	// 128, the most that a registrar gives with its default settings. If a pool has
	// more, the user selects among those that the registrar selects. Under a policy with
	// degradation, a registrar counts each element of an answer as selected: with 128,
	// all of them alike, and each user counts what it selects itself. Programs that
	// select once and end leave that to the registrar with 1.
	Elements int
	// Pools is the most pools that the cache keeps; default 256. The pool that was not
	// used for the longest time makes room for another one.
	Pools int
	// NoUpdates has the cache subscribe to no updates. That saves the registrar
	// messages, and an element that has died is in the cache until it is found dead, or
	// the answer is stale.
	NoUpdates bool
}

func (c CacheConfig) withDefaults() CacheConfig {
	fill := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	fill(&c.Stale, 30*time.Second)
	fill(&c.MaxAge, time.Hour)
	fill(&c.Retry, 10*time.Second)
	if c.Elements <= 0 {
		c.Elements = 128
	}
	if c.Pools <= 0 {
		c.Pools = 256
	}
	return c
}

// Cache keeps what registrars say of pools (RFC 5352, Section 3.3), so that [User.Select]
// and sessions need not ask them each time. It selects by the policy of the pool (RFC
// 5356), and shares its state among all users of the process that have it in
// Config.Cache: they must belong to one operational scope. Requests of several users for
// one pool at the same time are one request.
//
// While a pool is in use, the registrar's updates keep its elements true. A pool is in
// use for 5 minutes after a selection, and as long as a session with one of its elements
// is open. A Cache has no goroutine and needs no Close. Its memory is bounded by Pools
// and Elements: about 300 bytes an element.
type Cache struct {
	mu      sync.Mutex
	core    *cacheCore
	waiters map[rserpool.PoolHandle][]*waiter
	queries map[askID]*query
}

// query is a request of the cache to a registrar.
type query struct {
	user *User
	pool rserpool.PoolHandle
	id   reqID // for the goroutine of the user's driver
}

// waiter is a selection that waits for an answer. wake is called without the mutex.
type waiter struct {
	wake func(err error)
}

// NewCache makes an empty cache.
func NewCache(cfg CacheConfig) *Cache {
	var seed [32]byte
	_, _ = crand.Read(seed[:])
	return newCache(cfg, rand.New(rand.NewChaCha8(seed)))
}

func newCache(cfg CacheConfig, rnd *rand.Rand) *Cache {
	return &Cache{
		core:    newCacheCore(cfg, rnd),
		waiters: make(map[rserpool.PoolHandle][]*waiter),
		queries: make(map[askID]*query),
	}
}

// pick selects an element for a user. If an answer is awaited, it returns neither an
// element nor an error, and wt, if not nil, is woken once, with the answer's error.
func (c *Cache) pick(u *User, pool rserpool.PoolHandle, w choice, wt *waiter) (*handlespace.Element, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el, v := c.core.pick(time.Now(), pool, w)
	sent := c.send(u)
	switch v {
	case picked:
		return el, nil
	case awaiting:
		if !sent {
			return nil, errClosed
		}
		c.wait(pool, wt)
		return nil, nil
	case full:
		return nil, errCacheFull
	case exhausted:
	}
	return nil, &ExhaustedError{Pool: pool}
}

// known returns a copy of an element that a registrar has named; false if none has.
func (c *Cache) known(pool rserpool.PoolHandle, id rserpool.PEID) (rserpool.PoolElement, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.core.known(time.Now(), pool, id)
	return clone(el), el != nil
}

// list returns copies of all elements of a pool, nil if a registrar must be asked first.
func (c *Cache) list(u *User, pool rserpool.PoolHandle) []rserpool.PoolElement {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []rserpool.PoolElement
	for _, el := range c.core.list(time.Now(), pool) {
		list = append(list, clone(el))
	}
	c.send(u)
	return list
}

// populate has an answer requested, for which wt waits.
func (c *Cache) populate(u *User, pool rserpool.PoolHandle, wt *waiter) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	ok := c.core.populate(time.Now(), pool)
	switch sent := c.send(u); {
	case !ok:
		return errCacheFull
	case !sent:
		return errClosed
	}
	c.wait(pool, wt)
	return nil
}

func (c *Cache) wait(pool rserpool.PoolHandle, wt *waiter) {
	if wt != nil {
		c.waiters[pool] = append(c.waiters[pool], wt)
	}
}

// forget: a waiter waits no longer.
func (c *Cache) forget(pool rserpool.PoolHandle, w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters[pool] = slices.DeleteFunc(c.waiters[pool], func(o *waiter) bool { return o == w })
	if len(c.waiters[pool]) == 0 {
		delete(c.waiters, pool)
	}
}

// send sends the core's requests by a user, and ends others; false if the user is
// closed. The mutex is held, so that no request ends before it was sent.
func (c *Cache) send(u *User) (sent bool) {
	sent = true
	for _, o := range c.core.take() {
		if o.cancel {
			c.end(o.id)
			continue
		}
		q := &query{user: u, pool: o.pool}
		c.queries[o.id] = q
		ok := u.driver.Do(func(now time.Time) {
			q.id = u.runner.resolve(now, o.pool, uint32(c.core.cfg.Elements), o.watch)
			u.runner.waiting[q.id] = func(r result) { c.result(u, o.pool, o.id, r) }
		})
		if !ok {
			sent = false
			delete(c.queries, o.id)
			c.core.answered(time.Now(), o.pool, o.id, result{err: errClosed, final: true})
		}
	}
	return sent
}

func (c *Cache) end(id askID) {
	if q := c.queries[id]; q != nil {
		q.user.driver.Do(func(time.Time) { q.user.runner.cancel(q.id, context.Canceled) })
	}
}

// result takes in what a registrar says, and wakes the selections that wait for it.
func (c *Cache) result(u *User, pool rserpool.PoolHandle, id askID, r result) {
	c.mu.Lock()
	if r.final {
		delete(c.queries, id)
	}
	var awake []*waiter
	if c.core.answered(time.Now(), pool, id, r) {
		awake = c.waiters[pool]
		delete(c.waiters, pool)
	}
	c.send(u)
	c.mu.Unlock()
	for _, w := range awake {
		w.wake(r.err)
	}
}

// left ends the requests of a user that has ended without their results. Others ask then.
func (c *Cache) left(u *User) {
	c.mu.Lock()
	pools := make(map[askID]rserpool.PoolHandle)
	for id, q := range c.queries {
		if q.user == u {
			pools[id] = q.pool
		}
	}
	c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(pools)) {
		c.result(u, pools[id], id, result{err: errClosed, final: true})
	}
}

func (c *Cache) purge(u *User, pool rserpool.PoolHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.purge(pool)
	c.send(u)
}

func (c *Cache) failed(pool rserpool.PoolHandle, id rserpool.PEID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.failed(time.Now(), pool, id)
}

func (c *Cache) busy(pool rserpool.PoolHandle, id rserpool.PEID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.busy(time.Now(), pool, id)
}

func (c *Cache) reached(pool rserpool.PoolHandle, id rserpool.PEID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.reached(pool, id)
}

// hold marks a pool as in use until release is called.
func (c *Cache) hold(pool rserpool.PoolHandle) (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.hold(pool)
	return sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.core.release(pool)
	})
}
