package client

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestLocalTowardNowhere: the error names each registrar, in one line. No
// system sends to a link-local address without a zone.
func TestLocalTowardNowhere(t *testing.T) {
	var list []rserpool.Registrar
	for _, s := range []string{"[fe80::1]:3863", "[fe80::2]:3863"} {
		r, err := rserpool.ParseRegistrar(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	addrs, err := LocalToward(list)
	if !errors.Is(err, errNoLocalAddr) {
		t.Fatalf("LocalToward = %v, %v, want errNoLocalAddr", addrs, err)
	}
	text := err.Error()
	if !strings.Contains(text, "fe80::1") || !strings.Contains(text, "fe80::2") || strings.Contains(text, "\n") {
		t.Errorf("error %q, want both registrars in one line", text)
	}
}

func TestLocalToward(t *testing.T) {
	addrs, err := LocalToward([]rserpool.Registrar{rserpool.MustParseRegistrar("127.0.0.1"), rserpool.MustParseRegistrar("127.0.0.1:4000")})
	if want := []netip.Addr{netip.MustParseAddr("127.0.0.1")}; err != nil || !slices.Equal(addrs, want) {
		t.Errorf("toward loopback: %v, %v, want %v", addrs, err, want)
	}
	// Where nobody is known to be reached, there is nothing to be said.
	if addrs, err := LocalToward([]rserpool.Registrar{rserpool.MustParseRegistrar("registrar.example.org")}); !errors.Is(err, errNoLocalAddr) {
		t.Errorf("toward a name: %v, %v, want errNoLocalAddr", addrs, err)
	}
}
