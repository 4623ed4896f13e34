package registrar

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Config configures a Registrar. DefaultConfig has the defaults; a zero field
// stands for its default.
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
}

// Timers are the timers and thresholds by their RFC names; zero fields stand
// for the defaults. The Corefile sets them by these names.
type Timers struct {
	// KeepAliveInterval is the mean time between two keep-alives to an
	// element, varied by 50 % either way (RFC 5352, Section 3.5). Default
	// 5 s, the reference implementation's.
	KeepAliveInterval time.Duration
	// KeepAliveTimeout is how long an element may take to acknowledge one.
	// Default 5 s, the reference implementation's.
	KeepAliveTimeout time.Duration
	// MaxBadPEReport is MAX-BAD-PE-REPORT: an element that more than so many
	// different clients report as unreachable is removed even though it
	// answers keep-alives (RFC 5352, Section 3.5). The default 0 removes none:
	// an attacker with a few addresses could evict every element.
	MaxBadPEReport int
	// BadPEReportDecay is the time after which one report is forgotten, and
	// during which one client counts once. Default 60 s.
	BadPEReportDecay time.Duration
	// ServerAnnounce is T6-Serverannounce (RFC 5352, Section 7.1). Default
	// 1 s.
	ServerAnnounce time.Duration
	// ServerOutdate is T7-ENRPoutdate: how long a server announce of another
	// registrar is valid, and at least three times the interval that so many
	// registrars announce in. Default 5 s.
	ServerOutdate time.Duration
	// ProbeTimeout is how long an element whose association has ended may
	// take to accept a new one, and then to acknowledge a keep-alive on it.
	// Default 4 s, so that one lost INIT does not cost an element its
	// registration (RFC 9260, Section 15: RTO.Initial is 1 s; Linux takes 3 s).
	ProbeTimeout time.Duration
	// Update is the least time between two automatic updates about one pool
	// (the S bit of RFC 5352, Section 2.2.5). Default 100 ms.
	Update time.Duration
	// Linger is how long an association that the registrar has opened stays
	// when no element uses it any more. Default 30 s.
	Linger time.Duration
	// PeerHeartbeat is PEER-HEARTBEAT-CYCLE: the time between two presences
	// to each peer (RFC 5353, Section 4.2). Default 30 s.
	PeerHeartbeat time.Duration
	// MaxTimeLastHeard is MAX-TIME-LAST-HEARD: how long a peer may be silent
	// before it is asked for a sign of life. Default 61 s.
	MaxTimeLastHeard time.Duration
	// MaxTimeNoResponse is MAX-TIME-NO-RESPONSE: how long a peer may take to
	// answer. Default 5 s.
	MaxTimeNoResponse time.Duration
	// PeerCallGap is the least time between two calls of a peer that does not
	// take them. Default 1 s.
	PeerCallGap time.Duration
	// MentorDiscovery is how long a registrar that has no Peers listens for
	// others, if it is to Discover them, before it assumes that there are none.
	// Default 5 s, the reference implementation's.
	MentorDiscovery time.Duration
}

// Limits bound what peers can make the registrar hold. Zero fields stand for
// the defaults. What goes beyond is refused with the error cause Lack of
// Resources (RFC 5354, Section 3.12.7) where there is an answer.
type Limits struct {
	// Pools and Elements of the handlespace. Defaults 65536 and 1000000.
	Pools, Elements int
	// ElementsPerAssoc that one association may register. Default 65536.
	ElementsPerAssoc int
	// ElementSize is the most bytes that a Pool Element parameter may take.
	// Default 4096; at most 4096.
	ElementSize int
	// ElementBytes is about what the addresses, opaque transports and unknown
	// parameters of all pool elements take in memory. Default 256 MiB.
	ElementBytes int
	// HandleBytes is the length of all pool handles together, each counted
	// with 128 bytes more for each of its labels but the first if it fits a
	// DNS name. Default 64 MiB. A single handle may have up to 60000 bytes.
	HandleBytes int
	// SubscriptionsPerAssoc, handle resolutions with the S bit; default 1024.
	SubscriptionsPerAssoc int
	// Subscriptions of all associations together; default 65536.
	Subscriptions int
	// ResolutionItems is the most elements that a handle resolution may ask
	// for; DefaultItems is what it gets where it does not say. Defaults 128
	// and 3, the reference implementation's.
	ResolutionItems, DefaultItems int
	// ClaimsPerAssoc, registrations and deregistrations that wait until it is
	// known whether the present owner of the PE identifier lives. Default 64.
	ClaimsPerAssoc int
	// Probes that run at the same time; more wait. Default 512.
	Probes int
	// Servers, other registrars heard by multicast: those whose server announces
	// count, and those that are called since their presence was heard. Default
	// 256.
	Servers int
	// Peers, other registrars that share the handlespace; default 256.
	Peers int
	// PeerMessages, ENRP messages a second over one association; twice as many
	// may come at once, and more are ignored. One counts once more for each KiB
	// of it, and a request for a part of the handlespace as 16. What is missed
	// of the handlespace comes with the next audit. Default 50000.
	PeerMessages int
	// Downloads of the handlespace by peers at the same time; default 32.
	Downloads int
	// ErrorsPerSecond, ASAP_ERROR messages to one association, and answers to
	// acknowledgements for elements that are not registered; twice as many may
	// come at once. Default 10.
	ErrorsPerSecond int
	// LogsPerSecond, lines to the operator; twice as many may come at once,
	// and what is left out is counted. Default 50.
	LogsPerSecond int
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
	return Config{
		Timers: Timers{
			KeepAliveInterval: 5 * time.Second,
			KeepAliveTimeout:  5 * time.Second,
			MaxBadPEReport:    0,
			BadPEReportDecay:  60 * time.Second,
			ServerAnnounce:    time.Second,
			ServerOutdate:     5 * time.Second,
			ProbeTimeout:      4 * time.Second,
			Update:            100 * time.Millisecond,
			Linger:            30 * time.Second,
			PeerHeartbeat:     30 * time.Second,
			MaxTimeLastHeard:  61 * time.Second,
			MaxTimeNoResponse: 5 * time.Second,
			PeerCallGap:       time.Second,
			MentorDiscovery:   5 * time.Second,
		},
		Limits: Limits{
			Pools:                 65536,
			Elements:              1000000,
			ElementsPerAssoc:      65536,
			ElementSize:           maxElementSize,
			ElementBytes:          256 << 20,
			HandleBytes:           64 << 20,
			SubscriptionsPerAssoc: 1024,
			Subscriptions:         65536,
			ResolutionItems:       128,
			DefaultItems:          3,
			ClaimsPerAssoc:        64,
			Probes:                512,
			Servers:               256,
			Peers:                 256,
			PeerMessages:          50000,
			Downloads:             32,
			ErrorsPerSecond:       10,
			LogsPerSecond:         50,
		},
	}
}

