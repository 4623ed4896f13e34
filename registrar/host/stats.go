package host

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// Stats are the counters of a Host and its registrar.
type Stats struct {
	registrar.Stats
	// Sent messages, and those that were not sent because the peer does not read
	// fast enough.
	Sent, SendsRefused uint64
	// AnnouncesFailed: multicast announcements that could not be sent on an
	// interface.
	AnnouncesFailed registrar.ByProtocol
	// Panics of the core. There should be none.
	Panics uint64
	// Transport counts what user-space SCTP and TCP met.
	Transport sctp.Stats
}
