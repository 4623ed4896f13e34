package registrar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/setting"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config configures a Registrar.
type Config struct {
	// ServerID names the registrar in its scope; 0 draws one from Rand.
	ServerID rserpool.ServerID
	// Rand is the only source of randomness. It must not be nil.
	Rand *rand.Rand
	// Peers are where other registrars of the scope serve ENRP. One of them, or
	// one that they know, gives us the handlespace before we serve it. Without
	// any we are the first of the scope, unless we Discover others.
	Peers []netip.AddrPort
	// Discover has our presence sent by multicast, and looks for registrars that
	// do the same; the host takes Announce actions of ENRP, and hands Announced
	// events over.
	Discover bool
	Timers   Timers
	Limits   Limits
	// Rules are the rules for pools, until an event of the type Rules.
	Rules PoolRules
	// Rights say what the identities of a trusted scope may do, until an event of the type
	// Trust. Nil is a scope without identities, in which everybody may do everything.
	Rights Rights
	// Keep asks for Keep actions.
	Keep bool
}

// Timers are the timers and thresholds of the protocols. A zero field stands for its
// default. Those with a name, most of them from the RFCs, can be set in the Corefile;
// those with a former name could once.
type Timers struct {
	// KeepAliveInterval is the mean time between two keep-alives to an element, varied
	// by 10 % either way (RFC 5352, Section 3.5). It is longer if KeepAliveRate demands
	// that.
	KeepAliveInterval time.Duration `name:"KEEP-ALIVE-INTERVAL" default:"2s" min:"1ms" max:"24h"`
	// KeepAliveTimeout is how long an element may take to acknowledge one, with up to six
	// repeats. An element whose acknowledgements are unordered, as those of this project
	// are, has seven round-trip time-outs (RFC 6298) of at least 200 ms instead, unless
	// KeepAliveTimeout is less than 1.4 s.
	KeepAliveTimeout time.Duration `name:"KEEP-ALIVE-TIMEOUT" default:"3s" min:"1ms" max:"24h"`
	// KeepAliveRate is how many keep-alives are sent in a second to all elements together,
	// and as many repeats. With more elements, all intervals are longer. Beside them, the guard
	// asks as many at most, from 16 to 256; see wonder.
	KeepAliveRate int `name:"KEEP-ALIVE-RATE" default:"5000" min:"1" max:"1000000"`
	// SuspectLife is how long a silent element is remembered, and asked on.
	SuspectLife time.Duration `name:"SUSPECT-LIFE" default:"10m" min:"1ms" max:"8760h"`
	// GuardLife is how long it is while its pool, or the registrar itself, is guarded.
	GuardLife time.Duration `name:"GUARD-LIFE" default:"1h" min:"1ms" max:"8760h"`
	// ProbeTimeout is how long an element whose association has ended may take to
	// accept a new one, and then to acknowledge a keep-alive on it. With the default,
	// one lost INIT does not cost an element its registration (RFC 9260, Section 15:
	// RTO.Initial is 1 s; Linux takes 3 s).
	ProbeTimeout time.Duration `name:"PROBE-TIMEOUT" default:"4s" min:"1ms" max:"24h"`
	// MaxBadPEReport: an element that more than so many different clients report as
	// unreachable is removed even though it answers keep-alives (RFC 5352, Section
	// 3.5). The default 0 removes none: an attacker with a few addresses could evict
	// every element.
	MaxBadPEReport int `name:"MAX-BAD-PE-REPORT" default:"0" min:"0" max:"1000"`
	// BadPEReportDecay is the time after which one report is forgotten, and during
	// which one client counts once.
	BadPEReportDecay time.Duration `former:"BAD-PE-REPORT-DECAY" default:"1m" min:"1ms" max:"24h"`
	// ServerAnnounce is the time between two server announces (RFC 5352, Section 7.1).
	ServerAnnounce time.Duration `name:"T6-Serverannounce" default:"1s" min:"1ms" max:"24h"`
	// ServerOutdate is T7-ENRPoutdate: how long a server announce of another registrar
	// is valid, and at least three times the interval in which so many registrars
	// announce themselves.
	ServerOutdate time.Duration `former:"T7-ENRPoutdate" default:"5s" min:"1ms" max:"24h"`
	// Update is the least time between two automatic updates about one pool (the S bit
	// of RFC 5352, Section 2.2.5).
	Update time.Duration `former:"UPDATE-INTERVAL" default:"100ms" min:"1ms" max:"24h"`
	// PeerHeartbeat is the time between two presences to each peer (RFC 5353, Section
	// 4.2).
	PeerHeartbeat time.Duration `name:"PEER-HEARTBEAT-CYCLE" default:"30s" min:"1ms" max:"24h"`
	// MaxTimeLastHeard is how long a peer may be silent before the registrar requests a sign
	// of life.
	MaxTimeLastHeard time.Duration `name:"MAX-TIME-LAST-HEARD" default:"61s" min:"1ms" max:"24h"`
	// MaxTimeNoResponse is how long a peer may take to answer.
	MaxTimeNoResponse time.Duration `name:"MAX-TIME-NO-RESPONSE" default:"5s" min:"1ms" max:"24h"`
	// PeerCallGap is the least time between two attempts to connect to a peer that does
	// not accept them.
	PeerCallGap time.Duration `former:"PEER-CALL-GAP" default:"1s" min:"1ms" max:"24h"`
	// MentorDiscovery is how long a registrar that has no Peers, but is to Discover
	// them, listens for others before it assumes that there are none. The default is
	// the reference implementation's.
	MentorDiscovery time.Duration `name:"MENTOR-DISCOVERY-TIMEOUT" default:"5s" min:"1ms" max:"24h"`
	// Linger is how long an association that the registrar has opened stays open when
	// no element uses it any more.
	Linger time.Duration `name:"LINGER" default:"30s" min:"1ms" max:"24h"`
}

