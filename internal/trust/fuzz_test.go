package trust

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/identity"
)

// FuzzNameOf: the name of any certificate is short and printable, or an error.
func FuzzNameOf(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	seed := func(uris, dns []string) {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, DNSNames: dns}
		for _, text := range uris {
			u, err := url.Parse(text)
			if err != nil {
				f.Fatal(err)
			}
			template.URIs = append(template.URIs, u)
		}
		der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	seed([]string{"spiffe://example.org/rserpool/pool/web/host1"}, nil)
	seed([]string{"spiffe://example.org/rserpool/registrar/ns1", "https://example.org"}, []string{"a.example"})
	seed([]string{"spiffe://Example.org:1/%2e%2e/?q#f"}, nil)
	seed(nil, []string{"Host1.example.org"})
	seed(nil, []string{"*.example.org"})
	seed(nil, nil)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if len(title(c)) > identity.MaxLen+100 {
			t.Errorf("title of %d bytes", len(title(c)))
		}
		name, err := NameOf(c)
		switch {
		case err != nil:
			if name != "" {
				t.Errorf("name %q with error %v", name, err)
			}
		case len(name) > identity.MaxLen, strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_ABCDEFGHIJKLMNOPQRSTUVWXYZ/:") != "":
			t.Errorf("name %q", name)
		case !strings.HasPrefix(name, "spiffe://") && !strings.HasPrefix(name, "dns:"):
			t.Errorf("name %q is of no form", name)
		case strings.HasPrefix(name, "dns:") && name != strings.ToLower(name):
			t.Errorf("name %q has two spellings", name)
		}
	})
}

// TestShortQuotes: what a peer's certificate says cannot break a line of the log.
func TestShortQuotes(t *testing.T) {
	c := &x509.Certificate{Subject: pkix.Name{CommonName: "a\nb\x1b[31m" + strings.Repeat("x", 1000)}}
	if got := title(c); strings.ContainsAny(got, "\n\x1b") || len(got) > 100 {
		t.Errorf("title %s", got)
	}
}
