package handlespace

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// shards is how many parts the table has. Each grows by itself, so that the
// writer never rebuilds more than a small part at once.
const shards = 256

// table finds nodes by name with ASCII case folded. It is a hash table with
// one writer and lock-free readers: the nodes of a bucket are a chain that
// never changes once it is published. The seed of the hash is random, so that
// nobody can choose handles that collide; nothing but the order of all
// depends on it.
type table struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	buckets atomic.Pointer[[]bucket] // a power of two of them; nil if empty
	nodes   int                      // the writer's
}

type bucket = atomic.Pointer[node]

// node is what a name stands for. Nodes are immutable.
type node struct {
	hash  uint64
	key   string  // folded
	pools []*Pool // whose handles are key but for case, bytewise ascending
	below int32   // number of pools whose handle ends in '.' and key
	next  *node
}

func (t *table) init() { t.seed = maphash.MakeSeed() }

func (t *table) shard(hash uint64) *shard { return &t.shards[hash>>56] }

// bytes is a name in either form, so that neither readers of the wire nor the
// writer have to convert.
type bytes interface{ ~string | ~[]byte }

// find returns the node of a name of any case, nil if there is none, and the
// pool whose handle is the name to the byte.
func find[T bytes](t *table, name T) (*node, *Pool) {
	h := hash(t.seed, name)
	buckets := t.shard(h).buckets.Load()
	if buckets == nil {
		return nil, nil
	}
	for n := (*buckets)[h&uint64(len(*buckets)-1)].Load(); n != nil; n = n.next {
		if n.hash != h {
			continue
		}
		for _, p := range n.pools {
			if string(p.handle) == string(name) {
				return n, p
			}
		}
		if equalFold(n.key, name) {
			return n, nil
		}
	}
	return nil, nil
}

// add enters a pool under its handle and counts it for the names above it.
func (t *table) add(p *Pool) {
	key := fold(string(p.handle))
	t.update(key, func(n *node) {
		i, _ := slices.BinarySearchFunc(n.pools, p, byHandle)
		n.pools = slices.Insert(slices.Clone(n.pools), i, p)
	})
	for above := range namesAbove(key) {
		t.update(above, func(n *node) { n.below++ })
	}
}

// remove undoes add.
func (t *table) remove(p *Pool) {
	key := fold(string(p.handle))
	t.update(key, func(n *node) {
		i, _ := slices.BinarySearchFunc(n.pools, p, byHandle)
		n.pools = slices.Delete(slices.Clone(n.pools), i, i+1)
	})
	for above := range namesAbove(key) {
		t.update(above, func(n *node) { n.below-- })
	}
}

func byHandle(a, b *Pool) int { return cmp.Compare(a.handle, b.handle) }

// update publishes a changed node for a folded name: change gets a copy of the
// present one, or a fresh one. A node that then stands for nothing vanishes.
func (t *table) update(key string, change func(*node)) {
	n := &node{hash: hash(t.seed, key), key: key}
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
	if len(n.pools) == 0 && n.below == 0 {
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

// shrink gives back what a shard has left over for good.
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

// all yields every pool that is there all the time.
func (t *table) all(yield func(*Pool) bool) {
	for i := range t.shards {
		buckets := t.shards[i].buckets.Load()
		if buckets == nil {
			continue
		}
		for j := range *buckets {
			for n := (*buckets)[j].Load(); n != nil; n = n.next {
				for _, p := range n.pools {
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

// namesAbove yields what is left of a name when labels are taken from its
// front, down to the last label; nothing if no DNS name can carry it.
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
func hash[T bytes](seed maphash.Seed, name T) uint64 {
	var buf [128]byte
	if len(name) <= len(buf) {
		return maphash.Bytes(seed, foldInto(&buf, name))
	}
	var h maphash.Hash
	h.SetSeed(seed)
	for len(name) > 0 {
		part := foldInto(&buf, name)
		h.Write(part)
		name = name[len(part):]
	}
	return h.Sum64()
}

// foldInto fills buf with as much of the folded name as it holds.
func foldInto[T bytes](buf *[128]byte, name T) []byte {
	n := copy(buf[:], name)
	for i := 0; i < n; i += 8 {
		word := buf[i : i+8]
		binary.LittleEndian.PutUint64(word, foldWord(binary.LittleEndian.Uint64(word)))
	}
	return buf[:n]
}

// foldWord folds eight bytes at once.
func foldWord(w uint64) uint64 {
	const ones = 0x0101010101010101
	low := w & (0x7f * ones)
	fromA := low + (0x80-'A')*ones     // bit 7 is set in bytes of at least 'A',
	beyondZ := low + (0x80-'Z'-1)*ones // and in those above 'Z'
	upper := (fromA &^ beyondZ) &^ w & (0x80 * ones)
	return w | upper>>2 // 'a' - 'A' is bit 5
}

// fold returns the name with ASCII case folded; itself if that changes nothing.
func fold(name string) string {
	for i := range len(name) {
		if lower(name[i]) != name[i] {
			b := []byte(name)
			for ; i < len(b); i++ {
				b[i] = lower(b[i])
			}
			return string(b)
		}
	}
	return name
}

func equalFold[T bytes](key string, name T) bool {
	if len(key) != len(name) {
		return false
	}
	for i := range len(key) {
		if key[i] != lower(name[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
