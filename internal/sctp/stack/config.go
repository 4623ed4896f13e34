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
	// EncapPort is the local UDP port of user-space SCTP, shared by all
	// endpoints of the Stack; 0 takes a free one, as clients and pool
	// elements do.
	EncapPort uint16
	// Framing tells messages over TCP apart. Without it there is no TCP.
	Framing sctp.Framing
	// Limits bound what peers can make us hold; zero fields have defaults.
	Limits sctp.Limits
	// Logf, if set, is told in one line what an operator wants to know, such
	// as that the kernel has no SCTP.
	Logf func(format string, args ...any)
	// Machine, if set, knows the machine's addresses. It is for tests.
	Machine *localaddr.View
}