// Limits bound what peers can make the registrar hold. A zero field stands for its
// default; those with a name can be set in the Corefile. What goes beyond is refused
// with the error cause Lack of Resources (RFC 5354, Section 3.12.7) where there is an
// answer, and dropped and counted otherwise.
type Limits struct {
	// Pools of the handlespace.
	Pools int `name:"pools" default:"65536" min:"1" max:"1073741824"`
	// Elements of the handlespace.
	Elements int `name:"elements" default:"1000000" min:"1" max:"1073741824"`
	// ElementsPerAssoc that one association may register.
	ElementsPerAssoc int `name:"elements_per_association" default:"65536" min:"1" max:"1073741824"`
	// ElementSize is the most bytes that a Pool Element parameter may have.
	ElementSize int `former:"element_size" default:"4096" min:"1" max:"4096"`
	// ElementBytes is about what the addresses, opaque transports and unknown
	// parameters of all pool elements take in memory.
	ElementBytes int `name:"element_bytes" default:"268435456" min:"1" max:"1073741824"`
	// HandleBytes is the length of all pool handles together, each counted with 128
	// bytes more for each of its labels but the first if it fits a DNS name. A single
	// handle may have up to 60000 bytes.
	HandleBytes int `name:"handle_bytes" default:"67108864" min:"1" max:"1073741824"`
	// Subscriptions, handle resolutions with the S bit, of all associations together.
	Subscriptions int `name:"subscriptions" default:"65536" min:"1" max:"1073741824"`
	// SubscriptionsPerAssoc are those of one association.
	SubscriptionsPerAssoc int `former:"subscriptions_per_association" default:"1024" min:"1" max:"1073741824"`
	// ResolutionItems is the most elements that a handle resolution may ask for. The
	// default is the reference implementation's.
	ResolutionItems int `name:"resolution_items" default:"128" min:"1" max:"1000"`
	// DefaultItems is how many elements a handle resolution gets that does not say how
	// many. The default is the reference implementation's.
	DefaultItems int `name:"default_items" default:"3" min:"1" max:"1000"`
	// ClaimsPerAssoc, registrations and deregistrations that wait until it is known
	// whether the present owner of the PE identifier is alive.
	ClaimsPerAssoc int `former:"claims_per_association" default:"64" min:"1" max:"1073741824"`
	// Probes that run at the same time; more wait.
	Probes int `former:"probes" default:"512" min:"1" max:"1073741824"`
	// Servers, other registrars heard by multicast: those whose server announces count,
	// and those that are connected since their presence was heard.
	Servers int `name:"servers" default:"256" min:"1" max:"10000"`
	// Peers, other registrars that share the handlespace.
	Peers int `name:"peers" default:"256" min:"1" max:"10000"`
	// PeerMessages, ENRP messages a second over one association; twice as many may come
	// at once, and more are ignored. One counts once more for each KiB of it, and a
	// request for a part of the handlespace as 16. What is missed of the handlespace
	// comes with the next audit.
	PeerMessages int `name:"peer_messages" default:"50000" min:"1" max:"1073741824"`
	// Downloads of the handlespace by peers at the same time.
	Downloads int `former:"downloads" default:"32" min:"1" max:"10000"`
	// ErrorsPerSecond, ASAP_ERROR and ENRP_ERROR messages to one association, and
	// answers to acknowledgements for elements that are not registered; twice as many
	// may be sent at once.
	ErrorsPerSecond int `former:"errors_per_second" default:"10" min:"1" max:"1073741824"`
	// LogsPerSecond, lines to the operator, and as many warnings; twice as many may come at
	// once, and what is left out is counted.
	LogsPerSecond int `former:"logs_per_second" default:"50" min:"1" max:"1073741824"`
}

