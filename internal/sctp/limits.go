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
	// Associations is the number of established associations; default 65536.
	Associations int
	// Backlog is the number of associations over SCTP in UDP that peers have established and
	// the Handler has not been told of; default 1024. With more, handshakes wait: INIT and
	// COOKIE ECHO are not answered, and the peer repeats them.
	Backlog int
	// HalfOpen is the number of TCP connections from which no whole message has
	// arrived, and of TLS handshakes of one endpoint that peers have begun and that wait
	// for the peer; 16 times as many may wait for this side. Default 1024. SCTP itself
	// keeps no state of half-open associations.
	HalfOpen int
	// HandshakeTime is how long a handshake, or the arrival of one message over
	// TCP, may last; default 10 s. A TLS handshake over SCTP may last three times as long
	// while it waits for the server.
	HandshakeTime time.Duration
	// MessageSize is the largest message that is accepted, in bytes; default
	// 65536+64, more than a 16-bit length field can say.
	MessageSize int
	// SendQueueMessages and SendQueueBytes are what may be queued for one peer;
	// defaults 4096 and 1 MiB. A message is queued until it is acknowledged (UDP)
	// or in the kernel's send buffer (kernel, TCP).
	SendQueueMessages, SendQueueBytes int
	// SendQueueTotal is what may be queued for all peers of one transport together,
	// in bytes, with 256 for each message; default 32 MiB. Beyond it, each peer may
	// have 16 KiB or one message queued.
	SendQueueTotal int
	// IdleTCP is the time without traffic after which a TCP connection is closed;
	// default 5 min.
	IdleTCP time.Duration
	// Heartbeat is the interval of HEARTBEATs on an idle association, Misses how
	// many unanswered ones end it; defaults 10 s and 3.
	Heartbeat time.Duration
	Misses    int
	// Stalled is how long messages may be queued for a peer over SCTP without any
	// progress before the association is aborted; 0 is for ever.
	Stalled time.Duration
}

// ListenConfig says where an endpoint listens.
type ListenConfig struct {
	// Addrs are the addresses to listen on, all with the same port. Port 0 is a
	// free one. An unspecified address stands for all addresses of the machine, of
	// both families if it is ::. Peers are told those of them that
	// localaddr.Reachable returns, and kernel SCTP listens only on those and the
	// loopback addresses. No address is the same as [::]:0.
	Addrs []netip.AddrPort
	// Mobile says that associations follow the machine's addresses. One that loses the
	// last address toward its peer ends at once with Lost and ErrAddrGone, and not
	// only when the peer does not answer. Where the kernel allows dynamic address
	// reconfiguration (RFC 5061; net.sctp.addip_enable), established associations get
	// new addresses.
	Mobile bool
	// TCP says to accept TCP connections on Addrs as well.
	TCP bool
	// PPID is the payload protocol identifier of all messages under TLS, which carries
	// one protocol. 0 is that of the Framing.
	PPID uint32
	// Renew says which associations this side ends in time under TLS, so that new ones have
	// the present certificates and keys.
	Renew Renewal
}

// Renewal says which associations under TLS an endpoint ends with ErrRenew: when this side's
// certificate has changed, before that of one side ends, and when the keys have been used for
// long enough. The user of the endpoint connects anew.
type Renewal uint8

// The kinds of Renewal.
const (
	// RenewOurs: those that this side has opened.
	RenewOurs Renewal = iota
	// RenewAll: those that the peer has opened as well.
	RenewAll
	// RenewNone: none, since the peers do it.
	RenewNone
)

// WithDefaults returns the limits with defaults in place of fields that are not set.
func (l Limits) WithDefaults() Limits {
	setDefault(&l.Associations, 65536)
	setDefault(&l.Backlog, 1024)
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

// ErrFull is the error when an endpoint has Limits.Associations.
func (l *Limits) ErrFull() error {
	return fmt.Errorf("this endpoint has %d associations, its limit", l.Associations)
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// BindAddrs returns the addresses and the port to bind. :: becomes an address of
// each family, and both is true.
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
