package rserpool

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

// A client that looks up a pool asks several questions: for A and AAAA, or for A and then
// SRV if a resolver minimises names (RFC 9156), and again by TCP if an answer was cut. They
// are one lookup: the policy selects, and counts, once, and all of them are answered with
// the same elements.

const (
	// siblingTime is how long after a selection the other questions from the same address
	// and port may come, and the same question by TCP.
	siblingTime = time.Second
	// siblingGap is how long after a selection questions from other ports may come.
	siblingGap = 200 * time.Millisecond
	// siblingRace is how long after a selection questions may come in another order than
	// the client has sent them.
	siblingRace = 50 * time.Millisecond
	// maxOpen is the most selections of a client that are answered in their order. With
	// more, the client is a large resolver, most of whose lookups have one question.
	maxOpen = 16
)

// maxAddresses is the most elements in an address answer, unless it has the pool as a set.
const maxAddresses = 16

const (
	siblingSets  = 4096
	siblingPairs = 8
	siblingWays  = 32 // the bits of a ways
)

// kind is a type of question that can be one of a lookup's.
type kind uint8

const (
	kindA kind = iota
	kindAAAA
	kindSRV
	kindNAPTR
	kindHTTPS
	kindSVCB
	kinds
)

// families are those of the elements that can answer the question.
func (k kind) families() handlespace.Families {
	switch k {
	case kindA:
		return handlespace.IPv4
	case kindAAAA:
		return handlespace.IPv6
	default:
		return bothFamilies
	}
}

// origin is where a question comes from. Without a valid address, it has no siblings.
type origin struct {
	addr netip.Addr
	port uint16
	tcp  bool
	// request is the same for all questions that come of one question in a datagram, nil
	// for other questions: a plugin such as dns64 asks questions of its own.
	request *net.UDPAddr
}

// siblings has the latest selections: in each set those of up to siblingPairs pairs of a
// client and a pool, and up to siblingWays in all. Under more load it drops the oldest ones
// before siblingTime is over. Nearly all of it is without pointers, so that garbage
// collections skip it. They are rarer with it, too, because it counts as part of the heap.
type siblings struct {
	seed  maphash.Seed
	start time.Time
	width int // elements of a selection, at most
	sets  []siblingMarks
	ids   []rsp.PEID // width for each way of each set
	rooms []siblingRoom
}

// siblingSet is one set with its parts.
type siblingSet struct {
	*siblingMarks
	*siblingRoom
	width int
	ids   []rsp.PEID
}

type siblingMarks struct {
	mu    sync.Mutex // of the whole set
	pairs [siblingPairs]pair
	ways  [siblingWays]sibling
	// answered has, by kind of question, the selections that have answered one.
	answered [kinds]answered
	mixed    ways   // those that have answered questions from two ports
	free     ways   // in use by no pair
	seq      uint32 // of the latest selection
}

type siblingRoom struct {
	// selected is reused for each selection, which saves an allocation.
	selected []handlespace.Selected
	// empty is the latest AAAA question, one of the pair emptyPair, for which the pool had
	// no element.
	empty     *net.UDPAddr
	emptyPair uint64
}

// ways is a set of ways of a siblingSet.
type ways uint32

// answered has the selections that have answered a question, and those of them that may
// answer it once more, by TCP.
type answered struct{ all, byUDP ways }

// pair is a client with a pool.
type pair struct {
	id   uint64 // see siblings.id; 0: none
	last int64  // the time of the latest question
	ways ways
	// oldest and latest are those of ways, if there are any.
	oldest, latest uint8
}

