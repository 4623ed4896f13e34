package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust"
)

// ok runs a command line that must succeed.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, status := rsp(t, args...)
	if status != exitOK || errs != "" {
		t.Fatalf("rsp %s: status %d\n%s", strings.Join(args, " "), status, errs)
	}
	return out
}

// TestCA: the two commands of the manual make files that a registrar and an element use.
func TestCA(t *testing.T) {
	t.Chdir(t.TempDir())
	out := ok(t, "ca", "init", "example.org")
	for _, want := range []string{"ca/ca.pem ", "ca/ca-key.pem ", "example.org"} {
		if !strings.Contains(out, want) {
			t.Errorf("rsp ca init does not say %s:\n%s", want, out)
		}
	}
	for _, tc := range []struct {
		args             []string
		dir, name, right string
	}{
		{[]string{"registrar/ns1"}, "ns1", "spiffe://example.org/rserpool/registrar/ns1", "is a registrar"},
		{[]string{"pool/web/host1", "--dns", "host1.example.org"}, "host1", "spiffe://example.org/rserpool/pool/web/host1", `may register in pool "web"`},
		{[]string{"pool/a b/c/host2", "--out", "deep/er", "--days", "1"}, "deep/er", "spiffe://example.org/rserpool/pool/_ph-c4g64br3/host2", `may register in pool "a b/c"`},
	} {
		out := ok(t, append([]string{"ca", "issue"}, tc.args...)...)
		if !strings.HasPrefix(out, "issued "+tc.name+"\nin "+tc.dir+": cert.pem, key.pem and ca.pem, valid until ") {
			t.Errorf("rsp ca issue says\n%s", out)
		}
		f, err := trust.Dir(tc.dir)
		if err != nil {
			t.Fatal(err)
		}
		cred, err := trust.Open(f, time.Now, func(s string) { t.Log(s) })
		if err != nil {
			t.Fatal(err)
		}
		if cred.Name() != tc.name {
			t.Errorf("name %q, want %q", cred.Name(), tc.name)
		}
		out = ok(t, "ca", "show", tc.dir)
		for _, want := range []string{tc.name, tc.right, "CN=RSerPool CA of example.org", "SHA-256 ", "fit together"} {
			if !strings.Contains(out, want) {
				t.Errorf("rsp ca show does not say %s:\n%s", want, out)
			}
		}
	}
	if out := ok(t, "ca", "show", "host1/cert.pem"); !strings.Contains(out, `["host1.example.org"]`) || !strings.Contains(out, "(89 days left)") {
		t.Errorf("rsp ca show FILE says\n%s", out)
	}
	if out := ok(t, "ca", "show", "ca"); !strings.Contains(out, "issuer       itself") || !strings.Contains(out, "keep it off the members") {
		t.Errorf("rsp ca show CA says\n%s", out)
	}
	for _, path := range []string{"ca", "ca/ca-key.pem", "ns1/key.pem"} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v: others can read it", path, info, err)
		}
	}
	if left, _ := filepath.Glob("*/.*"); len(left) > 0 {
		t.Errorf("files are left: %v", left)
	}
}

