package localaddr

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
)

func TestNamedZone(t *testing.T) {
	ifs, err := net.Interfaces()
	if err != nil || len(ifs) == 0 {
		t.Fatalf("no interface: %v", err)
	}
	i, name := ifs[0].Index, ifs[0].Name
	for addr, want := range map[string]string{
		fmt.Sprintf("fe80::1%%%d", i):    "fe80::1%" + name,
		"fe80::1%" + name:                "fe80::1%" + name,
		"fe80::1%4294967295":             "fe80::1%4294967295",
		"fe80::1%" + "no-such-interface": "fe80::1%no-such-interface",
		"fe80::1":                        "fe80::1",
		"192.0.2.1":                      "192.0.2.1",
	} {
		if got := NamedZone(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s: got %v, want %s", addr, got, want)
		}
	}
}
