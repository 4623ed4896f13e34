package rserpool

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// TestServerReloadTrust: a reload withdraws rights and gives them back, and takes other
// certificates. The element that has a right of its own does not notice. A reload that fails
// changes nothing.
func TestServerReloadTrust(t *testing.T) {
	const sa = "spiffe://example.org/ns/prod/sa/web"
	ca := trusttest.New(t, "example.org", time.Now())
	issue := func(name string) rsp.TLSFiles {
		now := time.Now()
		return rsp.TLSFiles(ca.Issue(t, t.TempDir(), name, now, now.Add(time.Hour)))
	}
	tls := func() string {
		f := issue("spiffe://example.org/rserpool/registrar/ns1")
		return fmt.Sprintf("tls %q %q %q\n", f.Cert, f.Key, f.CA)
	}
	p := freePorts(t)
	text := func(lines ...string) string {
		return fmt.Sprintf("pool.example.org:0 {\n rserpool {\nttl 0\n%s%s\n}\n}\n", p.options(), strings.Join(lines, "\n"))
	}
	const allow = "allow other spiffe://example.org/ns/*/sa/web"
	first := tls()
	s := startServer(t, text(first, allow))
	own := register(t, p, "web", 7, issue("spiffe://example.org/rserpool/pool/web/h1"))
	allowed := register(t, p, "other", 8, issue(sa))
	s.waitFor("answer", "web."+zoneZ, dns.TypeA, hasAnswer)
	s.waitFor("answer", "other."+zoneZ, dns.TypeA, hasAnswer)

	if err := s.reload(text(tls(), allow)); err != nil {
		t.Fatal(err)
	}
	if err := s.reload(text(first)); err != nil {
		t.Fatal(err)
	}
	s.waitFor("NXDOMAIN", "other."+zoneZ, dns.TypeA, isUnknown)
	if err := s.reload(text(first, allow)); err != nil {
		t.Fatal(err)
	}
	s.waitFor("answer", "other."+zoneZ, dns.TypeA, hasAnswer)
	// The element learns it a little later than the clients of DNS.
	eventually(t, "the allowed element is registered again", func() bool { return allowed.count(pe.Registered) == 2 })

	for name, tt := range map[string]struct{ corefile, want string }{
		"no such file":       {text("tls /none/cert.pem /none/key.pem /none/ca.pem", allow), "tls CA: stat /none/ca.pem: no such file"},
		"no TLS":             {text(), "runs with tls, and a reload cannot change it to one without tls: restart CoreDNS"},
		"a pattern":          {text(first, "deny ["), "is not a pattern of identities"},
		"a later block":      {text(first) + "example.net:70000 {\n whoami\n}", ""},
		"files do not match": {text(strings.Replace(first, "/key.pem", "/ca.pem", 1), allow), ""},
	} {
		if err := s.reload(tt.corefile); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, tt.want)
		}
		if m := s.query("other."+zoneZ, dns.TypeA); len(m.Answer) != 1 {
			t.Errorf("%s: after the failed reload got\n%s\nwant one address", name, m)
		}
		if n := allowed.count(pe.Registered); n != 2 {
			t.Errorf("%s: the element with an allowed identity registered %d times, want 2", name, n)
		}
	}
	if n := own.count(pe.Registered); n != 1 || own.count(pe.HomeLost) != 0 {
		t.Errorf("the element with its own right registered %d times and lost its home %d times, want 1 and 0", n, own.count(pe.HomeLost))
	}
	allowed.leave(t)
	own.leave(t)
}

// TestServerReloadFiles: a reload with the same Corefile has files read again that have changed, at
// once and also if two blocks share the registrar. One that cannot be used fails it.
func TestServerReloadFiles(t *testing.T) {
	const name = "spiffe://example.org/rserpool/registrar/ns1"
	ca, p, dir := trusttest.New(t, "example.org", time.Now()), freePorts(t), t.TempDir()
	now := time.Now().Truncate(time.Second)
	f := ca.Issue(t, dir, name, now, now.Add(time.Hour))
	block := fmt.Sprintf(" rserpool {\n%stls %q %q %q\n}\n}\n", p.options(), f.Cert, f.Key, f.CA)
	text := "pool.example.org:0 {\n" + block + "pool.example.net:0 {\n" + block
	s := startServer(t, text)
	end := now.Add(2 * time.Hour)
	ca.Issue(t, dir, name, now, end)
	if err := s.reload(text); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate", func() bool { return gauge(t, "tls_certificate_end_timestamp_seconds") == float64(end.Unix()) })
	if err := os.Remove(f.Key); err != nil {
		t.Fatal(err)
	}
	if err := s.reload(text); err == nil || !strings.Contains(err.Error(), "tls KEY: stat "+f.Key) {
		t.Errorf("without the key: got error %v", err)
	}
}

// TestServerBadFiles: CoreDNS does not start with files that cannot be used.
func TestServerBadFiles(t *testing.T) {
	p := freePorts(t)
	ca := trusttest.New(t, "example.org", time.Now())
	now := time.Now()
	f := ca.Issue(t, t.TempDir(), "spiffe://example.org/rserpool/registrar/ns1", now, now.Add(time.Hour))
	other := ca.Issue(t, t.TempDir(), "spiffe://example.org/rserpool/registrar/ns2", now, now.Add(time.Hour))
	readable := ca.Issue(t, t.TempDir(), "spiffe://example.org/rserpool/registrar/ns3", now, now.Add(time.Hour))
	if err := os.Chmod(readable.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		option string
		files  []string
		want   string
	}{
		{"tls", []string{"/none", f.Key, f.CA}, "tls CERT: stat /none: no such file"},
		{"tls", []string{f.Cert, "/none", f.CA}, "tls KEY: stat /none: no such file"},
		{"tls", []string{f.Cert, other.Key, f.CA}, "tls KEY: the key in " + other.Key + " is not that of"},
		{"tls", []string{readable.Cert, readable.Key, readable.CA}, "tls KEY: " + readable.Key + " is private"},
		{"tls_secret", []string{f.CA}, "tls_secret: " + f.CA},
	} {
		lines := tt.option
		for _, file := range tt.files {
			lines += fmt.Sprintf(" %q", file)
		}
		inst, err := caddy.Start(corefile(fmt.Sprintf("pool.example.org:0 {\n rserpool {\n%s%s\n}\n}\n", p.options(), lines)))
		if err == nil {
			(&server{t, inst}).stop()
		}
		if err == nil || !strings.Contains(err.Error(), "registrar at 127.0.0.1") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want one with %q", lines, err, tt.want)
		}
	}
}
