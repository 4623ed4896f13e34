package sim

import (
	"errors"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

var errImpatient = errors.New("no progress")

// counter is the application of a session: it sends requests 1 to total, some at a time,
// and must get the answer to each, in their order.
type counter struct {
	s      *sess
	sums   []uint64 // the right answer to each
	window int      // requests without an answer, at most
	think  time.Duration
	slow   bool // it stops reading now and then
	// patience is how long it waits for an answer before it says that the element fails;
	// 0: for ever.
	patience time.Duration

	next     uint64 // to be sent
	got      uint64 // answers
	acked    uint64 // requests that the core does not have any more
	querying bool   // it does not know where to go on
	queries  uint64
	ask      session.Ref // the core's last question
	asks     bool        // the query is to be sent
	waits    *session.User
	thinking bool
	dozing   bool
	closed   bool
	done     bool
	redials  int
}

func (w *sessions) newCounter(total int) *counter {
	c := &counter{
		sums: make([]uint64, total+1), window: 1 + w.net.rand.IntN(16),
		think: 100*time.Millisecond + w.net.upTo(3*time.Second), slow: w.net.chance(3), next: 1,
	}
	return c
}

// begin computes the answers, and dials.
func (c *counter) begin() {
	t := tally{}
	for n := range uint64(len(c.sums)) {
		if n > 0 {
			t = t.add(n, c.value(n))
		}
		c.sums[n] = t.sum
	}
	c.s.dial()
}

func (c *counter) total() uint64 { return uint64(len(c.sums) - 1) }

func (c *counter) value(n uint64) uint64 { return c.s.id*1000003 + n*n }

// keeps reports whether the core keeps requests until they are acknowledged.
func (c *counter) keeps() bool { return c.s.cfg.Unacked != session.Drop }

// step reads and sends.
func (c *counter) step() {
	if c.closed {
		return
	}
	c.read()
	c.send()
	if c.got == c.total() && !c.closed {
		c.finish()
	}
}

func (c *counter) finish() {
	c.closed = true
	c.s.do(func(now time.Time) { c.s.core.Close(now) })
}

func (c *counter) read() {
	for !c.dozing {
		m, ok := c.s.core.Receive(c.s.w.time())
		if !ok {
			return
		}
		c.s.unread -= len(m.Data) + 64
		if c.s.unread <= maxUnread {
			c.s.over = 0
		}
		c.answered(m)
		if w := c.s.w; c.slow && w.net.chance(30) {
			c.dozing = true
			w.net.after(w.net.upTo(2*time.Second), func() {
				c.dozing = false
				c.s.run()
			})
		}
	}
}

// answered looks at an answer.
func (c *counter) answered(m session.Message) {
	s := c.s
	a, ok := parseAnswer(m.Data)
	switch {
	case !ok || a.n > c.total():
		s.w.fail("session %d got %d bytes, %v", s.id, len(m.Data), a)
		return
	case a.index > s.valid[a.serial]:
		s.w.fail("session %d got answer %d of association %d, which was not its own any more", s.id, a.index, a.serial)
	case !a.known && a.sum != c.sums[a.n]:
		s.w.fail("session %d got %x for request %d, want %x", s.id, a.sum, a.n, c.sums[a.n])
	case a.n > c.got+1:
		s.w.fail("session %d got the answer to request %d after that to %d", s.id, a.n, c.got)
	case a.known && a.n > c.got:
		s.w.fail("session %d gets no answer to request %d any more", s.id, a.n)
	}
	if a.n > c.got {
		c.got, s.progress = a.n, s.w.net.now
	}
	switch {
	case a.query && a.safe == c.queries:
		c.querying = false
		c.next, c.acked = a.n+1, a.n
		if c.keeps() {
			s.core.Ack(1) // the query
		}
	case a.query: // of an earlier association
	case c.keeps() && !c.querying && a.safe > c.acked:
		s.core.Ack(int(a.safe - c.acked))
		c.acked = a.safe
	}
}

// send sends what may be sent now.
func (c *counter) send() {
	s := c.s
	if c.asks && s.core.Send(session.Message{Data: request{s.id, 0, c.queries}.append(nil)}) == nil {
		c.asks = false
		c.wait()
	}
	for !c.querying && !c.thinking && c.next <= c.total() && int(c.next)-int(c.got) <= c.window {
		data := request{s.id, c.next, c.value(c.next)}.append(nil)
		if s.w.net.chance(20) {
			data = append(data, make([]byte, s.w.net.rand.IntN(3000))...)
		}
		if s.core.Send(session.Message{Data: data, PPID: 77}) != nil {
			return // not now
		}
		c.next++
		c.wait()
		if s.w.net.chance(3) {
			c.thinking = true
			s.w.net.after(c.think, func() {
				c.thinking = false
				s.run()
			})
		}
	}
}

// wait has the application say that the element fails, if it gets no answer for too long.
func (c *counter) wait() {
	s, got, core := c.s, c.got, c.s.core
	if c.patience == 0 || c.waits == core {
		return
	}
	c.waits = core
	began := s.w.net.now
	s.w.net.after(c.patience, func() {
		if s.core != core {
			return
		}
		c.waits = nil
		switch {
		case c.closed || s.away > 0 || !c.querying && c.next == c.got+1:
		case c.dozing || c.got != got || s.upAt > began:
			c.wait()
		default:
			s.down = downByApp
			s.do(func(now time.Time) { core.Fail(now, errImpatient) })
		}
	})
}

// lost: what was sent is with the core, or is not known any more.
func (c *counter) lost() {
	if !c.keeps() && (c.next > 1 || c.s.cookie != nil) {
		c.query()
	}
}

// query has the application ask the element where to go on.
func (c *counter) query() {
	c.querying, c.asks = true, true
	c.queries++
}

// asked is the core's question what the next element shall get: some time later, all that
// is not in a cookie, or nothing but a query.
func (c *counter) asked(a session.Action) {
	s, core := c.s, c.s.core
	c.ask = a.Ref
	var numbers []uint64
	query := s.id%2 == 0
	for i, m := range a.Messages {
		r, _ := parseRequest(m.Data)
		numbers = append(numbers, r.n)
		query = query || r.n == 0
		if r.n != 0 && r.n != c.acked+1+uint64(i) {
			s.w.fail("session %d is asked about request %d as number %d after %d", s.id, r.n, i, c.acked)
		}
	}
	s.w.net.after(s.w.net.upTo(200*time.Millisecond), func() {
		if s.core != core || c.ask != a.Ref {
			return // there is a later one
		}
		var list []session.Message
		for i, n := range numbers {
			if !query && n > c.acked { // what was read meanwhile may have acknowledged some
				list = append(list, a.Messages[i])
			}
		}
		s.do(func(time.Time) {
			core.Answer(a.Ref, list)
			if query {
				c.query()
			}
		})
	})
}

// ended: the session is over. If the application is not done, it dials again.
func (c *counter) ended(err error) {
	s := c.s
	if errors.Is(s.core.Err(), rserpool.ErrClosed) {
		if !c.closed {
			s.w.fail("session %d was closed", s.id)
		}
		c.done = true
		s.w.running--
		return
	}
	s.w.checkExcuse(s, err)
	c.redials++
	core := s.core
	s.w.net.after(500*time.Millisecond+s.w.net.upTo(time.Second), func() { c.redial(core) })
}

func (c *counter) redial(core *session.User) {
	c.dozing = false
	c.read()
	c.dozing = false
	if c.got == c.total() {
		c.closed, c.done = true, true
		c.s.w.running--
		return
	}
	c.querying, c.asks = false, false
	if c.keeps() {
		c.next = c.acked + 1
	}
	c.lost()
	c.s.dial()
}
