package endpoint

import (
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// framing is that of ASAP over TCP.
var framing = sctp.Framing{HeadLen: asap.HeaderLen, Len: asap.MessageLen, Align: 4, PPID: asap.PPID}

// openStack opens the machine's transports.
func openStack(cfg TransportConfig) (ListenFunc, func() error, error) {
	stack, err := stack.New(stack.Config{Only: cfg.Via, EncapPort: cfg.EncapPort, Framing: framing, Logf: cfg.Logf})
	if err != nil {
		return nil, nil, err
	}
	return stack.Listen, stack.Close, nil
}
