package host

import "github.com/rserpool/coredns-rserpool/internal/sctp"

// newStack opens the machine's transports.
func newStack(cfg sctp.StackConfig) (Network, error) {
	s, err := sctp.NewStack(cfg)
	if err != nil {
		return nil, err // not s: it would be a Network that is not nil
	}
	return s, nil
}
