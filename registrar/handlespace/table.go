package handlespace

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
)

// shards is the number of parts of the table, a power of two. Each grows on its own, so
// that the writer never rebuilds more than a small part at once.
const (
	shardBits = 5
	shards    = 1 << shardBits
)

// table finds nodes by name, without regard to ASCII case. It is a hash table with one
// writer and lock-free readers: the nodes of a bucket are a chain that does not change
// after it is published. The seed of the hash is random, so that no client can choose
// handles that collide. Only the order of all depends on it.
type table struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	buckets atomic.Pointer[[]bucket] // a power of two of them; nil if empty
	nodes   int                      // for the writer only
}

type bucket = atomic.Pointer[node]

// node is what a name stands for. Nodes are immutable.
type node struct {
	hash uint64
	key  string // folded
	// pool is the pool whose handle is key, ASCII case aside; nil if there is none, the
	// bytewise greatest if there are several. others are the rest.
	pool   *Pool
	others []*Pool
	below  int32 // number of pools whose handle ends in '.' and key
	next   *node
}

func (t *table) init() { t.seed = maphash.MakeSeed() }

func (t *table) shard(hash uint64) *shard { return &t.shards[hash>>(64-shardBits)] }

// find returns the node of a name, nil if there is none.
func find[T ascii.Octets](t *table, hash uint64, name T) *node {
	buckets := t.shard(hash).buckets.Load()
	if buckets == nil {
		return nil
	}
	for n := (*buckets)[hash&uint64(len(*buckets)-1)].Load(); n != nil; n = n.next {
		if n.hash == hash && (n.key == string(name) || ascii.EqualFold(n.key, name)) {
			return n
		}
	}
	return nil
}

// exact returns the pool whose handle is exactly name, nil if there is none.
func exact[T ascii.Octets](n *node, name T) *Pool {
	if n.pool == nil || string(n.pool.handle) == string(name) {
		return n.pool
	}
	for _, p := range n.others {
		if string(p.handle) == string(name) {
			return p
		}
	}
	return nil
}

// pools returns all pools of the name, bytewise descending, in a slice of its
// own.
func (n *node) pools() []*Pool {
	if n.pool == nil {
		return nil
	}
	return append([]*Pool{n.pool}, n.others...)
}

// setPools is the reverse of pools.
func (n *node) setPools(pools []*Pool) {
	n.pool, n.others = nil, nil
	if len(pools) > 0 {
		n.pool = pools[0]
	}
	if len(pools) > 1 {
		n.others = pools[1:]
	}
}

// add adds a pool under its handle and counts it for the names above it.
func (t *table) add(p *Pool) {
	key := ascii.Fold(string(p.handle))
	t.update(key, func(n *node) {
		pools := n.pools()
		i, _ := slices.BinarySearchFunc(pools, p, byHandle)
		n.setPools(slices.Insert(pools, i, p))
	})
	for above := range namesAbove(key) {
		t.update(above, func(n *node) { n.below++ })
	}
}

// remove undoes add.
func (t *table) remove(p *Pool) {
	key := ascii.Fold(string(p.handle))
	t.update(key, func(n *node) {
		pools := n.pools()
		i, _ := slices.BinarySearchFunc(pools, p, byHandle)
		n.setPools(slices.Delete(pools, i, i+1))
	})
	for above := range namesAbove(key) {
		t.update(above, func(n *node) { n.below-- })
	}
}

// replace puts a pool in the place of another one with the same handle.
func (t *table) replace(p, next *Pool) {
	t.update(ascii.Fold(string(p.handle)), func(n *node) {
		pools := n.pools()
		i, _ := slices.BinarySearchFunc(pools, p, byHandle)
		pools[i] = next
		n.setPools(pools)
	})
}

// byHandle puts the bytewise greatest handle first: lower case before all others.
func byHandle(a, b *Pool) int { return cmp.Compare(b.handle, a.handle) }

