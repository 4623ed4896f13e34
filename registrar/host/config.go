package host

import (
	"cmp"
	crand "crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/setting"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config configures a Host. The zero value serves ASAP on all addresses.
type Config struct {
	// Config configures the registrar. A nil Rand is seeded by the system.
	registrar.Config
	// ASAP are the addresses and the port (one for all) where ASAP is served
	// over SCTP and TCP; none stands for all addresses and port 3863, or 3864 with TLS.
	ASAP []netip.AddrPort
	// ENRP are the addresses and the port (one for all) where ENRP is served
	// over SCTP. None stands for port 9901, or 9902 with TLS, on the addresses of ASAP if there
	// are Peers or an ENRPAnnounceGroup; without those, ENRP is not served.
	ENRP []netip.AddrPort
	// Via says which SCTP to serve: the kernel's, SCTP in UDP, or (ViaAuto) SCTP in
	// UDP and the kernel's where there is one.
	Via rserpool.Via
	// EncapPort is the UDP port of SCTP in UDP; 0 stands for 9899.
	EncapPort uint16
	// PeerEncapPort is the UDP port at which peers are connected over SCTP in UDP; 0
	// stands for the port from which a peer was last heard, or else 9899.
	PeerEncapPort uint16
	// Transports limit the associations of all transports together.
	Transports TransportLimits
	// Trust makes a trusted scope: TLS on all associations, and rights.
	Trust Trust
	// State is a directory for what the registrar has to remember over a restart: its server
	// identifier, its own elements, where its peers are, and the zone's serial. It is made
	// if it is not there, and belongs to one registrar. Without one, nothing is remembered.
	State string
	// AnnounceGroup is the multicast group and port of server announces (RFC
	// 5352, Section 3.6). IANA has assigned 224.0.1.185 and ff0X::133, port 3863.
	// With the zero value none are sent.
	AnnounceGroup netip.AddrPort
	// ENRPAnnounceGroup is the multicast group and port by which registrars find one
	// another. IANA has assigned none; the reference implementation uses
	// 239.0.0.51:9901. With the zero value there is no such group. It sets Discover.
	ENRPAnnounceGroup netip.AddrPort
	// CloseTimeout is how long Close may take to end associations in good order. The
	// default is 5 s.
	CloseTimeout time.Duration
	// Logger gets lines for the operator, from one goroutine. The registrar does not wait
	// for it: lines that it does not accept in time are dropped and counted. Nil logs
	// nothing.
	Logger *slog.Logger

	// network opens the transport. Nil is a stack.Stack as the fields above describe
	// it.
	network func() (network, error)
}

// TransportLimits bound associations and connections. A zero field stands for its
// default; those with a name can be set in the Corefile.
type TransportLimits struct {
	// Associations, established SCTP associations and TCP connections.
	Associations int `name:"associations" default:"65536" min:"1" max:"1073741824"`
	// HalfOpen, associations and connections that the peer has not established yet.
	HalfOpen int `name:"half_open" default:"1024" min:"1" max:"1073741824"`
}

// network is where a Host listens.
type network interface {
	Listen(sctp.ListenConfig, sctp.Handler) (sctp.Endpoint, error)
	Close() error
}

// Complete returns the configuration with defaults in place of zero fields, or an error
// that names the invalid field.
func (c Config) Complete() (Config, error) {
	if c.Rand == nil {
		var seed [16]byte
		_, _ = crand.Read(seed[:]) // it never fails
		c.Rand = rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[:8]), binary.BigEndian.Uint64(seed[8:])))
	}
	c.ASAP, c.ENRP, c.Peers = slices.Clone(c.ASAP), slices.Clone(c.ENRP), slices.Clone(c.Peers)
	if len(c.ASAP) == 0 {
		c.ASAP = []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), c.Trust.ASAPPort())}
	}
	c.Discover = c.ENRPAnnounceGroup.IsValid()
	if len(c.ENRP) == 0 && (len(c.Peers) > 0 || c.Discover) {
		for _, a := range c.ASAP {
			c.ENRP = append(c.ENRP, netip.AddrPortFrom(a.Addr(), c.Trust.ENRPPort()))
		}
	}
	if c.EncapPort == 0 {
		c.EncapPort = sctp.EncapPort
	}
	if c.CloseTimeout == 0 {
		c.CloseTimeout = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, s := range setting.Of(&c.Transports) {
		if err := s.Complete(); err != nil {
			return c, fmt.Errorf("registrar config: limit %w", err)
		}
	}
	if err := c.check(); err != nil {
		return c, err
	}
	rights, err := c.Trust.rights()
	if err != nil {
		return c, err
	}
	if rights != nil {
		c.Rights = rights
	}
	c.Config, err = c.Config.Complete()
	return c, err
}

// check refuses addresses and groups that are not valid.
func (c *Config) check() error {
	if err := cmp.Or(checkAddrs("ASAP", c.ASAP), checkAddrs("ENRP", c.ENRP)); err != nil {
		return err
	}
	for _, a := range c.Peers {
		if !a.IsValid() || a.Addr().IsMulticast() || a.Addr().IsUnspecified() || a.Port() == 0 {
			return fmt.Errorf("%v is not an address of a peer: use a unicast address and a port", a)
		}
	}
	for _, g := range []netip.AddrPort{c.AnnounceGroup, c.ENRPAnnounceGroup} {
		if g != (netip.AddrPort{}) && (!g.Addr().IsMulticast() || g.Port() == 0) {
			return fmt.Errorf("registrar cannot announce itself at %v: use a multicast address and a port, such as 224.0.1.185:3863", g)
		}
	}
	if g := c.AnnounceGroup; g.IsValid() && g == c.ENRPAnnounceGroup {
		return fmt.Errorf("registrar cannot announce itself by ASAP and by ENRP at %v: use two groups, or two ports", g)
	}
	if !slices.Contains([]rserpool.Via{rserpool.ViaAuto, rserpool.ViaKernel, rserpool.ViaUDP}, c.Via) {
		return fmt.Errorf("registrar cannot serve only transport %v: use auto, kernel or udp", c.Via)
	}
	if c.CloseTimeout < 0 {
		return fmt.Errorf("field CloseTimeout is %v: it must not be negative; 0 stands for 5 s", c.CloseTimeout)
	}
	return nil
}

// checkAddrs checks the addresses of a protocol.
func checkAddrs(protocol string, addrs []netip.AddrPort) error {
	for _, a := range addrs {
		switch {
		case !a.IsValid() || a.Addr().IsMulticast():
			return fmt.Errorf("registrar cannot serve %s at %v: use a unicast address, or 0.0.0.0 or [::] for all", protocol, a)
		case a.Port() != addrs[0].Port():
			return fmt.Errorf("registrar cannot serve %s at %v and %v: use the same port at all addresses", protocol, addrs[0], a)
		}
	}
	return nil
}
