package pe

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config configures an Element. Pool, Transport.Type, Transport.Port, Policy
// and one of Registrars and AnnounceGroup are required; other zero fields stand
// for the defaults.
type Config struct {
	// Pool is the handle of the pool to join.
	Pool rserpool.PoolHandle
	// ID is the element's identifier; 0 draws a random one (RFC 5352,
	// Section 3.1, R2.2), and another one should it be in use.
	ID rserpool.PEID
	// Transport is where users reach the element. Its addresses are
	// registered, and the SCTP endpoint toward the registrars is bound to
	// them (R1), as soon as the machine has them. Without any, they are those
	// from which the registrars are reached, found anew in each hunt for a
	// registrar and every 2 s; if they change, the element registers again
	// with the new ones. SCTP may have several, other protocols have one (RFC
	// 5354, Section 3.5).
	Transport rserpool.Transport
	// UserEncapPort is the UDP port at which users reach the element over SCTP in UDP
	// (RFC 6951); 0 registers none.
	UserEncapPort uint16
	// Advertise are addresses to register in place of Transport's, which this
	// machine need not have: those in front of a NAT or a container. The
	// registrar must see the element there, or it refuses them.
	Advertise []netip.Addr
	// Policy is the pool's policy with this element's values. Under a policy with
	// weights, an element of weight 0 is not selected; [rserpool.ParsePolicy] gives
	// weight 1 if the text has none.
	Policy rserpool.Policy
	// Life is the registration life: after that time without a registration the
	// registrar removes the element. Negative for an infinite one, else at least
	// 2 s; default 90 s, which three registrations fit in.
	Life time.Duration
	// Dialect says in which unit the registrars read Life. The zero value,
	// rserpool.RSPLIB, sends milliseconds. A registrar that reads seconds, as RFC 5354
	// has it, keeps the element longer after the element has stopped registering; its
	// keep-alives still detect a dead element.
	Dialect rserpool.Dialect
	// Standby says that the element is not registered before SetAvailable(true).
	Standby bool
	// MistakeTime is how long after the element is to be registered for the first time a first
	// refusal ends it, since the element itself may be the mistake. If the first refusal comes
	// later, the server works already: the registrar may have come up late, and another element
	// may be the mistake. The element then goes on, as after a registration that was accepted.
	// 0 stands for no limit; if it is negative, no refusal ends the element.
	MistakeTime time.Duration

	// Registrars are the registrars to register with, preferred ones first, in the
	// form of [rserpool.ParseRegistrar], such as "192.0.2.53" or
	// "registrar.example.org:3863". Names are looked up anew in each hunt for a
	// registrar.
	Registrars []string
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

	// TLS are the files of a trusted scope (RFC 5355). Registrars must then have certificates,
	// and their default port is 3864. The zero value is no TLS. The sessions
	// of a [Listener] are in TLS as well; their users need no certificate. The element needs
	// one: Cert and Key beside CA, or Secret.
	TLS rserpool.TLSFiles
	// TLSRegistrars are the identities of registrars, as patterns of [path.Match]; none
	// stands for spiffe://*/rserpool/registrar/*.
	TLSRegistrars []string

	// Timers are the timers of the protocol. Few programs need to set them.
	Timers Timers

	// Notify, if set, is called for each event, one after the other in their order, by a
	// goroutine of its own. While it blocks, the element goes on, and up to 256 events wait. If
	// there are more, the oldest one that a later one of the same type follows is dropped, so
	// that the last event of each type comes in any case. Close waits for Notify, so that it must
	// not call Close, nor Wait or wait for Done. It may call the other methods of the Element. A
	// panic of it ends the element with an error that has the stack, which is also logged:
	// see [Element.Err].
	Notify func(Event)
	// Logger, if set, gets messages about the transport.
	Logger *slog.Logger

	registrars []rserpool.Registrar

	// For tests.
	listen     client.ListenFunc
	lookupHost client.LookupFunc
	toward     func([]rserpool.Registrar) ([]netip.Addr, error)
	has        func(netip.Addr) bool
	records    uint64 // of TLS that an association may have
}

// Timers are the timers and thresholds by their RFC names (RFC 5352, Section
// 7); zero fields stand for the defaults.
type Timers struct {
	// Registration is T2-registration, how long a registrar may take to
	// answer; default 30 s.
	Registration time.Duration
	// Deregistration is T3-deregistration, likewise; default 30 s. While the element closes,
	// it is a third of Stop at most, if another registrar is known.
	Deregistration time.Duration
	// Reregistration is T4-reregistration, the time between registrations;
	// default 30 s, at least MinReregistration.
	Reregistration time.Duration
	// ServerHunt is T5-Serverhunt: attempts to connect to registrars end after
	// that time, and the next registrars are tried; default 10 s. If there are more
	// than three, or a name has more addresses, attempts end after a part of it while other
	// registrars wait for their turn. The attempt to the
	// only registrar goes on for as long as the transport allows.
	ServerHunt time.Duration
	// Outdate is T7-ENRPoutdate: an announced registrar is known that long after
	// its last announce; default 5 s.
	Outdate time.Duration
	// RetranMax is RETRAN-MAX: ServerHunt, and the pauses after failures, double
	// up to that time; default 60 s.
	RetranMax time.Duration
	// MaxRegAttempt is MAX-REG-ATTEMPT: after so many unanswered registrations
	// the element looks for another registrar; default 2.
	MaxRegAttempt int
	// Request is T1-ENRPrequest, how long a registrar may take to answer a handle
	// resolution; default 15 s.
	Request time.Duration
	// MaxRequestRetransmit is MAX-REQUEST-RETRANSMIT, how often an unanswered resolution
	// is sent again; default 2, negative for none.
	MaxRequestRetransmit int
	// MinUpdate is the least time between two registrations that tell of
	// new policy values; default 1 s.
	MinUpdate time.Duration
	// Stop is how long Close may take to deregister; default 3 s.
	Stop time.Duration
	// Files is the time between two looks at the files of Config.TLS; default 1 min. When the
	// certificate has changed, associations are made anew within as much time again.
	Files time.Duration
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
	fill(&t.Request, 15*time.Second)
	fill(&t.MinUpdate, time.Second)
	fill(&t.Stop, 3*time.Second)
	if t.MaxRegAttempt <= 0 {
		t.MaxRegAttempt = 2
	}
	switch {
	case t.MaxRequestRetransmit == 0:
		t.MaxRequestRetransmit = 2
	case t.MaxRequestRetransmit < 0:
		t.MaxRequestRetransmit = 0
	}
}

