package sim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	asapPort = asap.Port
	enrpPort = enrp.Port
)

// Config says what is simulated. Zero fields stand for the defaults.
type Config struct {
	Seed                 uint64
	Registrars, Elements int
	// Multicast has registrars find one another only by multicast, instead of
	// naming some to each.
	Multicast bool
	// References are further registrars, that do as the reference implementation
	// does; see reference.
	References int
	// Faults is how long there are faults, Rest how long there are none
	// afterwards before the invariants have to hold.
	Faults, Rest time.Duration
	// Start is the time in which registrars and elements start; default 15 s.
	Start time.Duration
	// Trust has all processes have identities, and registrars look at them; see trust. There
	// must be no References.
	Trust bool
	// Disks: of so many registrars one keeps no state over a restart, the others do; 0 if
	// none does.
	Disks int
	// Timers are short by default, so that much happens in little time.
	Timers registrar.Timers
	// Refresh is the time between two re-registrations of an element; default
	// 30 s.
	Refresh time.Duration
	// Sample has a registrar's handlespace be looked at after one in so many
	// changes, and one in so many presences; default 1. It is looked at every
	// LookGap in any case; default 500 ms.
	Sample  int
	LookGap time.Duration
}

func (c *Config) complete() {
	c.Start = cmp.Or(c.Start, 15*time.Second)
	c.Refresh = cmp.Or(c.Refresh, 30*time.Second)
	c.Sample = cmp.Or(c.Sample, 1)
	c.LookGap = cmp.Or(c.LookGap, 500*time.Millisecond)
	if c.Timers == (registrar.Timers{}) {
		c.Timers = registrar.Timers{
			KeepAliveInterval: 3 * time.Second,
			KeepAliveTimeout:  2 * time.Second,
			ProbeTimeout:      4 * time.Second,
			PeerHeartbeat:     2 * time.Second,
			MaxTimeLastHeard:  5 * time.Second,
			MaxTimeNoResponse: 2 * time.Second,
		}
	}
	if full, err := (registrar.Config{Rand: rand.New(rand.NewPCG(0, 0)), Timers: c.Timers}).Complete(); err == nil {
		c.Timers = full.Timers
	}
}

// Sim is a simulated operational scope.
type Sim struct {
	cfg      Config
	net      *network
	nodes    []*node
	elements []*element
	servers  []*host                    // all registrars'
	hosts    []*host                    // and the elements'
	ids      map[rserpool.ServerID]bool // of all registrars that ever were
	// references are those of them that are of the other make.
	references map[rserpool.ServerID]bool
	rules      ruled
	trust      *trust // nil if nobody looks at identities
	// misled has the registrars get other rights; it is for tests of the tests.
	misled func(*identity.Rights) registrar.Rights
	// forged has thieves show the element's own certificate, posing has squatters; also for tests
	// of the tests.
	forged, posing bool
	// misruled has the registrars get rules by which all pools fail closed; it is for tests
	// of the tests.
	misruled bool
	bad      []string
	// Trace is told what happens, if it is not nil.
	Trace func(at time.Duration, text string)

	kinds    []*fault      // that may happen
	faultGap time.Duration // at most, between two
	scans    uint64
	stale    int                    // elements that were kept and too old; see checkRestored
	found    []*handlespace.Element // space for one scan
	storm    storm
}

// New makes a scope in which nothing has happened yet.
func New(cfg Config) *Sim {
	cfg.complete()
	s := &Sim{cfg: cfg, net: newNetwork(cfg.Seed), ids: make(map[rserpool.ServerID]bool), references: make(map[rserpool.ServerID]bool), rules: make(ruled)}
	for i := range cfg.Registrars {
		n := s.newNode(serverAddr(i), s.peersOf(i))
		if cfg.Disks > 0 && s.net.rand.IntN(cfg.Disks) > 0 {
			n.disk = newDisk()
		}
		s.nodes = append(s.nodes, n)
		s.servers = append(s.servers, n.h)
	}
	for i := range cfg.References {
		s.servers = append(s.servers, s.newReferenceHost(serverAddr(cfg.Registrars+i), s.peersOf(cfg.Registrars+i)))
	}
	s.hosts = append(s.hosts, s.servers...)
	for _, h := range s.servers {
		s.net.after(s.net.upTo(cfg.Start/3), h.start)
	}
	for i := range cfg.Elements {
		s.addElement(i)
	}
	if cfg.Trust {
		s.beginTrust()
	}
	s.net.after(cfg.LookGap, s.watchAll)
	s.net.after(time.Second, s.watchStorm)
	return s
}

func serverAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }

// peersOf are the configured peers of a registrar: the first one, and the next,
// unless they find one another.
func (s *Sim) peersOf(i int) []netip.AddrPort {
	if s.cfg.Multicast {
		return nil
	}
	all := s.cfg.Registrars + s.cfg.References
	var peers []netip.AddrPort
	for _, j := range []int{0, (i + 1) % all} {
		if j != i {
			peers = append(peers, netip.AddrPortFrom(serverAddr(j), enrpPort))
		}
	}
	return peers
}

func (s *Sim) addElement(i int) {
	e := &element{s: s, index: i, id: rserpool.PEID(i + 1), gap: huntGap, load: s.net.rand.Uint32()}
	if s.net.chance(2) {
		e.gap = lazyGap
	}
	e.pool = rserpool.PoolHandle(fmt.Sprintf("pool %d", s.net.rand.IntN(4+s.cfg.Elements/200)))
	e.port, e.ordered = elementPort, s.net.chance(4)
	e.h = s.net.newHost(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), e.boot, e.port)
	e.spare = s.net.newHost(netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)}), e.boot, e.port)
	e.state = elementGone
	s.elements = append(s.elements, e)
	s.hosts = append(s.hosts, e.h, e.spare)
	s.net.after(s.net.upTo(s.cfg.Start), e.boot)
}

func (s *Sim) fail(format string, args ...any) {
	if len(s.bad) < 10 {
		text := fmt.Sprintf(format, args...)
		s.bad = append(s.bad, fmt.Sprintf("at %v: %s", s.net.now, text))
		s.trace("BROKEN: %s", text)
	}
}

func (s *Sim) trace(format string, args ...any) {
	if s.Trace != nil {
		s.Trace(s.net.now, fmt.Sprintf(format, args...))
	}
}

// Run runs the scope, and says what is wrong.
func (s *Sim) Run() error {
	s.chooseFaults()
	s.net.run(s.cfg.Start + 5*time.Second)
	for end := s.net.now + s.cfg.Faults; s.net.now < end && s.bad == nil; {
		s.fault()
		s.net.run(s.net.upTo(s.faultGap))
	}
	if s.bad == nil {
		s.heal()
		s.net.run(s.cfg.Rest)
		s.checkRest()
	}
	return s.err()
}

// err tells what has been found wrong so far.
func (s *Sim) err() error {
	if len(s.bad) > 0 {
		return fmt.Errorf("seed %d: %q", s.cfg.Seed, s.bad)
	}
	return nil
}
