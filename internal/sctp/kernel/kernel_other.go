//go:build !linux

// Package kernel uses the kernel's SCTP, which is supported on Linux only.
package kernel

import (
	"errors"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// Supported returns false.
func Supported() bool { return false }

// EncapPort returns 0.
func EncapPort() uint16 { return 0 }

// Listen fails.
func Listen(sctp.ListenConfig, sctp.Limits, *sctp.IDs, *sctp.Counters, *localaddr.View, sctp.Handler) (sctp.Endpoint, error) {
	return nil, errors.New("kernel SCTP is supported on Linux only")
}
