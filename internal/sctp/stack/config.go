package stack

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// Config configures a Stack. The zero value is a good client.
type Config struct {
	// Only, if not Any, is the one transport to offer beside TCP. With Any there is
	// SCTP in UDP in user space, and kernel SCTP if the kernel has it. If the
	// kernel itself serves the encapsulation port (net.sctp.udp_port), user space
	// leaves that port to it.
	Only sctp.Kind
	// EncapPort is the local UDP port of user-space SCTP, which all endpoints of the
	// Stack share; 0 is a free one, for clients and pool elements.
	EncapPort uint16
	// Framing separates messages over TCP. Without it, TCP is not offered.
	Framing sctp.Framing
	// Limits bound what peers can make an endpoint hold; zero fields have defaults.
	Limits sctp.Limits
	// Logf, if set, logs one line for an operator, for example that the kernel has
	// no SCTP.
	Logf func(format string, args ...any)
	// Machine, if set, has the machine's addresses. It is for tests.
	Machine *localaddr.View
}
