package trust_test

import (
	"net/netip"
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
		if end, leaf := cred.NotAfter(), cred.Server(netip.Addr{}).Certificates[0].Leaf; !end.Equal(leaf.NotAfter) {
			t.Errorf("%s: end %v, want %v", what, end, leaf.NotAfter)
		}
	}
	first := using()
	cred.Refused(first, netip.Addr{}) // there is no other
	uses(first, "only")
	a.Issue(t, dir, web, noon, noon.Add(90*day))
	reload(true)
	second := using()
	cred.Refused(first, netip.Addr{}) // by an association that began before
	uses(second, "new")
	warnings.take()
	for range 3 { // several associations
		cred.Refused(second, netip.Addr{})
	}
	uses(first, "former")
	if got := warnings.take(); strings.Count(got, "refuses our new certificate") != 1 {
		t.Errorf("warnings %q, want one", got)
	}
	reload(false)
	cred.Refused(first, netip.Addr{}) // another peer has the new authority only
	uses(second, "new")
	cred.Refused(second, netip.Addr{})
	uses(first, "former")
	c.pass(time.Hour)
	reload(true)
	uses(second, "new")
	cred.Refused(second, netip.Addr{})
	c.pass(2 * day)
	reload(true)
	uses(second, "new")
	cred.Refused(second, netip.Addr{}) // the former one has ended
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
	cred.Refused(second, netip.Addr{})
	third := change(issue)
	if string(third) == string(second) {
		t.Fatal("the third certificate is the second one")
	}
	cred.Refused(third, netip.Addr{})
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
	cred.Refused(cred.Client().Certificates[0].Certificate[0], netip.Addr{})
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

// TestRefusedByAnybody: strangers can refuse the certificate of a server as often as they like.
// Only peers at their host get the former one, for an hour. They change nothing if that is of the same
// authority, or of one that this side does not accept any more.
func TestRefusedByAnybody(t *testing.T) {
	c := newClock()
	a, b := trusttest.New(t, "example.org", noon), trusttest.New(t, "example.org", noon)
	dir := t.TempDir()
	files := a.Issue(t, dir, ns, noon, noon.Add(30*day))
	cred, warnings := open(t, files, c)
	ca := func(list ...*trusttest.CA) {
		var all []byte
		for _, x := range list {
			all = append(all, x.PEM()...)
		}
		trusttest.Write(t, files.CA, all)
	}
	reload := func() {
		t.Helper()
		if _, err := cred.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	stranger, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	shown := func(host netip.Addr) string { return string(cred.Server(host).Certificates[0].Certificate[0]) }
	check := func(what string, changes bool) {
		t.Helper()
		before := shown(stranger)
		cred.Refused([]byte(before), stranger)
		if got := shown(stranger) != before; got != changes {
			t.Errorf("%s: changes the certificate %v, want %v", what, got, changes)
		}
		if shown(other) != string(cred.Client().Certificates[0].Certificate[0]) || cred.NotAfter() != noon.Add(60*day) {
			t.Errorf("%s: others do not get the new certificate", what)
		}
	}
	a.Issue(t, dir, ns, noon, noon.Add(60*day))
	reload()
	check("same authority", false)
	b.Issue(t, dir, ns, noon, noon.Add(60*day))
	ca(a, b)
	reload()
	warnings.take()
	check("another authority", true)
	if got := warnings.take(); strings.Count(got, "192.0.2.1") != 1 {
		t.Errorf("warnings %q, want one that names the host", got)
	}
	check("another peer there has the new authority only", true)
	check("and one the former", true)
	c.pass(time.Hour)
	if shown(stranger) != shown(other) {
		t.Error("the new certificate is not tried again after an hour")
	}
	check("after an hour", true)
	ca(b)
	reload()
	check("former authority is not accepted any more", false)
}

// TestRefusedByMany: what hosts have refused is bounded, and so are the lines of the log.
func TestRefusedByMany(t *testing.T) {
	const maxHosts, maxTold = 1024, 10
	c := newClock()
	a, b := trusttest.New(t, "example.org", noon), trusttest.New(t, "example.org", noon)
	dir := t.TempDir()
	files := a.Issue(t, dir, ns, noon, noon.Add(30*day))
	cred, warnings := open(t, files, c)
	b.Issue(t, dir, ns, noon, noon.Add(60*day))
	trusttest.Write(t, files.CA, append(a.PEM(), b.PEM()...))
	if _, err := cred.Reload(); err != nil {
		t.Fatal(err)
	}
	warnings.take()
	shown := func(host netip.Addr) []byte { return cred.Server(host).Certificates[0].Certificate[0] }
	first := netip.MustParseAddr("10.0.0.1")
	fresh := shown(first)
	host := first
	for range maxHosts + 1 {
		cred.Refused(fresh, host)
		if string(shown(host)) == string(fresh) {
			t.Fatalf("%v has refused the certificate, and gets it", host)
		}
		host = host.Next()
	}
	if string(shown(first)) != string(fresh) {
		t.Errorf("the first of %d hosts is still known", maxHosts+1)
	}
	if n := strings.Count(warnings.take(), "refuses"); n != maxTold {
		t.Errorf("%d lines, want %d", n, maxTold)
	}
}
