package endpoint

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// openStack opens the machine's transports.
func openStack(cfg TransportConfig) (ListenFunc, func() error, error) {
	stack, err := stack.New(stack.Config{Only: cfg.Via, EncapPort: cfg.EncapPort, Logf: cfg.Logf})
	if err != nil {
		return nil, nil, err
	}
	return stack.Listen, stack.Close, nil
}
