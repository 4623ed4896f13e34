package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// predecessor is the former process of an element in a rolling restart. It runs on
// for a while beside the new one, with the same identifier: it acknowledges
// keep-alives, adopts a new home or looks for one, registers again when it is told that it is not
// registered any more, and now and then. In the end it deregisters.
type predecessor struct {
	e       *element
	h       *host
	home    registrar.AssocID
	leaving bool
}

// roll has another process of the element's host take its place. The former one
// leaves some time later.
func (s *Sim) roll(e *element, after time.Duration) {
	if e.state != elementLives || !e.settled() || e.old != nil {
		return
	}
	s.trace("element %v is rolled, the former process leaves in %v", e.id, after)
	p := &predecessor{e: e, h: e.h, home: e.home}
	p.h.proc = p // with its associations
	e.old = p
	p.h.after(s.cfg.Refresh, p.refresh)
	p.h.after(after, p.leave)

	e.port++
	e.h = s.net.newProcess(e.h, e.boot, e.port)
	s.hosts = append(s.hosts, e.h)
	e.waits++
	e.state, e.home, e.at, e.sure = elementGone, 0, nil, false
	e.proves()
	e.boot()
}

// firstTime is how long it takes at most from the start of a process until all
// registrars have its element: it waits, connects (both ways), registers, and its home
// tells the others.
const firstTime = huntGap + 4*(maxDelay+time.Millisecond)

// begins reports whether the first registration of the element's process may still be
// on its way, while no former process has a place to keep. One that leaves before that
// deregisters what it alone has registered (RFC 5352, Section 3.2), so that the element
// is missing until then.
func (e *element) begins() bool { return e.old == nil && e.s.net.now-e.born < firstTime }

func (p *predecessor) handle(ev registrar.Event) {
	switch ev := ev.(type) {
	case registrar.AssocUp:
		if ev.Assoc == p.home {
			p.register()
		}
	case registrar.AssocDown:
		if ev.Assoc == p.home {
			p.hunt()
		}
	case registrar.Received:
		m, _, err := asap.Parse(ev.Data)
		if err != nil {
			p.e.s.fail("a former process of element %v got what cannot be read: %v", p.e.id, err)
			return
		}
		p.onMessage(ev.Assoc, m)
	}
}

// hunt looks for another home, or ends if it was about to leave.
func (p *predecessor) hunt() {
	p.home = 0
	if p.leaving {
		p.end()
		return
	}
	p.h.after(huntGap, func() {
		if s := p.e.s; p.home == 0 {
			to := s.servers[s.net.rand.IntN(len(s.servers))]
			p.home = p.h.connect(p.h.port, netip.AddrPortFrom(to.addr, asapPort))
		}
	})
}

func (p *predecessor) onMessage(a registrar.AssocID, m asap.Message) {
	switch m := m.(type) {
	case *asap.EndpointKeepAlive:
		if m.Home && p.h.find(a) != nil {
			p.home = a
		}
		p.say(a, &asap.EndpointKeepAliveAck{Handle: m.Handle, ID: p.e.id, Unordered: !p.e.ordered})
	case *asap.RegistrationResponse:
		if a == p.home && m.Reject {
			p.hunt()
		}
	case *asap.DeregistrationResponse:
		switch {
		case a != p.home:
		case p.leaving:
			p.e.s.trace("the former process of element %v has left, causes %v", p.e.id, m.Causes)
			p.end()
		default:
			p.register()
		}
	}
}

func (p *predecessor) refresh() {
	p.register()
	p.h.after(p.e.s.cfg.Refresh, p.refresh)
}

// register takes the element's place again.
func (p *predecessor) register() {
	if !p.leaving {
		p.e.sure = false
		p.say(p.home, p.e.registration(0, p.h.addr, p.h.port))
	}
}

// leave deregisters and ends.
func (p *predecessor) leave() {
	p.leaving = true
	p.e.proves() // the registration may be this process's
	p.say(p.home, &asap.Deregistration{Handle: p.e.pool, ID: p.e.id})
	p.h.after(answerTime, p.end)
}

func (p *predecessor) end() {
	p.e.leavesUnread(p.h)
	p.h.end()
	p.e.proves()
	if p.e.old == p {
		p.e.old, p.e.sure, p.e.alone = nil, false, p.e.s.net.now
	}
}

func (p *predecessor) say(a registrar.AssocID, m asap.Message) {
	if b, err := m.Append(nil); err == nil {
		p.h.send(a, asap.PPID, b, m.Type() == asap.TypeEndpointKeepAliveAck && !p.e.ordered)
	}
}

// move has an element crash, and run on another host some time later.
func (s *Sim) move(e *element, after time.Duration) {
	if e.h.proc == nil || e.old != nil {
		return
	}
	s.trace("element %v moves from %v to %v in %v", e.id, e.h, e.spare, after)
	s.killElement(e)
	e.h, e.spare = e.spare, e.h
	e.port = e.h.port
	s.net.after(after, e.boot)
}

