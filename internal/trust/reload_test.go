package trust_test

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

// TestReload: new files are used, and bad ones are not.
func TestReload(t *testing.T) {
	c := newClock()
	a := trusttest.New(t, "example.org", noon)
	dir := t.TempDir()
	f := a.Issue(t, dir, web, noon, noon.Add(30*day))
	cred, _ := open(t, f, c)
	reload := func(want bool) {
		t.Helper()
		if changed, err := cred.Reload(); changed != want || err != nil {
			t.Fatalf("Reload: %v, %v, want %v", changed, err, want)
		}
	}
	reload(false)
	a.Issue(t, dir, web, noon, noon.Add(60*day))
	reload(true)
	reload(false)
	if got := cred.NotAfter(); !got.Equal(noon.Add(60 * day)) {
		t.Errorf("end %v", got)
	}

	good, err := os.ReadFile(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	trusttest.Write(t, f.Key, []byte("damaged"))
	for range 2 {
		if changed, err := cred.Reload(); changed || err == nil || !strings.Contains(err.Error(), f.Key) {
			t.Errorf("damaged file: %v, %v", changed, err)
		}
	}
	if err := os.Remove(f.Key); err != nil {
		t.Fatal(err)
	}
	if changed, err := cred.Reload(); changed || err == nil {
		t.Errorf("removed file: %v, %v", changed, err)
	}
	if cred.Name() != web || !cred.NotAfter().Equal(noon.Add(60*day)) {
		t.Error("the old certificate is not kept")
	}
	trusttest.Write(t, f.Key, good)
	reload(true)
}

// TestReloadSameSize: a symbolic link that points to another file of the same size and time
// is seen, as Kubernetes changes them.
func TestReloadSameSize(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	a := filepath.Join(dir, "a")
	b := filepath.Join(dir, "b")
	link := filepath.Join(dir, "secret")
	for _, name := range []string{a, b} {
		trusttest.Write(t, name, trust.NewSecret())
		if err := os.Chtimes(name, noon, noon); err != nil {
			t.Fatal(err)
		}
	}
	point := func(to string) {
		if err := os.Symlink(to, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	point(a)
	cred, _ := open(t, trust.Files{Secret: link}, c)
	point(b)
	if changed, err := cred.Reload(); !changed || err != nil {
		t.Errorf("%v, %v", changed, err)
	}
}

// TestReloadAtHandshake: a handshake uses new files, and Reload says so afterwards. Errors are
// logged once, and files are looked at once a second.
func TestReloadAtHandshake(t *testing.T) {
	c := newClock()
	a := trusttest.New(t, "example.org", noon)
	dir := t.TempDir()
	f := a.Issue(t, dir, web, noon, noon.Add(30*day))
	cred, w := open(t, f, c)
	a.Issue(t, dir, ns, noon, noon.Add(30*day))
	cred.Client()
	if cred.Name() != web {
		t.Error("the files were read within a second")
	}
	c.pass(time.Second)
	cred.Client()
	if cred.Name() != ns {
		t.Errorf("name %q after a handshake", cred.Name())
	}
	if changed, err := cred.Reload(); !changed || err != nil {
		t.Errorf("Reload after a handshake: %v, %v", changed, err)
	}
	trusttest.Write(t, f.Cert, []byte("damaged"))
	for range 3 {
		c.pass(time.Second)
		cred.Server(netip.Addr{})
	}
	if got := w.take(); strings.Count(got, "stay in use") != 1 || !strings.Contains(got, f.Cert) {
		t.Errorf("log: %s", got)
	}
}

// TestReloadInProgress: a handshake waits for the files that are being read.
func TestReloadInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		a := trusttest.New(t, "example.org", noon)
		dir := t.TempDir()
		f := a.Issue(t, dir, web, noon, noon.Add(30*day))
		var begun, goOn chan struct{}
		cred, err := trust.Open(f, func() time.Time {
			if begun != nil {
				close(begun)
				begun = nil
				<-goOn
			}
			return c.now()
		}, func(string) {})
		if err != nil {
			t.Fatal(err)
		}
		old := cred.Client().Certificates[0].Certificate[0]
		a.Issue(t, dir, web, noon, noon.Add(60*day))
		reads := make(chan struct{})
		begun, goOn = reads, make(chan struct{})
		go func() { _, _ = cred.Reload() }()
		<-reads
		used := make(chan []byte, 1)
		go func() { used <- cred.Client().Certificates[0].Certificate[0] }()
		synctest.Wait()
		select {
		case <-used:
			t.Error("a handshake did not wait")
		default:
		}
		close(goOn)
		if bytes.Equal(<-used, old) {
			t.Error("a handshake uses the former certificate")
		}
	})
}

