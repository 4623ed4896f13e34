package lookup

import (
	"math/bits"
	"time"
)

const (
	// ownTime is how long after a selection the other questions from the same address
	// and port may come, and the same question by TCP.
	ownTime = time.Second
	// otherTime is how long after a selection questions from other ports may come.
	otherTime = 200 * time.Millisecond
	// raceTime is how long after a selection questions may come in another order than
	// the client has sent them.
	raceTime = 50 * time.Millisecond
	// maxOpen is the most selections of a client that are answered in their order. With
	// more, the client is a large resolver, most of whose lookups have one question.
	maxOpen = 16
)

// share returns the selection that answers a question of a client.
func (s *marks) share(o *pair, c *Origin, k Kind, now int64) (uint8, bool) {
	if again := o.ways & s.answered[k].byUDP; c.TCP && again != 0 {
		if _, all := s.choose(again, 0, c.Port, k, now); all.n > 0 {
			return all.way(), true
		}
	}
	open := o.ways &^ s.answered[k].all
	if open|o.ways&s.mixed == 0 {
		return 0, false
	}
	same, all := s.choose(open, o.ways&s.mixed, c.Port, k, now)
	if same.n > 0 {
		return same.way(), true
	}
	return all.way(), all.recent > 0
}

// choice is what there is to choose of.
type choice struct {
	n, recent      int   // selections of the last ownTime, of the last otherTime
	oldest, newest uint8 // oldest: of the recent ones
}

// way returns the choice: selections that cannot be told apart serve in their order. A
// selection for which no question has come in otherTime may be of a lookup without any
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
func (s *marks) choose(open, mixed ways, port uint16, k Kind, now int64) (same, all choice) {
	for rest := open | mixed; rest != 0; rest &= rest - 1 {
		w := uint8(bits.TrailingZeros32(uint32(rest)))
		age := time.Duration(now - s.ways[w].at)
		isOpen := open>>(w%bucketWays)&1 != 0
		if age >= ownTime || !isOpen && age >= raceTime {
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

func (s *marks) consider(c *choice, w uint8, age time.Duration) {
	if c.n == 0 || s.before(c.newest, w) {
		c.newest = w
	}
	c.n++
	if age >= otherTime {
		return
	}
	if c.recent == 0 || s.before(w, c.oldest) {
		c.oldest = w
	}
	c.recent++
}

func (s *marks) before(a, b uint8) bool { return int32(s.ways[a].seq-s.ways[b].seq) < 0 }

// expects says whether a question of that kind from that port belongs to the selection.
func (s *selection) expects(port uint16, k Kind) bool {
	return s.port == port && !s.toOwn.has(k) || s.guest == port && !s.toGuest.has(k)
}

// answer: the selection answers this question of the client.
func (s *marks) answer(w uint8, c *Origin, k Kind) {
	a, bit := &s.answered[k], ways(1)<<(w%bucketWays)
	a.all |= bit
	if c.TCP {
		a.byUDP &^= bit
		return
	}
	a.byUDP |= bit
	x := &s.ways[w]
	switch c.Port {
	case x.port:
		x.toOwn |= 1 << k
	case x.guest:
		x.toGuest |= 1 << k
	default:
		x.guest, x.toGuest = c.Port, 1<<k
		s.mixed |= bit
	}
}

// replace: the lookup of the selection old goes on with w, though not with the same element.
func (s *marks) replace(old, w uint8, c *Origin, k Kind) {
	for k := range s.answered {
		a := &s.answered[k]
		a.all |= a.all >> old & 1 << w
	}
	s.ways[w].toOwn |= s.ways[old].toOwn
	s.answer(old, c, k)
}
