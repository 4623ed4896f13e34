package pe

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config configures an Element. Pool, Transport.Type, Transport.Port, Policy
// and one of Registrars and AnnounceGroup are needed; other zero fields stand
// for the defaults.
type Config struct {
	// Pool is the handle of the pool to join.
	Pool rserpool.PoolHandle
	// ID is the element's identifier; 0 draws a random one (RFC 5352,
	// Section 3.1, R2.2), and another one should it be in use.
	ID rserpool.PEID
	// Transport is where the element's users reach it. Its addresses are
	// registered, and the SCTP endpoint toward the registrars is bound to
	// them (R1), as soon as the machine has them. Without any, they are those
	// from which the registrars are reached, found anew in each hunt for a
	// registrar and every 2 s; if they change, the element registers again
	// with the new ones. SCTP may have several, other protocols have one (RFC
	// 5354, Section 3.5).
	Transport rserpool.Transport
	// Advertise are addresses to register in place of Transport's, which this
	// machine need not have: those in front of a NAT or a container. The
	// registrar must see the element there, or it refuses them.
	Advertise []netip.Addr
	// Policy is the pool's policy with this element's values.
	Policy rserpool.Policy
	// Life is the registration life as it goes on the wire, negative for an
	// infinite one. RFC 5354 counts seconds there, RSPLIB milliseconds. The
	// default 90000 is right in both readings: 90 s in milliseconds, which
	// three re-registrations fit in, and 25 h in seconds. A life must be at
	// least 2 s.
	Life int32
	// LifeUnit is the unit in which the registrars read Life: time.Second or
	// time.Millisecond. T4-reregistration follows from it. 0 takes seconds for
	// a Life below 1000, which would be less than a second of milliseconds, and
	// milliseconds otherwise: the shorter reading renews the registration in
	// time in both.
	LifeUnit time.Duration

	// Registrars are the registrars to register with, preferred ones first.
	// Names are looked up anew in each hunt for a registrar.
	Registrars []endpoint.Registrar
	// AnnounceGroup is the multicast group where registrars announce
	// themselves, such as 239.0.0.1:3863; the zero value listens to none.
	AnnounceGroup netip.AddrPort
	// Via says what carries the associations; not TCP.
	Via rserpool.Via
	// Local are the addresses to bind in place of Transport's, all with one
	// port. They must include Transport's addresses, or be unspecified.
	Local []netip.AddrPort
	// EncapPort is the local UDP port for SCTP in UDP; 0 takes a free one.
	EncapPort uint16

	Timers Timers

	// Notify, if set, is told what happens, in order, from Run's goroutine.
	// It must not block for long, and must not call Run.
	Notify func(Event)
	// Logf, if set, is told by the transport what an operator wants to know.
	Logf func(format string, args ...any)

	// For tests.
	listen     endpoint.ListenFunc
	lookupHost endpoint.LookupFunc
	toward     func([]endpoint.Registrar) ([]netip.Addr, error)
	has        func(netip.Addr) bool
}

// Timers are the timers and thresholds by their RFC names (RFC 5352, Section
// 7); zero fields stand for the defaults.
type Timers struct {
	// Registration is T2-registration, how long a registrar may take to
	// answer; default 30 s.
	Registration time.Duration
	// Deregistration is T3-deregistration, likewise; default 30 s.
	Deregistration time.Duration
	// Reregistration is T4-reregistration, the time between registrations;
	// default 30 s, at least MinReregistration.
	Reregistration time.Duration
	// ServerHunt is T5-Serverhunt; default 10 s.
	ServerHunt time.Duration
	// Outdate is T7-ENRPoutdate; default 5 s.
	Outdate time.Duration
	// RetranMax is RETRAN-MAX; default 60 s.
	RetranMax time.Duration
	// MaxRegAttempt is MAX-REG-ATTEMPT, after how many unanswered
	// registrations another registrar is sought; default 2.
	MaxRegAttempt int
	// MinUpdate is the least time between two registrations that tell of
	// new policy values; default 1 s.
	MinUpdate time.Duration
	// Stop is how long Run may take to deregister at the end; default 3 s.
	Stop time.Duration
}

func (t *Timers) fillDefaults() {
	fill := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	fill(&t.Registration, 30*time.Second)
	fill(&t.Deregistration, 30*time.Second)
	fill(&t.Reregistration, 30*time.Second)
	fill(&t.ServerHunt, 10*time.Second)
	fill(&t.Outdate, 5*time.Second)
	fill(&t.RetranMax, 60*time.Second)
	fill(&t.MinUpdate, time.Second)
	fill(&t.Stop, 3*time.Second)
	if t.MaxRegAttempt <= 0 {
		t.MaxRegAttempt = 2
	}
}

// defaultLife is 90 s in RSPLIB's reading, 25 h in RFC 5354's.
const defaultLife = 90_000

// prepare checks the configuration and fills in the defaults.
func (c *Config) prepare() error {
	c.Timers.fillDefaults()
	if c.Life == 0 {
		c.Life = defaultLife
	}
	if c.LifeUnit == 0 {
		c.LifeUnit = time.Millisecond
		if c.Life < 1000 {
			c.LifeUnit = time.Second
		}
	}
	if life := c.lifetime(); life > 0 {
		c.Timers.Reregistration = min(c.Timers.Reregistration, max(life/3, MinReregistration))
	}
	c.Registrars = slices.Clone(c.Registrars)
	c.Transport = c.Transport.Clone()
	c.Advertise = slices.Clone(c.Advertise)
	c.prepareAddrs()
	switch {
	case c.Pool == "":
		return errors.New("no pool handle: the pool to join needs a name")
	case !c.Transport.Type.Known():
		return errors.New("no user transport: say where the element serves")
	case c.Transport.Port == 0 && c.Transport.Type != rserpool.Opaque:
		return errors.New("no port in the user transport")
	case max(len(c.Transport.Addrs), len(c.Advertise)) > 1 && c.Transport.Type != rserpool.SCTP:
		return fmt.Errorf("%d addresses for %s: only SCTP transports can have several (RFC 5354, Section 3.5)", max(len(c.Transport.Addrs), len(c.Advertise)), c.Transport.Type.String())
	case c.Policy.Type == 0:
		return errors.New("no policy")
	case c.Via == rserpool.ViaTCP:
		return errors.New("pool elements register over SCTP, not TCP (RFC 5352, Section 3.1)")
	case len(c.Registrars) == 0 && !c.AnnounceGroup.IsValid():
		return errors.New("no registrar and no announce group: where to register is not known")
	}
	if err := c.checkLimits(); err != nil {
		return err
	}
	for _, a := range slices.Concat(c.Transport.Addrs, c.Advertise) {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
			return fmt.Errorf("address %v cannot be registered: users need one to connect to", a)
		}
	}
	for _, a := range c.Transport.Addrs {
		if !c.binds(a) {
			return fmt.Errorf("address %v is to be registered but not among the local addresses %v (RFC 5352, Section 3.1, R1)", a, c.Local)
		}
	}
	return nil
}

// lifetime is the registration life as the registrars read it, 0 if it is
// infinite.
func (c *Config) lifetime() time.Duration {
	return max(0, time.Duration(c.Life)) * c.LifeUnit
}

// binds reports whether the endpoint will be bound to an address.
func (c *Config) binds(a netip.Addr) bool {
	return len(c.Local) == 0 || slices.ContainsFunc(c.Local, func(l netip.AddrPort) bool {
		local := l.Addr().Unmap()
		return local == a || local.IsUnspecified() && (local.Is6() || a.Is4())
	})
}
