package endpoint

import (
	"fmt"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Via says what carries the associations with registrars.
type Via uint8

// The transports between an endpoint and registrars.
const (
	// Auto takes the kernel's SCTP or SCTP in UDP, whichever answers first.
	Auto Via = iota
	// Kernel takes only the kernel's SCTP.
	Kernel
	// UDP takes only SCTP in UDP in user space (RFC 6951).
	UDP
	// TCP is only for pool users (RFC 5352, Section 3.3).
	TCP
)

// String gives the word that ParseVia reads.
func (v Via) String() string {
	switch v {
	case Auto:
		return "auto"
	case Kernel:
		return "kernel"
	case UDP:
		return "udp"
	case TCP:
		return "tcp"
	}
	return fmt.Sprintf("Via(%d)", uint8(v))
}

// ParseVia reads auto, kernel, udp or tcp.
func ParseVia(s string) (Via, error) {
	for v := Auto; v <= TCP; v++ {
		if s == v.String() {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%q is not a transport; use auto, kernel, udp or tcp", s)
}

func (v Via) kind() sctp.Kind {
	switch v {
	case Kernel:
		return sctp.Kernel
	case UDP:
		return sctp.UDP
	case TCP:
		return sctp.TCP
	}
	return sctp.Any
}

func (v Via) mode() sctp.Mode {
	switch v {
	case Kernel:
		return sctp.KernelOnly
	case UDP, TCP:
		return sctp.UDPOnly
	}
	return sctp.Auto
}
