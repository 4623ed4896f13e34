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

func TestParseGroup(t *testing.T) {
	usual := netip.MustParseAddrPort("224.0.1.185:3863")
	for s, want := range map[string]string{
		"224.0.1.1":           "224.0.1.1:3863",
		"224.0.1.1:7":         "224.0.1.1:7",
		"[ff02::1%eth0]:4000": "[ff02::1%eth0]:4000",
		"ff05::133":           "[ff05::133]:3863",
	} {
		if got, err := ParseGroup(s, usual); err != nil || got != netip.MustParseAddrPort(want) {
			t.Errorf("ParseGroup(%q) = %v, %v, want %s", s, got, err, want)
		}
	}
	for _, s := range []string{"", "192.0.2.1", "192.0.2.1:1", "224.0.1.1:0", ":3863", "group"} {
		if got, err := ParseGroup(s, usual); err == nil {
			t.Errorf("ParseGroup(%q) = %v, want an error", s, got)
		}
	}
}
