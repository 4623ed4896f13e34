package clients_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// frontCorefile has server blocks with one plugin before rserpool each, at a port of its
// own. All of them share the registrar.
const frontCorefile = `(registrar) {
    asap 192.0.2.53
    transport udp
    timer KEEP-ALIVE-INTERVAL 500ms
}
(server) {
    bind 192.0.2.53
    errors
}
pool.example.org {
    import server
    rserpool {
        import registrar
    }
}
tls://pool.example.org https://pool.example.org quic://pool.example.org:8853 {
    import server
    tls CERTIFICATE
    rserpool {
        import registrar
    }
}
pool.example.org:1001 {
    import server
    cache
    rserpool {
        import registrar
        ttl 0
    }
}
pool.example.org:1002 {
    import server
    cache {
        success 9984 5 0
        denial 9984 5 0
        servfail 0
    }
    rserpool {
        import registrar
        ttl 0
    }
}
pool.example.org:1003 {
    import server
    acl {
        block type SRV net 198.51.100.0/24
    }
    rserpool {
        import registrar
    }
}
pool.example.org:1004 {
    import server
    metadata
    view web {
        expr metadata('rserpool/pool') == 'web'
    }
    rserpool {
        import registrar
        ttl 7
    }
}
pool.example.org:1004 {
    import server
    rserpool {
        import registrar
        ttl 9
    }
}
example.net:1005 {
    import server
    rewrite name suffix .example.net. .pool.example.org. answer auto
    rserpool pool.example.org {
        import registrar
    }
}
.:1006 {
    import server
    forward . 192.0.2.53
}
pool.example.org:1007 {
    import server
    dns64 {
        allow_ipv4
    }
    rserpool {
        import registrar
    }
}
pool.example.org:1008 {
    import server
    loadbalance
    rserpool {
        import registrar
    }
}
pool.example.org:1009 {
    import server
    minimal
    rserpool {
        import registrar
    }
}
pool.example.org:1010 {
    import server
    any
    rserpool {
        import registrar
    }
}
pool.example.org:1011 {
    import server
    header {
        response set ra
    }
    rserpool {
        import registrar
    }
}
pool.example.org:1012 {
    import server
    bufsize 512
    rserpool {
        import registrar
    }
}
pool.example.org:1013 {
    import server
    tsig {
        secret key. NDM2NTcyNzQ2OTZlNmI2OTZlNjc3MzY1
        require all
    }
    rserpool {
        import registrar
    }
}
pool.example.org:1014 {
    import server
    hosts {
        192.0.2.99 static.pool.example.org
        fallthrough
    }
    rserpool {
        import registrar
    }
}
pool.example.org:1015 {
    import server
    nsid this is the identifier of a name server
    rserpool {
        import registrar
    }
}
`

// front is what the tests of plugins before rserpool share.
type front struct {
	t *testing.T
	*network.Host
}

