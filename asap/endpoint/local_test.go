package endpoint

import (
	"errors"
	"strings"
	"testing"
)

// TestLocalTowardNowhere: the error names each registrar, in one line. No
// system sends to a link-local address without a zone.
func TestLocalTowardNowhere(t *testing.T) {
	var list []Registrar
	for _, s := range []string{"[fe80::1]:3863", "[fe80::2]:3863"} {
		r, err := ParseRegistrar(s)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	addrs, err := LocalToward(list)
	if !errors.Is(err, ErrNoLocalAddr) {
		t.Fatalf("LocalToward = %v, %v, want ErrNoLocalAddr", addrs, err)
	}
	text := err.Error()
	if !strings.Contains(text, "fe80::1") || !strings.Contains(text, "fe80::2") || strings.Contains(text, "\n") {
		t.Errorf("error %q, want both registrars in one line", text)
	}
}
