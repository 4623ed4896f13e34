package endpoint

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// kind is the transport of one association.
func kind(v rserpool.Via) sctp.Kind {
	switch v {
	case rserpool.ViaKernel:
		return sctp.Kernel
	case rserpool.ViaUDP:
		return sctp.UDP
	case rserpool.ViaTCP:
		return sctp.TCP
	}
	return sctp.Any
}

// mode says which transports to open.
func mode(v rserpool.Via) sctp.Kind {
	switch v {
	case rserpool.ViaKernel:
		return sctp.Kernel
	case rserpool.ViaUDP, rserpool.ViaTCP:
		return sctp.UDP
	}
	return sctp.Any
}
