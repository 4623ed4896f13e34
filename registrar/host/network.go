package host

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// newStack opens the machine's transports.
func newStack(cfg stack.Config) (Network, error) {
	s, err := stack.New(cfg)
	if err != nil {
		return nil, err // not s: it would be a Network that is not nil
	}
	return s, nil
}
