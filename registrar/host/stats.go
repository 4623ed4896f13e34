package host

import (
	"iter"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// Stats are the counters of a Host and its registrar.
type Stats struct {
	registrar.Stats
	// Sent messages, and those that were not because the peer does not take
	// them fast enough.
	Sent, SendsRefused uint64
	// AnnouncesFailed: server announces by multicast, then presences by
	// multicast, that an interface did not take.
	AnnouncesFailed [2]uint64
	// Panics of the core. There should be none.
	Panics uint64
	// Transport counts what user-space SCTP and TCP met.
	Transport sctp.Stats
}

// All iterates over all values, the registrar's first; see
// [registrar.Stats.All].
func (s *Stats) All() iter.Seq2[registrar.Metric, uint64] {
	return func(yield func(registrar.Metric, uint64) bool) {
		for m, v := range s.Stats.All() {
			if !yield(m, v) {
				return
			}
		}
		for i, protocol := range [...]string{"asap", "enrp"} {
			if !yield(registrar.Metric{
				Name: "announces_failed_total", Help: "Announces that an interface did not take.", Label: "protocol", Value: protocol,
			}, s.AnnouncesFailed[i]) {
				return
			}
		}
		for _, f := range []struct {
			name, help string
			v          uint64
		}{
			{"messages_sent_total", "Messages sent.", s.Sent},
			{"sends_refused_total", "Messages not sent because the peer's queue was full.", s.SendsRefused},
			{"panics_total", "Panics of the registrar, each a mistake in it.", s.Panics},
			{"transport_bad_checksum_total", "SCTP packets with a wrong checksum.", s.Transport.BadChecksum},
			{"transport_malformed_total", "SCTP packets that could not be read.", s.Transport.Malformed},
			{"transport_out_of_the_blue_total", "SCTP packets that belong to no association.", s.Transport.OutOfTheBlue},
			{"transport_bad_cookie_total", "Forged or stale SCTP cookies.", s.Transport.BadCookie},
			{"transport_refused_total", "Associations and connections refused for lack of room.", s.Transport.Refused},
			{"transport_overruns_total", "Associations and connections cut off because the peer went past a limit.", s.Transport.Overruns},
			{"transport_dropped_total", "SCTP packets dropped because an association did not take them fast enough.", s.Transport.Dropped},
			{"transport_panics_total", "Panics of the transport, each a mistake in it.", s.Transport.Panics},
		} {
			if !yield(registrar.Metric{Name: f.name, Help: f.help}, f.v) {
				return
			}
		}
	}
}