// ask returns what dig or kdig says, one record a line.
func (f *front) ask(program string, args ...string) string {
	f.t.Helper()
	out, err := f.Try(append([]string{program, "@" + clients.Server}, args...)...)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

// short returns the records of an answer.
func (f *front) short(program string, args ...string) []string {
	f.t.Helper()
	var list []string
	for line := range strings.Lines(f.ask(program, append([]string{"+short"}, args...)...)) {
		if line[0] != ';' {
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

// has fails the test if the text does not match.
func (f *front) has(text string, wants ...string) {
	f.t.Helper()
	for _, want := range wants {
		if !regexp.MustCompile("(?m)" + want).MatchString(text) {
			f.t.Errorf("got\n%s\nwant %s", text, want)
		}
	}
}

// alternate fails the test if two lookups in a row do not have two elements.
func (f *front) alternate(want bool, program string, args ...string) {
	f.t.Helper()
	one, other := strings.Join(f.short(program, args...), " "), strings.Join(f.short(program, args...), " ")
	if got := one != other; got != want || one == "" {
		f.t.Errorf("%q: got %s and %s: differ: %t, want %t", args, one, other, got, want)
	}
}

// TestFront asks through each plugin with its client.
func TestFront(t *testing.T) {
	t.Parallel()
	clients.Need(t, "dig", "bind9-dnsutils")
	clients.Need(t, "kdig", "knot-dnsutils")
	s := clients.New(t, strings.ReplaceAll(frontCorefile, "CERTIFICATE", certificate(t)))
	s.Elements("web", pool(1, 2)...)
	s.Elements("many", pool(1, 100)...)
	client := s.Client("client")
	const web, many = "web." + clients.Zone, "many." + clients.Zone
	tests := []struct {
		name string
		test func(*front)
	}{
		{"tls", func(f *front) {
			f.alternate(true, "kdig", "+tls", "-p", "853", web)
			f.count(100, "kdig", "+tls", "-p", "853", many, "SRV")
		}},
		{"https", func(f *front) {
			f.alternate(true, "kdig", "+https", "-p", "443", web)
			f.count(100, "kdig", "+https", "-p", "443", many, "SRV")
		}},
		{"quic", func(f *front) {
			f.alternate(true, "kdig", "+quic", "-p", "8853", web)
			// CoreDNS cuts these answers as those of UDP.
			for buffer, want := range map[string]string{"+noedns": "qr aa tc rd; QUERY: 1; ANSWER: 8;", "+bufsize=1232": "qr aa tc rd; QUERY: 1; ANSWER: 20;", "+bufsize=8192": "qr aa rd; QUERY: 1; ANSWER: 100;"} {
				f.has(f.ask("kdig", "+quic", "-p", "8853", buffer, many, "SRV"), "Flags: "+want)
			}
		}},
		{"cache makes a TTL of 0 one of 5", func(f *front) {
			f.alternate(false, "dig", "-p", "1001", web)
			f.has(f.ask("dig", "-p", "1001", web), `\s[1-5]\s+IN\s+A\s`)
		}},
		{"cache with a minimum of 0", func(f *front) {
			f.alternate(true, "dig", "-p", "1002", web)
			f.has(f.ask("dig", "-p", "1002", web), `\s0\s+IN\s+A\s`)
		}},
		{"acl", func(f *front) {
			f.has(f.ask("dig", "-p", "1003", web, "SRV"), "status: REFUSED")
			f.count(1, "dig", "-p", "1003", web)
		}},
		{"view by a label", func(f *front) {
			f.has(f.ask("dig", "-p", "1004", web), `\s7\s+IN\s+A\s`)
			f.has(f.ask("dig", "-p", "1004", many), `\s9\s+IN\s+A\s`)
		}},
		{"rewrite", func(f *front) {
			f.alternate(true, "dig", "-p", "1005", "web.example.net")
			out := f.ask("dig", "-p", "1005", "_http._tcp.web.example.net", "SRV")
			f.has(out, `^_http._tcp.web.example.net.\s.*\spe-00000001.web.example.net.$`, `^pe-00000001.web.example.net.\s.*\s203.0.113.1$`)
			f.count(1, "dig", "-p", "1005", "pe-00000001.web.example.net")
		}},
		{"forward", func(f *front) {
			f.alternate(true, "dig", "-p", "1006", web)
			f.count(100, "dig", "-p", "1006", "+tcp", many, "SRV")
			f.count(100, "dig", "-p", "1006", many, "SRV") // comes again by TCP
			f.has(f.ask("dig", "-p", "1006", "nowhere."+clients.Zone), "status: NXDOMAIN")
		}},
		{"dns64", func(f *front) {
			f.alternate(true, "dig", "-p", "1007", web, "AAAA")
			f.has(f.ask("dig", "-p", "1007", web, "AAAA"), `AAAA\s+64:ff9b::cb00:710[12]$`)
		}},
		{"loadbalance", func(f *front) {
			f.alternate(true, "dig", "-p", "1008", web)
		}},
		{"minimal", func(f *front) {
			f.has(f.ask("dig", "-p", "1009", web, "SRV"), "ANSWER: 2, AUTHORITY: 0, ADDITIONAL: 1")
			f.count(1, "dig", "-p", "1009", "pe-00000001."+web)
		}},
		{"any", func(f *front) {
			f.has(f.ask("dig", "-p", "1010", web, "ANY"), `8482\s+IN\s+HINFO`)
			f.has(f.ask("dig", web, "ANY"), `flags: qr aa`, `5\s+IN\s+HINFO`)
		}},
		{"header", func(f *front) { f.has(f.ask("dig", "-p", "1011", web), "flags: qr aa rd ra;") }},
		{"bufsize", func(f *front) {
			f.has(f.ask("dig", "-p", "1012", "+ignore", "+bufsize=4096", many, "SRV"), "flags: qr aa tc", `MSG SIZE  rcvd: (4\d\d|50\d|51[012])$`)
			f.count(100, "dig", "-p", "1012", "+bufsize=4096", many, "SRV")
		}},
		{"tsig", func(f *front) {
			key := []string{"-p", "1013", "-y", "hmac-sha256:key.:NDM2NTcyNzQ2OTZlNmI2OTZlNjc3MzY1"}
			f.has(f.ask("dig", "-p", "1013", web), "status: REFUSED")
			f.count(1, "dig", append(key, web)...)
			f.count(100, "dig", append(key, many, "SRV")...)
			f.has(f.ask("dig", append(key, "+ignore", "+bufsize=900", many, "SRV")...), "flags: qr aa tc", `^key.\s.*TSIG\s`, `MSG SIZE  rcvd: ([78]\d\d|900)$`)
		}},
		{"nsid", func(f *front) {
			f.has(f.ask("dig", "-p", "1015", "+nsid", "+ignore", "+bufsize=900", many, "SRV"), "flags: qr aa tc", `NSID: .*this is the identifier`, `MSG SIZE  rcvd: (8\d\d|900)$`)
			f.count(100, "dig", "-p", "1015", "+nsid", many, "SRV")
		}},
		{"hosts before", func(f *front) {
			f.has(f.ask("dig", "-p", "1014", "static."+clients.Zone), "192.0.2.99")
			f.alternate(true, "dig", "-p", "1014", web)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.test(&front{t, client}) })
	}
}

// count fails the test if the answer does not have so many records.
func (f *front) count(want int, program string, args ...string) {
	f.t.Helper()
	if got := f.short(program, args...); len(got) != want {
		f.t.Errorf("%q: got %d records, want %d\n%s", args, len(got), want, strings.Join(got, "\n"))
	}
}

// certificate makes a certificate of its own, and returns its file and that of its key as the
// tls plugin wants them.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ns.dns." + clients.Zone}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{"ns.dns." + clients.Zone}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var files []string
	for _, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: cert}, {Type: "PRIVATE KEY", Bytes: private}} {
		file := filepath.Join(dir, block.Type)
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return fmt.Sprintf("%q %q", files[0], files[1])
}
