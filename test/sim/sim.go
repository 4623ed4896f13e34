package sim

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/param"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

const (
	asapPort = asap.Port
	enrpPort = enrp.Port
	enrpPPID = enrp.PPID
)

func enrpType(b byte) string { return enrp.MessageType(b).String() }

// Config says what is simulated.
type Config struct {
	Seed                 uint64
	Registrars, Elements int
	// Multicast has registrars find one another by multicast alone, instead of
	// naming some to each.
	Multicast bool
	// Faults is how long there are faults, Rest how long there are none
	// afterwards before the invariants have to hold.
	Faults, Rest time.Duration
}

// Sim is a simulated operational scope.
type Sim struct {
	cfg        Config
	net        *network
	registrars []*node
	elements   []*element
	hosts      []*host
	bad        []string
	// Trace is told what happens, if it is not nil.
	Trace func(at time.Duration, text string)
	start time.Time
}

// node is a registrar on its host.
type node struct {
	s        *Sim
	h        *host
	r        *registrar.Registrar
	peers    []netip.AddrPort
	tick     time.Time // when the next one is due, zero if none is
	checksum uint16    // of its last presence
}

// timers are short, so that much happens in little time.
func timers() registrar.Timers {
	return registrar.Timers{
		KeepAliveInterval: 3 * time.Second,
		KeepAliveTimeout:  2 * time.Second,
		ProbeTimeout:      4 * time.Second,
		PeerHeartbeat:     2 * time.Second,
		MaxTimeLastHeard:  5 * time.Second,
		MaxTimeNoResponse: 2 * time.Second,
	}
}

// New makes a scope in which nothing has happened yet.
func New(cfg Config) *Sim {
	s := &Sim{cfg: cfg, net: newNetwork(cfg.Seed)}
	s.start = s.net.now
	for i := range cfg.Registrars {
		n := &node{s: s, h: s.net.newHost(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i + 1)}))}
		s.registrars = append(s.registrars, n)
		s.hosts = append(s.hosts, n.h)
	}
	for i, n := range s.registrars {
		for _, j := range []int{0, (i + 1) % len(s.registrars)} {
			if j != i && !cfg.Multicast {
				n.peers = append(n.peers, netip.AddrPortFrom(s.registrars[j].h.addr, enrpPort))
			}
		}
		s.net.after(time.Duration(s.net.rand.Int64N(int64(5*time.Second))), n.boot)
	}
	for i := range cfg.Elements {
		s.addElement(i)
	}
	return s
}

