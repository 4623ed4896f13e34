package msgconn

import (
	"net/netip"
	"strconv"
	"strings"
)

// Addr is the addresses of one side of an association, with one port.
type Addr []netip.AddrPort

// Network returns "sctp".
func (a Addr) Network() string { return "sctp" }

// String returns the addresses between slashes, and the port: "10.0.0.1/[2001:db8::1]:5001".
func (a Addr) String() string {
	if len(a) == 0 {
		return ""
	}
	var list []string
	for _, ap := range a {
		s := ap.Addr().String()
		if ap.Addr().Is6() {
			s = "[" + s + "]"
		}
		list = append(list, s)
	}
	return strings.Join(list, "/") + ":" + strconv.Itoa(int(a[0].Port()))
}
