package registrar

import (
	"math/rand/v2"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/param"
)

// Config configures a Registrar. DefaultConfig has the defaults.
type Config struct {
	// ServerID names the registrar in its scope; 0 draws one from Rand.
	ServerID param.ServerID
	// Rand is the only source of randomness.
	Rand *rand.Rand
	// SerialStart is the handlespace's first serial; hosts take Unix time, so
	// that it grows over restarts.
	SerialStart uint32
	Timers      Timers
	Limits      Limits
}

// Timers are the timers and thresholds by their RFC names; zero fields stand
// for the defaults. The Corefile sets them by these names.
type Timers struct {
	// KeepAliveInterval is the mean time between two keep-alives to an
	// element, varied by 50 % either way (RFC 5352, Section 3.5).
	KeepAliveInterval time.Duration
	// KeepAliveTimeout is how long an element may take to acknowledge one.
	KeepAliveTimeout time.Duration
	// MaxBadPEReport is MAX-BAD-PE-REPORT.
	MaxBadPEReport int
	// BadPEReportDecay is the time after which one report is forgotten.
	BadPEReportDecay time.Duration
	// ServerAnnounce is T6-Serverannounce.
	ServerAnnounce time.Duration
}

// Limits bound what peers can make the registrar hold.
type Limits struct {
	// Pools and Elements of the handlespace.
	Pools, Elements int
	// ElementsPerAssoc that one association may register.
	ElementsPerAssoc int
	// SubscriptionsPerAssoc, handle resolutions with the S bit.
	SubscriptionsPerAssoc int
	// ResolutionItems is the most elements that a handle resolution may ask
	// for; DefaultItems is what it gets where it does not say.
	ResolutionItems, DefaultItems int
}

// Stats are a registrar's counters since its start, and what it holds now.
type Stats struct {
	Registrations uint64
}
