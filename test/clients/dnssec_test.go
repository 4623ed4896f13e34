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

// TestDelv: delv validates all answers of CoreDNS itself, also those from the cache plugin, and
// without additional data.
func TestDelv(t *testing.T) {
	t.Parallel()
	clients.Need(t, "delv", "bind9-dnsutils")
	key, file := zoneKey(t, clients.Zone)
	plain := signed(corefile(allTypes), file)
	with := func(port, plugin string) string {
		return strings.Replace(plain, clients.Zone+" {", clients.Zone+":"+port+" {\n    "+plugin, 1)
	}
	const reverse = "113.0.203.in-addr.arpa"
	s := clients.New(t, plain+with("1001", "cache")+with("1002", "minimal")+
		strings.NewReplacer(clients.Zone+" {", clients.Zone+":1003 "+reverse+":1003 {", "rserpool {", "rserpool "+clients.Zone+" {\n        reverse "+reverse).Replace(plain))
	s.Elements("web", pool(1, 3)...)
	c := s.Client("client")
	delv := func(zone, port, name, qtype string, records bool) {
		t.Helper()
		anchor := c.NewFile("anchor", fmt.Sprintf("trust-anchors { %s. static-key %d %d %d \"%s\"; };\n", zone, key.Flags, key.Protocol, key.Algorithm, key.PublicKey))
		out, err := c.Try("delv", "@"+clients.Server, "-p", port, "-a", anchor, "+root="+zone, name, qtype)
		want := map[bool]string{true: "; fully validated", false: "; negative response, fully validated"}[records]
		if err != nil || !strings.HasPrefix(out, want+"\n") {
			t.Errorf("%s %s, port %s: got %v\n%s\nwant %s", name, qtype, port, err, out, want)
		}
	}
	for _, q := range signedQuestions {
		for i, qtype := range strings.Fields(q.types) {
			ports := []string{"53"}
			if i == 0 {
				ports = []string{"53", "1001", "1001", "1002"} // the cache twice
			}
			for _, port := range ports {
				delv(clients.Zone, port, q.rel+clients.Zone, qtype, q.records)
			}
		}
	}
	delv(reverse, "1003", "1."+reverse, "PTR", true)
	delv(reverse, "1003", "1."+reverse, "TXT", false)
	delv(reverse, "1003", "250."+reverse, "PTR", false)
	delv(reverse, "1003", reverse, "SOA", true)
}

// validating is the configuration of resolvers that validate, answer from cached NSEC records,
// and know the key of the zone above.
const (
	unboundValidating = `	module-config: "validator iterator"
	aggressive-nsec: yes
	trust-anchor: "%s"
	val-log-level: 2
	qname-minimisation: yes
	qname-minimisation-strict: yes
	use-caps-for-id: yes
stub-zone:
	name: "example.org"
	stub-addr: ` + parentServer + `
`
	bindValidating = `trust-anchors { example.org. static-key %d %d %d "%s"; };
zone "example.org" { type static-stub; server-addresses { ` + parentServer + `; }; };
`
)

// parentServer has the zone above. CoreDNS asks the zone above for all DS records if it has
// both zones, also for those of names far below.
const parentServer = "192.0.2.54"

// serveParent serves the zone above, with the zone's key, and returns its own key.
func serveParent(t *testing.T, s *clients.Site, key *dns.DNSKEY) *dns.DNSKEY {
	t.Helper()
	parentKey, keyFile := zoneKey(t, "example.org")
	text := "example.org. 60 IN SOA ns.example.org. hostmaster.example.org. 1 2 3 4 5\n" +
		"example.org. 60 IN NS ns.example.org.\nns.example.org. 60 IN A " + parentServer + "\n" +
		clients.Zone + ". 60 IN NS ns.dns." + clients.Zone + ".\nns.dns." + clients.Zone + ". 60 IN A " + clients.Server + "\n" +
		key.ToDS(dns.SHA256).String() + "\n"
	h := s.Host("parent", parentServer)
	h.CoreDNS(signed(fmt.Sprintf("example.org {\n    bind %s\n    file %q\n}\n", parentServer, h.NewFile("zone", text)), keyFile))
	return parentKey
}

