package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	servicePort = 50000
	sessionPool = "pool of sessions"
)

// The service is a counter for each session. Request n adds its value to the sum of those
// before; the answer has the sum. All that an element knows of a session comes in the
// cookie. So a request that is lost, that has an effect twice, or that comes before the
// cookie makes for a wrong answer, or for none.

// tally is the state of a session.
type tally struct{ n, sum uint64 }

// add is the effect of request n with a value.
func (t tally) add(n, value uint64) tally { return tally{n, (t.sum*31 + value) * 0x9e3779b97f4a7c15} }

// request is what the user sends. Request 0 asks for the state.
type request struct {
	id       uint64 // of the session
	n, value uint64
}

// answer is what it gets.
type answer struct {
	tally
	safe   uint64 // requests up to this one are in a cookie that was sent before; of a query: its number
	query  bool
	known  bool // the request has had its effect earlier, and sum is not its own
	serial int  // of the association
	index  int  // of the answer on it
}

const (
	answerLen = 6 * 8
	// maxAnswer is that with what is added now and then, and a cookie before it.
	maxAnswer = answerLen + 2200
)

func (r request) append(b []byte) []byte {
	for _, x := range [...]uint64{r.id, r.n, r.value} {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return b
}

func parseRequest(b []byte) (r request, ok bool) {
	if len(b) < 24 {
		return r, false
	}
	return request{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, true
}

func (a answer) append(b []byte) []byte {
	var flags uint64
	if a.query {
		flags |= 1
	}
	if a.known {
		flags |= 2
	}
	for _, x := range [...]uint64{a.n, a.sum, a.safe, flags, uint64(a.serial), uint64(a.index)} {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return b
}

func parseAnswer(b []byte) (a answer, ok bool) {
	if len(b) < answerLen {
		return a, false
	}
	word := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	return answer{
		tally{word(0), word(1)},
		word(2), word(3)&1 != 0, word(3)&2 != 0, int(word(4)), int(word(5)),
	}, true
}

// service is the process of an element that serves sessions. It is on the element's host,
// with which it ends and stands still; its own part of the network is another one.
type service struct {
	w       *sessions
	e       *element
	h       *host
	hostile bool // it answers nothing, and sends cookies and cards without end
	limit   int  // of sessions, if not 0: it refuses more
	every   uint64
	served  []*serving
	cfg     *session.ElementConfig
	leaving bool
}

// serving is the element's side of one session.
type serving struct {
	s    *service
	end  *linkEnd
	core *session.Element

	state  tally
	safe   uint64 // of the last cookie
	expect uint64 // the request that comes next; 0: any that is not beyond state
	index  int    // of the next answer
	first  bool   // something has been received
	busy   bool

	queried bool
}

func (w *sessions) newService(e *element) *service {
	s := &service{
		w: w, e: e, every: 1 + w.net.rand.Uint64N(4),
	}
	cfg := session.ElementConfig{MaxReceive: 4 << 10, MaxSend: 4 << 10}
	if w.net.chance(5) {
		cfg.Cards = session.CardNever
	}
	s.cfg = session.NewElementConfig(cfg)
	s.h = w.net.newHost(e.h.addr, nil, servicePort)
	w.kernel[s.h] = w.net.chance(2)
	if e.index+1 < len(w.elements) && w.net.chance(3) { // the last one takes all
		s.limit = 1 + w.net.rand.IntN(8)
	}
	return s
}

// handle is for messages of registrars, which do not come here.
func (s *service) handle(registrarEvent) {}

// transport is where the element serves.
func (s *service) transport() rserpool.Transport {
	return rserpool.Transport{
		Type: rserpool.SCTP, Use: rserpool.DataPlusControl, Port: servicePort, Addrs: []netip.Addr{s.h.addr},
	}
}

// unreachable reports whether a call from there gets no answer.
func (s *service) unreachable(from *host) bool {
	return from.group != s.h.group || s.w.off[s.h] || s.h.stands() && !s.w.kernel[s.h]
}

func (s *service) start() {
	if s.h.proc == nil {
		s.leaving = false
		s.w.off[s.h] = false
		s.h.begin(s)
	}
}

// kill ends the process, or switches its host off.
func (s *service) kill(off bool) {
	if s.h.proc == nil {
		return
	}
	s.w.off[s.h] = off
	s.h.end()
	for _, x := range s.served {
		x.end.die()
	}
	s.served = nil
}

// accept begins a session, or refuses it.
func (s *service) accept(end *linkEnd) {
	if s.limit > 0 && len(s.served) >= s.limit {
		end.handle = func(*linkEvent) {}
		s.w.net.at(end.peer.last, end.abort) // not before it is up
		return
	}
	x := &serving{s: s, end: end}
	x.core = session.NewElement(s.cfg, s.card())
	end.handle = x.handle
	s.served = append(s.served, x)
	s.h.do(end.life, func() {
		if s.hostile {
			x.annoy()
		}
		x.run()
	})
}

// card is the element's business card with its last will: some of the others that serve,
// in any order. A hostile one has elements that never were, too.
func (s *service) card() []byte {
	card := &asap.BusinessCard{Handle: sessionPool}
	for _, o := range s.w.services {
		if o != s && !o.hostile && o.e.state == elementLives && !s.w.net.chance(3) {
			card.Elements = append(card.Elements, rserpool.PoolElement{ID: o.e.id, UserTransport: o.transport()})
		}
	}
	s.w.net.rand.Shuffle(len(card.Elements), func(i, j int) {
		card.Elements[i], card.Elements[j] = card.Elements[j], card.Elements[i]
	})
	if s.hostile {
		for i := range 40 {
			t := s.transport()
			t.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, 9, byte(i), 1})}
			card.Elements = append(card.Elements, rserpool.PoolElement{ID: rserpool.PEID(10000 + i), UserTransport: t})
		}
	}
	b, err := card.Append(nil)
	if err != nil {
		s.w.fail("a card of %d elements: %v", len(card.Elements), err)
	}
	return b
}

