package main

import (
	"crypto/tls"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust"
)

// openSSL runs a script that needs OpenSSL 3.0.
func openSSL(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("openssl", "version").Output()
	if err != nil || !regexp.MustCompile(`^OpenSSL [3-9]`).Match(out) {
		t.Skipf("OpenSSL 3.0 is not installed: %v %s", err, out)
	}
	all, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s\n%s", err, script, all)
	}
	return string(all)
}

// TestCAOfOpenSSL: the commands of the manual make certificates that a member can use.
func TestCAOfOpenSSL(t *testing.T) {
	text, err := os.ReadFile("../../docs/trust.md")
	if err != nil {
		t.Fatal(err)
	}
	script := regexp.MustCompile(`(?m)^    openssl (?:.*\n    )*.*\n`).FindString(string(text))
	if strings.Count(script, "openssl ") != 3 {
		t.Fatalf("the manual has other commands:\n%s", script)
	}
	t.Chdir(t.TempDir())
	openSSL(t, script)
	if out := ok(t, "ca", "show", "."); !strings.Contains(out, `may register in pool "web"`) {
		t.Errorf("rsp ca show says\n%s", out)
	}
	ok(t, "ca", "issue", "registrar/ns1", "--dir", ".", "--domain", "example.org")
	ok(t, "ca", "show", "ns1")
	if _, errs, status := rsp(t, "ca", "issue", "registrar/ns2", "--dir", "."); status != exitFailed || !strings.Contains(errs, "names no domain: set --domain") {
		t.Errorf("status %d, %s", status, errs)
	}
}

// TestCAForOpenSSL: OpenSSL accepts our certificates, and both sides of a handshake.
func TestCAForOpenSSL(t *testing.T) {
	t.Chdir(t.TempDir())
	ok(t, "ca", "init", "example.org")
	ok(t, "ca", "issue", "registrar/ns1", "--dns", "ns1.example.org")
	ok(t, "ca", "issue", "pool/web/host1")
	openSSL(t, `openssl verify -x509_strict -CAfile ca/ca.pem -purpose sslserver ns1/cert.pem
		openssl verify -x509_strict -CAfile ca/ca.pem -purpose sslclient host1/cert.pem`)

	f, err := trust.Dir("ns1")
	if err != nil {
		t.Fatal(err)
	}
	cred, err := trust.Open(f, time.Now, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cred.Server(netip.Addr{}))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	type peer struct {
		name string
		err  error
	}
	peers := make(chan peer)
	go func() {
		defer close(peers)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conn := c.(*tls.Conn)
			err = conn.Handshake()
			name, _, wrong := cred.Identify(conn.ConnectionState())
			if err == nil {
				err = wrong
			}
			_ = conn.Close()
			peers <- peer{name, err}
		}
	}()
	connect := "openssl s_client -brief -tls1_3 -CAfile ca/ca.pem -verify_return_error -verify_hostname ns1.example.org -connect " + l.Addr().String() + " "
	for script, want := range map[string]string{
		connect + "-cert host1/cert.pem -key host1/key.pem </dev/null": "spiffe://example.org/rserpool/pool/web/host1",
		connect + "</dev/null": "",
	} {
		got := make(chan peer, 1)
		go func() { got <- <-peers }()
		out := openSSL(t, script)
		if p := <-got; p.name != want || p.err != nil || !strings.Contains(out, "Verification: OK") {
			t.Errorf("the server sees %q, %v, want %q; openssl says\n%s", p.name, p.err, want, out)
		}
	}
}
