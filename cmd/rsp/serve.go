package main

import (
	"fmt"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// parseServe reads PROTOCOL:PORT, and a service code for dccp behind a slash. Addresses
// and the control channel have options of their own.
func parseServe(s string) (rserpool.Transport, error) {
	t, err := rserpool.ParseTransport(s)
	if err == nil && (len(t.Addrs) > 0 || t.Type == rserpool.Opaque || t.Use != rserpool.DataOnly) {
		err = fmt.Errorf("%q is not PROTOCOL:PORT with a protocol of sctp, tcp, udp, udplite or dccp, such as tcp:8080", s)
	}
	return t, err
}