// sibling is a selection that sibling questions share.
type sibling struct {
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

func (s kindSet) has(k kind) bool { return s>>k&1 != 0 }

// expects says whether a question of that kind from that port belongs to the selection.
func (s *sibling) expects(port uint16, k kind) bool {
	return s.port == port && !s.toOwn.has(k) || s.guest == port && !s.toGuest.has(k)
}

// newSiblings makes the memory for selections of at most width elements. The number of sets
// is a power of two.
func newSiblings(sets, width int) *siblings {
	s := &siblings{
		seed: maphash.MakeSeed(), start: time.Now(), width: width,
		sets:  make([]siblingMarks, sets),
		ids:   make([]rsp.PEID, sets*siblingWays*width),
		rooms: make([]siblingRoom, sets),
	}
	selected := make([]handlespace.Selected, sets*width)
	for i := range s.sets {
		s.sets[i].free = ^ways(0)
		s.rooms[i].selected, selected = selected[:0:width], selected[width:]
	}
	return s
}

// pick appends to dst the elements for a client's question about a pool: those of a sibling
// question, or else at most n that the policy selects now. A selection answers each kind of
// question once. It is new, too, if no element of the sibling question is registered and
// has an address of the families.
func (s *siblings) pick(dst []*handlespace.Element, c *origin, p *handlespace.Pool, k kind, families handlespace.Families, n int, now time.Time) (_ []*handlespace.Element, reused bool) {
	if !c.addr.IsValid() {
		return appendSelected(dst, p.Select(nil, n, families)), false
	}
	id := s.id(c, p)
	set := s.set(id)
	set.mu.Lock()
	defer set.mu.Unlock()
	return set.pick(dst, c, id, p, k, families, n, int64(now.Sub(s.start)))
}

// pickSet is pick for a question about the pool as a set.
func (s *siblings) pickSet(c *origin, k kind, want *wanted, now time.Time) (selected []handlespace.Selected, more, reused bool) {
	if !c.addr.IsValid() {
		selected, _, more = want.arrange(nil)
		return selected, more, false
	}
	id := s.id(c, want.pool)
	set := s.set(id)
	set.mu.Lock()
	defer set.mu.Unlock()
	at := int64(now.Sub(s.start))
	o := set.find(id, at)
	old, shared := set.share(o, c, k, at)
	var known []rsp.PEID
	if shared {
		known = set.of(old)
	}
	selected, fresh, more := want.arrange(known)
	if len(selected) == 0 {
		return nil, more, false
	}
	if len(fresh) == 0 {
		set.answer(old, c, k)
		return selected, more, true
	}
	w := set.add(o, fresh[:min(len(fresh), set.width)], c.port, at)
	if shared {
		set.replace(old, w, c, k)
	}
	set.answer(w, c, k)
	return selected, more, false
}

// wanted is the set that a question is about.
type wanted struct {
	pool *handlespace.Pool
	room []handlespace.Selected // for the set
	view uint64                 // see viewOf
	n    uint16                 // elements
	// whole is the number of elements in the answer by TCP, for which the client comes
	// again; 0 if it does not.
	whole    uint16
	families handlespace.Families
}

// arrange selects the set. The elements of a sibling question are known. If none of them
// serves, the policy has selected others now, which are fresh. more: the pool has more.
func (q *wanted) arrange(known []rsp.PEID) (set, fresh []handlespace.Selected, more bool) {
	if q.whole > 0 && len(known) == 0 {
		fresh, known = q.selectWhole()
	}
	set, more = q.pool.SelectSet(q.room, int(q.n), q.families, q.view, known...)
	if len(fresh) == 0 && !stands(known, set, q.pool, q.families) {
		fresh = set
	}
	return set, fresh, more
}

// selectWhole selects from the set of the answer by TCP, so that both begin with the same
// element.
func (q *wanted) selectWhole() (fresh []handlespace.Selected, first []rsp.PEID) {
	fresh, _ = q.pool.SelectSet(nil, int(q.whole), q.families, q.view)
	for _, s := range fresh[:min(1, len(fresh))] {
		first = append(first, s.ID)
	}
	return fresh, first
}

// id identifies a pair of a client and a pool. Two pairs have the same one as rarely as the
// same random number, and could do no more than share the elements of their pools.
func (s *siblings) id(c *origin, p *handlespace.Pool) uint64 {
	return maphash.Comparable(s.seed, siblingKey{c.addr, p}) | 1
}

type siblingKey struct {
	client netip.Addr
	pool   *handlespace.Pool
}

// set returns the set of a pair.
func (s *siblings) set(id uint64) siblingSet {
	i := int(id >> 1 & uint64(len(s.sets)-1))
	n := siblingWays * s.width
	return siblingSet{&s.sets[i], &s.rooms[i], s.width, s.ids[i*n : (i+1)*n]}
}

func (s *siblingSet) pick(dst []*handlespace.Element, c *origin, id uint64, p *handlespace.Pool, k kind, families handlespace.Families, n int, now int64) (_ []*handlespace.Element, reused bool) {
	o := s.find(id, now)
	if k == kindA && c.request != nil && s.empty == c.request && s.emptyPair == id {
		// It is the rest of the AAAA question: dns64 makes its answer of it.
		k, s.empty = kindAAAA, nil
	}
	old, shared := s.share(o, c, k, now)
	if shared {
		if dst = s.elements(dst, p, old, families); len(dst) > 0 {
			s.answer(old, c, k)
			return dst, true
		}
	}
	selected := p.Select(s.selected, min(n, s.width), families)
	if len(selected) == 0 {
		if k == kindAAAA {
			s.empty, s.emptyPair = c.request, id
		}
		return dst, false
	}
	w := s.add(o, selected, c.port, now)
	if shared {
		s.replace(old, w, c, k)
	}
	s.answer(w, c, k)
	dst = appendSelected(dst, selected)
	for i := range selected { // elements that go should not be kept from the collector
		selected[i].Element = nil // faster than clear for the few of a selection
	}
	return dst, false
}

// find returns the pair, a new one in the place of the one that has been unused longest if
// there is none.
func (s *siblingMarks) find(id uint64, now int64) *pair {
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

// share returns the selection that answers a question of a client.
func (s *siblingMarks) share(o *pair, c *origin, k kind, now int64) (uint8, bool) {
	if again := o.ways & s.answered[k].byUDP; c.tcp && again != 0 {
		if _, all := s.choose(again, 0, c.port, k, now); all.n > 0 {
			return all.way(), true
		}
	}
	open := o.ways &^ s.answered[k].all
	if open|o.ways&s.mixed == 0 {
		return 0, false
	}
	same, all := s.choose(open, o.ways&s.mixed, c.port, k, now)
	if same.n > 0 {
		return same.way(), true
	}
	return all.way(), all.recent > 0
}

// choice is what there is to choose of.
type choice struct {
	n, recent      int   // selections of the last siblingTime, of the last siblingGap
	oldest, newest uint8 // oldest: of the recent ones
}

// way returns the choice: selections that cannot be told apart serve in their order. A
// selection for which no question has come in siblingGap may be of a lookup without any
// more.
func (c choice) way() uint8 {
	if c.recent == 0 || c.recent > maxOpen {
		return c.newest
	}
	return c.oldest
}

// choose looks at the selections of open, and at those of mixed that may have answered the
// other port's question only because it came before this one: at those for questions from
// the same port, and at all of open.
func (s *siblingMarks) choose(open, mixed ways, port uint16, k kind, now int64) (same, all choice) {
	for rest := open | mixed; rest != 0; rest &= rest - 1 {
		w := uint8(bits.TrailingZeros32(uint32(rest)))
		age := time.Duration(now - s.ways[w].at)
		isOpen := open>>(w%siblingWays)&1 != 0
		if age >= siblingTime || !isOpen && age >= siblingRace {
			continue
		}
		if isOpen {
			s.consider(&all, w, age)
		}
		if s.ways[w].expects(port, k) {
			s.consider(&same, w, age)
		}
	}
	return same, all
}

func (s *siblingMarks) consider(c *choice, w uint8, age time.Duration) {
	if c.n == 0 || s.before(c.newest, w) {
		c.newest = w
	}
	c.n++
	if age >= siblingGap {
		return
	}
	if c.recent == 0 || s.before(w, c.oldest) {
		c.oldest = w
	}
	c.recent++
}

func (s *siblingMarks) before(a, b uint8) bool { return int32(s.ways[a].seq-s.ways[b].seq) < 0 }

// add stores a selection. A pair keeps one more than maxOpen, so that no client takes the
// ways of all others.
func (s *siblingSet) add(o *pair, selected []handlespace.Selected, port uint16, now int64) uint8 {
	w := s.room(o)
	bit := ways(1) << (w % siblingWays)
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
	s.ways[w] = sibling{at: now, seq: s.seq, port: port, n: uint8(len(selected))}
	ids := s.of(w)
	for i := range selected {
		ids[i] = selected[i].ID
	}
	return w
}

// room returns a way for a selection of a pair: a free one, or that of the oldest selection.
func (s *siblingMarks) room(o *pair) uint8 {
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
func (s *siblingMarks) drop(o *pair) uint8 {
	w := o.oldest
	o.oldest = s.ways[w].next
	o.ways &^= 1 << (w % siblingWays)
	return w
}

// answer: the selection answers this question of the client.
func (s *siblingMarks) answer(w uint8, c *origin, k kind) {
	a, bit := &s.answered[k], ways(1)<<(w%siblingWays)
	a.all |= bit
	if c.tcp {
		a.byUDP &^= bit
		return
	}
	a.byUDP |= bit
	x := &s.ways[w]
	switch c.port {
	case x.port:
		x.toOwn |= 1 << k
	case x.guest:
		x.toGuest |= 1 << k
	default:
		x.guest, x.toGuest = c.port, 1<<k
		s.mixed |= bit
	}
}

// replace: the lookup of the selection old goes on with w, though not with the same element.
func (s *siblingMarks) replace(old, w uint8, c *origin, k kind) {
	for k := range s.answered {
		a := &s.answered[k]
		a.all |= a.all >> old & 1 << w
	}
	s.ways[w].toOwn |= s.ways[old].toOwn
	s.answer(old, c, k)
}

// of returns the elements of a selection.
func (s *siblingSet) of(w uint8) []rsp.PEID { return s.ids[int(w)*s.width:][:s.ways[w].n] }

// elements appends the selected elements that are still registered and have an address of
// the families, with their present values.
func (s *siblingSet) elements(dst []*handlespace.Element, p *handlespace.Pool, w uint8, families handlespace.Families) []*handlespace.Element {
	for _, id := range s.of(w) {
		if e := p.Element(id); e != nil && e.Families()&families != 0 {
			dst = append(dst, e)
		}
	}
	return dst
}

func appendSelected(dst []*handlespace.Element, selected []handlespace.Selected) []*handlespace.Element {
	for _, s := range selected {
		dst = append(dst, s.Element)
	}
	return dst
}
