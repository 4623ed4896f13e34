package lookup

import (
	"hash/maphash"
	"math/bits"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// Buckets is the number of buckets that a server block needs.
const Buckets = 4096

const (
	bucketPairs = 8
	bucketWays  = 32 // the bits of a ways
)

// Memory has the latest selections: in each bucket those of up to bucketPairs pairs of a
// client and a pool, and up to bucketWays in all. Under more load it drops the oldest ones
// before ownTime is over. Nearly all of it is without pointers, so that garbage
// collections skip it. They are rarer with it, too, because it counts as part of the heap.
type Memory struct {
	seed      maphash.Seed
	start     time.Time
	width     int // elements of a selection, at most
	buckets   []marks
	ids       []rsp.PEID // width for each way of each bucket
	scratches []scratch
}

// bucket is one bucket with its parts.
type bucket struct {
	*marks
	*scratch
	width int
	ids   []rsp.PEID
}

// marks are what a bucket has without pointers.
type marks struct {
	mu    sync.Mutex // of the whole bucket
	pairs [bucketPairs]pair
	ways  [bucketWays]selection
	// answered has, by kind of question, the selections that have answered one.
	answered [kinds]answered
	mixed    ways   // those that have answered questions from two ports
	free     ways   // in use by no pair
	seq      uint32 // of the latest selection
}

// scratch is the rest of a bucket.
type scratch struct {
	// selected is reused for each selection, which saves an allocation.
	selected []handlespace.Selected
	// empty is the latest AAAA question, one of the pair emptyPair, for which the pool had
	// no element.
	empty     *net.UDPAddr
	emptyPair uint64
}

// ways is a set of ways of a bucket.
type ways uint32

// answered has the selections that have answered a question, and those of them that may
// answer it once more, by TCP.
type answered struct{ all, byUDP ways }

// pair is a client with a pool.
type pair struct {
	id   uint64 // see Memory.id; 0: none
	last int64  // the time of the latest question
	ways ways
	// oldest and latest are those of ways, if there are any.
	oldest, latest uint8
}

// selection is one that the questions of a lookup share.
type selection struct {
	at   int64
	seq  uint32
	port uint16
	// guest is the latest other port from which a question was answered, by UDP.
	guest          uint16
	toOwn, toGuest kindSet // the questions answered, by port
	next           uint8   // the pair's next younger one
	n              uint8   // elements
}

// kindSet has a bit for each kind.
type kindSet uint8

func (s kindSet) has(k Kind) bool { return s>>k&1 != 0 }

// New makes the memory for selections of at most width elements. The number of buckets
// is a power of two.
func New(buckets, width int) *Memory {
	s := &Memory{
		seed: maphash.MakeSeed(), start: time.Now(), width: width,
		buckets:   make([]marks, buckets),
		ids:       make([]rsp.PEID, buckets*bucketWays*width),
		scratches: make([]scratch, buckets),
	}
	selected := make([]handlespace.Selected, buckets*width)
	for i := range s.buckets {
		s.buckets[i].free = ^ways(0)
		s.scratches[i].selected, selected = selected[:0:width], selected[width:]
	}
	return s
}

// id identifies a pair of a client and a pool. Two pairs have the same one as rarely as the
// same random number, and could do no more than share the elements of their pools.
func (s *Memory) id(c *Origin, p *handlespace.Pool) uint64 {
	return maphash.Comparable(s.seed, pairKey{c.Addr, p}) | 1
}

type pairKey struct {
	client netip.Addr
	pool   *handlespace.Pool
}

// bucket returns the bucket of a pair.
func (s *Memory) bucket(id uint64) bucket {
	i := int(id >> 1 & uint64(len(s.buckets)-1))
	n := bucketWays * s.width
	return bucket{&s.buckets[i], &s.scratches[i], s.width, s.ids[i*n : (i+1)*n]}
}

// find returns the pair, a new one in the place of the one that has been unused longest if
// there is none.
func (s *marks) find(id uint64, now int64) *pair {
	oldest := 0
	for i := range s.pairs {
		o := &s.pairs[i]
		if o.id == id {
			o.last = now
			return o
		}
		if old := &s.pairs[oldest]; old.id != 0 && (o.id == 0 || o.last < old.last) {
			oldest = i
		}
	}
	s.free |= s.pairs[oldest].ways
	s.pairs[oldest] = pair{id: id, last: now}
	return &s.pairs[oldest]
}

// add stores a selection. A pair keeps one more than maxOpen, so that no client takes the
// ways of all others.
func (s *bucket) add(o *pair, selected []handlespace.Selected, port uint16, now int64) uint8 {
	w := s.place(o)
	bit := ways(1) << (w % bucketWays)
	if o.ways == 0 {
		o.oldest = w
	} else {
		s.ways[o.latest].next = w
	}
	o.ways |= bit
	o.latest = w
	for k := range s.answered {
		a := &s.answered[k]
		a.all, a.byUDP = a.all&^bit, a.byUDP&^bit
	}
	s.mixed &^= bit
	s.seq++
	s.ways[w] = selection{at: now, seq: s.seq, port: port, n: uint8(len(selected))}
	ids := s.of(w)
	for i := range selected {
		ids[i] = selected[i].ID
	}
	return w
}

// place returns a way for a selection of a pair: a free one, or that of the oldest selection.
func (s *marks) place(o *pair) uint8 {
	switch {
	case bits.OnesCount32(uint32(o.ways)) > maxOpen:
		return s.drop(o)
	case s.free != 0:
		w := uint8(bits.TrailingZeros32(uint32(s.free)))
		s.free &= s.free - 1
		return w
	}
	var first *pair
	for i := range s.pairs {
		p := &s.pairs[i]
		if p.ways != 0 && (first == nil || s.before(p.oldest, first.oldest)) {
			first = p
		}
	}
	return s.drop(first)
}

// drop takes a pair's oldest selection out.
func (s *marks) drop(o *pair) uint8 {
	w := o.oldest
	o.oldest = s.ways[w].next
	o.ways &^= 1 << (w % bucketWays)
	return w
}

// of returns the elements of a selection.
func (s *bucket) of(w uint8) []rsp.PEID { return s.ids[int(w)*s.width:][:s.ways[w].n] }
