package host

import (
	"fmt"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// framing is that of ASAP over TCP.
var framing = sctp.Framing{HeadLen: asap.HeaderLen, Len: asap.MessageLen, Align: 4, PPID: asap.PPID}

// limits are those of the transports.
func (l TransportLimits) limits() sctp.Limits {
	return sctp.Limits{Associations: l.Associations, HalfOpen: l.HalfOpen, Stalled: stalled}
}

// network opens the machine's transports, or a test's.
func (h *Host) network() (network, error) {
	if h.cfg.network != nil {
		return h.cfg.network()
	}
	s, err := stack.New(stack.Config{
		Only:      h.cfg.Via,
		EncapPort: h.cfg.EncapPort,
		Framing:   framing,
		TLS:       h.scope.tls(),
		Unserved:  h.cfg.unserved(),
		Limits:    h.cfg.Transports.limits(),
		Logf:      func(format string, args ...any) { h.log.add(false, fmt.Sprintf(format, args...)) },
	})
	if err != nil {
		return nil, err // not s: it would be a network that is not nil
	}
	return s, nil
}
