package host

import "github.com/rserpool/coredns-rserpool/registrar"

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
	Panics    uint64
	Transport TransportStats
	// State is that of the stored state.
	State StateStats
	TLS   TLSStats
}

// TLSStats are those of a trusted scope.
type TLSStats struct {
	// CertificateEnd is when the registrar's own certificate ends, in seconds since 1970; 0
	// without one.
	CertificateEnd uint64
	// PeersRefused counts peers that were refused because of their certificates, at the
	// handshake or later.
	PeersRefused uint64
}

// TransportStats are the counters of user-space SCTP and TCP.
type TransportStats struct {
	// BadChecksum counts packets with a wrong CRC32c, Malformed those that
	// break the packet format in another way.
	BadChecksum, Malformed uint64
	// OutOfTheBlue counts packets that belong to no association
	// (RFC 9260, Section 8.4).
	OutOfTheBlue uint64
	// BadCookie counts COOKIE ECHOs with a cookie that is forged, stale or
	// for another address.
	BadCookie uint64
	// Deferred counts INITs and COOKIE ECHOs that have to be repeated, because more
	// associations have come than the registrar could take note of.
	Deferred uint64
	// Refused counts associations refused because a limit is reached.
	Refused uint64
	// Overruns counts associations that were ended because the peer went past a
	// limit, did not read, or broke the protocol.
	Overruns uint64
	// Dropped counts packets dropped because an association did not process them fast
	// enough.
	Dropped uint64
	// Panics counts panics that ended an association each. There should be none.
	Panics uint64
}
