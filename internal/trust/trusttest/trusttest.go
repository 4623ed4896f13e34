// Package trusttest makes certificates for tests.
package trusttest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/authority"
)

// CA is an authority of a test.
type CA struct {
	pair authority.Pair
	a    *authority.Authority
}

// New makes an authority for a domain that begins now.
func New(t testing.TB, domain string, now time.Time) *CA {
	t.Helper()
	pair, err := authority.New(domain, now, 365*24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a, err := authority.Read(pair)
	if err != nil {
		t.Fatal(err)
	}
	return &CA{pair, a}
}

// PEM is the certificate of the authority.
func (ca *CA) PEM() []byte { return ca.pair.Cert }

// Issue writes a certificate with a name, such as identity.Pool makes, to a directory: an old
// one is replaced. It is valid from now to end.
func (ca *CA) Issue(t testing.TB, dir, name string, now, end time.Time) trust.Files {
	t.Helper()
	pair, err := ca.a.Issue(name, nil, now, end)
	if err != nil {
		t.Fatal(err)
	}
	f := trust.Files{
		Cert: filepath.Join(dir, trust.CertName),
		Key:  filepath.Join(dir, trust.KeyName),
		CA:   filepath.Join(dir, trust.CAName),
	}
	Write(t, f.Cert, pair.Cert)
	Write(t, f.Key, pair.Key)
	Write(t, f.CA, ca.pair.Cert)
	return f
}

// Write replaces a private file by another one.
func Write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
