package clients_test

import (
	"crypto/ecdsa"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// zoneKey makes a key of a zone, and returns the file's name without its endings.
func zoneKey(t *testing.T, zone string) (*dns.DNSKEY, string) {
	t.Helper()
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: zone + ".", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	for end, text := range map[string]string{".key": key.String() + "\n", ".private": key.PrivateKeyString(private.(*ecdsa.PrivateKey))} {
		if err := os.WriteFile(file+end, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key, file
}

// signed adds the dnssec plugin to a Corefile.
func signed(corefile, key string) string {
	at := strings.LastIndex(corefile, "}")
	return corefile[:at] + fmt.Sprintf("    dnssec {\n        key file \"%s\"\n    }\n}\n", key)
}

// allTypes has the zone have records of all types.
const allTypes = "naptr x-test a\nhttps\nsvcb foo\ndnssd http\ntxt text\n"

// signedQuestions are questions about a pool web with IPv4 addresses only. An answer has
// records, or else a proof that there are none.
var signedQuestions = []struct {
	rel     string
	types   string
	records bool
}{
	{"", "SOA NS DNSKEY", true},
	{"", "A TXT MX", false},
	{"ns.dns.", "A", true},
	{"ns.dns.", "SRV", false},
	{"dns.", "A", false},
	{"web.", "A SRV NAPTR HTTPS TXT HINFO ANY", true},
	{"web.", "AAAA MX DS CNAME SVCB PTR NSEC3", false},
	{"_8443._https.web.", "HTTPS", true},
	{"_8443._https.web.", "A SVCB", false},
	{"_foo.web.", "SVCB", true},
	{"_foo.web.", "AAAA HTTPS", false},
	{"_http._tcp.web.", "SRV", true},
	{"_http._tcp.web.", "A TXT NAPTR", false},
	{"b._dns-sd._udp.", "PTR", true},
	{"_services._dns-sd._udp.", "PTR", true},
	{"_services._dns-sd._udp.", "SRV", false},
	{"_http._tcp.", "PTR", true},
	{"web._http._tcp.", "SRV TXT", true},
	{"web._http._tcp.", "A PTR", false},
	{"_tcp.web.", "A SRV", false},
	{"pe-00000001.web.", "A SRV", true},
	{"pe-00000001.web.", "AAAA DS NAPTR", false},
	{"_rserpool.web.", "TXT", true},
	{"_rserpool.web.", "A", false},
	{"nowhere.", "A AAAA SRV DS", false},
	{"_http._udp.web.", "SRV", false},
	{"pe-0000ffff.web.", "A", false},
}

// TestDelv: delv validates all answers of CoreDNS itself.
func TestDelv(t *testing.T) {
	t.Parallel()
	clients.Need(t, "delv", "bind9-dnsutils")
	key, file := zoneKey(t, clients.Zone)
	s := clients.New(t, signed(corefile(allTypes), file))
	s.Elements("web", pool(1, 3)...)
	c := s.Client("client")
	anchors := c.NewFile("anchors", fmt.Sprintf("trust-anchors { %s. static-key %d %d %d \"%s\"; };\n", clients.Zone, key.Flags, key.Protocol, key.Algorithm, key.PublicKey))
	for _, q := range signedQuestions {
		want := map[bool]string{true: "; fully validated", false: "; negative response, fully validated"}[q.records]
		for _, qtype := range strings.Fields(q.types) {
			out, err := c.Try("delv", "@"+clients.Server, "-a", anchors, "+root="+clients.Zone, q.rel+clients.Zone, qtype)
			if err != nil || !strings.HasPrefix(out, want+"\n") {
				t.Errorf("%s%s %s: got %v\n%s\nwant %s", q.rel, clients.Zone, qtype, err, out, want)
			}
		}
	}
}

// validatingConf is of an unbound that validates, answers from cached NSEC records, varies the
// case of names, and minimises them.
const validatingConf = `	module-config: "validator iterator"
	aggressive-nsec: yes
	trust-anchor: "%s"
	val-log-level: 2
	qname-minimisation: yes
	qname-minimisation-strict: yes
	use-caps-for-id: yes
stub-zone:
	name: "` + clients.Zone + `"
	stub-addr: ` + clients.Server + `
`

// TestUnboundValidates: unbound validates all answers, in any order: no negative answer makes
// it deny what there is.
func TestUnboundValidates(t *testing.T) {
	t.Parallel()
	key, file := zoneKey(t, clients.Zone)
	s := clients.New(t, signed(corefile(allTypes+"ttl 60"), file))
	s.Elements("web", pool(1, 3)...)
	u := s.Unbound(fmt.Sprintf(validatingConf, strings.ReplaceAll(key.String(), "\t", " ")))
	c := s.Client("client")
	ask := func(name string, qtype uint16) *dns.Msg {
		t.Helper()
		m := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(4096, true)
		conn, err := c.Dial("udp", u.Address+":53")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		d := dns.Client{Timeout: network.Patience}
		r, _, err := d.ExchangeWithConn(m, &dns.Conn{Conn: conn, UDPSize: 4096})
		if err != nil {
			t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
		}
		return r
	}
	// First all answers without records, then those with.
	for _, records := range []bool{false, true, false} {
		for _, q := range signedQuestions {
			if q.records != records {
				continue
			}
			for _, qtype := range strings.Fields(q.types) {
				m := ask(q.rel+clients.Zone+".", dns.StringToType[qtype])
				if got := len(m.Answer) > 0; !m.AuthenticatedData || m.Rcode != dns.RcodeSuccess || got != records {
					t.Errorf("%s%s %s: got records: %t, want %t, validated\n%s", q.rel, clients.Zone, qtype, got, records, m)
				}
			}
		}
	}
	if t.Failed() {
		t.Log(u.Output())
	}
}