// usurp has an element stand still for long, and another process run on another host in
// its place meanwhile. The former one may go on before that has got its place, or
// later, and leaves some time after that.
func (s *Sim) usurp(e *element) {
	if e.state != elementLives || !e.settled() || e.old != nil || e.h.stands() {
		return
	}
	s.pause(e.h, longFault)
	p := &predecessor{e: e, h: e.h, home: e.home}
	p.h.proc = p
	e.old = p
	p.h.after(s.net.upTo(longFault), p.leave)
	e.h, e.spare = e.spare, e.h
	e.port = e.h.port
	e.waits++
	e.tries++
	e.state, e.home, e.at, e.sure = elementGone, 0, nil, false
	e.proves()
	after := s.net.upTo(longFault)
	s.trace("element %v moves from %v, which stands still, to %v in %v", e.id, p.h, e.h, after)
	s.net.after(after, e.boot)
}

// stranger is a process that registers the identifiers of others, with any
// registrar, again and again. It deregisters what it gets.
type stranger struct {
	s     *Sim
	h     *host
	of    *element
	assoc registrar.AssocID
	tries int
	got   int           // of elements that were dead
	since time.Duration // of this try
	at    *host
	gap   time.Duration // between two tries
	// disguised has it show a certificate for the pool of the element.
	disguised bool
}

func (s *Sim) newStranger(i int) *stranger {
	x := &stranger{s: s}
	x.h = s.net.newHost(netip.AddrFrom4([4]byte{10, 3, 0, byte(i)}), nil, elementPort)
	x.h.begin(x)
	x.try()
	return x
}

// newThief makes a stranger that is entitled to the pools, and takes its time.
func (s *Sim) newThief() *stranger {
	x := &stranger{s: s, gap: thiefGap, disguised: true}
	x.h = s.net.newHost(netip.AddrFrom4([4]byte{10, 4, 0, 0}), nil, elementPort)
	x.h.begin(x)
	x.try()
	return x
}

// try registers some element.
func (x *stranger) try() {
	x.tries++
	n := x.tries
	x.of = x.s.elements[x.s.net.rand.IntN(len(x.s.elements))]
	x.since = x.s.net.now
	to := x.s.servers[x.s.net.rand.IntN(len(x.s.servers))]
	x.at = to
	if x.disguised {
		x.h.identity = x.s.named(identity.Pool(domain, x.of.pool, "thief"))
		if x.s.forged {
			x.h.identity = x.of.h.identity
		}
	}
	x.assoc = x.h.connect(elementPort, netip.AddrPortFrom(to.addr, asapPort))
	x.h.after(answerTime, func() {
		if x.tries == n {
			x.again()
		}
	})
}

func (x *stranger) again() {
	if e := x.h.find(x.assoc); e != nil {
		x.h.net.hangUp(e, true)
	}
	x.tryLater()
}

// tryLater is try after a while; another registrar answers before it, or none.
func (x *stranger) tryLater() {
	if x.gap == 0 {
		x.try()
		return
	}
	x.tries++
	n := x.tries
	x.h.after(x.gap, func() {
		if x.tries == n {
			x.try()
		}
	})
}

func (x *stranger) handle(ev registrar.Event) {
	switch ev := ev.(type) {
	case registrar.AssocUp:
		if ev.Assoc == x.assoc {
			x.say(x.of.registration(0, x.h.addr, 7))
		}
	case registrar.AssocDown:
		if ev.Assoc == x.assoc {
			x.tryLater()
		}
	case registrar.Received:
		if ev.Assoc == x.assoc {
			x.received(ev.Data)
		}
	}
}

func (x *stranger) received(data []byte) {
	m, _, err := asap.Parse(data)
	if err != nil {
		return
	}
	switch m := m.(type) {
	case *asap.RegistrationResponse:
		switch {
		case m.Reject:
			x.again()
			return
		case !x.disguised && x.of.state == elementLives && x.of.born < x.since:
			x.s.fail("a stranger gets the identifier of element %v, which lives", x.of.id)
		}
		x.got++
		x.say(&asap.Deregistration{Handle: m.Handle, ID: m.ID})
	case *asap.DeregistrationResponse:
		x.again()
	}
}

func (x *stranger) say(m asap.Message) {
	if b, err := m.Append(nil); err == nil {
		x.h.send(x.assoc, asap.PPID, b, false)
	}
}

// ready reports whether all registrars run and have the handlespace.
func (s *Sim) ready() bool {
	return !slices.ContainsFunc(s.nodes, func(n *node) bool { return n.h.proc == nil || !n.r.Ready() })
}

