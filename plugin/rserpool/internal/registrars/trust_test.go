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
	looks := func(when string, want int) {
		t.Helper()
		if r.looks != want {
			t.Fatalf("%s: %d looks at the files, want %d", when, r.looks, want)
		}
	}
	inst.Restart()
	next := startInstance(t, rs, withTrust(addr1, a), withTrust(addr1, a))
	looks("before the former instance has ended", 0)
	inst.Shutdown()
	check("the same rights")
	looks("a reload with the same rights", 1)

	next.Restart()
	last := startInstance(t, rs, withTrust(addr1, a, b), withTrust(addr1, b, a))
	next.Shutdown()
	check("new rights", a+" "+b)
	looks("new rights, which come with a look", 1)

	next = last
	next.Restart()
	last = startInstance(t, rs, withTrust(addr1, b, a), withTrust(addr1, a, b))
	next.Shutdown()
	check("the same rights in another order", a+" "+b)
	looks("the same rights in another order", 2)

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

// TestReloadMode: a reload cannot begin or end TLS. The error says what to do.
func TestReloadMode(t *testing.T) {
	const other = "127.0.0.1:3864"
	for _, tt := range []struct {
		name     string
		from, to Options
		want     string
	}{
		{"TLS ends", withTrust(addr1), at(addr1), "registrar at " + addr1 + " runs with tls, and a reload cannot change it to one without tls: restart CoreDNS"},
		{"TLS begins", at(addr1), withTrust(addr1), "registrar at " + addr1 + " runs without tls, and a reload cannot change it to one with tls: restart CoreDNS"},
		{"at another port", at(addr1), withTrust(other), "is taken by the registrar at " + addr1 + "; give one of them another port, or transport kernel; if this is the registrar that runs there without tls, and it is to be one with tls, restart CoreDNS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, rs := newFakes()
			inst := startInstance(t, rs, tt.from)
			inst.Restart()
			err := rs.NewInstance().Add(aBlock(tt.to))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
			inst.RestartFailed(never)
			inst.FinalShutdown()
		})
	}
}