// update publishes a changed node for a folded name: change gets a copy of the present
// one, or a new one. A node that then stands for nothing is removed.
func (t *table) update(key string, change func(*node)) {
	n := &node{hash: t.hashString(key), key: key}
	s := t.shard(n.hash)
	s.grow()
	b := s.bucket(n.hash)
	chain := b.Load()
	for old := chain; old != nil; old = old.next {
		if old.key == key {
			*n = *old
			chain = without(chain, old)
			s.nodes--
			break
		}
	}
	change(n)
	if n.pool == nil && n.below == 0 {
		b.Store(chain)
		s.shrink()
		return
	}
	s.nodes++
	n.next = chain
	b.Store(n)
}

// without returns the chain without one of its nodes. It copies those before.
func without(chain, n *node) *node {
	if chain == n {
		return n.next
	}
	c := *chain
	c.next = without(chain.next, n)
	return &c
}

func (s *shard) bucket(hash uint64) *bucket {
	buckets := *s.buckets.Load()
	return &buckets[hash&uint64(len(buckets)-1)]
}

const minBuckets = 4

// grow makes room for one node more.
func (s *shard) grow() {
	switch b := s.buckets.Load(); {
	case b == nil:
		s.rebuild(minBuckets)
	case s.nodes >= len(*b):
		s.rebuild(2 * len(*b))
	}
}

// shrink frees the memory that a shard no longer needs.
func (s *shard) shrink() {
	switch n := len(*s.buckets.Load()); {
	case s.nodes == 0:
		s.buckets.Store(nil)
	case n > minBuckets && s.nodes <= n/8:
		s.rebuild(n / 4)
	}
}

// rebuild publishes copies of all nodes in n buckets.
func (s *shard) rebuild(n int) {
	buckets := make([]bucket, n)
	if old := s.buckets.Load(); old != nil {
		for i := range *old {
			for from := (*old)[i].Load(); from != nil; from = from.next {
				c := *from
				b := &buckets[c.hash&uint64(n-1)]
				c.next = b.Load()
				b.Store(&c)
			}
		}
	}
	s.buckets.Store(&buckets)
}

// all yields every pool that is there from the start of the iteration to its end.
func (t *table) all(yield func(*Pool) bool) {
	for i := range t.shards {
		buckets := t.shards[i].buckets.Load()
		if buckets == nil {
			continue
		}
		for j := range *buckets {
			for n := (*buckets)[j].Load(); n != nil; n = n.next {
				if n.pool != nil && !yield(n.pool) {
					return
				}
				for _, p := range n.others {
					if !yield(p) {
						return
					}
				}
			}
		}
	}
}

// The limits of RFC 1035, Section 2.3.4; a name on the wire has two octets more
// than its labels joined by dots.
const (
	maxLabel = 63
	maxName  = 255 - 2
)

// namesAbove yields the names that are left when labels are taken from the front of a
// name, down to the last label; nothing if no DNS name can carry it.
func namesAbove(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		if !isName(name) {
			return
		}
		for {
			_, above, ok := strings.Cut(name, ".")
			if !ok || !yield(above) {
				return
			}
			name = above
		}
	}
}

// isName reports whether labels joined by dots fit a DNS name.
func isName(name string) bool {
	if len(name) > maxName {
		return false
	}
	for more := true; more; {
		var label string
		label, name, more = strings.Cut(name, ".")
		if label == "" || len(label) > maxLabel {
			return false
		}
	}
	return true
}

// hash returns the hash of a name with ASCII case folded.
func (t *table) hash(name []byte) uint64 {
	if ascii.HasUpper(name) {
		return hashFolded(t.seed, name)
	}
	return maphash.Bytes(t.seed, name)
}

func (t *table) hashString(name string) uint64 {
	if ascii.HasUpper(name) {
		return hashFolded(t.seed, name)
	}
	return maphash.String(t.seed, name)
}

// hashFolded works in parts, so that long names need no memory.
func hashFolded[T ascii.Octets](seed maphash.Seed, name T) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var buf [128]byte
	for len(name) > 0 {
		n := copy(buf[:], name)
		ascii.ToLower(buf[:n])
		h.Write(buf[:n])
		name = name[n:]
	}
	return h.Sum64()
}
