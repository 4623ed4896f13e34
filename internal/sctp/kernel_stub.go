package sctp

import "errors"

// These stand in until the kernel transport lands.

func kernelSupported() bool { return false }

func kernelEncapPort() uint16 { return 0 }

func listenKernel(ListenConfig, Limits, *idAllocator, Handler) (Endpoint, error) {
	return nil, errors.New("kernel SCTP is not built in")
}
