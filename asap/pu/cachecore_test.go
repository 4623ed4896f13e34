package pu

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// cacheWorld drives the core of a cache in virtual time. It answers nothing by itself.
type cacheWorld struct {
	t   *testing.T
	c   *cacheCore
	now time.Time
	// open are the requests without an answer, watches those that were answered.
	open, watches []cacheOrder
	sent          int
}

func newCacheWorld(t *testing.T, cfg CacheConfig) *cacheWorld {
	t.Helper()
	return &cacheWorld{t: t, c: newCacheCore(cfg, rand.New(rand.NewPCG(1, 2))), now: time.Unix(1_000_000, 0)}
}

func (w *cacheWorld) collect() {
	for _, o := range w.c.take() {
		if o.cancel {
			same := func(x cacheOrder) bool { return x.id == o.id }
			w.open, w.watches = slices.DeleteFunc(w.open, same), slices.DeleteFunc(w.watches, same)
			continue
		}
		w.sent++
		w.open = append(w.open, o)
	}
}

// pick returns the identifier of the element, or the verdict.
func (w *cacheWorld) pick(h rserpool.PoolHandle, c choice) string {
	el, v := w.c.pick(w.now, h, c)
	w.collect()
	if v == picked {
		return fmt.Sprint(uint32(el.ID))
	}
	return map[verdict]string{awaiting: "wait", exhausted: "exhausted", full: "full"}[v]
}

// answer answers the oldest open request.
func (w *cacheWorld) answer(r result) bool {
	w.t.Helper()
	if len(w.open) == 0 {
		w.t.Fatal("no request is open")
	}
	o := w.open[0]
	w.open = w.open[1:]
	if o.watch {
		w.watches = append(w.watches, o)
	}
	r.final = !o.watch
	woken := w.c.answered(w.now, o.pool, o.id, r)
	w.collect()
	return woken
}

// news tells a watch something.
func (w *cacheWorld) news(r result) {
	w.t.Helper()
	if len(w.watches) == 0 {
		w.t.Fatal("nothing is watched")
	}
	w.c.answered(w.now, w.watches[0].pool, w.watches[0].id, r)
	w.collect()
}

func (w *cacheWorld) want(h rserpool.PoolHandle, c choice, want ...string) {
	w.t.Helper()
	for i, x := range want {
		if got := w.pick(h, c); got != x {
			w.t.Errorf("selection %d: %s, want %s", i, got, x)
		}
	}
}

func (w *cacheWorld) wantSent(n int) {
	w.t.Helper()
	if w.sent != n {
		w.t.Errorf("%d requests were sent, want %d", w.sent, n)
	}
}

func (w *cacheWorld) wait(d time.Duration) { w.now = w.now.Add(d) }

// elementAt is an element whose policy has the type of p.
func elementAt(id rserpool.PEID, p rserpool.Policy) rserpool.PoolElement {
	return rserpool.PoolElement{
		ID: id, Policy: p,
		UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(id >> 8), byte(id)})}},
	}
}

// resolution is an answer with round robin.
func resolution(updates bool, ids ...rserpool.PEID) result {
	res := &Resolution{Pool: testPool, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, Subscribed: updates}
	for _, id := range ids {
		res.Elements = append(res.Elements, elementAt(id, res.Policy))
	}
	return result{res: res}
}

var (
	unknownPool = result{err: &RefusedError{Pool: testPool, Causes: []rserpool.Cause{{Code: rserpool.CauseUnknownPoolHandle}}}}
	noRegistrar = result{err: &rserpool.UnreachableError{}}
)

// TestCacheFresh: RFC 5352, Section 3.3, C1 and C4. The cache is consulted first, and
// many selections at once make one request.
func TestCacheFresh(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	for range 1000 {
		w.want(testPool, choice{}, "wait")
	}
	w.wantSent(1)
	if !w.answer(resolution(true, 3, 1, 2)) {
		t.Error("the selections go on waiting after the answer")
	}
	// RFC 5356, Section 4.1.3: in turn, beginning with the first.
	w.want(testPool, choice{}, "3", "1", "2", "3", "1", "2")
	w.wait(4 * time.Minute)
	w.want(testPool, choice{}, "3")
	w.wantSent(1)
}