// leave is a graceful end: the element deregisters, tells all its last will, and shuts the
// sessions down some time later.
func (s *service) leave() {
	s.w.trace("element %v leaves", s.e.id)
	s.leaving = true
	s.e.leave()
	for _, x := range s.served {
		x.core.SetCard(s.card())
		x.run()
	}
	s.h.after(time.Second+s.w.net.upTo(5*time.Second), func() {
		for _, x := range slices.Clone(s.served) {
			x.core.Close(s.w.time())
			x.run()
		}
		s.h.after(5*time.Second, func() { s.kill(false) })
	})
}

func (x *serving) handle(ev *linkEvent) {
	switch ev.kind {
	case linkReceived:
		x.received(ev.m)
	case linkDown:
		x.core.Down(ev.err)
		x.s.served = slices.DeleteFunc(x.s.served, func(y *serving) bool { return y == x })
		return
	}
	x.run()
}

func (x *serving) received(m session.Message) {
	if m.PPID == asap.PPID && asap.MessageType(m.Data[0]) == asap.TypeError && !x.s.hostile {
		x.s.w.fail("element %v gets an error from session %d for nothing", x.s.e.id, x.end.l.tag.id)
	}
	news := x.core.Received(m)
	if !x.first && x.core.State() == session.Connected {
		x.first = true
		x.checkEcho(news)
	}
	if news == session.NewsEcho {
		x.echoed()
	}
}

// checkEcho: the first message is the latest cookie, if the user had one.
func (x *serving) checkEcho(news session.News) {
	l := x.end.l
	switch echo, _ := x.core.Echo(); {
	case !l.hasEcho && news != session.NewsEcho:
	case !l.hasEcho:
		x.s.w.fail("session %d echoes a cookie that it did not have", l.tag.id)
	case news != session.NewsEcho:
		x.s.w.fail("session %d does not begin with the echo of its cookie", l.tag.id)
	case string(echo) != string(l.wantEcho):
		x.s.w.fail("session %d echoes another cookie than its latest", l.tag.id)
	}
}

