package trusted

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// words are the manual's table of refusals: what the registrar, rsp and OpenSSL say, by what is
// wrong.
func words(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/trust.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## What is said when TLS fails\n")
	section, _, _ = strings.Cut(section, "\n## ")
	table := map[string][]string{}
	for line := range strings.Lines(section) {
		if f := strings.Split(line, "|"); len(f) == 6 && strings.Contains(line, "`") {
			for i := range f {
				f[i] = strings.TrimSpace(f[i])
			}
			table[f[1]] = f[2:5]
		}
	}
	return table
}

// says waits until a program has said the texts of a cell, in which ... stands for what
// differs.
func says(c *network.Process, cell string) {
	for i, text := range strings.Split(cell, "`") {
		for part := range strings.SplitSeq(text, "...") {
			if part = strings.TrimSpace(part); i%2 == 1 && part != "" {
				c.WaitFor(part)
			}
		}
	}
}

// TestRefusals has programs fail in TLS, and finds in what they say the words of the manual.
func TestRefusals(t *testing.T) {
	if err := exec.Command("openssl", "version").Run(); err != nil {
		t.Skipf("LEFT OUT: OpenSSL is not installed: %v", err)
	}
	p, table := newPlace(t), words(t)
	now := time.Now()
	ca, other := trusttest.New(t, "example.org", now), trusttest.New(t, "example.net", now)
	issue := func(ca *trusttest.CA, path string, begin, end time.Duration) {
		t.Helper()
		dir := filepath.Join(p.dir, filepath.Base(path))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		ca.Issue(t, dir, "spiffe://example.org/rserpool/"+path, now.Add(begin), now.Add(end))
	}
	issue(ca, "registrar/ns1", 0, time.Hour)
	issue(ca, "pool/web/host1", 0, time.Hour)
	issue(ca, "pool/bank/host4", 0, time.Hour)
	issue(ca, "pool/web/host5", 0, time.Hour)
	issue(ca, "pool/web/late", -2*time.Hour, -time.Hour)
	issue(ca, "pool/web/early", time.Hour, 2*time.Hour)
	issue(ca, "registrar/late1", -2*time.Hour, -time.Hour)
	issue(ca, "registrar/early1", time.Hour, 2*time.Hour)
	issue(other, "pool/web/foreign", 0, time.Hour)
	issue(other, "registrar/foreign1", 0, time.Hour)
	for _, dir := range []string{"foreign", "foreign1"} { // they accept the others
		trusttest.Write(t, filepath.Join(p.dir, dir, trust.CAName), append(other.PEM(), ca.PEM()...))
	}
	const (
		resolve = "rsp resolve web --timeout 60s --registrar 127.0.0.1:3864 "
		client  = "openssl s_client -quiet -connect 127.0.0.1:3864 -verify_return_error -CAfile ns1/ca.pem "
		server  = "openssl s_server -www -accept 127.0.0.1:3864 -CAfile ns1/ca.pem "
	)
	of := func(dir string) string { return fmt.Sprintf(" -cert %s/cert.pem -key %[1]s/key.pem", dir) }
	tls := func(cert, key string) string {
		return fmt.Sprintf("tls %s/cert.pem %s/key.pem %[1]s/ca.pem", cert, key)
	}
	rows := []struct {
		wrong    string
		starts   bool
		option   string // of the registrar; "" for none
		openssl  string // a command line, "" for none
		rsp      string
		atServer bool // rsp calls OpenSSL
	}{
		{"the certificate of an element or a user has ended", true, tls("ns1", "ns1"), client + of("late"), resolve + "--tls late", false},
		{"it is not yet valid", true, tls("ns1", "ns1"), client + of("early"), resolve + "--tls early", false},
		{"it has another CA", true, tls("ns1", "ns1"), client + of("foreign"), resolve + "--tls foreign", false},
		{"it is denied", true, tls("ns1", "ns1") + "\n        deny spiffe://example.org/rserpool/pool/web/host5", client + of("host5"), "rsp register --pool web --serve tcp:8080 --registrar 127.0.0.1:3864 --tls host5", false},
		{"it is for another pool", true, tls("ns1", "ns1"), "", "rsp register --pool web --serve tcp:8080 --registrar 127.0.0.1:3864 --tls host4", false},
		{"the certificate of the registrar has ended", false, tls("late1", "late1"), server + of("late1"), resolve + "--via tcp --tls host1", true},
		{"the registrar's is not yet valid", false, tls("early1", "early1"), server + of("early1"), resolve + "--via tcp --tls host1", true},
		{"the registrar's has another CA", true, tls("foreign1", "foreign1"), client, resolve + "--tls host1", false},
		{"the registrar's is not that of a registrar", false, "", server + of("host1"), resolve + "--via tcp --tls host1", true},
		{"`rsp peers` or `rsp dump` has a certificate that is not a registrar's", true, tls("ns1", "ns1") + "\n        enrp 127.0.0.1", "", "rsp dump --registrar 127.0.0.1:9902 --tls host1", false},
		{"the key is not that of the certificate", false, tls("ns1", "host1"), client + " -cert ns1/cert.pem -key host1/key.pem", resolve + "--tls-cert ns1/cert.pem --tls-key host1/key.pem --tls-ca ns1/ca.pem", false},
		{"the user has no TLS", true, tls("ns1", "ns1"), "", "rsp resolve web --timeout 60s --registrar 127.0.0.1:3863", false},
		{"the user has no TLS, at the TLS port", true, tls("ns1", "ns1"), "", resolve, false},
		{"the registrar has no TLS", true, "ttl 0", "", "rsp resolve web --timeout 60s --via tcp --registrar 127.0.0.1:3863 --tls host1", false},
	}
	if len(table) != len(rows) {
		t.Errorf("the manual has %d rows, want %d", len(table), len(rows))
	}
	for _, r := range rows {
		cells := table[r.wrong]
		if cells == nil {
			t.Fatalf("the manual has no row for %q", r.wrong)
		}
		var running []*network.Process
		start := func(line string) *network.Process {
			c := p.start(line)
			running = append(running, c)
			return c
		}
		var registrar *network.Process
		if r.option != "" {
			p.write("Corefile", "pool.example.org:1053 {\n    rserpool {\n        asap 127.0.0.1\n        "+r.option+"\n    }\n}\n")
			registrar = start("coredns -conf Corefile")
			if r.starts {
				registrar.WaitFor("serves ASAP")
			}
		}
		var openssl *network.Process
		if r.openssl != "" {
			if openssl = start(r.openssl); r.atServer {
				openssl.WaitFor("ACCEPT")
			} else { // first: the registrar's log leaves out some of several refusals
				says(openssl, cells[2])
			}
		}
		says(start(r.rsp), cells[1])
		if registrar != nil {
			says(registrar, cells[0])
		}
		if openssl != nil {
			says(openssl, cells[2])
		}
		for i, c := range []*network.Process{registrar, running[len(running)-1], openssl} {
			if c == nil != (cells[i] == "") {
				t.Errorf("%s: column %d of the manual has %q", r.wrong, i+2, cells[i])
			}
		}
		for _, c := range running {
			c.Signal(os.Kill)
			c.Wait()
		}
	}
}