// Complete returns the configuration with defaults in place of zero fields, or
// an error that names the field that cannot be.
func (c Config) Complete() (Config, error) {
	if c.Rand == nil {
		return c, errors.New("registrar config: Rand is nil")
	}
	d := DefaultConfig()
	t, dt := &c.Timers, &d.Timers
	for _, f := range []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"KeepAliveInterval", &t.KeepAliveInterval, dt.KeepAliveInterval},
		{"KeepAliveTimeout", &t.KeepAliveTimeout, dt.KeepAliveTimeout},
		{"BadPEReportDecay", &t.BadPEReportDecay, dt.BadPEReportDecay},
		{"ServerAnnounce", &t.ServerAnnounce, dt.ServerAnnounce},
		{"ServerOutdate", &t.ServerOutdate, dt.ServerOutdate},
		{"ProbeTimeout", &t.ProbeTimeout, dt.ProbeTimeout},
		{"Update", &t.Update, dt.Update},
		{"Linger", &t.Linger, dt.Linger},
		{"PeerHeartbeat", &t.PeerHeartbeat, dt.PeerHeartbeat},
		{"MaxTimeLastHeard", &t.MaxTimeLastHeard, dt.MaxTimeLastHeard},
		{"MaxTimeNoResponse", &t.MaxTimeNoResponse, dt.MaxTimeNoResponse},
		{"PeerCallGap", &t.PeerCallGap, dt.PeerCallGap},
		{"MentorDiscovery", &t.MentorDiscovery, dt.MentorDiscovery},
	} {
		if err := complete("timer "+f.name, f.v, f.def, time.Millisecond, 24*time.Hour); err != nil {
			return c, err
		}
	}
	if err := complete("threshold MaxBadPEReport", &t.MaxBadPEReport, dt.MaxBadPEReport, 0, 1000); err != nil {
		return c, err
	}
	l, dl := &c.Limits, &d.Limits
	const most = 1 << 30
	for _, f := range []struct {
		name     string
		v        *int
		def, max int
	}{
		{"limit Pools", &l.Pools, dl.Pools, most},
		{"limit Elements", &l.Elements, dl.Elements, most},
		{"limit ElementsPerAssoc", &l.ElementsPerAssoc, dl.ElementsPerAssoc, most},
		{"limit ElementSize", &l.ElementSize, dl.ElementSize, maxElementSize},
		{"limit ElementBytes", &l.ElementBytes, dl.ElementBytes, most},
		{"limit HandleBytes", &l.HandleBytes, dl.HandleBytes, most},
		{"limit SubscriptionsPerAssoc", &l.SubscriptionsPerAssoc, dl.SubscriptionsPerAssoc, most},
		{"limit Subscriptions", &l.Subscriptions, dl.Subscriptions, most},
		{"limit ResolutionItems", &l.ResolutionItems, dl.ResolutionItems, 1000},
		{"limit DefaultItems", &l.DefaultItems, dl.DefaultItems, 1000},
		{"limit ClaimsPerAssoc", &l.ClaimsPerAssoc, dl.ClaimsPerAssoc, most},
		{"limit Probes", &l.Probes, dl.Probes, most},
		{"limit Servers", &l.Servers, dl.Servers, 10000},
		{"limit Peers", &l.Peers, dl.Peers, 10000},
		{"limit PeerMessages", &l.PeerMessages, dl.PeerMessages, most},
		{"limit Downloads", &l.Downloads, dl.Downloads, 10000},
		{"limit ErrorsPerSecond", &l.ErrorsPerSecond, dl.ErrorsPerSecond, most},
		{"limit LogsPerSecond", &l.LogsPerSecond, dl.LogsPerSecond, most},
	} {
		if err := complete(f.name, f.v, f.def, 1, f.max); err != nil {
			return c, err
		}
	}
	l.DefaultItems = min(l.DefaultItems, l.ResolutionItems)
	return c, nil
}

// complete puts def in place of a zero *v, and checks that it is in [min, max].
func complete[T int | time.Duration](name string, v *T, def, min, max T) error {
	if *v == 0 {
		*v = def
	}
	if *v < min || *v > max {
		return fmt.Errorf("registrar config: %s is %v, but must be from %v to %v", name, *v, min, max)
	}
	return nil
}
