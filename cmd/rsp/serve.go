package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// protocols are the transport protocols of pool elements (RFC 5354, Sections
// 3.3 to 3.7).
var protocols = map[string]rserpool.TransportType{
	"sctp":    rserpool.SCTP,
	"tcp":     rserpool.TCP,
	"udp":     rserpool.UDP,
	"udplite": rserpool.UDPLite,
	"dccp":    rserpool.DCCP,
}

// parseServe reads PROTOCOL:PORT, and a service code for dccp behind a slash.
func parseServe(s string) (rserpool.Transport, error) {
	wrong := fmt.Errorf("%q is not PROTOCOL:PORT with a protocol of sctp, tcp, udp, udplite or dccp, such as tcp:8080", s)
	name, rest, _ := strings.Cut(s, ":")
	var t rserpool.Transport
	var ok bool
	if t.Type, ok = protocols[strings.ToLower(name)]; !ok {
		return t, wrong
	}
	port, code, hasCode := strings.Cut(rest, "/")
	if hasCode {
		n, err := strconv.ParseUint(code, 0, 32)
		if err != nil || t.Type != rserpool.DCCP {
			return t, fmt.Errorf("%q: a service code, a number behind the /, is only for dccp", s)
		}
		t.ServiceCode = uint32(n)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return t, wrong
	}
	t.Port = uint16(n)
	return t, nil
}
