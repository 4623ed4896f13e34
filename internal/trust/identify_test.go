package trust_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

// TestIdentify: which certificates of peers are accepted, and what is said of the others.
func TestIdentify(t *testing.T) {
	root, second, foreign := issue(t, nil, ca("root")), issue(t, nil, ca("second")), issue(t, nil, ca("foreign"))
	between := issue(t, root, ca("between"))
	soon := ca("soon")
	soon.NotAfter = noon.Add(time.Hour)
	ending := issue(t, root, soon)
	gone := ca("gone")
	gone.NotAfter = noon.Add(-time.Hour)
	ended := issue(t, root, gone)
	cred, _ := open(t, files(t, []*cert{root, second}, issue(t, root, named(ns))), newClock())

	with := func(c x509.Certificate, change func(c *x509.Certificate)) x509.Certificate {
		change(&c)
		return c
	}
	dns := func(names ...string) x509.Certificate {
		return x509.Certificate{Subject: pkix.Name{CommonName: "host1"}, DNSNames: names}
	}
	long := "spiffe://example.org/rserpool/pool/web/" + strings.Repeat("x", 257-39)
	many := []*cert{issue(t, root, named(web))}
	for len(many) < 11 {
		many = append(many, between)
	}
	big := issue(t, root, with(named(web), func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{strings.Repeat("x", 65<<10)} }))

	for _, tc := range []struct {
		name  string
		chain []*cert
		want  string
		err   string
	}{
		{"pool", []*cert{issue(t, root, named(web))}, web, ""},
		{"another authority of the file", []*cert{issue(t, second, named(web))}, web, ""},
		{"with one between", []*cert{issue(t, between, named(web)), between}, web, ""},
		{"with superfluous ones", []*cert{issue(t, root, named(web)), foreign, between}, web, ""},
		{"any SPIFFE URI", []*cert{issue(t, root, named("spiffe://example.org/ns/default/sa/web"))}, "spiffe://example.org/ns/default/sa/web", ""},
		{"URI and DNS names", []*cert{issue(t, root, with(named(web), func(c *x509.Certificate) { c.DNSNames = []string{"a.example", "b.example"} }))}, web, ""},
		{"DNS name", []*cert{issue(t, root, dns("Host1.Example.org"))}, "dns:host1.example.org", ""},
		{"for servers only", []*cert{issue(t, root, with(named(web), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))}, web, ""},
		{"for e-mail only", []*cert{issue(t, root, with(named(web), func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
		}))}, web, ""},

		{"expired", []*cert{issue(t, root, with(named(web), func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) }))}, "",
			"certificate of " + web + " ended at 2026-06-01 11:59:59 UTC, and our clock says 2026-06-01 12:00:00 UTC"},
		{"not yet valid", []*cert{issue(t, root, with(named(web), func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Hour) }))}, "",
			"is not yet valid: it begins at 2026-06-01 13:00:00 UTC, and our clock says 2026-06-01 12:00:00 UTC"},
		{"authority expired", []*cert{issue(t, ended, named(web)), ended}, "", `the certificate of its authority "CN=gone" ended at`},
		{"unknown authority", []*cert{issue(t, foreign, named(web))}, "", `has an unknown authority: it is signed by "CN=foreign"`},
		{"one between is missing", []*cert{issue(t, between, named(web))}, "", `signed by "CN=between"`},
		{"authority of the same name", []*cert{issue(t, issue(t, nil, ca("root")), named(web))}, "", `it is signed by another "CN=root" than that of `},
		{"signed by itself", []*cert{issue(t, nil, named(web))}, "", "is signed by itself"},
		{"signed by an element", []*cert{issue(t, issue(t, root, named(web)), named(ns)), issue(t, root, named(web))}, "", "unknown authority"},
		{"two URIs", []*cert{issue(t, root, named(web, ns))}, "", `the certificate of "CN=host1" has 2 URIs`},
		{"two DNS names", []*cert{issue(t, root, dns("a.example", "b.example"))}, "", "has 2 DNS names and no URI"},
		{"no name", []*cert{issue(t, root, dns())}, "", "has no name: it must have one URI"},
		{"another URI", []*cert{issue(t, root, named("https://example.org/rserpool/pool/web/host1"))}, "", "is not a name"},
		{"URI with a query", []*cert{issue(t, root, named(web+"?x"))}, "", "is not a name"},
		{"URI with an escape", []*cert{issue(t, root, named("spiffe://example.org/rserpool/pool/%77eb/host1"))}, "", "is not a name"},
		{"URI with capitals in the domain", []*cert{issue(t, root, named("spiffe://Example.org/rserpool/pool/web/host1"))}, "", "is not a name"},
		{"URI with a port", []*cert{issue(t, root, named("spiffe://example.org:1/rserpool/pool/web/host1"))}, "", "is not a name"},
		{"URI without a path", []*cert{issue(t, root, named("spiffe://example.org"))}, "", "is not a name"},
		{"long URI", []*cert{issue(t, root, named(long))}, "", "has 257 bytes, more than 256"},
		{"wildcard", []*cert{issue(t, root, dns("*.example.org"))}, "", "is not a name"},
		{"11 certificates", many, "", "there are 11 certificates, more than 10"},
		{"66 kB", []*cert{big}, "", "bytes, more than 65536"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name, until, err := cred.Identify(state(tc.chain...))
			if tc.err != "" {
				if err == nil || name != "" || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("%q, error %v, want one with %q", name, err, tc.err)
				}
				return
			}
			if name != tc.want || err != nil || !until.Equal(tc.chain[0].x.NotAfter) {
				t.Errorf("%q, %v, %v, want %q", name, until, err, tc.want)
			}
		})
	}
	if _, until, err := cred.Identify(state(issue(t, ending, named(web)), ending)); err != nil || !until.Equal(noon.Add(time.Hour)) {
		t.Errorf("the end of the one between counts: %v, %v", until, err)
	}
}