// defaultLife is that of the elements of RSPLIB, in milliseconds.
const defaultLife = 90 * time.Second

// Validate says what is wrong with the configuration, nil if nothing is. [Open]
// checks it, too.
func (c Config) Validate() error {
	if err := c.prepare(); err != nil {
		return err
	}
	return c.encodable()
}

// prepare checks the configuration and fills in the defaults.
func (c *Config) prepare() error {
	if err := c.checkValues(); err != nil {
		return err
	}
	c.Timers.fillDefaults()
	if c.Life == 0 {
		c.Life = defaultLife
	}
	if life := c.lifetime(); life > 0 {
		c.Timers.Reregistration = min(c.Timers.Reregistration, max(life/3, MinReregistration))
	}
	var err error
	if c.registrars, err = client.ParseRegistrars(c.Registrars, c.trust().ASAPPort(), errTCP); err != nil {
		return err
	}
	c.Transport = c.Transport.Clone()
	c.Advertise = slices.Clone(c.Advertise)
	c.Local, c.TLSRegistrars = slices.Clone(c.Local), slices.Clone(c.TLSRegistrars)
	c.prepareAddrs()
	switch {
	case c.Pool == "":
		return errors.New("no pool handle: the pool to join needs a name")
	case !c.Transport.Type.Known():
		return errors.New("no user transport: set Transport to where users reach the element")
	case c.Transport.Port == 0 && c.Transport.Type != rserpool.Opaque:
		return errors.New("no port in the user transport: set Transport.Port")
	case max(len(c.Transport.Addrs), len(c.Advertise)) > 1 && c.Transport.Type != rserpool.SCTP:
		return fmt.Errorf("%d addresses for %s: only SCTP transports can have several (RFC 5354, Section 3.5)", max(len(c.Transport.Addrs), len(c.Advertise)), c.Transport.Type)
	case c.UserEncapPort != 0 && c.Transport.Type != rserpool.SCTP:
		return fmt.Errorf("field UserEncapPort is %d: only SCTP can be in UDP, and the user transport is %v", c.UserEncapPort, c.Transport.Type)
	case c.Policy.Type == 0:
		return errors.New("no policy: set Policy to the policy of the pool")
	case c.Via == rserpool.ViaTCP:
		return errTCP
	case len(c.registrars) == 0 && !c.AnnounceGroup.IsValid():
		return errors.New("no registrar and no announce group: set Registrars or AnnounceGroup")
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

// trust is the trusted scope.
func (c *Config) trust() client.Trust {
	return client.Trust{TLSFiles: c.TLS, Registrars: c.TLSRegistrars, Look: c.Timers.Files, Records: c.records}
}

// checkValues refuses invalid values of single fields.
func (c *Config) checkValues() error {
	if err := client.CheckTimers(c.Timers); err != nil {
		return err
	}
	switch {
	case c.Timers.MaxRegAttempt < 0:
		return fmt.Errorf("field Timers.MaxRegAttempt is %d: it must not be negative; 0 stands for the default", c.Timers.MaxRegAttempt)
	case c.Dialect > rserpool.RFC5354:
		return fmt.Errorf("field Dialect is %d: use rserpool.RSPLIB or rserpool.RFC5354", uint8(c.Dialect))
	}
	return errors.Join(client.CheckVia(c.Via), client.CheckSockets(c.Local, c.AnnounceGroup), c.checkTLS())
}

// checkTLS refuses files without a certificate. Registrars would refuse the element.
func (c *Config) checkTLS() error {
	if err := c.trust().Check(); err != nil {
		return err
	}
	if c.TLS.CA != "" && c.TLS.Cert == "" {
		return errors.New("field TLS has CA alone: an element needs Cert and Key, too, because registrars let it register only with a certificate for its pool (rsp ca issue pool/POOL/NAME)")
	}
	return nil
}

var errTCP = errors.New("pool elements register over SCTP, not TCP (RFC 5352, Section 3.1)")

// lifetime is the registration life as the registrars read it, 0 if it is
// infinite.
func (c *Config) lifetime() time.Duration {
	if c.Life < 0 {
		return 0
	}
	return c.Life.Truncate(c.Dialect.Unit())
}

// wireLife is the registration life as it goes on the wire (RFC 5354, Section 3.10).
func (c *Config) wireLife() int32 {
	if c.Life < 0 {
		return -1
	}
	return int32(c.Life / c.Dialect.Unit())
}

// binds reports whether the endpoint will be bound to an address.
func (c *Config) binds(a netip.Addr) bool {
	return len(c.Local) == 0 || slices.ContainsFunc(c.Local, func(l netip.AddrPort) bool {
		local := l.Addr().Unmap()
		return local == a || local.IsUnspecified() && (local.Is6() || a.Is4())
	})
}