// TestCARenew: the same command renews, and a running member takes the new files.
func TestCARenew(t *testing.T) {
	t.Chdir(t.TempDir())
	ok(t, "ca", "init", "example.org")
	ok(t, "ca", "issue", "pool/web/host1", "--days", "1")
	f, err := trust.Dir("host1")
	if err != nil {
		t.Fatal(err)
	}
	cred, err := trust.Open(f, time.Now, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	before := cred.NotAfter()
	if err := os.Chmod(f.Key, 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(f.Key, 12345, 54321); err != nil {
			t.Fatal(err)
		}
	}
	former, err := os.Stat(f.Key)
	if err != nil {
		t.Fatal(err)
	}
	if out := ok(t, "ca", "issue", "pool/web/host1"); !strings.HasPrefix(out, "renewed spiffe://example.org/rserpool/pool/web/host1\n") {
		t.Errorf("rsp ca issue says\n%s", out)
	}
	info, err := os.Stat(f.Key)
	if err != nil || info.Mode() != 0o640 || owner(info) != owner(former) || os.SameFile(info, former) {
		t.Errorf("key: %v %v, %v, want the former owner and group %v", info.Mode(), owner(info), err, owner(former))
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(f.Key, 0, 0); err != nil { // a key of another user that its group reads is refused
			t.Fatal(err)
		}
	} else if err := os.Chmod(f.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := cred.Reload(); !changed || err != nil || !cred.NotAfter().After(before.Add(80*24*time.Hour)) {
		t.Errorf("Reload: %v, %v, end %v", changed, err, cred.NotAfter())
	}
}

// TestCAChange: while a CA is replaced, ca.pem has both, and certificates of both are accepted.
func TestCAChange(t *testing.T) {
	t.Chdir(t.TempDir())
	ok(t, "ca", "init", "example.org")
	ok(t, "ca", "init", "example.org", "--dir", "ca2")
	ok(t, "ca", "issue", "registrar/ns1")
	var both []byte
	for _, name := range []string{"ca/ca.pem", "ca2/ca.pem"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b...)
	}
	for _, name := range []string{"ns1/ca.pem", "ca2/ca.pem"} {
		if err := os.WriteFile(name, both, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ok(t, "ca", "issue", "pool/web/host1", "--dir", "ca2")
	var side [2]*trust.Credentials
	for i, dir := range []string{"ns1", "host1"} {
		f, err := trust.Dir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if side[i], err = trust.Open(f, time.Now, func(string) {}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range side {
		own, err := x509.ParseCertificate(side[i].Server(netip.Addr{}).Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := side[1-i].Identify(tls.ConnectionState{PeerCertificates: []*x509.Certificate{own}}); err != nil {
			t.Error(err)
		}
	}
	ok(t, "ca", "show", "host1")
}

func TestCASecret(t *testing.T) {
	t.Chdir(t.TempDir())
	ok(t, "ca", "secret", "secret")
	info, err := os.Stat("secret")
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	shown := ok(t, "ca", "show", "secret")
	if dir := ok(t, "ca", "show", "."); dir != shown || !strings.Contains(shown, "shared secret") {
		t.Errorf("rsp ca show says\n%s\n%s", shown, dir)
	}
	text, err := os.ReadFile("secret")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("copy", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ok(t, "ca", "show", "copy"); strings.Replace(got, "copy", "secret", 1) != shown {
		t.Errorf("the fingerprint of a copy is another one:\n%s\n%s", got, shown)
	}
}

// TestCAFull: what does not fit on the disk leaves nothing behind, so that the same command
// works when there is room. The limit has room for a key, and not for a certificate.
func TestCAFull(t *testing.T) {
	t.Chdir(t.TempDir())
	limited := func(args ...string) string {
		cmd := withEnv(exec.Command("/bin/sh", append([]string{"-c", `ulimit -f 1; exec "$@"`, "sh", os.Args[0]}, args...)...))
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Fatalf("rsp %s has room", strings.Join(args, " "))
		}
		return string(out)
	}
	empty := func(dir string) {
		list, err := os.ReadDir(dir)
		if err != nil || len(list) > 0 {
			t.Errorf("%s has %v, %v", dir, list, err)
		}
	}
	if out := limited("ca", "init", "example.org"); !strings.Contains(out, "ca/ca.pem: file too large") {
		t.Errorf("rsp ca init says %s", out)
	}
	empty("ca")
	ok(t, "ca", "init", "example.org")
	limited("ca", "issue", "pool/web/host1")
	empty("host1")
	ok(t, "ca", "issue", "pool/web/host1")
}

// TestCAHalf: of a CA, one file is missing, perhaps because an older copy has only the other
// one. The error names the one that is missing.
func TestCAHalf(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, tc := range []struct{ gone, init, issue string }{
		{"ca-key.pem", "ca/ca.pem exists, and is not overwritten: certificates depend on it; use another --dir, or remove it",
			"ca/ca-key.pem: no such file or directory: ca has only the certificate of a CA: copy its key there, or name the CA's directory with --dir"},
		{"ca.pem", "ca/ca-key.pem exists without ca/ca.pem: copy that there, or remove the key if it has made no certificate",
			"ca/ca.pem: no such file or directory, but ca has the key of a CA: copy that file there, or remove ca/ca-key.pem if it has made no certificate, and make a CA with rsp ca init"},
	} {
		ok(t, "ca", "init", "example.org")
		if err := os.Remove("ca/" + tc.gone); err != nil {
			t.Fatal(err)
		}
		for cmd, want := range map[string]string{"init example.org": tc.init, "issue registrar/ns1": tc.issue} {
			if _, errs, status := rsp(t, append([]string{"ca"}, strings.Fields(cmd)...)...); status != exitFailed || !strings.Contains(errs, want) {
				t.Errorf("rsp ca %s without %s: status %d, %swant %s", cmd, tc.gone, status, errs, want)
			}
		}
		if err := os.RemoveAll("ca"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCAErrors: errors name the file and say what to do; nothing is overwritten.
func TestCAErrors(t *testing.T) {
	t.Chdir(t.TempDir())
	ok(t, "ca", "init", "example.org")
	ok(t, "ca", "issue", "pool/web/host1")
	ok(t, "ca", "secret", "secret")
	ok(t, "ca", "init", "example.net", "--dir", "ca2")
	if err := os.Symlink("ca", "link"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("empty", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(read(t, "ca/ca.pem")))
	for name, b := range map[string][]byte{
		"ca.der":     block.Bytes,
		"joined.pem": []byte(strings.TrimSpace(read(t, "ca/ca.pem")) + read(t, "ca2/ca.pem")),
		"request":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte{1}}),
		"open.pem":   []byte(read(t, "host1/key.pem")),
		"locked.pem": pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}}),
	} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"open.pem": read(t, "open.pem"), "open": read(t, "secret"), "notes": "some words\n"} {
		if err := errors.Join(os.WriteFile(name, []byte(text), 0o600), os.Chmod(name, 0o644)); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
	kept := map[string]string{}
	for _, name := range []string{"ca/ca.pem", "ca/ca-key.pem", "host1/cert.pem", "host1/key.pem", "secret"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		kept[name] = string(b)
	}
	for _, tc := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"ca", "frob"}, exitUsage, `unknown command "frob"`},
		{[]string{"ca", "isue"}, exitUsage, "did you mean issue?"},
		{[]string{"ca", "init"}, exitUsage, "DOMAIN is missing"},
		{[]string{"ca", "init", "Example.org"}, exitUsage, `"Example.org" is not a domain: it has small letters`},
		{[]string{"ca", "init", "example.org", "--days", "0"}, exitUsage, "--days must be 1 to 36500, got 0"},
		{[]string{"ca", "init", "example.org"}, exitFailed, "ca/ca.pem exists, and is not overwritten"},
		{[]string{"ca", "issue"}, exitUsage, "registrar/NAME or pool/POOL/NAME is missing"},
		{[]string{"ca", "issue", "web"}, exitUsage, `"web" is neither registrar/NAME nor pool/POOL/NAME`},
		{[]string{"ca", "issue", "pool/web"}, exitUsage, `"pool/web" is neither`},
		{[]string{"ca", "issue", "pool//x"}, exitUsage, "the pool handle is empty"},
		{[]string{"ca", "issue", "pool/web/"}, exitUsage, `"" is not a name`},
		{[]string{"ca", "issue", "registrar/a b"}, exitUsage, `"a b" is not a name: it has letters, digits`},
		{[]string{"ca", "issue", "registrar/ns1", "--dns", "*.example.org"}, exitUsage, `--dns: "*.example.org" is not a DNS name`},
		{[]string{"ca", "issue", "registrar/ns1", "--dns", "10.0.0.1"}, exitUsage, `--dns: "10.0.0.1" is an IP address`},
		{[]string{"ca", "issue", "registrar/ns1", "--dns", "ns1", "--dns", "2001:db8::1"}, exitUsage, `--dns: "2001:db8::1" is an IP address`},
		{[]string{"ca", "issue", "registrar/ns1", "--days", "-1"}, exitUsage, "--days must be"},
		{[]string{"ca", "issue", "registrar/ns1", "--dir", "none"}, exitFailed, "none/ca.pem: no such file or directory: make a CA with rsp ca init, or name its directory with --dir"},
		{[]string{"ca", "issue", "registrar/ns1", "--dir", "host1"}, exitFailed, "host1/ca-key.pem: no such file"},
		{[]string{"ca", "issue", "pool/bank/host1"}, exitFailed, "host1/cert.pem exists, and is not overwritten: it is the certificate of spiffe://example.org/rserpool/pool/web/host1; use another --out"},
		{[]string{"ca", "issue", "registrar/" + strings.Repeat("x", 250)}, exitUsage, "more than 256"},
		{[]string{"ca", "issue", "registrar/ca"}, exitUsage, "ca is the directory of a CA, because it has ca-key.pem, which no member may have: use another --out"},
		{[]string{"ca", "issue", "registrar/ns1", "--out", "host1/../ca/"}, exitUsage, "host1/../ca/ is the directory of a CA"},
		{[]string{"ca", "issue", "registrar/ns1", "--out", "link"}, exitUsage, "link is the directory of a CA"},
		{[]string{"ca", "issue", "registrar/ns1", "--out", "ca", "--dir", "ca2"}, exitUsage, "ca is the directory of a CA"},
		{[]string{"ca", "secret"}, exitUsage, "FILE is missing"},
		{[]string{"ca", "secret", "secret"}, exitFailed, "secret exists, and is not overwritten"},
		{[]string{"ca", "show", "none"}, exitFailed, "rsp: none: no such file or directory: name a certificate, a key, a shared secret, or a directory"},
		{[]string{"ca", "show", "host1/none.pem"}, exitFailed, "rsp: host1/none.pem: no such file or directory: name a"},
		{[]string{"ca", "show", "empty"}, exitFailed, "empty has neither a certificate nor a private key in PEM. As a shared secret: empty has no secret"},
		{[]string{"ca", "show", "ca.der"}, exitFailed, "ca.der has a certificate in DER, and members read PEM: openssl x509 -inform DER -in ca.der -out NEWFILE"},
		{[]string{"ca", "show", "joined.pem"}, exitFailed, "joined.pem: only 0 of 2 certificates can be read"},
		{[]string{"ca", "show", "request"}, exitFailed, "request has a CERTIFICATE REQUEST in PEM, and neither a certificate nor a private key"},
		{[]string{"ca", "show", "open.pem"}, exitFailed, "open.pem is private, but other users can read it (mode 0644): chmod 600 open.pem"},
		{[]string{"ca", "show", "open"}, exitFailed, "open is private, but other users can read it (mode 0644): chmod 600 open"},
		{[]string{"ca", "show", "notes"}, exitFailed, "notes has neither a certificate nor a private key in PEM. As a shared secret: notes: a secret is 32 random bytes in base64 or hex"},
		{[]string{"ca", "show", "locked.pem"}, exitFailed, "locked.pem is encrypted with a passphrase"},
	} {
		out, errs, status := rsp(t, tc.args...)
		if status != tc.status || out != "" || !strings.Contains(errs, tc.want) {
			t.Errorf("rsp %s: status %d, %s%s\nwant status %d and %s", strings.Join(tc.args, " "), status, out, errs, tc.status, tc.want)
		}
	}
	if _, err := os.Stat("ca/cert.pem"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the CA's directory has a member's certificate: %v", err)
	}
	for name, text := range kept {
		if b, err := os.ReadFile(name); err != nil || string(b) != text {
			t.Errorf("%s has changed: %v", name, err)
		}
	}

	ok(t, "ca", "issue", "pool/web/host2")
	if err := os.Rename("host2/key.pem", "host1/key.pem"); err != nil {
		t.Fatal(err)
	}
	out, errs, status := rsp(t, "ca", "show", "host1")
	if status != exitFailed || !strings.Contains(out, "pool/web/host1") || !strings.Contains(errs, "the key in host1/key.pem is not that of the certificate in host1/cert.pem") {
		t.Errorf("rsp ca show with the key of another: status %d\n%s%s", status, out, errs)
	}
}

// read is the text of a file.
func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestCAShow: what is said of files that are not those of one member.
func TestCAShow(t *testing.T) {
	t.Chdir(t.TempDir())
	ok(t, "ca", "init", "example.org")
	ok(t, "ca", "issue", "pool/web/host1")
	ok(t, "ca", "issue", "pool/web/host2")
	key := regexp.MustCompile(`(?m)^  key +(ECDSA P-256, SHA-256 [0-9A-F]{64})$`)
	write := func(name string, from ...string) {
		var text string
		for _, f := range from {
			text += read(t, f)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("chain.pem", "host1/cert.pem", "ca/ca.pem")
	write("disorder.pem", "host1/cert.pem", "host2/cert.pem")
	write("upside.pem", "ca/ca.pem", "host1/cert.pem")
	write("all.pem", "host1/key.pem", "host1/cert.pem")

	if out := ok(t, "ca", "show", "ca/ca.pem"); !strings.Contains(out, `CA           "CN=RSerPool CA of example.org": it signs certificates of members`) || strings.Contains(out, "name ") {
		t.Errorf("of a CA:\n%s", out)
	}
	out := ok(t, "ca", "show", "chain.pem")
	for _, want := range []string{"chain.pem, certificate 1 of 2\n  name ", "chain.pem, certificate 2 of 2\n  CA "} {
		if !strings.Contains(out, want) || strings.Contains(out, "note") {
			t.Errorf("of a chain, want %q and no note:\n%s", want, out)
		}
	}
	if out := ok(t, "ca", "show", "disorder.pem"); !strings.Contains(out, "note: certificate 1 is not signed by certificate 2") {
		t.Errorf("of certificates that are no chain:\n%s", out)
	}
	if _, errs, status := rsp(t, "ca", "show", "upside.pem"); status != exitFailed || !strings.Contains(errs, "certificate 1 is that of a CA, and certificate 2 is not") {
		t.Errorf("of a chain in the wrong order: status %d, %s", status, errs)
	}
	of := key.FindStringSubmatch(ok(t, "ca", "show", "host1/cert.pem"))
	for _, name := range []string{"host1/key.pem", "all.pem"} {
		if got := key.FindStringSubmatch(ok(t, "ca", "show", name)); of == nil || got == nil || got[1] != of[1] {
			t.Errorf("%s: key %q, want that of its certificate %q", name, got, of)
		}
	}
	if out := ok(t, "ca", "show", "host1/key.pem"); !strings.Contains(out, "private key  of the certificate") {
		t.Errorf("of a key:\n%s", out)
	}
}

// owner is who owns a file.
func owner(info os.FileInfo) [2]uint32 {
	st := info.Sys().(*syscall.Stat_t)
	return [2]uint32{st.Uid, st.Gid}
}
