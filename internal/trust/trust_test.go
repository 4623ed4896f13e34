package trust_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

// TestHandshake: both sides know each other's name after a handshake.
func TestHandshake(t *testing.T) {
	c := newClock()
	a := trusttest.New(t, "example.org", noon)
	server, _ := open(t, a.Issue(t, t.TempDir(), ns, noon, noon.Add(90*day)), c)
	element, _ := open(t, a.Issue(t, t.TempDir(), web, noon, noon.Add(30*day)), c)
	user, _ := open(t, trust.Files{CA: a.Issue(t, t.TempDir(), ns, noon, noon.Add(90*day)).CA}, c)

	for _, tc := range []struct {
		name   string
		client *trust.Credentials
		want   string
		until  time.Time
	}{
		{"element", element, web, noon.Add(30 * day)},
		{"user without a certificate", user, "", time.Time{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			atClient, atServer := handshake(t, tc.client.Client(), server.Server(netip.Addr{}))
			if atClient.err != nil || atServer.err != nil {
				t.Fatal(atClient.err, atServer.err)
			}
			if v := atClient.cs.Version; v != tls.VersionTLS13 {
				t.Errorf("version %s", tls.VersionName(v))
			}
			if name, until, err := server.Identify(atServer.cs); name != tc.want || !until.Equal(tc.until) || err != nil {
				t.Errorf("at the server: %q, %v, %v, want %q, %v", name, until, err, tc.want, tc.until)
			}
			if name, until, err := tc.client.Identify(atClient.cs); name != ns || !until.Equal(noon.Add(90*day)) || err != nil {
				t.Errorf("at the client: %q, %v, %v", name, until, err)
			}
			if tc.client.Name() != tc.want {
				t.Errorf("own name %q", tc.client.Name())
			}
		})
	}
	if got := element.NotAfter(); !got.Equal(noon.Add(30 * day)) {
		t.Errorf("NotAfter %v", got)
	}
	if !user.NotAfter().IsZero() {
		t.Error("who has no certificate has an end")
	}
}

// TestHandshakeRefused: a bad certificate is refused by either side, and not taken for none.
func TestHandshakeRefused(t *testing.T) {
	c := newClock()
	ours, theirs := trusttest.New(t, "example.org", noon), trusttest.New(t, "example.org", noon)
	server, _ := open(t, ours.Issue(t, t.TempDir(), ns, noon, noon.Add(90*day)), c)
	stranger, _ := open(t, theirs.Issue(t, t.TempDir(), web, noon, noon.Add(30*day)), c)
	blind := stranger.Client()
	blind.VerifyConnection = nil // accepts the server, so that the server judges
	atClient, atServer := handshake(t, blind, server.Server(netip.Addr{}))
	if atServer.err == nil || !strings.Contains(atServer.err.Error(), "unknown authority") {
		t.Errorf("server: %v", atServer.err)
	}
	if atClient.err == nil || !strings.Contains(atClient.err.Error(), "bad certificate") {
		t.Errorf("client: %v", atClient.err)
	}
	if atClient, _ = handshake(t, stranger.Client(), server.Server(netip.Addr{})); atClient.err == nil || !strings.Contains(atClient.err.Error(), "unknown authority") {
		t.Errorf("client that judges: %v", atClient.err)
	}
	old := stranger.Client()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if atClient, _ = handshake(t, old, server.Server(netip.Addr{})); atClient.err == nil || !strings.Contains(atClient.err.Error(), "protocol version") {
		t.Errorf("TLS 1.2: %v", atClient.err)
	}
}

// TestHandshakeHints: a server that lists other authorities gets our certificate all the same.
func TestHandshakeHints(t *testing.T) {
	c := newClock()
	a := trusttest.New(t, "example.org", noon)
	f := a.Issue(t, t.TempDir(), web, noon, noon.Add(30*day))
	element, _ := open(t, f, c)
	cfg := element.Server(netip.Addr{})
	cfg.ClientCAs = x509.NewCertPool()
	cfg.ClientCAs.AddCert(issue(t, nil, ca("another")).x)
	_, atServer := handshake(t, element.Client(), cfg)
	if name, _, err := element.Identify(atServer.cs); name != web || err != nil || atServer.err != nil {
		t.Errorf("%q, %v, %v", name, err, atServer.err)
	}
}