// TestOpenErrors: files that cannot be used are refused at the start, in plain words.
func TestOpenErrors(t *testing.T) {
	root, foreign := issue(t, nil, ca("root")), issue(t, nil, ca("foreign"))
	leaf := issue(t, root, named(web))
	late := named(web)
	late.NotAfter = noon.Add(-day)
	early := named(web)
	early.NotBefore = noon.Add(day)

	// Each case changes good files; FILE in want is the file that the error must name.
	for _, tc := range []struct {
		name string
		make func(t *testing.T) trust.Files
		bad  func(f *trust.Files) *string
		want string
	}{
		{"expired", func(t *testing.T) trust.Files { return files(t, []*cert{root}, issue(t, root, late)) }, theCert,
			"FILE: certificate of " + web + " ended at 2026-05-31 12:00:00 UTC, and our clock says 2026-06-01 12:00:00 UTC: issue a new one"},
		{"not yet valid", func(t *testing.T) trust.Files { return files(t, []*cert{root}, issue(t, root, early)) }, theCert, "FILE: certificate of " + web + " is not yet valid"},
		{"of another authority", func(t *testing.T) trust.Files { return files(t, []*cert{foreign}, leaf) }, theCert, `FILE: certificate of ` + web + ` has an unknown authority: it is signed by "CN=root"`},
		{"no name", func(t *testing.T) trust.Files { return files(t, []*cert{root}, issue(t, root, named())) }, theCert, "FILE: the certificate of \"CN=host1\" has no name"},
		{"two URIs", func(t *testing.T) trust.Files { return files(t, []*cert{root}, issue(t, root, named(web, ns))) }, theCert, "has 2 URIs"},
		{"key of another", func(t *testing.T) trust.Files {
			f := files(t, []*cert{root}, leaf)
			trusttest.Write(t, f.Key, foreign.keyPEM(t))
			return f
		}, theKey, "the key in FILE is not that of the certificate in"},
		{"key that others can read", func(t *testing.T) trust.Files { return mode(t, files(t, []*cert{root}, leaf), 0o644) }, theKey, "FILE is private, but other users can read it (mode 0644): chmod 600 FILE"},
		{"key that others can write", func(t *testing.T) trust.Files { return mode(t, files(t, []*cert{root}, leaf), 0o602) }, theKey, "mode 0602"},
		{"key with a passphrase", written(root, leaf, theKey, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), theKey, "FILE is encrypted with a passphrase"},
		{"CERT and KEY swapped", func(t *testing.T) trust.Files {
			f := files(t, []*cert{root}, leaf)
			f.Cert, f.Key = f.Key, f.Cert
			return mode(t, f, 0o644)
		}, theKey, "FILE is a certificate, not a key: are CERT and KEY swapped?"},
		{"no key in the file", written(root, leaf, theKey, "hello\n"), theKey, "FILE has no private key"},
		{"damaged key", written(root, leaf, theKey, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), theKey, "FILE has a private key that cannot be read"},
		{"key that was cut off", written(root, leaf, theKey, "-----BEGIN PRIVATE KEY-----\nAAAA\n"), theKey, "FILE has a private key that cannot be read: its end is missing"},
		{"no certificate in the file", written(root, leaf, theCert, "hello\n"), theCert, "FILE has no certificate"},
		{"damaged certificate", written(root, leaf, theCert, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), theCert, "FILE: certificate 1 cannot be read"},
		{"no CA in the file", written(root, leaf, theCA, ""), theCA, "FILE has no certificate"},
		{"certificate in place of the CA", written(root, leaf, theCA, string(pemOf(leaf))), theCA, `FILE: certificate 1 ("CN=host1") is not that of a CA`},
		{"large file", written(root, leaf, theCA, strings.Repeat("x", 1<<20+1)), theCA, "FILE has more than 1048576 bytes"},
		{"no such file", func(t *testing.T) trust.Files {
			f := files(t, []*cert{root}, leaf)
			f.CA += "x"
			return f
		}, theCA, "FILE: no such file"},
		{"directory", func(t *testing.T) trust.Files {
			f := files(t, []*cert{root}, leaf)
			f.CA = t.TempDir()
			return f
		}, theCA, "FILE is not a regular file"},
		{"key without a certificate", func(*testing.T) trust.Files { return trust.Files{Key: "k", CA: "c"} }, theKey, "certificate is missing"},
		{"nothing", func(*testing.T) trust.Files { return trust.Files{} }, theKey, "CA is missing"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.make(t)
			want := strings.ReplaceAll(tc.want, "FILE", *tc.bad(&f))
			if _, err := trust.Open(f, newClock().now, (&warnings{}).add); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v\nwant %s", err, want)
			}
		})
	}
}