func (s *Sim) addElement(i int) {
	h := s.net.newHost(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	e := &element{
		s: s, h: h, id: param.PEID(i + 1), lazy: s.net.chance(2), opened: make(map[registrar.AssocID]bool),
		pool: param.PoolHandle(fmt.Sprintf("pool %d", s.net.rand.IntN(4))),
	}
	h.proc = e
	s.elements = append(s.elements, e)
	s.hosts = append(s.hosts, h)
	e.hunt(time.Duration(s.net.rand.Int64N(int64(15 * time.Second))))
}

func (s *Sim) fail(format string, args ...any) {
	if len(s.bad) < 10 {
		s.bad = append(s.bad, fmt.Sprintf("at %v: ", s.net.now.Sub(s.start))+fmt.Sprintf(format, args...))
	}
}

func (s *Sim) trace(format string, args ...any) {
	if s.Trace != nil {
		s.Trace(s.net.now.Sub(s.start), fmt.Sprintf(format, args...))
	}
}

// boot starts a registrar, with a new identifier, on a host that has none.
func (n *node) boot() {
	if n.h.proc != nil {
		return
	}
	r, err := registrar.New(registrar.Config{
		Rand:  rand.New(rand.NewPCG(n.s.net.rand.Uint64(), 2)),
		Peers: n.peers, Discover: n.s.cfg.Multicast, Timers: timers(),
		Limits: registrar.Limits{LogsPerSecond: 1 << 20},
	})
	if err != nil {
		n.s.fail("registrar at %v: %v", n.h.addr, err)
		return
	}
	n.r, n.tick, n.h.proc = r, time.Time{}, n
	n.s.trace("%v boots as %v", n.h.addr, r.ID())
	n.handle(registrar.Serving{
		Addrs: []netip.AddrPort{netip.AddrPortFrom(n.h.addr, asapPort)},
		ENRP:  []netip.AddrPort{netip.AddrPortFrom(n.h.addr, enrpPort)},
	})
}

func (n *node) handle(ev registrar.Event) {
	net := n.s.net
	var answers []registrar.Event
	for _, act := range n.r.Handle(net.now, ev) {
		switch a := act.(type) {
		case *registrar.Send:
			n.look(a)
			net.send(n.h, a.Assoc, a.PPID, bytes.Clone(a.Data)) // it is ours until the next call
		case registrar.Connect:
			port := uint16(asapPort)
			if a.PPID == enrpPPID {
				port = enrpPort
			}
			answers = append(answers, registrar.Connecting{Ref: a.Ref, Assoc: net.connect(n.h, port, a.To[0])})
		case registrar.Close:
			if e := n.h.ends[a.Assoc]; e != nil {
				net.drop(e)
			}
		case registrar.Announce:
			net.multicast(n.s.hosts, n.h, registrar.Announced{
				From: netip.AddrPortFrom(n.h.addr, enrpPort), Data: bytes.Clone(a.Data), ENRP: a.ENRP,
			})
		case registrar.Log:
			n.s.trace("%v: %s", n.h.addr, a.Text)
		}
	}
	for _, a := range answers {
		n.handle(a)
	}
	n.schedule()
}

// look notes the checksums that are sent.
func (n *node) look(a *registrar.Send) {
	if a.PPID != enrpPPID {
		return
	}
	m, _, err := enrp.Parse(a.Data)
	if err != nil {
		n.s.fail("registrar %v sends what cannot be read: %v", n.r.ID(), err)
	}
	if m, ok := m.(*enrp.Presence); ok {
		n.checksum = m.Checksum
	}
}

// schedule has a Tick delivered when one is due.
func (n *node) schedule() {
	at, ok := n.r.NextDeadline()
	if !ok || !n.tick.IsZero() && !at.Before(n.tick) {
		return
	}
	if at.Before(n.s.net.now) {
		at = n.s.net.now
	}
	n.tick = at
	r := n.r
	n.s.net.at(at, func() {
		if n.r != r || !n.tick.Equal(at) {
			return
		}
		n.tick = time.Time{}
		n.s.net.deliver(n.h, n, registrar.Tick{})
	})
}

// Run runs the scope, and says what is wrong in the end.
func (s *Sim) Run() error {
	s.net.run(20 * time.Second)
	for end := s.net.now.Add(s.cfg.Faults); s.net.now.Before(end); {
		s.fault()
		s.net.run(time.Duration(s.net.rand.Int64N(int64(8 * time.Second))))
	}
	s.heal()
	s.net.run(s.cfg.Rest)
	clear(s.net.sent)
	s.net.run(10 * time.Second)
	s.check()
	if len(s.bad) > 0 {
		return fmt.Errorf("seed %d: %q", s.cfg.Seed, s.bad)
	}
	return nil
}

// fault does something bad.
func (s *Sim) fault() {
	rnd := s.net.rand
	n := s.registrars[rnd.IntN(len(s.registrars))]
	e := s.elements[rnd.IntN(len(s.elements))]
	switch rnd.IntN(8) {
	case 0, 1:
		if n.h.proc != nil {
			s.trace("%v crashes", n.h.addr)
			s.net.crash(n.h)
			s.net.after(time.Duration(rnd.Int64N(int64(30*time.Second))), n.boot)
		}
	case 2:
		s.trace("element %v crashes", e.id)
		s.net.crash(e.h)
	case 3:
		d := time.Duration(rnd.Int64N(int64(20 * time.Second)))
		if !n.h.paused.After(s.net.now) { // or what waits would be overtaken
			s.trace("%v stands still for %v", n.h.addr, d)
			n.h.paused = s.net.now.Add(d)
		}
	case 4, 5:
		s.trace("partition")
		s.net.split(s.hosts, func(*host) int { return rnd.IntN(2) })
	case 6:
		s.trace("no partition")
		s.net.split(s.hosts, func(*host) int { return 0 })
	case 7:
		for id := registrar.AssocID(1); id <= n.h.nextID; id++ {
			if a := n.h.ends[id]; a != nil && s.net.chance(2) {
				s.net.drop(a)
			}
		}
	}
}

// heal ends all faults.
func (s *Sim) heal() {
	s.trace("heal")
	s.net.split(s.hosts, func(*host) int { return 0 })
	for _, n := range s.registrars {
		n.boot()
	}
}

// known is what a registrar knows, sorted.
func (n *node) known() (list []string, own enrp.Checksum) {
	for p := range n.r.Space().Pools() {
		for _, e := range p.Elements(nil) {
			list = append(list, fmt.Sprintf("%s:%v at %v", p.Handle(), e.ID, e.Home))
			if e.Home == n.r.ID() {
				own.Add(p.Handle(), e.ID)
			}
		}
	}
	slices.Sort(list)
	return list, own
}

// check says what is wrong at rest.
func (s *Sim) check() {
	homes := make(map[param.ServerID]bool)
	for _, n := range s.registrars {
		homes[n.r.ID()] = true
		if !n.r.Ready() {
			s.fail("registrar %v is not ready", n.r.ID())
		}
	}
	first, _ := s.registrars[0].known()
	for _, n := range s.registrars {
		list, own := n.known()
		if !slices.Equal(list, first) {
			s.fail("registrar %v has %d elements, registrar %v has %d, or others: %s",
				n.r.ID(), len(list), s.registrars[0].r.ID(), len(first), difference(list, first))
		}
		if !enrp.ChecksumsMatch(own.Value(), n.checksum) {
			s.fail("registrar %v says checksum %04x, its elements have %04x", n.r.ID(), n.checksum, own.Value())
		}
	}
	for _, e := range s.elements {
		s.checkElement(e, homes)
	}
	if n := s.net.sent[enrpType(byte(enrp.TypeHandleTableRequest))]; n > 0 {
		s.fail("%d audits at rest", n)
	}
}

func (s *Sim) checkElement(e *element, homes map[param.ServerID]bool) {
	alive := e.h.proc != nil
	found := s.registrars[0].r.Space().Pool(e.pool)
	switch {
	case found == nil || found.Element(e.id) == nil:
		if alive {
			s.fail("element %v lives and is in no handlespace", e.id)
		}
	case !alive:
		s.fail("element %v is dead and still in the handlespace", e.id)
	case !homes[found.Element(e.id).Home]:
		s.fail("element %v has home %v, which is gone", e.id, found.Element(e.id).Home)
	}
}

// difference names what is in one list alone.
func difference(a, b []string) string {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return "the former has " + x
		}
	}
	for _, x := range b {
		if !slices.Contains(a, x) {
			return "the latter has " + x
		}
	}
	return "the same"
}