// TestResolversValidate: unbound and BIND validate all answers, in any order: no negative answer makes
// them deny what there is.
func TestResolversValidate(t *testing.T) {
	t.Parallel()
	key, file := zoneKey(t, clients.Zone)
	s := clients.New(t, signed(corefile(allTypes+"ttl 60"), file))
	anchor := serveParent(t, s, key)
	s.Elements("web", pool(1, 3)...)
	s.Elements("many", pool(1, 60)...)
	c := s.Client("client")
	for _, r := range []*clients.Resolver{
		s.Unbound(fmt.Sprintf(unboundValidating, strings.ReplaceAll(anchor.String(), "\t", " "))),
		s.BIND("dnssec-validation yes;", fmt.Sprintf(bindValidating, anchor.Flags, anchor.Protocol, anchor.Algorithm, anchor.PublicKey)),
	} {
		// First all answers without records, then those with.
		for _, records := range []bool{false, true, false} {
			for _, q := range signedQuestions {
				if q.records != records {
					continue
				}
				for _, qtype := range strings.Fields(q.types) {
					m := askSigned(t, c, "udp", r.Address, q.rel+clients.Zone+".", dns.StringToType[qtype])
					if got := len(m.Answer) > 0; !m.AuthenticatedData || m.Rcode != dns.RcodeSuccess || got != records {
						t.Errorf("%s: %s%s %s: got records: %t, want %t, validated\n%s", r.Address, q.rel, clients.Zone, qtype, got, records, m)
					}
				}
			}
		}
		if m := askSigned(t, c, "tcp", r.Address, "many."+clients.Zone+".", dns.TypeSRV); !m.AuthenticatedData || m.Truncated || len(m.Answer) != 61 {
			t.Errorf("%s: SRV of 60: got %d records, want 60 and a signature, validated", r.Address, len(m.Answer))
		}
		if t.Failed() {
			t.Log(r.Output())
		}
	}
}

// TestResolversZonesBelow: below a signed zone, unbound and BIND take a zone of another server block for an
// unsigned one. They also resolve the names of a zone of the same block, which the keys of the upper zone sign.
func TestResolversZonesBelow(t *testing.T) {
	t.Parallel()
	key, file := zoneKey(t, clients.Zone)
	upper := strings.Replace(corefile("ttl 60"), "rserpool {", "rserpool "+clients.Zone+" same."+clients.Zone+" {", 1)
	s := clients.New(t, signed(upper, file)+strings.Replace(corefile("ttl 60"), clients.Zone, "other."+clients.Zone, 1))
	anchor := serveParent(t, s, key)
	s.Elements("web", pool(1, 1)...)
	c := s.Client("client")
	type want struct {
		rcode     int
		records   bool
		validated bool // it is said by all resolvers, or by none
	}
	for _, r := range []*clients.Resolver{
		s.Unbound(fmt.Sprintf(unboundValidating, strings.ReplaceAll(anchor.String(), "\t", " "))),
		s.BIND("dnssec-validation yes;", fmt.Sprintf(bindValidating, anchor.Flags, anchor.Protocol, anchor.Algorithm, anchor.PublicKey)),
	} {
		for _, q := range []struct {
			rel   string
			qtype uint16
			want  want
		}{
			{"web.other.", dns.TypeA, want{dns.RcodeSuccess, true, false}},
			{"web.other.", dns.TypeSRV, want{dns.RcodeSuccess, true, false}},
			{"web.other.", dns.TypeMX, want{dns.RcodeSuccess, false, false}},
			{"nowhere.other.", dns.TypeA, want{dns.RcodeNameError, false, false}},
			{"other.", dns.TypeDS, want{dns.RcodeSuccess, false, true}},
			{"other.", dns.TypeNS, want{dns.RcodeSuccess, true, false}},
			{"web.same.", dns.TypeA, want{dns.RcodeSuccess, true, true}},
			{"same.", dns.TypeDS, want{dns.RcodeSuccess, false, true}},
			{"web.", dns.TypeA, want{dns.RcodeSuccess, true, true}},
		} {
			m := askSigned(t, c, "udp", r.Address, q.rel+clients.Zone+".", q.qtype)
			if got := (want{m.Rcode, len(m.Answer) > 0, m.AuthenticatedData}); got != q.want {
				t.Errorf("%s: got %+v, want %+v\n%s", r.Address, got, q.want, m)
			}
		}
		// BIND takes these for unsigned, unbound for signed.
		for _, rel := range []string{"same.", "nowhere.same."} {
			if m := askSigned(t, c, "udp", r.Address, rel+clients.Zone+".", dns.TypeSOA); m.Rcode != dns.RcodeSuccess {
				t.Errorf("%s: got\n%s\nwant an answer", r.Address, m)
			}
		}
		if t.Failed() {
			t.Log(r.Output())
		}
	}
}

// askSigned asks with the flag DO, again if a busy resolver closes the connection.
func askSigned(t *testing.T, c *network.Host, transport, server, name string, qtype uint16) (r *dns.Msg) {
	t.Helper()
	network.Eventually(t, fmt.Sprintf("%s answers %s %s", server, name, dns.TypeToString[qtype]), func() error {
		m := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(4096, true)
		conn, err := c.Dial(transport, server+":53")
		if err != nil {
			return err
		}
		defer conn.Close()
		d := dns.Client{Timeout: network.Patience / 4}
		r, _, err = d.ExchangeWithConn(m, &dns.Conn{Conn: conn, UDPSize: 4096})
		return err
	})
	return r
}
