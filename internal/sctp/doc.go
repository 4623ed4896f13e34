// Package sctp carries messages over SCTP, whatever the machine offers: the
// kernel's SCTP, SCTP in UDP in user space (RFC 6951, with pion/sctp), TCP for
// pool users, and a network in memory for tests. It knows nothing of ASAP and
// ENRP and imports no other package of this module.
//
// A [Stack] is what a process has of SCTP, an [Endpoint] one port of it with
// all its associations, accepted and called. An Endpoint's methods never block
// on a peer; what happens is told to its [Handler], for each association in
// order. An Endpoint of a Stack joins all kinds of transport, and an
// association is called by its [AssocID] whatever carries it.
//
// # SCTP in UDP
//
// The handshake is done here (RFC 9260, Section 5): INIT is answered without
// keeping anything, by a cookie signed with a key of the Stack, so that forged
// INITs cost a packet each. Restarts, simultaneous calls, heartbeats, packets
// out of the blue and the peer's addresses and UDP port are dealt with here as
// well. An established association is handed to pion/sctp, both sides' INITs
// given as if it had exchanged them, for what it is good at: acknowledgement,
// retransmission, congestion and flow control, fragments, and shutting down.
// What pion sees has been checked for its form before, since a panic in its
// goroutines could not be stopped from here.
//
// One path at a time carries an association's packets, from the local address
// that the route to the peer's has. If what was sent on it is not acknowledged
// in time, or cannot be sent, the association goes on by another of the peer's
// addresses within about a second, and stays there if the first one does not
// answer a HEARTBEAT. Data go only to addresses that have answered one, with
// a nonce that nobody else knows; only those are told as the peer's. The
// port of a UDP peer that has been heard of is remembered for calling it back.
//
// A peer is lost after Limits.Heartbeat x (Limits.Misses + 1) of silence, or
// at once where its machine says at all of its addresses that nobody listens
// (ICMP port unreachable, on Linux).
//
// # Bounds
//
// [Limits] bound what peers can make an Endpoint hold. An association in UDP
// takes four goroutines and about 35 KiB, and up to twice Limits.MessageSize
// of received data that the Handler has not taken; packets sent are at most
// 1232 bytes. [Stats] counts what was refused or cut off.
package sctp
