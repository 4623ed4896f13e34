// Package registrar is the protocol logic of an RSerPool registrar, which the
// RFCs also call ENRP server or name server: the server side of ASAP (RFC 5352),
// the supervision of the registrar's own pool elements, and the sharing of the
// handlespace with other registrars by ENRP (RFC 5353).
//
// A [Registrar] is a deterministic state machine. The host gives it events and
// the time, and performs the actions that it returns. It has no goroutine, lock,
// socket or clock, and no random source but the one in its Config. With the same
// Config, the same random source and the same events it returns the same actions,
// byte for byte.
//
// # The host's duties
//
// For each event, in this order: call Handle, and perform the actions in their
// order. Call Handle with a [Tick] no later than NextDeadline, but first hand over
// the messages that have arrived: timers run only on a Tick. One Tick runs a limited
// number of timers, so NextDeadline may still be in the past after it. Answer a
// [Connect] with [Connecting] before any other event of that association. The first
// event is [Serving], the last one may be [Stop]. Package host does all this with
// real sockets and a real clock.
//
// # Words
//
//	own element       an element whose home ENRP server is this registrar
//	foreign element   an element whose home is a peer
//	entry             an element of either kind in the ledger (internal/ledger)
//	roster            the entries of one home, with their PE checksum
//	set aside         known, but not handed out: does not fit the rest of its pool
//	client            an association of the ASAP endpoint
//	link              an association of the ENRP endpoint
//	peer              a registrar in the peer list (RFC 5353, Section 3.4)
//	connector         keeps up the link to one place: that of a peer, or a seed
//	seed              a place to connect to that has no peer yet, or no more
//	mentor            the peer that gives a starting registrar the handlespace
//	twin              another registrar with this registrar's server identifier
//	probe             reaches own elements that have no association any more
//	inquiry           asks a foreign element that a client has reported unreachable
//	claim             a registration or deregistration that waits until it is known
//	                  whether the present element is alive
//	held              waiting for an address to be confirmed; see confirm.go
//	silent            does not answer; evidence: what shows that an element is gone
//	suspect           an own element that is silent; also a peer, see PeerState
//	spared            silent, and no suspect because the registrar's guard is on
//	line              an association or a probe that leads to own elements
//	former            an association whose registration was superseded by another one
//	contest           a peer states to be the home of an own element
//	yield             to give an own element to the peer that contests it
//	rival, heir       the registrar that wants to take over, or has taken over, a peer
//	adopt             to become the home of an element that has not registered here
//	identity, rights  the name in a peer's certificate, and what it may do; see rights.go
//	void, barred      an element, or an association, that the rights do not allow
//	audit, sweep      to request all elements of a peer, and then to remove the others
//	session           a download of the handlespace by a peer
//
// # Where the RFCs leave a choice
//
// All addresses of an element, and of its ASAP transport if it names one, must belong
// to its association (RFC 5352, Section 2.2.1). A registration with another address is
// refused as Invalid Values with that transport. Registrations over TCP are refused
// with Rejected due to Security Considerations, as are deregistrations by anyone but
// the element. An identifier of 0 and a registration life of 0 are Invalid Values. A
// negative life is infinite. Lives are in seconds (RFC 5354, Section 3.10). Those of
// the reference implementation are in milliseconds: its elements live longer than
// they ask for, as long as they acknowledge keep-alives.
//
// An identifier that is in use passes at once to a new association of the same host.
// A registration from another host is granted only if the present element does not
// acknowledge a keep-alive, and refused as Non-unique PE Identifier otherwise. Its
// response takes up to a keep-alive timeout (5 s) and a second. If the home of the
// present element is another registrar, that one is asked; see claim. Two
// associations are of the same host if they share the address that the peer has
// proved to be at. Other addresses in their INITs do not count.
//
// Of the addresses that an element offers, the registrar registers only those that are
// confirmed (RFC 9260, Section 5.4), and adds the others later. See confirm.go.
//
// In a trusted scope, the identity that has registered an element owns the identifier until
// the element is gone. Another one gets Non-unique PE Identifier at once, or Rejected due to
// Security Considerations for a deregistration. An element is called only where its identity
// answers.
//
// A deregistration by a process whose registration was superseded has no effect, nor has a
// re-registration as long as the other process lives; see standsBy. A deregistration by any
// other process of the element's host is granted only if the element does not acknowledge a
// keep-alive; see onDeregistration. An element that is removed gets a DEREGISTRATION_RESPONSE,
// like one whose life has ended; see vacate.
//
// An element that does not acknowledge a keep-alive is a suspect, as long as there is no
// evidence that it is gone; see silent. If an association ends, for whatever reason, the
// registrar connects to the ASAP transport of its elements and sends each a keep-alive. If
// the connection is refused, the elements are removed.
//
// If a client reports an element as unreachable, the registrar sends the element a
// keep-alive, at most once a second. An element that acknowledges stays. If
// MaxBadPEReport is not 0, an element is removed when more than MaxBadPEReport clients
// report it within BadPEReportDecay. One client is an IPv4 address or an IPv6 network
// of 64 bits.
//
// A handle resolution returns DefaultItems elements, or as many as the reference
// implementation's parameter asks for, and always the policy of the first one. If no
// element of the pool can serve (all weights are 0), the response is Lack of
// Resources, because a positive response has at least one element. The S bit is granted
// over TCP as well. Updates of one pool are at least Update (100 ms) apart. A negative
// update is the last one.
//
// ASAP_ERROR answers messages that cannot be read, and, as Unrecognized Message, those
// of a type that registrars do not accept (responses, keep-alives, announces, cookies,
// business cards). ASAP_ERROR itself is never answered. PPID 0 stands for the protocol
// of the endpoint. Messages with another PPID are ignored. [Stats] counts all of them.
//
// # Peers
//
// ENRP has an endpoint of its own, whose associations are marked in [AssocUp]. Config
// has the first peers, one of which becomes the mentor; see Ready. The registrar learns
// of others when it hears from them, and from lists: in each PEER-HEARTBEAT-CYCLE it
// requests the list of another peer. After a peer is removed from the peer list, the
// registrar continues to connect to it for a while: it may be behind a partition.
//
// A peer changes only the elements whose home it is: it may announce them, give them to
// another registrar, and delete them. If two registrars are home of one element, the
// one with the smaller identifier keeps the element if it can reach it, and the other
// one yields. This happens when the element moves, after partitions, and when a
// registrar that was taken over returns. A registrar that takes a peer over tells the
// other peers once for all elements, and again for each element that acknowledges its
// new home. Arbitration of takeovers is that of RFC 5353, Section 3.5.1, and always
// ends, although the reference implementation decides the other way round: a
// registrar that insists does not wait forever, and one that gives way tries again.
package registrar
