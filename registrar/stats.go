package registrar

import (
	"iter"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// RemoveReason says why an element has left the handlespace.
type RemoveReason uint8

// The reasons.
const (
	// RemovedDeregistered: it has asked for it.
	RemovedDeregistered RemoveReason = iota
	// RemovedExpired: its registration life is over.
	RemovedExpired
	// RemovedNoAck: it has not acknowledged a keep-alive.
	RemovedNoAck
	// RemovedSendFailed: a keep-alive to it could not be delivered.
	RemovedSendFailed
	// RemovedUnreachable: its association has ended, and it takes no new one.
	RemovedUnreachable
	// RemovedReported: more than MAX-BAD-PE-REPORT clients cannot reach it.
	RemovedReported
	removeReasons
)

var removeLabels = [removeReasons]string{"deregistered", "expired", "no_ack", "send_failed", "unreachable", "reported"}

// String says the reason in words.
func (w RemoveReason) String() string {
	switch w {
	case RemovedDeregistered:
		return "it has deregistered"
	case RemovedExpired:
		return "its registration life is over"
	case RemovedNoAck:
		return "it has not acknowledged a keep-alive"
	case RemovedSendFailed:
		return "a keep-alive to it could not be delivered"
	case RemovedUnreachable:
		return "its association has ended, and it takes no new one"
	case RemovedReported:
		return "too many clients report it as unreachable"
	}
	return "unknown reason"
}

// causes are the error causes of RFC 5354, Table 2; the last index stands for
// all others.
const causes = int(rserpool.CauseSecurity) + 2

var causeLabels = [causes]string{
	"unspecified", "unrecognized_parameter", "unrecognized_message", "invalid_values", "non_unique_pe_identifier",
	"inconsistent_policy", "lack_of_resources", "inconsistent_transport_type", "inconsistent_data_control",
	"unknown_pool_handle", "security", "other",
}

func causeIndex(c rserpool.CauseCode) int { return min(int(c), causes-1) }

// vias are the values of Via; index 0 stands for all others.
const vias = int(ViaTCP) + 1

var viaLabels = [vias]string{"other", "kernel", "udp", "tcp"}

func viaIndex(v Via) int {
	if v > ViaTCP {
		return 0
	}
	return int(v)
}

// Why a message is ignored without being looked at.
const (
	ignoredENRP = iota
	ignoredPPID
	ignoredNoAssoc
	ignoredSender
	ignoredRate
	ignoredUnasked
	ignoredReasons
)

var ignoredLabels = [ignoredReasons]string{"enrp", "ppid", "no_association", "sender", "rate", "unasked"}

// Whose announces by multicast they are.
const (
	announceASAP = iota
	announceENRP
	announces
)

var announceLabels = [announces]string{"asap", "enrp"}

// enrpTypes are the message types of RFC 5353, which are 1 and up.
const enrpTypes = int(enrp.TypeError)

func enrpIndex(t enrp.MessageType) int { return int(t) - 1 }

var enrpLabels = [enrpTypes]string{
	"presence", "handle_table_request", "handle_table_response", "handle_update", "list_request",
	"list_response", "init_takeover", "init_takeover_ack", "takeover_server", "error",
}

// Stats are a registrar's counters since its start, and what it holds now. The
// names and labels under which they are published are those of All.
type Stats struct {
	// Registrations, Reregistrations and Deregistrations granted.
	Registrations, Reregistrations, Deregistrations uint64
	// Rejections of registrations and deregistrations by error cause; the last
	// counts causes outside of RFC 5354.
	Rejections [causes]uint64
	// Claims: registrations and deregistrations that had to wait until it was
	// known whether the element of that identifier lives.
	Claims uint64
	// Resolutions answered, and those that failed by error cause.
	Resolutions       uint64
	ResolutionsFailed [causes]uint64
	// Updates: automatic updates (S bit).
	Updates uint64
	// Keep-alives sent, acknowledged, not acknowledged in time, and
	// acknowledgements that nobody had asked for.
	KeepAlivesSent, KeepAlivesAcked, KeepAlivesTimedOut, KeepAlivesUnexpected uint64
	// Unreachable: reports of unreachable elements.
	Unreachable uint64
	// Probes of the elements of an association that has ended.
	Probes uint64
	// Removed: elements by RemoveReason.
	Removed [removeReasons]uint64
	// Malformed messages, Misplaced ones (of a type that registrars do not accept), and ignored
	// ones.
	Malformed, Misplaced uint64
	Ignored              [ignoredReasons]uint64
	// ASAP_ERROR messages sent, not sent because there were too many, and
	// received.
	ErrorsSent, ErrorsSuppressed, ErrorsReceived uint64
	// SendsFailed: messages that could not be delivered.
	SendsFailed uint64
	// Server announces by multicast, then presences by multicast: those sent,
	// received from others, with our own identifier from elsewhere, and
	// unreadable.
	AnnouncesSent, AnnouncesReceived, AnnouncesDuplicate, AnnouncesMalformed [announces]uint64
	// AnnouncesRefused: presences by multicast of registrars that are not called
	// since there are too many.
	AnnouncesRefused uint64
	// AssociationsTotal by Via: 0 for others, then ViaKernel, ViaUDP, ViaTCP.
	AssociationsTotal [vias]uint64

	// ENRP messages sent and received, by type.
	ENRPSent, ENRPReceived [enrpTypes]uint64
	// Audits begun, Resyncs brought to an end, and elements Swept by them.
	Audits, Resyncs, Swept uint64
	// TransfersAbandoned are downloads and audits that a peer did not bring to an
	// end.
	TransfersAbandoned uint64
	// Takeovers by what became of them: begun, won, lost, stopped.
	Takeovers [takeoverResults]uint64
	// Contests of our own elements by other registrars, and those yielded.
	Contests, Yields uint64
	// PeersRefused and ForeignRefused: registrars, and their elements, that are
	// too many. UpdatesRefused: changes of elements that are not
	// the sender's.
	PeersRefused, ForeignRefused, UpdatesRefused uint64

	// What there is now: peers by PeerState, and elements by home, our own first.
	Peers [peerStates]uint64
	Homes []HomeStats
	// Misfits are those elements, of any registrar, that are set aside since they do
	// not fit their pool.
	Misfits uint64

	// What there is now: associations by Via, pools, elements, subscriptions,
	// probes running or waiting, other registrars heard.
	Associations                                          [vias]uint64
	Pools, Elements, Subscriptions, Probing, ServersHeard uint64
}

// HomeStats are a home registrar and the number of its elements.
type HomeStats struct {
	ID       rserpool.ServerID
	Elements uint64
}

// Foreign is the number of elements whose home is another registrar.
func (s *Stats) Foreign() (n uint64) {
	for _, h := range s.Homes[min(1, len(s.Homes)):] {
		n += h.Elements
	}
	return n
}

// Metric names a value of Stats: a snake_case name without a prefix, with the
// suffix _total for counters, and at most one label, of few values.
type Metric struct {
	Name, Help string
	// Label and Value are empty for values without a label.
	Label, Value string
	// Gauge tells that the value can go down.
	Gauge bool
}

// All iterates over all values in a fixed order, those of one name in a row,
// zeros included.
func (s *Stats) All() iter.Seq2[Metric, uint64] {
	return func(yield func(Metric, uint64) bool) {
		for _, f := range s.families() {
			if f.m.Label == "" {
				if !yield(f.m, f.values[0]) {
					return
				}
				continue
			}
			for i, l := range f.labels {
				m := f.m
				m.Value = l
				if !yield(m, f.values[i]) {
					return
				}
			}
		}
	}
}

type family struct {
	m      Metric
	labels []string
	values []uint64
}

func (s *Stats) families() []family {
	counter := func(name, help string, v uint64) family {
		return family{Metric{Name: name, Help: help}, nil, []uint64{v}}
	}
	gauge := func(name, help string, v uint64) family {
		return family{Metric{Name: name, Help: help, Gauge: true}, nil, []uint64{v}}
	}
	byLabel := func(name, label, help string, labels []string, v []uint64) family {
		return family{Metric{Name: name, Label: label, Help: help}, labels, v}
	}
	announced := func(name, help string, v [announces]uint64) family {
		return byLabel(name, "protocol", help, announceLabels[:], v[:])
	}
	assocs := byLabel("associations_open", "transport", "Associations established now.", viaLabels[:], s.Associations[:])
	assocs.m.Gauge = true
	peers := byLabel("peers", "state", "Other registrars of the scope.", peerLabels[:], s.Peers[:])
	peers.m.Gauge = true
	homes := byLabel("elements_by_home", "home", "Pool elements by their home registrar, those set aside included.", nil, nil)
	homes.m.Gauge = true
	for _, h := range s.Homes {
		homes.labels, homes.values = append(homes.labels, h.ID.String()), append(homes.values, h.Elements)
	}
	return []family{
		gauge("pools", "Pools in the handlespace.", s.Pools),
		gauge("elements", "Pool elements in the handlespace.", s.Elements),
		assocs,
		byLabel("associations_total", "transport", "Associations established.", viaLabels[:], s.AssociationsTotal[:]),
		counter("registrations_total", "Pool elements registered.", s.Registrations),
		counter("reregistrations_total", "Re-registrations granted.", s.Reregistrations),
		counter("deregistrations_total", "Deregistrations granted.", s.Deregistrations),
		byLabel("rejections_total", "cause", "Registrations and deregistrations refused.", causeLabels[:], s.Rejections[:]),
		counter("claims_total", "Registrations of an identifier that another host has, and deregistrations by another process than the element's, that waited for a sign of life.", s.Claims),
		byLabel("elements_removed_total", "reason", "Pool elements removed.", removeLabels[:], s.Removed[:]),
		counter("resolutions_total", "Handle resolutions answered with pool elements.", s.Resolutions),
		byLabel("resolutions_failed_total", "cause", "Handle resolutions refused.", causeLabels[:], s.ResolutionsFailed[:]),
		gauge("subscriptions", "Pools that clients want automatic updates of.", s.Subscriptions),
		counter("updates_total", "Automatic updates sent.", s.Updates),
		counter("keepalives_sent_total", "Endpoint keep-alives sent.", s.KeepAlivesSent),
		counter("keepalives_acked_total", "Endpoint keep-alives acknowledged.", s.KeepAlivesAcked),
		counter("keepalives_timed_out_total", "Endpoint keep-alives not acknowledged in time.", s.KeepAlivesTimedOut),
		counter("keepalives_unexpected_total", "Acknowledgements that did not belong to a keep-alive.", s.KeepAlivesUnexpected),
		counter("unreachable_reports_total", "Reports of unreachable pool elements.", s.Unreachable),
		counter("probes_total", "Probes after the end of an association with pool elements.", s.Probes),
		gauge("probes_open", "Probes running or waiting.", s.Probing),
		counter("messages_malformed_total", "Messages that could not be read.", s.Malformed),
		counter("messages_misplaced_total", "Messages of a type that registrars do not accept.", s.Misplaced),
		byLabel("messages_ignored_total", "reason", "Messages ignored.", ignoredLabels[:], s.Ignored[:]),
		counter("errors_sent_total", "ASAP_ERROR and ENRP_ERROR messages sent.", s.ErrorsSent),
		counter("errors_suppressed_total", "ASAP_ERROR messages not sent because there were too many.", s.ErrorsSuppressed),
		counter("errors_received_total", "ASAP_ERROR messages received.", s.ErrorsReceived),
		counter("sends_failed_total", "Messages that could not be delivered.", s.SendsFailed),
		announced("announces_sent_total", "Announces sent by multicast.", s.AnnouncesSent),
		announced("announces_received_total", "Announces of other registrars received.", s.AnnouncesReceived),
		announced("announces_duplicate_total", "Announces of another registrar with our identifier.", s.AnnouncesDuplicate),
		announced("announces_malformed_total", "Announces that could not be read.", s.AnnouncesMalformed),
		counter("announces_refused_total", "Multicast presences ignored because too many registrars are heard, or too many from one address.", s.AnnouncesRefused),
		peers,
		homes,
		gauge("elements_set_aside", "Pool elements with another policy or transport than their pool.", s.Misfits),
		byLabel("enrp_sent_total", "message", "ENRP messages sent.", enrpLabels[:], s.ENRPSent[:]),
		byLabel("enrp_received_total", "message", "ENRP messages received.", enrpLabels[:], s.ENRPReceived[:]),
		counter("audits_total", "Audits of a peer whose checksum differed, or of which updates may have been lost.", s.Audits),
		counter("resynchronisations_total", "Audits brought to an end.", s.Resyncs),
		counter("transfers_abandoned_total", "Downloads and audits given up because the peer did not bring them to an end.", s.TransfersAbandoned),
		counter("elements_swept_total", "Pool elements removed because their home did not name them in an audit.", s.Swept),
		byLabel("takeovers_total", "result", "Takeovers of dead peers.", takeoverLabels[:], s.Takeovers[:]),
		counter("contests_total", "Pool elements of our own that another registrar said to be the home of.", s.Contests),
		counter("yields_total", "Pool elements that we left to another registrar.", s.Yields),
		counter("peers_refused_total", "Registrars that were no peers because there were too many.", s.PeersRefused),
		counter("foreign_refused_total", "Pool elements of other registrars that were too many.", s.ForeignRefused),
		counter("updates_refused_total", "Handle updates of pool elements that are not the sender's.", s.UpdatesRefused),
		gauge("servers_heard", "Other registrars heard by multicast.", s.ServersHeard),
	}
}
