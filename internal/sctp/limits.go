package sctp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

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
	// for ::), of which peers are told those in [machine.Reachable]; the kernel's
	// SCTP is served at those and at the loopback ones only. Port 0 takes a free one. No address at all is [::]:0.
	Addrs []netip.AddrPort
	// TCP says to take TCP connections on Addrs as well.
	TCP bool
}

// WithDefaults fills in what is not set.
func (l Limits) WithDefaults() Limits {
	setDefault(&l.Associations, 65536)
	setDefault(&l.HalfOpen, 1024)
	setDefault(&l.HandshakeTime, 10*time.Second)
	setDefault(&l.MessageSize, 65536+64)
	setDefault(&l.SendQueueMessages, 4096)
	setDefault(&l.SendQueueBytes, 1<<20)
	setDefault(&l.SendQueueTotal, 32<<20)
	setDefault(&l.IdleTCP, 5*time.Minute)
	setDefault(&l.Heartbeat, 10*time.Second)
	setDefault(&l.Misses, 3)
	return l
}

// ErrFull says that an endpoint has as many associations as it may have.
func (l *Limits) ErrFull() error {
	return fmt.Errorf("this endpoint has %d associations, its limit", l.Associations)
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// BindAddrs reads the addresses, :: split into both families, and the port.
func (cfg ListenConfig) BindAddrs() (addrs []netip.Addr, port uint16, both bool, err error) {
	list := cfg.Addrs
	if len(list) == 0 {
		list = []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), 0)}
	}
	port = list[0].Port()
	for _, ap := range list {
		a := ap.Addr().Unmap()
		if !a.IsValid() || a.IsMulticast() || ap.Port() != port {
			return nil, 0, false, &net.AddrError{Err: "addresses to listen on must be unicast and have one port", Addr: ap.String()}
		}
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
		if a == netip.IPv6Unspecified() {
			both = true
		}
	}
	if both && !slices.Contains(addrs, netip.IPv4Unspecified()) {
		addrs = append(addrs, netip.IPv4Unspecified())
	}
	return addrs, port, both, nil
}
