//go:build !linux

package sctp

import "errors"

// Kernel SCTP is used on Linux only.

func kernelSupported() bool { return false }

func kernelEncapPort() uint16 { return 0 }

func listenKernel(ListenConfig, Limits, *idAllocator, *counters, *machine, Handler) (Endpoint, error) {
	return nil, errors.New("kernel SCTP is used on Linux only")
}