// TestCacheUpdates: elements come, go and change, and the others keep their turns.
func TestCacheUpdates(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1, 2, 3))
	w.want(testPool, choice{}, "1")
	w.news(resolution(true, 4, 3, 2))
	w.want(testPool, choice{}, "2", "3", "4", "2", "3", "4")
	w.news(unknownPool)
	w.want(testPool, choice{}, "wait")
	w.wantSent(2)
	w.answer(unknownPool)
	w.want(testPool, choice{answered: true}, "exhausted")
}

// TestCacheStale: C2 and C3. Without updates, a stale entry serves, and is refreshed; a
// very stale one waits, unless no registrar can be reached.
func TestCacheStale(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{Stale: time.Second, MaxAge: time.Minute})
	w.pick(testPool, choice{})
	w.answer(resolution(false, 1))
	if len(w.watches) > 0 {
		t.Error("a registrar that sends no updates is asked all the time")
	}
	w.wait(time.Second)
	w.want(testPool, choice{}, "1")
	w.wantSent(1)
	w.wait(time.Millisecond)
	w.want(testPool, choice{}, "1", "1")
	w.wantSent(2)
	w.answer(resolution(false, 2))
	w.want(testPool, choice{}, "2")
	w.wait(10*time.Second + time.Millisecond)
	w.want(testPool, choice{}, "wait")
	w.wantSent(3)
	w.answer(noRegistrar)
	w.want(testPool, choice{answered: true}, "2")
	w.want(testPool, choice{}, "2")
	w.wait(49 * time.Second)
	w.want(testPool, choice{}, "2")
	w.wait(time.Second)
	w.want(testPool, choice{}, "wait")
}

// TestCacheUnreachable: while no registrar can be reached, the last elements serve, for
// MaxAge, and the watch goes on until a registrar answers.
func TestCacheUnreachable(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1))
	w.news(result{lost: true})
	w.wait(time.Minute)
	w.news(noRegistrar)
	w.want(testPool, choice{}, "1")
	w.wait(time.Minute)
	w.news(noRegistrar)
	w.want(testPool, choice{}, "1")
	w.want(testPool, choice{fresh: true}, "1") // which can not be had
	w.wantSent(1)                              // the watch is on its way
	w.news(resolution(true, 2))
	w.want(testPool, choice{}, "2")

	w.wait(idleTime + time.Second)
	w.news(noRegistrar)
	if len(w.watches) > 0 {
		t.Error("a registrar is sought for a pool that nobody uses")
	}
	w.wait(time.Hour - time.Minute)
	w.want(testPool, choice{}, "2")
	w.answer(noRegistrar)
	w.wait(time.Minute + time.Second)
	w.want(testPool, choice{}, "wait")
	w.news(noRegistrar)
	w.want(testPool, choice{answered: true}, "exhausted")
}

// TestCacheColdUnreachable: without elements, nothing goes on in the background.
func TestCacheColdUnreachable(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.want(testPool, choice{}, "wait")
	if !w.answer(noRegistrar) || len(w.c.entries) != 0 || len(w.watches) != 0 {
		t.Errorf("%d entries, %d watches after a failure", len(w.c.entries), len(w.watches))
	}
}

// TestCacheIdle: updates of a pool that is not in use are not followed; a session keeps it
// in use.
func TestCacheIdle(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1))
	w.c.hold(testPool)
	w.wait(time.Hour)
	w.news(resolution(true, 2))
	w.want(testPool, choice{}, "2")
	w.c.release(testPool)
	w.wait(idleTime + 1)
	w.news(resolution(true, 3))
	if len(w.watches) > 0 || len(w.c.holds) > 0 {
		t.Error("an idle pool is followed")
	}
	w.wait(time.Second)
	w.want(testPool, choice{}, "3")
	w.wait(time.Minute)
	w.want(testPool, choice{}, "3", "3")
	w.wantSent(2)
	w.answer(resolution(true, 4))
	w.want(testPool, choice{}, "4")
}