func (x *serving) echoed() {
	if b, _ := x.core.Echo(); len(b) >= 16 {
		x.state = tally{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
		x.safe = x.state.n
	}
	if x.s.hostile {
		x.annoy()
	}
}

// run lets the application serve, and does what the core wants.
func (x *serving) run() {
	if x.busy {
		return
	}
	x.busy = true
	defer func() { x.busy = false }()
	for more := true; more; {
		more = x.serveAll()
		x.pump()
	}
	if at, ok := x.core.NextDeadline(); ok {
		x.s.w.net.at(x.s.w.since(at), func() {
			x.s.h.do(x.end.life, func() { x.core.Tick(x.s.w.time()); x.perform() })
		})
	}
}

// serveAll serves what has been received, as far as there is room for answers, and reports
// whether that was anything.
func (x *serving) serveAll() (some bool) {
	for !x.s.hostile && x.core.MaySend(maxAnswer) == nil {
		m, ok := x.core.Receive()
		if !ok {
			break
		}
		some = true
		x.serve(m)
	}
	return some
}

// pump does what the core wants, and sends what there is room for.
func (x *serving) pump() {
	x.perform()
	for !x.end.closed && !x.end.closing {
		m, ok := x.core.Next()
		if !ok {
			break
		}
		if err := x.end.send(m); err != nil {
			break
		}
		x.core.Sent()
		x.perform()
	}
	x.perform()
}

func (x *serving) perform() {
	for _, a := range slices.Clone(x.core.Take()) {
		switch a.Type {
		case session.Pause:
			x.end.pause()
		case session.Resume:
			x.end.resume()
		case session.Shutdown:
			x.end.shutdown()
		case session.Abort:
			x.end.abort()
		default:
			x.s.w.fail("an element's core wants action %d", a.Type)
		}
	}
}

// serve does what a request says.
func (x *serving) serve(m session.Message) {
	w := x.s.w
	r, ok := parseRequest(m.Data)
	if !ok {
		w.fail("element %v got a request of %d bytes", x.s.e.id, len(m.Data))
		return
	}
	switch next := x.state.n + 1; {
	case r.id != x.end.l.tag.id:
		w.fail("element %v got a request of session %d in session %d", x.s.e.id, r.id, x.end.l.tag.id)
	case r.n == 0:
		x.queried = true
		x.answer(answer{tally: x.state, query: true, safe: r.value})
	case x.end.l.query && !x.queried:
		w.fail("session %d sends request %d, which it has dropped", r.id, r.n)
	case r.n > next:
		w.fail("session %d: element %v got request %d, and its state is of request %d", r.id, x.s.e.id, r.n, x.state.n)
	case x.expect != 0 && r.n != x.expect:
		w.fail("session %d: element %v got request %d after %d", r.id, x.s.e.id, r.n, x.expect-1)
	case r.n == next:
		x.expect = r.n + 1
		x.state = x.state.add(r.n, r.value)
		if r.n-x.safe >= x.s.every {
			x.hand(x.state)
		}
		x.answer(answer{tally: x.state})
	default:
		x.expect = r.n + 1
		x.answer(answer{tally: tally{r.n, x.state.sum}, known: r.n != x.state.n})
	}
}

// hand hands the state out.
func (x *serving) hand(t tally) {
	b := binary.BigEndian.AppendUint64(nil, t.n)
	if err := x.core.SetCookie(binary.BigEndian.AppendUint64(b, t.sum)); err != nil && x.core.State() == session.Connected {
		x.s.w.fail("SetCookie: %v", err)
	}
	x.safe = t.n
}

func (x *serving) answer(a answer) {
	x.index++
	a.serial, a.index = x.end.l.serial, x.index
	if !a.query {
		a.safe = x.safe
	}
	data := a.append(nil)
	if x.s.w.net.chance(20) {
		data = append(data, make([]byte, x.s.w.net.rand.IntN(2000))...)
	}
	if err := x.core.Send(session.Message{Data: data, PPID: 77}); err != nil && x.core.State() == session.Connected {
		x.s.w.fail("Send of %d bytes: %v", len(data), err)
	}
}

// annoy sends large cookies, which have the state all the same, cards, and what cannot be
// read, again and again.
func (x *serving) annoy() {
	if x.core.State() != session.Connected || x.end.closed {
		return
	}
	if x.state.n > 0 {
		b := binary.BigEndian.AppendUint64(nil, x.state.n)
		b = binary.BigEndian.AppendUint64(b, x.state.sum)
		_ = x.core.SetCookie(append(b, make([]byte, 60000)...))
	}
	x.core.SetCard(x.s.card())
	_ = x.end.send(session.Message{Data: []byte{0x0b, 0, 0, 9, 1}, PPID: asap.PPID})
	_ = x.end.send(session.Message{Data: []byte{byte(x.s.w.net.rand.IntN(256)), 0, 0, 4}, PPID: asap.PPID})
	x.run()
	x.s.h.after(200*time.Millisecond+x.s.w.net.upTo(time.Second), x.annoy)
}

func (t tally) String() string { return fmt.Sprintf("%d: %x", t.n, t.sum) }
