package netaddr

import (
	"net/netip"
	"testing"
)

func TestParseAddrPort(t *testing.T) {
	for s, want := range map[string]string{
		"192.0.2.1":                "192.0.2.1:7",
		"192.0.2.1:3863":           "192.0.2.1:3863",
		"192.0.2.1:0":              "192.0.2.1:0",
		"2001:db8::1":              "[2001:db8::1]:7",
		"[2001:db8::1]":            "[2001:db8::1]:7",
		"[2001:db8::1]:3863":       "[2001:db8::1]:3863",
		"fe80::1%eth0":             "[fe80::1%eth0]:7",
		"[fe80::1%eth0]":           "[fe80::1%eth0]:7",
		"[fe80::1%eth0]:3863":      "[fe80::1%eth0]:3863",
		"[fe80::1%br-0.12]:3863":   "[fe80::1%br-0.12]:3863",
		"::":                       "[::]:7",
		"[::]:1":                   "[::]:1",
		"::ffff:192.0.2.1":         "192.0.2.1:7",
		"[::ffff:192.0.2.1]:65535": "192.0.2.1:65535",
	} {
		got, err := ParseAddrPort(s, 7)
		if err != nil || got != netip.MustParseAddrPort(want) {
			t.Errorf("ParseAddrPort(%q) = %v, %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", ":", ":1", "[]", "[]:1", "host", "host:1", "192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:x", "192.0.2",
		"[192.0.2.1]:1", "[192.0.2.1]", "[2001:db8::1", "2001:db8::1]", "[2001:db8::1]x", "[2001:db8::1]:", "[2001:db8::1]:99999",
		"[[2001:db8::1]]", "[fe80::1%eth0:3863", "fe80::1%eth0]:3863", "fe80::1%eth0:3863", "fe80::1%", "[fe80::1%]:1",
		"[fe80::1%eth0]]:1", "192.0.2.1/24",
	} {
		if got, err := ParseAddrPort(s, 7); err == nil {
			t.Errorf("ParseAddrPort(%q) = %v, want an error", s, got)
		}
	}
}