// TestCacheFailed: RFC 5352, Section 3.5: a dead element is left out and reported once,
// and comes back after a time that doubles, or when it is a new one.
func TestCacheFailed(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1, 2, 3))
	w.want(testPool, choice{}, "1")
	fail := func(id rserpool.PEID, want bool) {
		t.Helper()
		if got := w.c.failed(w.now, testPool, id); got != want {
			t.Errorf("failure of %v to be reported: %v, want %v", id, got, want)
		}
	}
	fail(1, true)
	fail(1, false)
	w.want(testPool, choice{}, "2", "3", "2")
	w.news(resolution(true, 1, 2, 3)) // the registrar does not know yet
	w.want(testPool, choice{}, "3", "2")
	w.wait(10 * time.Second)
	w.want(testPool, choice{}, "3", "2", "1")
	fail(1, true)
	w.wait(19 * time.Second)
	w.want(testPool, choice{}, "3", "2", "3", "2")
	w.news(resolution(true, 3, 2))
	w.news(resolution(true, 3, 2, 1)) // anew
	w.want(testPool, choice{}, "3", "2", "1")
	fail(1, true)
	moved := resolution(true, 3, 2, 1)
	moved.res.Elements[2].UserTransport.Port++
	w.news(moved)
	w.want(testPool, choice{}, "3", "2", "1")
	fail(1, true)
	loaded := resolution(true, 3, 2, 1)
	loaded.res.Elements[2].UserTransport.Port++
	loaded.res.Elements[2].Life++ // it is still dead for this user
	w.news(loaded)
	w.want(testPool, choice{}, "3", "2", "3")
	w.c.reached(testPool, 1)
	w.want(testPool, choice{}, "2", "3", "1")
	fail(9, true) // never heard of
	if w.c.failed(w.now, "other", 1) != true {
		t.Error("an element that is not cached is not reported")
	}
	for range 100 {
		w.c.failed(w.now, testPool, 2)
		w.wait(161 * time.Second)
		w.pick(testPool, choice{})
		if w.c.entries[testPool].leftOut(2) {
			t.Fatal("an element is left out for more than 160 s")
		}
	}
}

// TestCacheBusy: a busy element has a short rest, which doubles.
func TestCacheBusy(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1, 2))
	w.want(testPool, choice{}, "1", "2")
	for _, rest := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		w.c.busy(w.now, testPool, 1)
		w.c.busy(w.now, testPool, 1)
		w.c.busy(w.now, "other", 1)
		w.wait(rest - time.Millisecond)
		w.want(testPool, choice{}, "2", "2")
		w.wait(time.Millisecond)
		w.want(testPool, choice{}, "2", "1")
	}
	w.c.busy(w.now, testPool, 1)
	w.c.reached(testPool, 1)
	w.want(testPool, choice{}, "2", "1")
	w.c.busy(w.now, testPool, 2)
	w.c.busy(w.now, testPool, 1)
	w.want(testPool, choice{}, "wait") // all are busy
}

// TestCacheExhausted: if all are left out, a registrar is asked, and then the least
// hopeless is tried.
func TestCacheExhausted(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1, 2))
	w.wait(time.Second)
	w.c.failed(w.now, testPool, 2)
	w.wait(time.Second)
	w.c.failed(w.now, testPool, 1)
	w.want(testPool, choice{}, "wait")
	w.wantSent(2)
	w.answer(resolution(false, 1, 2))
	w.want(testPool, choice{answered: true}, "2")
	w.want(testPool, choice{}, "2") // at most one request a second
	w.wantSent(2)
	w.want(testPool, choice{without: []rserpool.PEID{2}}, "1")
	w.want(testPool, choice{without: []rserpool.PEID{2, 1}}, "exhausted")
	if !w.c.failed(w.now, testPool, 1) {
		t.Error("the failure of an element that was tried once more is not reported")
	}
	w.wait(time.Second)
	w.want(testPool, choice{}, "wait")
	w.answer(noRegistrar)
	w.want(testPool, choice{answered: true}, "2")
	w.want(testPool, choice{}, "2") // without waiting
}

