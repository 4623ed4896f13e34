package trust_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

// TestName: an error of a file gets the name of the option that names it, and keeps the file's.
func TestName(t *testing.T) {
	a := trusttest.New(t, "example.org", noon)
	good := a.Issue(t, t.TempDir(), web, noon, noon.Add(day))
	other := a.Issue(t, t.TempDir(), web, noon, noon.Add(day))
	old := a.Issue(t, t.TempDir(), web, noon.Add(-2*day), noon.Add(-day))
	none, empty := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(change func(*trust.Files)) trust.Files {
		f := good
		change(&f)
		return f
	}
	options := trust.Files{Cert: "--cert", Key: "--key", CA: "--ca", Secret: "--secret"}
	for _, tc := range []struct {
		name     string
		files    trust.Files
		want     string // how the text begins
		file     string
		untimely bool
	}{
		{"no certificate", with(func(f *trust.Files) { f.Cert = "" }), "--cert: ", "", false},
		{"no key", with(func(f *trust.Files) { f.Key = "" }), "--key: ", "", false},
		{"no CA", with(func(f *trust.Files) { f.CA = "" }), "--ca: ", "", false},
		{"both", with(func(f *trust.Files) { f.Secret = none }), "--secret: ", "", false},
		{"certificate not there", with(func(f *trust.Files) { f.Cert = none }), "--cert: ", none, false},
		{"key not there", with(func(f *trust.Files) { f.Key = none }), "--key: ", none, false},
		{"CA not there", with(func(f *trust.Files) { f.CA = none }), "--ca: ", none, false},
		{"secret not there", trust.Files{Secret: none}, "--secret: ", none, false},
		{"certificate empty", with(func(f *trust.Files) { f.Cert = empty }), "--cert: ", empty, false},
		{"key empty", with(func(f *trust.Files) { f.Key = empty }), "--key: ", empty, false},
		{"CA empty", with(func(f *trust.Files) { f.CA = empty }), "--ca: ", empty, false},
		{"secret empty", trust.Files{Secret: empty}, "--secret: ", empty, false},
		{"key of another", with(func(f *trust.Files) { f.Key = other.Key }), "--key: ", other.Key, false},
		{"expired", with(func(f *trust.Files) { f.Cert, f.Key = old.Cert, old.Key }), "--cert: ", old.Cert, true},
	} {
		_, err := trust.Open(tc.files, newClock().now, func(string) {})
		named := trust.Name(err, options)
		if err == nil || !strings.HasPrefix(named.Error(), tc.want) || !strings.Contains(named.Error(), tc.file) || !errors.Is(named, err) {
			t.Errorf("%s: got error %v, want one that begins with %q, about %s", tc.name, named, tc.want, tc.file)
		}
		if got := errors.Is(named, trust.ErrUntimely); got != tc.untimely {
			t.Errorf("%s: untimely %v", tc.name, got)
		}
	}
	const elsewhere = "of something else"
	if got := trust.Name(errors.New(elsewhere), options).Error(); got != elsewhere {
		t.Errorf("another error gets a name: %s", got)
	}
}
