package pu

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config configures a User. One of Registrars and AnnounceGroup is required;
// other zero fields stand for the defaults.
type Config struct {
	// Registrars are the registrars to ask, preferred ones first, in the form of
	// [rserpool.ParseRegistrar], such as "192.0.2.53" or
	// "registrar.example.org:3863". Names are looked up anew in each hunt for a
	// registrar.
	Registrars []string
	// AnnounceGroup is the multicast group where registrars announce
	// themselves, such as 239.0.0.1:3863; the zero value listens to none.
	AnnounceGroup netip.AddrPort
	// Via says what carries the association.
	Via rserpool.Via
	// Local are the addresses to bind, all with one port; none stands for
	// all of the machine's. Addresses that the machine does not have yet are
	// bound at the next connect. Over TCP, the user connects from one of the
	// addresses, and a free port. When the address toward the registrar
	// changes, the user connects to a registrar from the new address.
	Local []netip.AddrPort
	// EncapPort is the local UDP port for SCTP in UDP; 0 takes a free one.
	EncapPort uint16

	// TLS are the files of a trusted scope (RFC 5355). Registrars must then have certificates,
	// and their default port is 3864. The zero value is no TLS. CA alone
	// is enough where the registrars' option resolvers is any. Sessions are in TLS as well;
	// streams of [User.DialStream] and [User.DialContext] are not.
	TLS rserpool.TLSFiles
	// TLSRegistrars are the identities of registrars, as patterns of [path.Match]; none
	// stands for spiffe://*/rserpool/registrar/*.
	TLSRegistrars []string
	// TLSElements are the identities of elements that may serve sessions in any pool, as
	// patterns of path.Match. Elements whose certificate names the pool may in any case.
	TLSElements []string

	// Timers are the timers of the protocol. Few programs need to set them.
	Timers Timers

	// Cache keeps what registrars say of pools; nil stands for one of the User's own.
	// Users of one process that ask the same registrars should share one.
	Cache *Cache

	// Logger, if set, gets messages about the transport.
	Logger *slog.Logger

	registrars []rserpool.Registrar

	// For tests.
	listen     client.ListenFunc
	lookupHost client.LookupFunc
	toward     func([]rserpool.Registrar) ([]netip.Addr, error)
	dialTCP    func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Timers are the timers and thresholds by their RFC names (RFC 5352, Section
// 7); zero fields stand for the defaults.
type Timers struct {
	// Request is T1-ENRPrequest, how long a registrar may take to answer;
	// default 15 s.
	Request time.Duration
	// MaxRequestRetransmit is MAX-REQUEST-RETRANSMIT, how often an unanswered
	// request is repeated; default 2, none if negative.
	MaxRequestRetransmit int
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
	// Refresh is how often a pool that is watched is asked for where the
	// registrar sends no updates, and while the pool does not exist (RFC
	// 5352, Section 2.2.5); default 2 s. If the registrar refuses for another
	// reason, the time doubles up to RetranMax.
	Refresh time.Duration
	// Connect is how long an element may take to accept a connection of DialStream and
	// DialContext; default 2 s.
	Connect time.Duration
	// Close is how long Close may take to deliver what has been sent;
	// default 2 s.
	Close time.Duration
}

// Validate says what is wrong with the configuration, nil if nothing is. [Open]
// checks it, too.
func (c Config) Validate() error { return c.prepare() }

func (c *Config) prepare() error {
	if err := client.CheckTimers(c.Timers); err != nil {
		return err
	}
	if err := errors.Join(client.CheckVia(c.Via), client.CheckSockets(c.Local, c.AnnounceGroup), c.trust().Check()); err != nil {
		return err
	}
	fill := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	t := &c.Timers
	fill(&t.Request, 15*time.Second)
	fill(&t.ServerHunt, 10*time.Second)
	fill(&t.Outdate, 5*time.Second)
	fill(&t.RetranMax, 60*time.Second)
	fill(&t.Refresh, 2*time.Second)
	fill(&t.Connect, 2*time.Second)
	fill(&t.Close, 2*time.Second)
	switch {
	case t.MaxRequestRetransmit == 0:
		t.MaxRequestRetransmit = 2
	case t.MaxRequestRetransmit < 0:
		t.MaxRequestRetransmit = 0
	}
	var err error
	if c.registrars, err = client.ParseRegistrars(c.Registrars, c.trust().ASAPPort(), nil); err != nil {
		return err
	}
	c.Local = slices.Clone(c.Local)
	c.TLSRegistrars, c.TLSElements = slices.Clone(c.TLSRegistrars), slices.Clone(c.TLSElements)
	if c.toward == nil {
		c.toward = client.LocalToward
	}
	if c.Cache == nil {
		c.Cache = NewCache(CacheConfig{})
	}
	if len(c.registrars) == 0 && !c.AnnounceGroup.IsValid() {
		return errors.New("no registrar and no announce group: set Registrars or AnnounceGroup")
	}
	return nil
}

// trust is the trusted scope.
func (c *Config) trust() client.Trust {
	return client.Trust{TLSFiles: c.TLS, Registrars: c.TLSRegistrars, Elements: c.TLSElements}
}
