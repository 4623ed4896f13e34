//go:build !linux

package kernel

import (
	"errors"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// Kernel SCTP is used on Linux only.

// Supported says that there is none.
func Supported() bool { return false }

// EncapPort says that the kernel serves no UDP port.
func EncapPort() uint16 { return 0 }

// Listen fails.
func Listen(sctp.ListenConfig, sctp.Limits, *sctp.IDs, *sctp.Counters, *localaddr.View, sctp.Handler) (sctp.Endpoint, error) {
	return nil, errors.New("kernel SCTP is used on Linux only")
}
