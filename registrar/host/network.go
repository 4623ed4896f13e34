package host

import (
	"errors"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// newStack opens the machine's transports.
func newStack(sctp.StackConfig) (Network, error) {
	return nil, errors.New("no transport yet")
}
