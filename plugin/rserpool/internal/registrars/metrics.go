package registrars

import (
	"github.com/rserpool/coredns-rserpool/enrp"
	core "github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// To add a metric of registrars: a field of registrar.Stats or host.Stats, a row
// here, an item in the README with the same text.

// metrics are all metrics of registrars with the values of s, zeros
// included. Names have Prometheus's form: counters end in _total, gauges do not.
// Each has at most one label, whose values are fixed.
func metrics(s *host.Stats) []metric {
	one := func(name, help string, v uint64) metric { return metric{name, help, "", nil, []uint64{v}} }
	protocol := func(name, help string, v core.ByProtocol) metric {
		return metric{name, help, "protocol", []string{"asap", "enrp"}, []uint64{v.ASAP, v.ENRP}}
	}
	return []metric{
		one("pools", "Pools in the handlespace.", s.Pools),
		one("elements", "Pool elements in the handlespace, without the suspects of pools that are not guarded.", s.Elements),
		{"elements_by_home", "Pool elements by their home: this registrar (own) or another one (foreign), suspects and those set aside included.", "home", []string{"own", "foreign"}, []uint64{s.Own, s.Foreign}},
		one("elements_set_aside", "Pool elements that are in no answer, because their policy or transport differs from their pool's, or from what a pool line demands.", s.Misfits),
		one("elements_restored_total", "Pool elements that were in the stored state when the registrar started.", s.Restored),
		one("elements_unconfirmed", "Pool elements of the stored state from which nothing was heard since the registrar started, and those for whose home the registrar stands in.", s.Unconfirmed),
		one("pools_emptied_total", "Pools that have lost their last element.", s.PoolsEmptied),
		{"elements_removed_total", "Pool elements removed.", "reason", removeLabels[:], s.Removed[:]},
		one("elements_avoided_total", "Pool elements of other registrars left out of answers for 30 seconds, because a client reported them as unreachable and the registrar could not connect.", s.Avoided),

		one("suspects", "Pool elements that are silent, and in answers only while their pool is guarded.", s.Suspects),
		one("pools_guarded", "Pools whose suspects are in answers, because too few other elements are left.", s.PoolsGuarded),
		one("registrar_guarded", "1 while the registrar takes its own network for the cause of silence, so that no pool element becomes a suspect, otherwise 0.", s.Guarded),
		one("registrar_guards_total", "How many times the registrar has taken its own network for the cause of silence.", s.Guards),
		one("elements_spared", "Pool elements that are silent and no suspects, because the registrar takes its own network for the cause.", s.Spared),
		{"suspected_total", "Pool elements of this registrar that became suspects.", "reason", silentLabels[:], s.Suspected[:]},
		one("suspects_returned_total", "Suspects that were heard again.", s.Returned),
		one("false_alarms_total", "Suspects that were heard again within KEEP-ALIVE-TIMEOUT.", s.FalseAlarms),
		one("state_writes_total", "Writes of the stored state.", s.State.Writes),
		one("state_failures_total", "Writes of the stored state that have failed.", s.State.Failures),
		one("state_pending", "Changes that are not in the stored state yet. While the state cannot be written at all, each pool element of this registrar counts, and at least 1.", s.State.Pending),
		one("state_behind", "1 if the last write of the stored state has failed or does not end, or not all pool elements are stored yet, 0 otherwise.", s.State.Behind),
		one("state_bytes", "Size of the file of the stored state.", s.State.Bytes),
		one("state_written_timestamp_seconds", "When the state was stored last, 0 if never, in seconds since 1970.", s.State.Written),

		one("registrations_total", "Registrations of new pool elements granted.", s.Registrations),
		one("reregistrations_total", "Re-registrations granted.", s.Reregistrations),
		one("deregistrations_total", "Deregistrations granted.", s.Deregistrations),
		{"rejections_total", "Registrations and deregistrations refused.", "cause", causeLabels[:], s.Rejections[:]},
		{"rights_refused_total", "What the rights of a trusted scope have refused.", "what", []string{"registration", "owned", "resolution", "report", "association", "element"},
			[]uint64{s.RightsRefused.Registrations, s.RightsRefused.Owned, s.RightsRefused.Resolutions, s.RightsRefused.Reports, s.RightsRefused.Associations, s.RightsRefused.Elements}},
		one("ownership_checks_total", "Registrations and deregistrations that waited until the registrar knew whether the present element with that identifier is alive.", s.Claims),

		one("resolutions_total", "Handle resolutions answered with pool elements.", s.Resolutions),
		{"resolutions_failed_total", "Handle resolutions refused.", "cause", causeLabels[:], s.ResolutionsFailed[:]},
		one("subscriptions", "Subscriptions of pool users: pools for which they get automatic updates.", s.Subscriptions),
		one("subscription_updates_sent_total", "Automatic updates sent to subscribed pool users.", s.Updates),

		one("keepalives_sent_total", "Endpoint keep-alives sent.", s.KeepAlivesSent),
		one("keepalives_repeated_total", "Repeats of endpoint keep-alives that were not acknowledged yet.", s.KeepAlivesRepeated),
		one("keepalives_acked_total", "Endpoint keep-alives acknowledged.", s.KeepAlivesAcked),
		one("keepalives_timed_out_total", "Endpoint keep-alives not acknowledged in time.", s.KeepAlivesTimedOut),
		one("keepalives_unexpected_total", "Keep-alive acknowledgements that match no keep-alive.", s.KeepAlivesUnexpected),
		one("unreachable_reports_total", "Reports of unreachable pool elements received.", s.Unreachable),
		one("probes_total", "Connections opened to pool elements whose association has ended.", s.Probes),
		one("probes_open", "Connections to pool elements whose association has ended, in progress or waiting.", s.Probing),

		{"associations_open", "SCTP associations and TCP connections that are established.", "transport", viaLabels[:], s.Associations[:]},
		{"associations_total", "SCTP associations and TCP connections established.", "transport", viaLabels[:], s.AssociationsTotal[:]},
		one("messages_sent_total", "Messages sent.", s.Sent),
		one("messages_dropped_total", "Messages not sent because the queue to the peer was full.", s.SendsRefused),
		one("messages_undelivered_total", "Messages that could not be delivered.", s.SendsFailed),
		one("messages_malformed_total", "Messages that could not be decoded.", s.Malformed),
		one("messages_unexpected_total", "Messages of a type that registrars do not accept.", s.Misplaced),
		{"messages_ignored_total", "Messages ignored.", "reason", []string{"enrp", "ppid", "no_association", "sender", "rate", "unasked"},
			[]uint64{s.Ignored.ENRP, s.Ignored.PPID, s.Ignored.NoAssoc, s.Ignored.Sender, s.Ignored.Rate, s.Ignored.Unasked}},
		one("errors_sent_total", "ASAP_ERROR and ENRP_ERROR messages sent.", s.ErrorsSent),
		one("errors_suppressed_total", "ASAP_ERROR and ENRP_ERROR messages not sent because one association gets at most 10 a second.", s.ErrorsSuppressed),
		one("errors_received_total", "ASAP_ERROR and ENRP_ERROR messages received.", s.ErrorsReceived),

		protocol("announcements_sent_total", "Multicast announcements sent.", s.AnnouncesSent),
		protocol("announcements_failed_total", "Multicast announcements that could not be sent on an interface.", s.AnnouncesFailed),
		protocol("announcements_received_total", "Multicast announcements of other registrars received.", s.AnnouncesReceived),
		protocol("announcements_duplicate_total", "Multicast announcements of another registrar with the server identifier of this one.", s.AnnouncesDuplicate),
		protocol("announcements_malformed_total", "Multicast announcements that could not be decoded.", s.AnnouncesMalformed),
		one("announcements_refused_total", "Multicast presences ignored because the limit servers is reached, or 8 registrars are known from one address.", s.AnnouncesRefused),
		one("registrars_heard", "Other registrars whose server announces are received by multicast.", s.ServersHeard),

		{"peers", "Other registrars that share the handlespace.", "state", peerLabels[:], s.Peers[:]},
		one("peers_refused_total", "Registrars refused as peers because the limit peers is reached.", s.PeersRefused),
		one("server_id_conflicts_total", "Messages that show another registrar with the server identifier of this one.", s.Twins),
		{"enrp_messages_sent_total", "ENRP messages sent.", "message", enrpLabels[:], s.ENRPSent[:]},
		{"enrp_messages_received_total", "ENRP messages received.", "message", enrpLabels[:], s.ENRPReceived[:]},
		one("foreign_elements_refused_total", "Pool elements of other registrars refused because a limit is reached.", s.ForeignRefused),
		one("handle_updates_refused_total", "Handle updates refused because the pool element is not the sender's.", s.UpdatesRefused),
		one("audits_started_total", "Audits of a peer started, because its checksum differed or its updates may have been lost.", s.Audits),
		one("audits_completed_total", "Audits of a peer completed.", s.Resyncs),
		one("audit_removals_total", "Pool elements that their home did not list in an audit. They are called, and stay while they answer.", s.Swept),
		one("transfers_abandoned_total", "Downloads and audits abandoned because the peer did not complete them.", s.TransfersAbandoned),
		{"takeovers_total", "Takeovers of dead peers.", "result", []string{"begun", "won", "lost", "stopped"},
			[]uint64{s.Takeovers.Begun, s.Takeovers.Won, s.Takeovers.Lost, s.Takeovers.Stopped}},
		one("elements_contested_total", "Pool elements of this registrar for which another one said that it is the home.", s.Contests),
		one("elements_yielded_total", "Pool elements left to another registrar that said that it is the home.", s.Yields),

		one("tls_certificate_end_timestamp_seconds", "When the registrar's own certificate ends, 0 without one, in seconds since 1970.", s.TLS.CertificateEnd),
		one("tls_peers_refused_total", "Peers refused because of their certificates, at the handshake or after a change of files or rights.", s.TLS.PeersRefused),

		one("transport_bad_checksum_total", "SCTP packets with a wrong checksum.", s.Transport.BadChecksum),
		one("transport_malformed_total", "SCTP packets that could not be decoded.", s.Transport.Malformed),
		one("transport_out_of_the_blue_total", "SCTP packets that belong to no association.", s.Transport.OutOfTheBlue),
		one("transport_deferred_total", "SCTP handshakes that have to wait, because more have come than the registrar could take note of.", s.Transport.Deferred),
		one("transport_bad_cookie_total", "Forged or expired SCTP cookies.", s.Transport.BadCookie),
		one("transport_refused_total", "Associations and connections refused because a limit is reached.", s.Transport.Refused),
		one("transport_overruns_total", "Associations and connections aborted because the peer exceeded a limit.", s.Transport.Overruns),
		one("transport_dropped_total", "SCTP packets dropped because the queue of their association was full.", s.Transport.Dropped),
		one("transport_panics_total", "Panics recovered in the transport; please report them.", s.Transport.Panics),
		one("panics_total", "Panics recovered in the registrar; please report them.", s.Panics),
	}
}

var removeLabels = [...]string{
	core.RemovedDeregistered: "deregistered",
	core.RemovedExpired:      "expired",
	core.RemovedUnreachable:  "unreachable",
	core.RemovedClaimed:      "claimed",
	core.RemovedSilent:       "silent",
	core.RemovedReported:     "reported",
	core.RemovedByOperator:   "operator",
	core.RemovedUnauthorized: "unauthorized",
	core.RemovedUntrusted:    "untrusted",
}

var silentLabels = [...]string{
	core.SilentNoAck:       "no_ack",
	core.SilentSendFailed:  "send_failed",
	core.SilentUnreachable: "unreachable",
	core.SilentDisplaced:   "displaced",
	core.SilentUntimely:    "untimely",
}

// causeLabels are the error causes of RFC 5354, Table 2.
var causeLabels = [...]string{
	rserpool.CauseUnspecified:               "unspecified",
	rserpool.CauseUnrecognizedParameter:     "unrecognized_parameter",
	rserpool.CauseUnrecognizedMessage:       "unrecognized_message",
	rserpool.CauseInvalidValues:             "invalid_values",
	rserpool.CauseNonUniquePEIdentifier:     "non_unique_pe_identifier",
	rserpool.CauseInconsistentPolicy:        "inconsistent_policy",
	rserpool.CauseLackOfResources:           "lack_of_resources",
	rserpool.CauseInconsistentTransportType: "inconsistent_transport_type",
	rserpool.CauseInconsistentDataControl:   "inconsistent_data_control",
	rserpool.CauseUnknownPoolHandle:         "unknown_pool_handle",
	rserpool.CauseSecurity:                  "security",
	rserpool.CauseSecurity + 1:              "other",
}

var viaLabels = [...]string{
	rserpool.ViaAuto:   "other",
	rserpool.ViaKernel: "kernel",
	rserpool.ViaUDP:    "udp",
	rserpool.ViaTCP:    "tcp",
}

var peerLabels = [...]string{
	core.PeerActive:  "active",
	core.PeerSuspect: "suspect",
	core.PeerDying:   "dying",
	core.PeerYielded: "yielded",
	core.PeerTaken:   "taken",
}

// enrpLabels are the messages of RFC 5353 from type 1 on.
var enrpLabels = [...]string{
	enrp.TypePresence - 1:            "presence",
	enrp.TypeHandleTableRequest - 1:  "handle_table_request",
	enrp.TypeHandleTableResponse - 1: "handle_table_response",
	enrp.TypeHandleUpdate - 1:        "handle_update",
	enrp.TypeListRequest - 1:         "list_request",
	enrp.TypeListResponse - 1:        "list_response",
	enrp.TypeInitTakeover - 1:        "init_takeover",
	enrp.TypeInitTakeoverAck - 1:     "init_takeover_ack",
	enrp.TypeTakeoverServer - 1:      "takeover_server",
	enrp.TypeError - 1:               "error",
}