// TestCacheChoice: what was tried is left out and keeps its turn; an element can be
// wanted, and a new answer.
func TestCacheChoice(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1, 2, 3))
	w.want(testPool, choice{without: []rserpool.PEID{1}}, "2")
	w.want(testPool, choice{}, "1")
	w.want(testPool, choice{want: 3}, "3")
	w.want(testPool, choice{want: 9}, "3")
	w.want(testPool, choice{want: 1, without: []rserpool.PEID{1}}, "2")
	w.c.failed(w.now, testPool, 1)
	w.want(testPool, choice{want: 1}, "3")
	w.want(testPool, choice{fresh: true}, "wait", "wait")
	w.wantSent(2)
	w.answer(resolution(false, 4))
	w.want(testPool, choice{fresh: true, answered: true}, "4")
}

// TestCachePurge: RFC 5352, Sections 6.3 and 6.4.
func TestCachePurge(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	for range 2 {
		if !w.c.populate(w.now, testPool) {
			t.Error("populate is refused")
		}
	}
	w.collect()
	w.wantSent(1)
	w.answer(resolution(true, 1))
	w.want(testPool, choice{}, "1")
	w.c.populate(w.now, testPool)
	w.collect()
	w.wantSent(2)
	w.c.purge(testPool) // while an answer is on its way
	w.want(testPool, choice{}, "wait")
	w.answer(resolution(false, 2))
	w.want(testPool, choice{}, "2")
	w.c.purge(testPool)
	w.c.purge("other")
	w.collect()
	if len(w.c.entries) > 0 || len(w.watches) > 0 {
		t.Error("the pool is there after purge")
	}
	if pools, elements := w.c.space.Len(); pools+elements > 0 {
		t.Errorf("%d pools and %d elements after purge", pools, elements)
	}
}

// TestCacheBounds: the pool that was not used for the longest time makes room, one with a
// session last; nothing grows.
func TestCacheBounds(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{Pools: 3, Elements: 4})
	for i := range 3 {
		w.pick(rserpool.PoolHandle(fmt.Sprint(i)), choice{})
	}
	w.want("3", choice{}, "full")
	if w.c.populate(w.now, "3") {
		t.Error("populate in a full cache")
	}
	for range 3 {
		w.answer(resolution(true, 9, 8, 7, 6, 5, 4))
	}
	w.want("0", choice{}, "9", "8", "7", "6", "9")
	w.c.hold("1")
	w.wait(time.Second)
	w.want("0", choice{}, "8")
	w.want("3", choice{}, "wait") // in place of 2
	w.answer(resolution(true, 1))
	w.wait(time.Second)
	w.want("3", choice{}, "1")
	w.want("4", choice{}, "wait") // in place of 0
	if w.c.entries["1"] == nil || len(w.c.entries) != 3 {
		t.Errorf("%d entries, of a session %v", len(w.c.entries), w.c.entries["1"])
	}
	if _, elements := w.c.space.Len(); elements > 3*4 {
		t.Errorf("%d elements", elements)
	}
}

