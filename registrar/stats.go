package registrar

import (
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// RemoveReason says why an element was removed from the handlespace.
type RemoveReason uint8

// The reasons.
const (
	// RemovedDeregistered: the element has deregistered.
	RemovedDeregistered RemoveReason = iota
	// RemovedExpired: its registration life is over.
	RemovedExpired
	// RemovedUnreachable: its association has ended, and its host refuses a new one; or it
	// has ended the association itself, and does not answer.
	RemovedUnreachable
	// RemovedClaimed: another process or host claims its identifier, and it does not answer.
	RemovedClaimed
	// RemovedSilent: it was a suspect for too long.
	RemovedSilent
	// RemovedReported: more than MAX-BAD-PE-REPORT clients cannot reach it.
	RemovedReported
	// RemovedByOperator: the operator has removed it.
	RemovedByOperator
	// RemovedUnauthorized: its identity may not register in its pool.
	RemovedUnauthorized
	// RemovedUntrusted: its certificate is not accepted any more, for another reason than the
	// time, and it has shown no other one.
	RemovedUntrusted
)

// removeReasons is the number of values of RemoveReason.
const removeReasons = int(RemovedUntrusted) + 1

// String says the reason in words.
func (w RemoveReason) String() string {
	switch w {
	case RemovedDeregistered:
		return "it has deregistered"
	case RemovedExpired:
		return "its registration life is over"
	case RemovedUnreachable:
		return "its association has ended, and it accepts no new one"
	case RemovedClaimed:
		return "it does not answer, and its identifier is claimed"
	case RemovedSilent:
		return "it was a suspect for too long"
	case RemovedReported:
		return "too many clients report it as unreachable"
	case RemovedByOperator:
		return "an operator has used rsp remove"
	case RemovedUnauthorized:
		return "its identity may not register in this pool"
	case RemovedUntrusted:
		return "its certificate is not accepted any more"
	default:
		return "unknown reason"
	}
}

// causes is the number of error causes in RFC 5354, Table 2, and one index more
// for all others.
const causes = int(rserpool.CauseSecurity) + 2

func causeIndex(c rserpool.CauseCode) int { return min(int(c), causes-1) }

// vias is the number of values of rserpool.Via; index 0 stands for all others.
const vias = int(rserpool.ViaTCP) + 1

func viaIndex(v rserpool.Via) int {
	if v > rserpool.ViaTCP {
		return 0
	}
	return int(v)
}

// enrpTypes is the number of message types in RFC 5353, which are 1 and up.
const enrpTypes = int(enrp.TypeError)

func enrpIndex(t enrp.MessageType) int { return int(t) - 1 }

// Stats are a registrar's counters since its start, and the numbers of what it holds
// now. They are plain numbers: the caller decides how to publish them.
type Stats struct {
	// Registrations, Reregistrations and Deregistrations granted.
	Registrations, Reregistrations, Deregistrations uint64
	// Rejections of registrations and deregistrations by error cause; the last
	// index counts the causes outside of RFC 5354.
	Rejections [causes]uint64
	// RightsRefused is what Config.Rights has refused.
	RightsRefused RefusedByRights
	// Claims are registrations and deregistrations that had to wait until it was
	// known whether the element with that identifier is alive.
	Claims uint64
	// Resolutions answered, and ResolutionsFailed by error cause.
	Resolutions       uint64
	ResolutionsFailed [causes]uint64
	// Updates: automatic updates sent (S bit).
	Updates uint64
	// Keep-alives sent, repeats of them, acknowledged, not acknowledged in time, and
	// acknowledgements that match no keep-alive.
	KeepAlivesSent, KeepAlivesRepeated, KeepAlivesAcked, KeepAlivesTimedOut, KeepAlivesUnexpected uint64
	// Unreachable: reports of unreachable elements.
	Unreachable uint64
	// Avoided: elements of other registrars that were left out of answers for a
	// while, because they were reported as unreachable and could not be connected.
	Avoided uint64
	// Probes: connections to the elements of an association that has ended.
	Probes uint64
	// Suspected: own elements that became suspects, by SilentReason. Returned: suspects that
	// became members again; FalseAlarms: those of them that did so within KeepAliveTimeout.
	Suspected             [silentReasons]uint64
	Returned, FalseAlarms uint64
	// Guards: how many times the registrar's guard has begun.
	Guards uint64
	// Removed: elements by RemoveReason.
	Removed [removeReasons]uint64
	// PoolsEmptied: pools that have lost their last element.
	PoolsEmptied uint64
	// Malformed messages; Misplaced messages, of a type that registrars do not
	// accept; and ignored messages.
	Malformed, Misplaced uint64
	Ignored              IgnoredMessages
	// ASAP_ERROR and ENRP_ERROR messages sent, not sent because of the limit
	// ErrorsPerSecond, and received.
	ErrorsSent, ErrorsSuppressed, ErrorsReceived uint64
	// SendsFailed: messages that could not be delivered.
	SendsFailed uint64
	// Multicast announcements sent, received from others, with our own identifier
	// from elsewhere, and unreadable.
	AnnouncesSent, AnnouncesReceived, AnnouncesDuplicate, AnnouncesMalformed ByProtocol
	// AnnouncesRefused: multicast presences of registrars that are not connected,
	// because the limit Servers is reached.
	AnnouncesRefused uint64
	// AssociationsTotal by rserpool.Via; index 0 counts all others.
	AssociationsTotal [vias]uint64

	// ENRP messages sent and received, by type; index 0 is type 1.
	ENRPSent, ENRPReceived [enrpTypes]uint64
	// Audits started; Resyncs, which are audits completed; and elements Swept, which
	// their home did not list in an audit.
	Audits, Resyncs, Swept uint64
	// TransfersAbandoned: downloads and audits that a peer did not complete.
	TransfersAbandoned uint64
	// Takeovers by result.
	Takeovers TakeoverResults
	// Contests: elements of this registrar for which another registrar says that it
	// is the home. Yields: elements left to that registrar.
	Contests, Yields uint64
	// PeersRefused and ForeignRefused: registrars, and their elements, refused
	// because a limit is reached. UpdatesRefused: handle updates of elements
	// that are not the sender's.
	PeersRefused, ForeignRefused, UpdatesRefused uint64
	// Twins: messages that show another registrar with the identifier of this one.
	Twins uint64

	// Now: peers by PeerState.
	Peers [peerStates]uint64
	// Now: elements whose home is this registrar, and whose home is another one.
	// Misfits of both are set aside, because they do not fit their pool.
	Own, Foreign, Misfits uint64
	// Now: Suspects of all homes; PoolsGuarded, in which suspects are served; Spared, own
	// elements that are silent and no suspects because the registrar's guard is on. Guarded is
	// 1 while it is.
	Suspects, PoolsGuarded, Spared, Guarded uint64
	// Restored elements of the stored state. Unconfirmed are those of them that were not heard
	// since, and elements for whose home this registrar stands in.
	Restored, Unconfirmed uint64
	// Now: associations by Via.
	Associations [vias]uint64
	// Now: pools and elements in the handlespace, subscriptions, probes that run
	// or wait, other registrars heard by multicast.
	Pools, Elements, Subscriptions, Probing, ServersHeard uint64
}

// RefusedByRights counts what the rights of a trusted scope have refused.
type RefusedByRights struct {
	// Registrations in a pool in which the identity may not register. Owned: registrations
	// and deregistrations of an element that another identity has registered.
	Registrations, Owned uint64
	// Resolutions and subscriptions, and Reports of unreachable elements.
	Resolutions, Reports uint64
	// Associations that were closed.
	Associations uint64
	// Elements that were set aside or removed, and those at whose place another identity has
	// answered.
	Elements uint64
}

// IgnoredMessages counts messages that were ignored unread, by reason.
type IgnoredMessages struct {
	// ENRP: ENRP is not served. PPID: the payload protocol identifier is unknown.
	// NoAssoc: the association has ended. Sender: the sender cannot be a peer.
	// Rate: more than the limit PeerMessages. Unasked: a list of registrars that
	// was not requested.
	ENRP, PPID, NoAssoc, Sender, Rate, Unasked uint64
}

// ByProtocol counts multicast announcements: server announces of ASAP, and presences
// of ENRP.
type ByProtocol struct{ ASAP, ENRP uint64 }

// TakeoverResults counts takeovers of dead peers: begun, and then won, lost to another
// registrar, or stopped because the peer is alive.
type TakeoverResults struct{ Begun, Won, Lost, Stopped uint64 }
