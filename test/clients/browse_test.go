package clients_test

import (
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/test/clients"
)

// TestBrowse: other implementations of DNS read HTTPS and SVCB records, and find instances of a
// service by DNS-SD.
func TestBrowse(t *testing.T) {
	t.Parallel()
	clients.Need(t, "dig", "bind9-dnsutils")
	clients.Need(t, "kdig", "knot-dnsutils")
	s := clients.NewBridged(t, corefile(`dnssd http
		pool web https alpn=h2,h3 ech=AAQAAAAA
		pool web svcb foo key65400=a mandatory=key65400
		pool web txt path=/ "a\b c"`))
	s.Elements("Büro 2.OG", clients.Element{ID: 1, Port: 8443}, clients.Element{ID: 2, Pool: "web", Port: 8081})
	c := s.Client("client")
	const z = clients.Zone + "."
	for _, tt := range []struct {
		program, name, rrtype string
		want                  string // by line
	}{
		{"dig", "lb._dns-sd._udp." + z, "PTR", z},
		{"dig", "_services._dns-sd._udp." + z, "PTR", "_http._tcp." + z},
		{"dig", "_http._tcp." + z, "PTR", `B\195\188ro\0322\.OG._http._tcp.` + z + "\nweb._http._tcp." + z},
		{"kdig", "_http._tcp." + z, "PTR", `B\195\188ro\0322\.OG._http._tcp.` + z + "\nweb._http._tcp." + z},
		{"dig", `B\195\188ro\0322\.OG._http._tcp.` + z, "SRV", `0 1 8443 pe-00000001.B\195\188ro\0322.OG.` + z},
		{"dig", `B\195\188ro\0322\.OG._http._tcp.` + z, "TXT", `""`},
		{"dig", "web._http._tcp." + z, "SRV", "0 1 8081 pe-00000002.web." + z},
		{"dig", "web._http._tcp." + z, "TXT", `"path=/" "a\\b c"`},
		{"dig", "web." + z, "TXT", `"path=/" "a\\b c"`},
		{"dig", "web." + z, "HTTPS", `1 pe-00000002.web.` + z + ` alpn="h2,h3" port=8081 ipv4hint=203.0.113.2 ech=AAQAAAAA`},
		{"kdig", "_8443._https.web." + z, "HTTPS", `1 pe-00000002.web.` + z + ` alpn=h2,h3 port=8081 ipv4hint=203.0.113.2 ech=AAQAAAAA`},
		{"dig", "_foo.web." + z, "SVCB", `1 pe-00000002.web.` + z + ` mandatory=key65400 port=8081 ipv4hint=203.0.113.2 key65400="a"`},
		{"kdig", "_80._foo.web." + z, "SVCB", `1 pe-00000002.web.` + z + ` mandatory=key65400 port=8081 ipv4hint=203.0.113.2 key65400="a"`},
		{"dig", "web." + z, "ANY", `"RFC8482" ""`},
	} {
		out := strings.TrimSpace(c.Run(tt.program, "@"+clients.Server, "+short", tt.name, tt.rrtype))
		if out != tt.want {
			t.Errorf("%s %s %s: got\n%s\nwant\n%s", tt.program, tt.name, tt.rrtype, out, tt.want)
		}
	}
}
