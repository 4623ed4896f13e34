package registrars

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// withTrust has a registrar with a shared secret that denies these identities.
func withTrust(addr string, deny ...string) Options {
	o := at(addr)
	o.Trust = host.Trust{TLSFiles: rserpool.TLSFiles{Secret: "/secret"}, Deny: deny}
	return o
}

// TestMistrust: blocks of one registrar trust the same peers.
func TestMistrust(t *testing.T) {
	const a, b = "dns:a.example.org", "dns:b.example.org"
	files := at(addr1)
	files.Trust.TLSFiles = rserpool.TLSFiles{Cert: "/cert", Key: "/key", CA: "/ca"}
	allows := withTrust(addr1)
	allows.Trust.Allow = []host.Allow{{Pools: "web", Names: a}}
	tests := []struct {
		name          string
		first, second Options
		want          string
	}{
		{"the same", withTrust(addr1, a, b), withTrust(addr1, a, b), ""},
		{"order means nothing", withTrust(addr1, a, b), withTrust(addr1, b, a), ""},
		{"another registrar", withTrust(addr1, a), withTrust("127.0.0.2:3864", b), ""},
		{"one more", withTrust(addr1, a), withTrust(addr1, a, b), "Testfile:1 - another block of the same registrar trusts others (here: deny " + b + ");"},
		{"one less", withTrust(addr1, a, b), withTrust(addr1, a), "(here: no deny " + b + ")"},
		{"allow", withTrust(addr1), allows, "(here: allow web " + a + ")"},
		{"other files", withTrust(addr1), files, "(here: tls /cert /key /ca, no tls_secret /secret)"},
		{"no TLS", withTrust(addr1), at(addr1), "registrar at " + addr1 + " already runs with other options (without tls, not with tls)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, rs := newFakes()
			inst := rs.NewInstance()
			if err := inst.Add(aBlock(tt.first)); err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := inst.Add(aBlock(tt.second)); err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got error %q, want %q", got, tt.want)
			}
		})
	}
}

// TestReloadTrust: a reload gives the running registrar new rights, once. One that fails
// changes nothing, also if it fails because another registrar cannot start.
func TestReloadTrust(t *testing.T) {
	const a, b = "dns:a.example.org", "dns:b.example.org"
	f, rs := newFakes()
	inst := startInstance(t, rs, withTrust(addr1, a))
	r := f.only(t, addr1)
	check := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, trust := range r.trusts {
			got = append(got, strings.Join(trust.Deny, " "))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s: rights that the registrar has got (-want +got):\n%s", when, diff)
		}
	}
	inst.Restart()
	next := startInstance(t, rs, withTrust(addr1, a), withTrust(addr1, a))
	inst.Shutdown()
	check("the same rights")

	next.Restart()
	last := startInstance(t, rs, withTrust(addr1, a, b), withTrust(addr1, a, b))
	next.Shutdown()
	check("new rights", a+" "+b)

	last.Restart()
	startInstance(t, rs, withTrust(addr1))
	last.RestartFailed(never)
	check("a failure after the start", a+" "+b)

	last.Restart()
	f.next = func(r *fakeRegistrar) { r.startErr = errors.New("address already in use") }
	failing := rs.NewInstance()
	for _, o := range []Options{withTrust(addr1), at(addr2)} {
		if err := failing.Add(aBlock(o)); err != nil {
			t.Fatal(err)
		}
	}
	if err := failing.Startup(); err == nil {
		t.Fatal("the start has not failed")
	}
	last.RestartFailed(never)
	check("a failure of the start", a+" "+b)

	last.Restart()
	late := startInstance(t, rs, withTrust(addr1))
	last.RestartFailed(late.Holds)
	check("a failure after the end", a+" "+b, "")
	last = late

	last.Restart()
	r.trustErr = errors.New("key does not match")
	bad := rs.NewInstance()
	if err := bad.Add(aBlock(withTrust(addr1))); err != nil {
		t.Fatal(err)
	}
	if err := bad.Startup(); !errors.Is(err, r.trustErr) || !strings.Contains(err.Error(), addr1) {
		t.Errorf("files that cannot be read: got error %v, want %v with %s", err, r.trustErr, addr1)
	}
	last.RestartFailed(never)
	last.FinalShutdown()
}