// TestRotation: while the CA changes, its file has both, and each certificate is accepted.
func TestRotation(t *testing.T) {
	c := newClock()
	before, after := issue(t, nil, ca("before")), issue(t, nil, ca("after"))
	old, renewed := issue(t, before, named(web)), issue(t, after, named(web))
	f := files(t, []*cert{before}, issue(t, before, named(ns)))
	cred, _ := open(t, f, c)
	accepts := func(step string, leaf *cert, want bool) {
		t.Helper()
		if _, _, err := cred.Identify(state(leaf)); (err == nil) != want {
			t.Errorf("%s: %v", step, err)
		}
	}
	load := func() {
		t.Helper()
		if changed, err := cred.Reload(); !changed || err != nil {
			t.Fatal(changed, err)
		}
	}
	accepts("before", old, true)
	accepts("before, new one", renewed, false)
	trusttest.Write(t, f.CA, pemOf(before, after))
	load()
	accepts("both", old, true)
	accepts("both, new one", renewed, true)
	own := issue(t, after, named(ns))
	trusttest.Write(t, f.Cert, pemOf(own))
	trusttest.Write(t, f.Key, own.keyPEM(t))
	trusttest.Write(t, f.CA, pemOf(after))
	load()
	accepts("after, old one", old, false)
	accepts("after", renewed, true)
}

// TestWarnings: the end of the certificate is told daily from a sixth of its life on.
func TestWarnings(t *testing.T) {
	c := newClock()
	a := trusttest.New(t, "example.org", noon)
	dir := t.TempDir()
	f := a.Issue(t, dir, web, noon, noon.Add(36*day))
	cred, w := open(t, f, c)
	after := func(d time.Duration, want string) {
		t.Helper()
		c.pass(d)
		if _, err := cred.Reload(); err != nil {
			t.Fatal(err)
		}
		if want != "" {
			want += f.Cert
		}
		if got := w.take(); got != want {
			t.Errorf("at %v: %q, want %q", c.now(), got, want)
		}
	}
	after(0, "")
	after(29*day+23*time.Hour, "")
	after(time.Hour, "our certificate ends in 6 days: ")
	after(time.Minute, "")
	after(day, "our certificate ends in 4 days: ")
	after(3*day, "our certificate ends in 1 day: ")
	after(day+22*time.Hour, "our certificate ends in 1 hour: ")
	after(day, "our certificate ended at 2026-07-07 12:00:00 UTC, and our clock says 2026-07-08 10:01:00 UTC: issue a new one, or set the clock: ")
	if cred.Valid() {
		t.Error("a certificate that has ended is valid")
	}
	a.Issue(t, dir, web, c.now(), c.now().Add(36*day))
	after(time.Minute, "")
	if !cred.Valid() {
		t.Error("a new certificate is not valid")
	}
	after(-2*time.Hour, "our certificate begins at 2026-07-08 09:56:00 UTC, and our clock says 2026-07-08 08:02:00 UTC: set the clock, or issue a new one: ")
	if cred.Valid() {
		t.Error("a certificate that has not begun is valid")
	}
}

// TestWarningBetween: if an authority between the certificate and the CA ends first, the file is named
// that has it.
func TestWarningBetween(t *testing.T) {
	c := newClock()
	short := ca("between")
	short.NotAfter = noon.Add(day)
	root := issue(t, nil, ca("root"))
	between := issue(t, root, short)
	f := files(t, []*cert{root}, issue(t, between, named(web)), between)
	c.pass(18 * time.Hour)
	_, w := open(t, f, c)
	if got, want := w.take(), `the authority between our certificate and the CA, "CN=between", ends in 6 hours: `+f.Cert; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestWarningOfAuthority: an authority that ends first is named.
func TestWarningOfAuthority(t *testing.T) {
	c := newClock()
	short := ca("short")
	short.NotAfter = noon.Add(day)
	root := issue(t, nil, short)
	f := files(t, []*cert{root}, issue(t, root, named(web)))
	_, w := open(t, f, c)
	c.pass(0)
	if got, want := w.take(), ""; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	c.pass(18 * time.Hour)
	_, w = open(t, f, c)
	if got, want := w.take(), "the authority of our certificate ends in 6 hours: "+f.CA; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