// maxElementSize bounds Limits.ElementSize, and maxHandle the length of a pool
// handle: a handle resolution response with one element always fits into a
// message of 65535 bytes.
const (
	maxElementSize = 4096
	maxHandle      = 60000
)

// DefaultConfig has every default. The caller adds Rand.
func DefaultConfig() Config {
	var c Config
	_ = c.complete() // a test sees that the defaults are allowed
	return c
}

// Complete returns the configuration with defaults in place of zero fields, or
// an error that names the field that cannot be.
func (c Config) Complete() (Config, error) {
	if c.Rand == nil {
		return c, errors.New("registrar config: Rand is nil")
	}
	c.Peers = slices.Clone(c.Peers)
	err := c.complete()
	return c, err
}

func (c *Config) complete() error {
	for _, s := range setting.Of(&c.Timers) {
		what := "timer"
		if !s.IsDuration() {
			what = "threshold"
		}
		if err := s.Complete(); err != nil {
			return fmt.Errorf("registrar config: %s %w", what, err)
		}
	}
	switch t := &c.Timers; {
	case t.MaxTimeLastHeard <= t.PeerHeartbeat:
		return fmt.Errorf("registrar config: MAX-TIME-LAST-HEARD %v must be longer than PEER-HEARTBEAT-CYCLE %v: otherwise each peer seems silent between two of its presences", t.MaxTimeLastHeard, t.PeerHeartbeat)
	case t.SuspectLife > t.GuardLife:
		return fmt.Errorf("registrar config: SUSPECT-LIFE %v must not be longer than GUARD-LIFE %v: otherwise other registrars forget a silent element before its home does; set both (by default, SUSPECT-LIFE is 10m and GUARD-LIFE 1h)", t.SuspectLife, t.GuardLife)
	}
	for _, s := range setting.Of(&c.Limits) {
		if err := s.Complete(); err != nil {
			return fmt.Errorf("registrar config: limit %w", err)
		}
	}
	c.Limits.DefaultItems = min(c.Limits.DefaultItems, c.Limits.ResolutionItems)
	return nil
}