// registration is what a process at an address says to register the element.
func (e *element) registration(home rserpool.ServerID, at netip.Addr, port uint16) *asap.Registration {
	t := rserpool.Transport{Type: rserpool.UDP, Port: port, Addrs: []netip.Addr{at}}
	if e.transport != nil {
		t = *e.transport
	}
	return &asap.Registration{Handle: e.pool, Element: rserpool.PoolElement{
		ID: e.id, Home: home, Life: 3600,
		Policy:        rserpool.Policy{Type: rserpool.LeastUsed, Load: e.load},
		UserTransport: t,
	}}
}

// waking is a scenario: elements stand still for longer than their home waits, and
// go on. Each is back at once, wherever its acknowledgement or the news of its removal
// has waited, without a re-registration of its own accord. longest is how long one
// was out.
func (s *Sim) waking() (longest time.Duration, err error) {
	s.cfg.Refresh = never
	s.settle()
	for range 20 {
		e := s.elements[s.net.rand.IntN(len(s.elements))]
		if e.h.stands() || !e.settled() {
			continue
		}
		s.stop(e.h, s.nodes[0].standing(e.h.paused, s.net.now)+s.net.upTo(5*time.Second), false)
		s.net.run(e.h.paused - s.net.now - 1)
		if n := s.nodes[0]; n.isMember(e) || n.hasAt(e) && !n.guards(e.pool) {
			s.fail("element %v stands still, and is still in the handlespace", e.id)
		}
		s.net.run(1)
		woke := s.net.now
		back := func() bool {
			return !slices.ContainsFunc(s.nodes, func(n *node) bool { return !n.hasAt(e) || !n.isMember(e) })
		}
		if !s.net.until(20*time.Second, time.Millisecond, back) {
			s.fail("element %v is not back", e.id)
			break
		}
		longest = max(longest, s.net.now-woke)
	}
	s.net.run(20 * time.Second)
	s.checkRest()
	return longest, s.err()
}

// rolling is a scenario: elements are replaced by other processes of their hosts,
// which register with any registrar. None may be missing for longer than it takes
// to tell it that it has to register again.
func (s *Sim) rolling() error {
	s.settle()
	const step = 20 * time.Millisecond
	const most = 12 * maxDelay
	for end := s.net.now + 90*time.Second; s.net.now < end && s.bad == nil; s.net.run(step) {
		if s.net.now < end-50*time.Second && s.net.chance(10) {
			s.roll(s.elements[s.net.rand.IntN(len(s.elements))], s.net.upTo(45*time.Second))
		}
		for _, n := range s.nodes {
			n.checkHasAll(most + step)
		}
	}
	if s.bad == nil { // otherwise former processes run on, and there is no rest yet
		s.net.run(30 * time.Second)
		s.checkRest()
	}
	return s.err()
}

// moving is a scenario: elements crash and run on another host, from where they
// register with any registrar, that are asked to wait until the former one is
// found dead. longest is how long it takes until all registrars have the new one.
func (s *Sim) moving() (longest time.Duration, err error) {
	s.settle()
	s.cfg.Refresh = never
	for range 20 {
		e := s.elements[s.net.rand.IntN(len(s.elements))]
		e.gap = huntGap
		began := s.net.now
		s.move(e, s.net.upTo(time.Second))
		arrived := func() bool { return !slices.ContainsFunc(s.nodes, func(n *node) bool { return !n.hasAt(e) }) }
		if !s.net.until(30*time.Second, 10*time.Millisecond, arrived) {
			s.fail("element %v is not registered at its new host", e.id)
			break
		}
		longest = max(longest, s.net.now-began)
	}
	s.net.run(20 * time.Second)
	s.checkRest()
	return longest, s.err()
}

// hasAt reports whether the registrar has the element at its host.
func (n *node) hasAt(e *element) bool {
	p := n.r.Space().Pool(e.pool)
	if p == nil {
		return false
	}
	pe := p.Element(e.id)
	return pe != nil && pe.UserTransport.Addrs[0] == e.h.addr
}

// strangers is a scenario: while registrars crash and return, strangers try to get
// identifiers. They get those of dead elements only.
func (s *Sim) strangers() (got int, err error) {
	s.settle()
	var list []*stranger
	for i := range 5 {
		list = append(list, s.newStranger(i))
	}
	for i := range 6 {
		if i == 2 {
			s.killElement(s.elements[0]) // a stranger may get this one
		}
		s.kill(s.servers[s.net.rand.IntN(len(s.servers))], 20*time.Second)
		s.net.run(20 * time.Second)
		// If the only other one were killed now, no registrar would know the elements.
		if !s.net.until(10*time.Second, 100*time.Millisecond, s.ready) {
			s.fail("a registrar is not ready 10 s after its start")
		}
	}
	for _, x := range list {
		got += x.got
		x.h.end()
	}
	s.net.run(30 * time.Second)
	s.checkRest()
	return got, s.err()
}
