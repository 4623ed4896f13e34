package trust_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

// TestRefused: a new certificate that a peer refuses gives way to the former one, for an hour
// and as long as that holds.
func TestRefused(t *testing.T) {
	c := newClock()
	a := trusttest.New(t, "example.org", noon)
	dir := t.TempDir()
	cred, warnings := open(t, a.Issue(t, dir, web, noon, noon.Add(2*day)), c)
	using := func() []byte {
		if certs := cred.Client().Certificates; len(certs) > 0 {
			return certs[0].Certificate[0]
		}
		return nil
	}
	reload := func(want bool) {
		t.Helper()
		if changed, err := cred.Reload(); changed != want || err != nil {
			t.Fatalf("Reload: %v, %v, want %v", changed, err, want)
		}
	}
	uses := func(want []byte, what string) {
		t.Helper()
		if string(using()) != string(want) {
			t.Errorf("the certificate in use is not the %s one", what)
		}
		if end, leaf := cred.NotAfter(), cred.Server().Certificates[0].Leaf; !end.Equal(leaf.NotAfter) {
			t.Errorf("%s: end %v, want %v", what, end, leaf.NotAfter)
		}
	}
	first := using()
	cred.Refused(first) // there is no other
	uses(first, "only")
	a.Issue(t, dir, web, noon, noon.Add(90*day))
	reload(true)
	second := using()
	cred.Refused(first) // by an association that began before
	uses(second, "new")
	warnings.take()
	for range 3 { // several associations
		cred.Refused(second)
	}
	uses(first, "former")
	if got := warnings.take(); strings.Count(got, "refuses our new certificate") != 1 {
		t.Errorf("warnings %q, want one", got)
	}
	reload(false)
	cred.Refused(first) // another peer has the new authority only
	uses(second, "new")
	cred.Refused(second)
	uses(first, "former")
	c.pass(time.Hour)
	reload(true)
	uses(second, "new")
	cred.Refused(second)
	c.pass(2 * day)
	reload(true)
	uses(second, "new")
	cred.Refused(second) // the former one has ended
	uses(second, "new")
}

// TestRefusedThenChanged: changed files are tried at once.
func TestRefusedThenChanged(t *testing.T) {
	c := newClock()
	a := trusttest.New(t, "example.org", noon)
	dir := t.TempDir()
	cred, _ := open(t, a.Issue(t, dir, web, noon, noon.Add(30*day)), c)
	change := func(f func() trust.Files) []byte {
		t.Helper()
		f()
		if changed, err := cred.Reload(); !changed || err != nil {
			t.Fatalf("Reload: %v, %v", changed, err)
		}
		return cred.Client().Certificates[0].Certificate[0]
	}
	issue := func() trust.Files { return a.Issue(t, dir, web, noon, noon.Add(60*day)) }
	second := change(issue)
	cred.Refused(second)
	third := change(issue)
	if string(third) == string(second) {
		t.Fatal("the third certificate is the second one")
	}
	cred.Refused(third)
	if got := cred.NotAfter(); !got.Equal(noon.Add(30 * day)) {
		t.Errorf("the certificate in use ends at %v, want the one that was never refused", got)
	}
}

// TestRefusedThenBack: if the former files are put back, the certificate that was refused is
// not tried again.
func TestRefusedThenBack(t *testing.T) {
	c := newClock()
	a := trusttest.New(t, "example.org", noon)
	dir := t.TempDir()
	files := a.Issue(t, dir, web, noon, noon.Add(30*day))
	cred, _ := open(t, files, c)
	first := map[string][]byte{}
	for _, path := range []string{files.Cert, files.Key} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		first[path] = b
	}
	reload := func(want bool) {
		t.Helper()
		if changed, err := cred.Reload(); changed != want || err != nil {
			t.Fatalf("Reload: %v, %v, want %v", changed, err, want)
		}
	}
	a.Issue(t, dir, web, noon, noon.Add(60*day))
	reload(true)
	cred.Refused(cred.Client().Certificates[0].Certificate[0])
	for path, b := range first {
		trusttest.Write(t, path, b)
	}
	reload(true)
	c.pass(2 * time.Hour)
	reload(false)
	if got := cred.NotAfter(); !got.Equal(noon.Add(30 * day)) {
		t.Errorf("the certificate in use ends at %v, want that of the files", got)
	}
}