func TestDir(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files []string
		want  trust.Files
		err   string
	}{
		{"of rsp ca issue", []string{"cert.pem", "key.pem", "ca.pem"}, trust.Files{Cert: "cert.pem", Key: "key.pem", CA: "ca.pem"}, ""},
		{"of Kubernetes", []string{"tls.crt", "tls.key", "ca.crt"}, trust.Files{Cert: "tls.crt", Key: "tls.key", CA: "ca.crt"}, ""},
		{"secret", []string{"secret"}, trust.Files{Secret: "secret"}, ""},
		{"CA only", []string{"ca.pem", "ca-key.pem"}, trust.Files{CA: "ca.pem"}, ""},
		{"secret and CA", []string{"secret", "ca.pem"}, trust.Files{}, "exclude each other"},
		{"no key", []string{"cert.pem", "ca.pem"}, trust.Files{}, "private key is missing"},
		{"no certificate", []string{"key.pem", "ca.pem"}, trust.Files{}, "certificate is missing"},
		{"no CA", []string{"tls.crt", "tls.key"}, trust.Files{}, "CA is missing"},
		{"nothing", nil, trust.Files{}, "rsp ca issue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range tc.files {
				trusttest.Write(t, filepath.Join(dir, name), nil)
			}
			got, err := trust.Dir(dir)
			for _, p := range []*string{&got.Cert, &got.Key, &got.CA, &got.Secret} {
				*p = strings.TrimPrefix(*p, dir+"/")
			}
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || !strings.Contains(err.Error(), dir) {
					t.Errorf("error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
	if _, err := trust.Dir(filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("a directory that does not exist: %v", err)
	}
	file := filepath.Join(t.TempDir(), "cert.pem")
	trusttest.Write(t, file, nil)
	if _, err := trust.Dir(file); err == nil || !strings.HasSuffix(err.Error(), "cert.pem is not a directory") {
		t.Errorf("a file: %v", err)
	}
}

// TestDirLinks: files that are there and cannot be read are no missing ones, or else a member with a certificate
// would go on without.
func TestDirLinks(t *testing.T) {
	dir := t.TempDir()
	trusttest.Write(t, filepath.Join(dir, "ca.pem"), nil)
	want := trust.Files{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for _, link := range []string{want.Cert, want.Key} {
		if err := os.Symlink("nowhere", link); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := trust.Dir(dir); got != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// TestSecret: who has the secret is identity.Shared, and who has none is nobody.
func TestSecret(t *testing.T) {
	c := newClock()
	write := func(text string) trust.Files {
		f := trust.Files{Secret: filepath.Join(t.TempDir(), "secret")}
		trusttest.Write(t, f.Secret, []byte(text))
		return f
	}
	one, two := string(trust.NewSecret()), string(trust.NewSecret())
	a, _ := open(t, write(one), c)
	b, _ := open(t, write("\n"+one), c)
	both, _ := open(t, write(two+one), c)
	other, _ := open(t, write(two), c)

	for _, tc := range []struct {
		name           string
		client, server *trust.Credentials
		refused        bool
	}{
		{"same", a, b, false},
		{"another", a, other, true},
		{"while it changes, as client", both, a, true}, // the server knows the old one only
		{"while it changes, both", both, both, false},
		{"new with both", other, both, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			atClient, atServer := handshake(t, tc.client.Client(), tc.server.Server(netip.Addr{}))
			if tc.refused {
				if atServer.err == nil || atClient.err == nil {
					t.Error(atClient.err, atServer.err)
				}
				return
			}
			if atServer.err != nil || atClient.err != nil {
				t.Fatal(atClient.err, atServer.err)
			}
			if name, until, err := tc.server.Identify(atServer.cs); name != identity.Shared || !until.IsZero() || err != nil {
				t.Errorf("%q, %v, %v", name, until, err)
			}
		})
	}
	if name, _, err := a.Identify(tls.ConnectionState{}); name != "" || err != nil {
		t.Errorf("nobody: %q, %v", name, err)
	}
	if a.Name() != identity.Shared || !a.NotAfter().IsZero() {
		t.Errorf("name %q, end %v", a.Name(), a.NotAfter())
	}

	for name, tc := range map[string]struct{ text, want string }{
		"hex":        {strings.Repeat("0a", 32), ""},
		"passphrase": {"correct horse battery staple", "rsp ca secret FILE"},
		"short":      {"c2hvcnQ=", "rsp ca secret FILE"},
		"empty":      {"# nothing\n", "has no secret"},
		"many":       {strings.Repeat(strings.Repeat("0a", 32)+"\n", 9), "more than 8 secrets"},
	} {
		f := write(tc.text)
		_, err := trust.Open(f, c.now, (&warnings{}).add)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), f.Secret)) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
}