// TestCacheOtherKind: a pool that is another one by its policy or transport.
func TestCacheOtherKind(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1, 2))
	w.c.failed(w.now, testPool, 1)
	other := resolution(true, 1, 2, 3)
	other.res.Policy = rserpool.Policy{Type: rserpool.Priority}
	for i := range other.res.Elements {
		other.res.Elements[i].Policy = rserpool.Policy{Type: rserpool.Priority, Priority: uint32(5 - i)}
	}
	other.res.Elements[2].UserTransport.Type = rserpool.SCTP // does not fit
	w.news(other)
	w.want(testPool, choice{}, "1", "1")
	w.want(testPool, choice{without: []rserpool.PEID{1}}, "2")
	w.want(testPool, choice{without: []rserpool.PEID{1, 2}}, "exhausted")
}

// TestCacheClosed: a user that is closed takes its requests with it. Others ask anew.
func TestCacheClosed(t *testing.T) {
	w := newCacheWorld(t, CacheConfig{})
	w.pick(testPool, choice{})
	w.answer(resolution(true, 1))
	w.news(result{err: errClosed, final: true})
	w.watches = nil
	w.want(testPool, choice{}, "1")
	w.wait(31 * time.Second)
	w.want(testPool, choice{}, "1")
	w.wantSent(2)
	w.answer(resolution(true, 2))
	w.want(testPool, choice{}, "2")
}

// TestCacheRandom: whatever the registrar and the program do, the cache selects only what
// the last answer named, and nothing that was just found dead.
func TestCacheRandom(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		w := newCacheWorld(t, CacheConfig{Pools: 2, Elements: 5, NoUpdates: seed%4 == 0})
		pools := []rserpool.PoolHandle{"a", "b", "c"}
		names := map[rserpool.PoolHandle][]rserpool.PEID{}
		some := func() result {
			var ids []rserpool.PEID
			for _, i := range rnd.Perm(8)[:1+rnd.IntN(5)] {
				ids = append(ids, rserpool.PEID(i+1))
			}
			r := resolution(rnd.IntN(3) > 0, ids...)
			r.res.Policy.Type = []rserpool.PolicyType{rserpool.RoundRobin, rserpool.Random, 77}[rnd.IntN(3)]
			return r
		}
		ids := func(r result) (ids []rserpool.PEID) {
			for _, e := range r.res.Elements {
				ids = append(ids, e.ID)
			}
			return ids
		}
		for range 600 {
			h := pools[rnd.IntN(3)]
			switch rnd.IntN(10) {
			case 0:
				w.wait(time.Duration(rnd.Int64N(int64(time.Minute))))
			case 1:
				if len(w.open) == 0 {
					continue
				}
				h = w.open[0].pool
				switch rnd.IntN(4) {
				case 0:
					w.answer(noRegistrar)
				case 1:
					w.answer(unknownPool)
				default:
					r := some()
					names[h] = ids(r)
					w.answer(r)
				}
			case 2:
				if len(w.watches) == 0 {
					continue
				}
				h = w.watches[0].pool
				r := some()
				switch rnd.IntN(4) {
				case 0:
					r = result{lost: true}
				case 1:
					r = unknownPool
				default:
					names[h] = ids(r)
				}
				w.news(r)
			case 3:
				w.c.failed(w.now, h, rserpool.PEID(1+rnd.IntN(8)))
			case 4:
				w.c.reached(h, rserpool.PEID(1+rnd.IntN(8)))
			case 5:
				if rnd.IntN(10) == 0 {
					w.c.purge(h)
					w.collect()
				}
			default:
				without := []rserpool.PEID{rserpool.PEID(1 + rnd.IntN(8))}
				el, v := w.c.pick(w.now, h, choice{want: rserpool.PEID(rnd.IntN(3)), without: without, answered: rnd.IntN(4) == 0})
				w.collect()
				if v == picked && (!slices.Contains(names[h], el.ID) || slices.Contains(without, el.ID)) {
					t.Fatalf("seed %d: selected %v of %v without %v", seed, el.ID, names[h], without)
				}
			}
			if len(w.c.entries) > 2 || len(w.open) > 4 {
				t.Fatalf("seed %d: %d entries, %d open requests", seed, len(w.c.entries), len(w.open))
			}
		}
	}
}
