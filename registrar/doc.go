// Package registrar is the protocol logic of an RSerPool registrar, which the
// RFCs call ENRP server or name server: the server side of ASAP (RFC 5352), the
// supervision of the pool elements that it owns, and the sharing of the
// handlespace with its peers by ENRP (RFC 5353).
//
// A [Registrar] is a deterministic state machine. The host gives it events and
// the time, and performs the actions that it returns: it has no goroutine, no
// lock, no socket, no clock and no random source but the one in its Config.
// With the same Config, the same random source and the same events it returns
// the same actions, byte for byte.
//
// # The host's duties
//
// In this order, for each event: call Handle, and perform the actions in their
// order. See that Handle is called with a [Tick] no later than NextDeadline,
// but first hand over what has come in meanwhile: timers run only on a Tick, a
// bounded number at a time, so NextDeadline may still lie in the past after
// one. Answer a [Connect] with [Connecting] before any other event of that
// association. The first event is [Serving], the last one may be [Stop].
// Package host does so with real sockets and a real clock.
//
// # Where the RFCs leave a choice
//
// Who may register what. All addresses of an element, and of its ASAP transport
// if it names one, must belong to its association (RFC 5352, Section 2.2.1);
// a registration with a foreign one is refused as Invalid Values with that
// transport. Registrations by TCP are refused with Rejected due to Security
// Considerations, as are deregistrations by others than the element. An
// identifier of 0 and a registration life of 0 are Invalid Values. A negative
// life is infinite. Lives are seconds, as RFC 5354, Section 3.10, has it; the
// reference implementation's are milliseconds, so its elements live longer than
// they ask for, as long as they answer keep-alives.
//
// An identifier that is taken passes to a new association of the same host at
// once. An association from elsewhere gets it only when its owner does not
// answer a keep-alive, and is refused as Non-unique PE Identifier otherwise; the
// response waits for that, a keep-alive timeout (5 s) and a second at most. If the
// home of the owner is another registrar, that one is asked; see claim. What
// a host is, is told by the address that it has proved to be at, not by those
// that its SCTP lists.
//
// Of the addresses that an element offers only confirmed ones are registered (RFC
// 9260, Section 5.4); others are added when they are confirmed. See confirm.go.
//
// A process whose registration was superseded may deregister without effect, and
// any other process of the element's host only if the element does not answer;
// see onDeregistration. An element that is removed for a missed keep-alive is told
// with a DEREGISTRATION_RESPONSE, as one whose life is over, and registered again if
// it acknowledges late; see vacate and missed.
//
// An association that ends, in whatever way, has its elements probed at once:
// called at their ASAP transport and asked for a sign of life. They stay in the
// handlespace until the call fails, or ProbeTimeout is over, and stay for good
// if they answer.
//
// An element that is reported as unreachable is asked for a sign of life at
// once, but at most once a second. If it answers, it stays; where MaxBadPEReport
// is not 0, it is removed when more than so many clients have reported it within
// BadPEReportDecay. A client is an IPv4 address or an IPv6 network of 64 bits.
//
// A handle resolution gets DefaultItems elements, or as many as the reference
// implementation's parameter asks for, and the first one's policy always. A pool
// in which nobody can serve (all weights are 0) gives Lack of Resources, since a
// positive response has at least one element. The S bit is granted on TCP as
// well; updates of a pool are Update (100 ms) apart at least, and one that is
// negative is the last.
//
// Messages that cannot be read are answered with ASAP_ERROR, as are those that
// are of a type that registrars do not accept (responses, keep-alives, announces, cookies, business
// cards: Unrecognized Message); ASAP_ERROR itself never is. PPID 0 is taken for
// the endpoint's protocol, and others than that are ignored. All of it is
// counted: see [Stats].
//
// # Peers
//
// ENRP has an endpoint of its own, whose associations are marked in [AssocUp].
// Config has the peers to begin with, one of which becomes the mentor; see Ready.
// Others are learned from registrars that are heard and from lists: one peer in turn is
// asked for its list in each PEER-HEARTBEAT-CYCLE. A peer that has vanished is
// called again for a while, since it may be behind a partition.
//
// A peer changes no elements but those whose home it is: it may name them, hand
// them over to another registrar, and delete them. Where two registrars are home
// of one element, which happens when it moves, after partitions, and when a
// registrar returns that was taken over, the one with the smaller identifier
// keeps it if it can reach it; the other one hands it over. A registrar that takes a
// registrar over tells the peers once for all elements, and again for each that
// has acknowledged its new home. Arbitration is that of RFC 5353, Section 3.5.1,
// and ends in time where the reference implementation has it the other way
// round: who insists does not wait for ever, and who gives way tries again.
//
// An element of a peer that has another policy type or another kind of transport
// than its pool has here is known, and goes on to other peers, but is set aside
// until the pool has none of its own kind any more; see misfit.go.
package registrar