func theCert(f *trust.Files) *string { return &f.Cert }
func theKey(f *trust.Files) *string  { return &f.Key }
func theCA(f *trust.Files) *string   { return &f.CA }

// written are good files of which one is replaced.
func written(root, leaf *cert, which func(*trust.Files) *string, text string) func(*testing.T) trust.Files {
	return func(t *testing.T) trust.Files {
		f := files(t, []*cert{root}, leaf)
		trusttest.Write(t, *which(&f), []byte(text))
		return f
	}
}

func mode(t *testing.T, f trust.Files, mode os.FileMode) trust.Files {
	t.Helper()
	if err := os.Chmod(f.Key, mode); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestOpenChain: a certificate file may have the certificates between, and a CA file several.
func TestOpenChain(t *testing.T) {
	root, foreign := issue(t, nil, ca("root")), issue(t, nil, ca("foreign"))
	middle := ca("between")
	middle.NotAfter = noon.Add(2 * day)
	between := issue(t, root, middle)
	cred, _ := open(t, files(t, []*cert{foreign, root}, issue(t, between, named(web)), between), newClock())
	other, _ := open(t, files(t, []*cert{root}, issue(t, root, named(ns))), newClock())
	_, atServer := handshake(t, cred.Client(), other.Server(netip.Addr{}))
	if name, _, err := other.Identify(atServer.cs); name != web || err != nil || atServer.err != nil {
		t.Errorf("%q, %v, %v", name, err, atServer.err)
	}
	if got := cred.NotAfter(); !got.Equal(noon.Add(2 * day)) {
		t.Errorf("the end is that of the chain, got %v", got)
	}
}

// BenchmarkIdentify is what each peer costs when all are looked at again.
func BenchmarkIdentify(b *testing.B) {
	root := issue(b, nil, ca("root"))
	f := files(b, []*cert{root}, issue(b, root, named(ns)))
	cred, err := trust.Open(f, func() time.Time { return noon }, func(string) {})
	if err != nil {
		b.Fatal(err)
	}
	peer := state(issue(b, root, named(web)))
	for b.Loop() {
		if _, _, err := cred.Identify(peer); err != nil {
			b.Fatal(err)
		}
	}
}
