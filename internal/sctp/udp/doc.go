// Package udp is SCTP in UDP in user space (RFC 6951).
//
// The handshake is done here (RFC 9260, Section 5). An INIT is answered without
// keeping any state: the state is in a cookie that is signed with a key of the [Mux],
// so that a forged INIT costs one packet. Also done here are restarts, simultaneous
// handshakes, heartbeats, packets that belong to no association, and the peer's
// addresses and UDP port.
//
// An established association is handed to pion/sctp with the INITs of both sides, as
// if pion had exchanged them. pion does acknowledgements, retransmission, congestion
// and flow control, fragmentation and shutdown. The form of every packet is checked
// before pion sees it, because a panic in pion's goroutines could not be recovered
// here. What exists only because of pion is in files whose names begin with pion.
//
// One path at a time carries an association's packets, from the local address that
// the route to the peer has. If a packet on it is not acknowledged in time or cannot
// be sent, the association uses another of the peer's addresses within about a second,
// and keeps it if the first one does not answer a HEARTBEAT. Data are sent only to
// addresses that have answered a HEARTBEAT with a secret nonce, and only those are
// reported as the peer's. The last UDP port of such an address is kept for later
// connections.
//
// A peer is lost after Limits.Heartbeat x (Limits.Misses + 1) of silence, or at once
// if its machine reports for all of its addresses that nobody listens (ICMP port
// unreachable, on Linux).
//
// An association costs four goroutines and about 31 KiB with their stacks, as
// docs/performance.md measures, and up to twice Limits.MessageSize of received data
// that the Handler has not read. Packets have at most 1232 bytes.
package udp
