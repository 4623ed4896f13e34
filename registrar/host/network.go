package host

import (
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// framing is that of ASAP over TCP.
var framing = sctp.Framing{HeadLen: asap.HeaderLen, Len: asap.MessageLen, Align: 4, PPID: asap.PPID}

// newStack opens the machine's transports.
func newStack(cfg stack.Config) (Network, error) {
	s, err := stack.New(cfg)
	if err != nil {
		return nil, err // not s: it would be a Network that is not nil
	}
	return s, nil
}
