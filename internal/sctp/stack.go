package sctp

import (
	"net/netip"
	"time"
)

// Mode says which SCTP a Stack offers.
type Mode uint8

// The modes of a Stack.
const (
	// Auto: SCTP in UDP in user space, and beside it the kernel's where the
	// kernel has it. Where the kernel serves the encapsulation port itself
	// (net.sctp.udp_port), it alone does so.
	Auto Mode = iota
	// KernelOnly: only the kernel's SCTP.
	KernelOnly
	// UDPOnly: only SCTP in UDP in user space.
	UDPOnly
)

// EncapPort is the UDP port of SCTP in UDP (RFC 6951, Section 5.1).
const EncapPort = 9899

// StackConfig configures a Stack. The zero value is a good client.
type StackConfig struct {
	Mode Mode
	// EncapPort is the local UDP port of user-space SCTP, shared by all
	// endpoints of the Stack; 0 takes a free one, as clients and pool
	// elements do.
	EncapPort uint16
	// Limits bound what peers can make us hold; zero fields have defaults.
	Limits Limits
	// Logf, if set, is told in one line what an operator wants to know, such
	// as that the kernel has no SCTP.
	Logf func(format string, args ...any)
}

// Limits bound what the peers of one endpoint can make it hold. A zero field
// stands for the default.
type Limits struct {
	// Associations, established ones; default 65536.
	Associations int
	// HalfOpen, associations not yet established by the peer; default 1024.
	// A TCP connection is half open until its first whole message. SCTP in
	// UDP in user space keeps nothing of a half-open association.
	HalfOpen int
	// HandshakeTime an association has to come up, and a message over TCP to
	// arrive as a whole; default 10 s.
	HandshakeTime time.Duration
	// MessageSize, of a message received, in bytes; default 65536+64, which is
	// over what a message length field of ASAP and ENRP can say.
	MessageSize int
	// SendQueue, messages and bytes not yet taken by one peer; defaults 4096
	// and 1 MiB. A busy peer's acknowledgements may come a while after it has
	// taken in the messages.
	SendQueueMessages, SendQueueBytes int
	// SendQueueTotal, bytes not yet taken by all peers together, with 256 for
	// each message, beyond which
	// each has room for 16 KiB or one message; default 32 MiB. User-space
	// SCTP, the kernel's SCTP and TCP have so much each. Over the last two a peer
	// has the kernel's own send buffer before it.
	SendQueueTotal int
	// IdleTCP closes a TCP connection without traffic; default 5 min.
	IdleTCP time.Duration
	// Heartbeat is how often an idle association in UDP is probed, Misses
	// how many unanswered probes end it; defaults 10 s and 3.
	Heartbeat time.Duration
	Misses    int
	// Stalled is how long a peer over SCTP may take nothing of what is queued
	// for it before its association ends; 0 is for ever.
	Stalled time.Duration
}

// ListenConfig says where an endpoint listens.
type ListenConfig struct {
	// Addrs to bind, all with the same port. An unspecified address stands
	// for all of the machine's addresses (of its family for 0.0.0.0, of both
	// for ::), of which peers are told those in [ReachableAddrs]; the kernel's
	// SCTP is served at those and at the loopback ones only. Port 0 takes a free one. No address at all is [::]:0.
	Addrs []netip.AddrPort
	// TCP says to take TCP connections on Addrs as well.
	TCP bool
}
