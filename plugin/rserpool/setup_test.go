package rserpool

import (
	stdlog "log"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/test"
	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// parseBlock parses a Corefile. Without "rserpool" it is the lines of a block, from line 2
// on.
func parseBlock(corefile string) (config, error) {
	if !strings.HasPrefix(corefile, "rserpool") {
		corefile = "rserpool example.org {\n" + corefile + "\n}"
	}
	return parse(caddy.NewTestController("dns", corefile))
}

func TestParse(t *testing.T) {
	tests := []struct {
		name     string
		corefile string
		want     func(*config) // what differs from the defaults
	}{
		{"nothing", "rserpool example.org", func(c *config) {}},
		{"zones", "rserpool Example.org example.NET", func(c *config) { c.zones = []string{"example.org.", "example.net."} }},
		{"asap", "asap 192.0.2.1", func(c *config) { c.options.ASAP = addrPorts("192.0.2.1:3863") }},
		{"asap, port", "asap 192.0.2.1:3900 [2001:db8::1]:3900", func(c *config) { c.options.ASAP = addrPorts("192.0.2.1:3900", "[2001:db8::1]:3900") }},
		{"asap, any order", "asap [2001:db8::1] 192.0.2.1", func(c *config) { c.options.ASAP = addrPorts("192.0.2.1:3863", "[2001:db8::1]:3863") }},
		{"asap, bare IPv6", "asap 2001:db8::1", func(c *config) { c.options.ASAP = addrPorts("[2001:db8::1]:3863") }},
		{"asap, zone", "asap [fe80::1%eth0]:3900", func(c *config) { c.options.ASAP = addrPorts("[fe80::1%eth0]:3900") }},
		{"asap, port alone", "asap :3900", func(c *config) { c.options.ASAP = addrPorts("[::]:3900") }},
		{"enrp", "enrp 192.0.2.1 [2001:db8::1]:9901", func(c *config) { c.options.ENRP = addrPorts("192.0.2.1:9901", "[2001:db8::1]:9901") }},
		{"peer alone", "asap 192.0.2.1\npeer 192.0.2.3", func(c *config) {
			c.options.ASAP, c.options.ENRP = addrPorts("192.0.2.1:3863"), addrPorts("192.0.2.1:9901")
			c.options.Peers = addrPorts("192.0.2.3:9901")
		}},
		{"peers", "enrp :9902\npeer 192.0.2.3\npeer 192.0.2.2:9000 2001:db8::2", func(c *config) {
			c.options.ENRP = addrPorts("[::]:9902")
			c.options.Peers = addrPorts("192.0.2.2:9000", "192.0.2.3:9901", "[2001:db8::2]:9901")
		}},
		{"transport auto", "transport auto", func(c *config) {}},
		{"transport kernel", "transport kernel", func(c *config) { c.options.Via = rsp.ViaKernel }},
		{"transport udp", "transport udp", func(c *config) { c.options.Via = rsp.ViaUDP }},
		{"encap", "encap 9900", func(c *config) { c.options.EncapPort = 9900 }},
		{"service", "service http _Etcd-Client\nservice smtp", func(c *config) { c.pools.block.checked.services = []string{"_http", "_etcd-client", "_smtp"} }},
		{"inspect", "inspect 10.0.0.0/8 ::ffff:192.0.2.1\ninspect 2001:db8::/32", func(c *config) {
			c.inspect = &inspectors{[]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/32")}}
		}},
		{"inspect off", "inspect off", func(c *config) { c.inspect = new(inspectors) }},
		{"server_id", "server_id 0x1a2b3c4d", func(c *config) { c.options.ServerID = 0x1a2b3c4d }},
		{"server_id, decimal", "server_id 7", func(c *config) { c.options.ServerID = 7 }},
		{"announce", "announce", func(c *config) { c.options.AnnounceGroup = addrPorts("224.0.1.185:3863")[0] }},
		{"announce, group", "announce 239.0.0.1", func(c *config) { c.options.AnnounceGroup = addrPorts("239.0.0.1:3863")[0] }},
		{"announce, group and port", "announce [ff05::133]:3900", func(c *config) { c.options.AnnounceGroup = addrPorts("[ff05::133]:3900")[0] }},
		{"enrp_announce", "asap 192.0.2.1\nenrp_announce", func(c *config) {
			c.options.ASAP, c.options.ENRP = addrPorts("192.0.2.1:3863"), addrPorts("192.0.2.1:9901")
			c.options.ENRPAnnounceGroup = addrPorts("239.0.0.51:9901")[0]
		}},
		{"enrp_announce, group and timer", "enrp :9902\nenrp_announce [ff05::99]\ntimer mentor-discovery-timeout 3s", func(c *config) {
			c.options.ENRP, c.options.ENRPAnnounceGroup = addrPorts("[::]:9902"), addrPorts("[ff05::99]:9901")[0]
			c.options.Timers.MentorDiscovery = 3 * time.Second
		}},
		{"both announces, ports", "enrp :9901\nannounce 239.0.0.1:3863\nenrp_announce 239.0.0.1:9901", func(c *config) {
			c.options.ENRP = addrPorts("[::]:9901")
			c.options.AnnounceGroup, c.options.ENRPAnnounceGroup = addrPorts("239.0.0.1:3863")[0], addrPorts("239.0.0.1:9901")[0]
		}},
		{"tls", "asap 192.0.2.1\npeer 192.0.2.2\ntls /etc/cert.pem /etc//key.pem /etc/ca.pem", func(c *config) {
			c.options.ASAP, c.options.ENRP = addrPorts("192.0.2.1:3864"), addrPorts("192.0.2.1:9902")
			c.options.Peers = addrPorts("192.0.2.2:9902")
			c.options.Trust.TLSFiles = rsp.TLSFiles{Cert: "/etc/cert.pem", Key: "/etc/key.pem", CA: "/etc/ca.pem"}
		}},
		{"tls_secret", "tls_secret secret", func(c *config) {
			c.options.ASAP = addrPorts("[::]:3864")
			c.options.Trust.Secret = "secret"
		}},
		{"rights", "asap :3900\nallow web dns:*.example.org\nallow * spiffe://example.org/ns/*/sa/web\ndeny dns:a\ndeny dns:b\nregistrars dns:ns?.example.org\nresolvers dns:c\ntls_secret /s", func(c *config) {
			c.options.ASAP = addrPorts("[::]:3900")
			c.options.Trust = host.Trust{
				TLSFiles: rsp.TLSFiles{Secret: "/s"},
				Allow:    []host.Allow{{Pools: "web", Names: "dns:*.example.org"}, {Pools: "*", Names: "spiffe://example.org/ns/*/sa/web"}},
				Deny:     []string{"dns:a", "dns:b"}, Registrars: []string{"dns:ns?.example.org"}, Resolvers: []string{"dns:c"},
			}
		}},
		{"resolvers any", "tls_secret /s\nresolvers any", func(c *config) {
			c.options.ASAP, c.options.Trust.Secret, c.anyResolves = addrPorts("[::]:3864"), "/s", true
		}},
		{"state", "state /var/lib//rserpool/", func(c *config) { c.options.State = "/var/lib/rserpool" }},
		{"control", "control /run/rsp.sock", func(c *config) { c.options.Control = "/run/rsp.sock" }},
		{"control off", "state /var/lib/rserpool\ncontrol off", func(c *config) { c.options.State, c.options.Control = "/var/lib/rserpool", "off" }},
		{"ttl", "ttl 0", func(c *config) { c.pools.block.checked.ttl = 0 }},
		{"ttl, most", "ttl 3600", func(c *config) { c.pools.block.checked.ttl = 3600 }},
		{"answers", "answers 3", func(c *config) { c.pools.block.checked.answers = 3 }},
		{"answers, all", "answers all", func(c *config) { c.pools.block.checked.answers = 2000 }},
		{"addresses, all", "addresses all", func(c *config) { c.pools.block.checked.addresses = 2000 }},
		{"addresses", "addresses 16", func(c *config) { c.pools.block.checked.addresses = 16 }},
		{"srv policy", "srv policy", func(c *config) {}},
		{"srv rank", "srv rank", func(c *config) { c.pools.block.checked.srv = srvRank }},
		{"guard", "guard 70%", func(c *config) { c.pools.block.checked.rule.Guard.Share = 0.7 }},
		{"guard, all", "guard 100%", func(c *config) {}},
		{"guard off", "guard off", func(c *config) { c.pools.block.checked.rule.Guard.Off = true }},
		{"nameserver", "nameserver NS1.example.org", func(c *config) { c.servers = []nameserver{{name: "ns1.example.org."}} }},
		{"nameservers", "nameserver ns.example.net\nnameserver ns1.example.org 192.0.2.53 2001:db8::53", func(c *config) {
			c.servers = []nameserver{{name: "ns.example.net."}, {name: "ns1.example.org.", addrs: addrs("192.0.2.53", "2001:db8::53")}}
		}},
		{"timer", "timer KEEP-ALIVE-INTERVAL 500ms", func(c *config) { c.options.Timers.KeepAliveInterval = 500 * time.Millisecond }},
		{"timers", "timer max-bad-pe-report 7\ntimer t6-serverannounce 2s", func(c *config) {
			c.options.Timers.MaxBadPEReport = 7
			c.options.Timers.ServerAnnounce = 2 * time.Second
		}},
		{"limits", "limit pools 10\nlimit elements 20", func(c *config) { c.options.Limits.Pools, c.options.Limits.Elements = 10, 20 }},
		{"limits of the transport", "limit associations 10\nlimit half_open 20", func(c *config) { c.options.Transports.Associations, c.options.Transports.HalfOpen = 10, 20 }},
		{"fallthrough", "fallthrough", func(c *config) { c.fall.Zones = []string{"."} }},
		{"fallthrough, zones", "fallthrough a.example.org", func(c *config) { c.fall.Zones = []string{"a.example.org."} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseBlock(tt.corefile)
			if err != nil {
				t.Fatal(err)
			}
			want := config{options: registrars.DefaultOptions(), zones: []string{"example.org."}, pools: newPoolRules(), where: "Testfile:1"}
			tt.want(&want)
			if diff := cmp.Diff(want, got, exported); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.corefile, diff)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name     string
		corefile string // without "rserpool" it is a property on line 2
		want     string
	}{
		{"no zone", "rserpool", "Testfile:1 - Error during parsing: no zone to serve"},
		{"bad zone", "rserpool exa..mple.org", `"exa..mple.org" is not a zone`},
		{"zone twice", "rserpool example.org Example.ORG.", "zone example.org. is listed twice"},
		{"reverse zone", "rserpool 2.0.192.in-addr.arpa", "2.0.192.in-addr.arpa. is a reverse zone, which has no pools; use the option reverse: reverse 2.0.192.in-addr.arpa."},
		{"reverse zone as network", "rserpool 2001:db8::/32", "ip6.arpa. is a reverse zone"},
		{"part of a reverse zone", "rserpool 192.0.2.0/25", "0.2.0.192.in-addr.arpa. is a part of a reverse zone, which has no pools; use the option reverse, for the whole one: reverse 192.0.2.0/24"},
		{"twice in a block", "rserpool example.org\nrserpool example.net", "Testfile:2 - this plugin can only be used once"},

		{"inspect, no network", "inspect web", `inspect: "web" is not a network or an address, such as 10.0.0.0/8 or 2001:db8::1, and not off`},
		{"inspect, no first address", "inspect 10.1.2.3/8", "inspect: 10.1.2.3/8 has host bits: write 10.0.0.0/8, or the address without a prefix"},
		{"inspect, IPv4 in IPv6", "inspect ::ffff:10.0.0.0/104", "is not a network"},
		{"inspect, zone", "inspect fe80::1%eth0", "is not a network"},
		{"inspect, twice", "inspect 10.0.0.1\ninspect 10.0.0.1/32", "Testfile:3 - Error during parsing: inspect: 10.0.0.1/32 is listed twice"},
		{"inspect, off and more", "inspect off 10.0.0.1", "inspect: off stands alone"},
		{"inspect, more and off", "inspect 10.0.0.1\ninspect off", "inspect: off stands alone"},
		{"inspect, off and a line", "inspect off\ninspect 10.0.0.1", "inspect: off stands alone"},
		{"inspect, nothing", "inspect", "inspect: got 0 arguments, want: inspect NETWORK...|off"},
		{"service twice", "service http\nservice _HTTP", "service: _http is listed twice"},
		{"service with a dot", "service _http._tcp", `service: "_http._tcp" is not the name of a service, such as http`},
		{"service without a name", "service _", `service: "_" is not the name of a service`},
		{"nameserver, address for a name", "nameserver 192.0.2.1", "nameserver: 192.0.2.1 is an address; a name comes first, such as ns1.example.org 192.0.2.1"},
		{"nameserver, IPv6 address for a name", "nameserver 2001:db8::1", "nameserver: 2001:db8::1 is an address"},
		{"unknown option", "assap 192.0.2.1", "Testfile:2 - Error during parsing: unknown option 'assap'; the options are: asap, enrp, peer, transport,"},
		{"a block of a pool", "pool web {\nttl 5\nanswers 3\n}", "Testfile:2 - Error during parsing: pool has no block of its own: write 'pool web ttl 5' on one line, without '{'"},
		{"a block of a pool with blanks", "pool web {\ntxt \"a b\" c \"\" \"#d\" \"\\\"e\"\n}", `write 'pool web txt "a b" c "" "#d" "\"e"' on one line`},
		{"a block of a pool in one line", "pool web { ttl 5 }", "pool has no block of its own: write 'pool GLOB [OPTION VALUE...]' on one line"},
		{"a block of a pool on the next line", "answers 3\npool web\n{\nttl 5\n}", "Testfile:3 - Error during parsing: pool has no block of its own: write 'pool web ttl 5' on one line"},
		{"an empty block of a pool", "pool web {\n}", "pool has no block of its own: write 'pool GLOB [OPTION VALUE...]' on one line"},
		{"a block of a pool's option", "pool web ttl {\n5\n}", "pool has no block of its own: write 'pool GLOB [OPTION VALUE...]' on one line"},
		{"a block of an option", "ttl 5 {\n}", "Testfile:2 - Error during parsing: ttl has no block of its own: write 'ttl SECONDS' on one line, without '{'"},
		{"a block of an option without values", "fallthrough {\n}", "fallthrough has no block of its own: write 'fallthrough [ZONES...]' on one line"},
		{"a block of the last option", "service http {", "service has no block of its own: write 'service NAME...' on one line"},
		{"a block of an option of TLS", "ttl 5\ntls a b c {\n}", "Testfile:3 - Error during parsing: tls has no block of its own: write 'tls CERT KEY CA' on one line"},
		{"a block of an unknown option", "pools {\n}", "unknown option 'pools'"},
		{"two blocks", "{\nttl 5\n}", "Testfile:2 - Error during parsing: unknown option '{'"},
		{"the end of the block behind an option", "service http }", "Testfile:2 - Error during parsing: write the '}' that ends the block on a line of its own"},
		{"a block on the next line", "rserpool example.org\n{\nttl 5\n}", "Testfile:2 - Error during parsing: unexpected '{': the block begins with '{' at the end of the line rserpool"},
		{"something behind the block", "rserpool example.org {\nttl 5\n} fallthrough", "Testfile:3 - Error during parsing: unexpected 'fallthrough': the block begins"},
		{"asap, empty", "asap", "asap: got 0 arguments, want: asap ADDRESS[:PORT]..."},
		{"asap, name", "asap localhost", `asap: "localhost" is not an IP address`},
		{"asap, bad port", "asap 192.0.2.1:70000", `asap: "192.0.2.1:70000" is not an IP address`},
		{"asap, two ports", "asap 192.0.2.1:3900 192.0.2.2", "asap: 192.0.2.1:3900 and 192.0.2.2:3863 have different ports"},
		{"asap, twice the same", "asap 192.0.2.1 192.0.2.1:3863", "asap: 192.0.2.1:3863 is listed twice"},
		{"asap, overlap", "asap 0.0.0.0 192.0.2.1", "asap: 0.0.0.0:3863 and 192.0.2.1:3863 overlap"},
		{"asap, overlap of families", "asap [::] 192.0.2.1", "overlap"},
		{"asap, multicast", "asap 224.0.1.185", "224.0.1.185 is a multicast address; use the option announce for it"},
		{"asap, two lines", "asap 192.0.2.1\nasap 192.0.2.2", "Testfile:3 - Error during parsing: asap can be given only once in a block"},
		{"transport", "transport tcp", `transport: "tcp" is not a transport; use auto, kernel or udp`},
		{"transport, two", "transport auto udp", "transport: got 2 arguments, want: transport auto|kernel|udp"},
		{"encap, zero", "encap 0", `encap: "0" is not a number from 1 to 65535`},
		{"encap, name", "encap sctp", `encap: "sctp" is not a number`},
		{"server_id, zero", "server_id 0", `server_id: "0" is not a number from 1 to 0xffffffff`},
		{"server_id, long", "server_id 0x123456789", "is not a number"},
		{"tls, two files", "tls cert.pem key.pem", "tls: got 2 arguments, want: tls CERT KEY CA"},
		{"tls, twice", "tls a b c\ntls a b c", "Testfile:3 - Error during parsing: tls can be given only once in a block"},
		{"tls and tls_secret", "tls_secret s\ntls a b c", "Testfile:3 - Error during parsing: tls: a registrar has either tls or tls_secret; remove one of them"},
		{"tls_secret, two", "tls_secret a b", "tls_secret: got 2 arguments, want: tls_secret FILE"},
		{"allow without tls", "allow web dns:a", "Testfile:1 - Error during parsing: allow needs tls or tls_secret in the same block"},
		{"deny without tls", "deny dns:a", "deny needs tls or tls_secret in the same block"},
		{"registrars without tls", "registrars dns:a", "registrars needs tls or tls_secret in the same block"},
		{"resolvers without tls", "resolvers dns:a", "resolvers needs tls or tls_secret in the same block"},
		{"resolvers any without tls", "resolvers any", "resolvers needs tls or tls_secret in the same block"},
		{"allow, no pool", "tls_secret s\nallow dns:a", "allow: got 1 arguments, want: allow POOLGLOB IDENTITYGLOB"},
		{"allow, bad pool", "tls_secret s\nallow web\\1 dns:a", "allow: pools "},
		{"allow, bad identity", "tls_secret s\nallow web dns:[", `allow: "dns:[" is not a pattern of identities, such as spiffe://example.org/rserpool/pool/web/*`},
		{"allow, twice", "tls_secret s\nallow web dns:a\nallow web dns:a", "Testfile:4 - Error during parsing: allow: web dns:a is listed twice"},
		{"deny, bad identity", "tls_secret s\ndeny [", `deny: "[" is not a pattern of identities`},
		{"deny, twice", "tls_secret s\ndeny dns:a\ndeny dns:a", "deny: dns:a is listed twice"},
		{"registrars, bad identity", "tls_secret s\nregistrars [", `registrars: "[" is not a pattern of identities`},
		{"resolvers, bad identity", "tls_secret s\nresolvers [", `resolvers: "[" is not a pattern of identities`},
		{"resolvers, any and others", "tls_secret s\nresolvers dns:a\nresolvers any", "resolvers: any stands alone"},
		{"resolvers, others and any", "tls_secret s\nresolvers any\nresolvers dns:a", "resolvers: any stands alone"},
		{"state, relative", "state rserpool", `state: "rserpool" is not an absolute path, such as /var/lib/rserpool`},
		{"state, empty", `state ""`, `state: "" is not an absolute path`},
		{"state, two", "state /a /b", "state: got 2 arguments, want: state DIR"},
		{"state, twice", "state /a\nstate /b", "Testfile:3 - Error during parsing: state can be given only once in a block"},
		{"control, relative", "control ./rsp.sock", `control: "./rsp.sock" is not an absolute path, such as /run/coredns/rserpool.sock, and not off`},
		{"control, long", "control /run/" + strings.Repeat("a", 103), "control: /run/" + strings.Repeat("a", 103) + " has 108 octets, and the path of a socket has at most 107"},
		{"fallthrough, no zone", "fallthrough a.example.org exa..mple.org", `fallthrough: "exa..mple.org" is not a zone`},
		{"announce, unicast", "announce 192.0.2.1", `announce: "192.0.2.1" is not a multicast address`},
		{"announce, port zero", "announce 239.0.0.1:0", "is not a multicast address"},
		{"ttl, negative", "ttl -1", `ttl: "-1" is not a number from 0 to 3600`},
		{"ttl, duration", "ttl 5s", `ttl: "5s" is not a number`},
		{"ttl, long", "ttl 3601", "from 0 to 3600"},
		{"answers, zero", "answers 0", `answers: "0" is not a number from 1 to 2000, and not all`},
		{"addresses, many", "addresses 17", `addresses: "17" is not a number from 1 to 16`},
		{"srv", "srv weight", `srv: "weight" is not a mode; use policy or rank`},
		{"guard", "guard on", `guard: "on" is not a share of the pool's elements, such as 50%, and not off`},
		{"guard, two lines", "guard off\nguard 50%", "Testfile:3 - Error during parsing: guard can be given only once in a block"},
		{"nameserver, bad name", "nameserver a..b", `nameserver: "a..b" is not a host name`},
		{"nameserver, root", "nameserver .", `nameserver: "." is not a host name`},
		{"nameserver, bad address", "nameserver ns1.example.org ns2.example.org", `nameserver: "ns2.example.org" is not the IP address of a host`},
		{"nameserver, unspecified", "nameserver ns1.example.org 0.0.0.0", `"0.0.0.0" is not the IP address of a host`},
		{"nameserver, address twice", "nameserver ns1.example.org 192.0.2.1 192.0.2.1", "address 192.0.2.1 is listed twice"},
		{"nameserver, twice", "nameserver ns1.example.org\nnameserver NS1.example.org", "ns1.example.org. is listed twice"},
		{"nameserver, foreign address", "nameserver ns1.example.net 192.0.2.1", "Testfile:1 - Error during parsing: nameserver ns1.example.net. has addresses, but is in none of the zones example.org."},
		{"nameserver, the zone", "nameserver example.org", "nameserver example.org. is the zone itself"},
		{"timer, unknown", "timer T1-ENRPrequest 5s", "timer: unknown timer 'T1-ENRPrequest'; the timers are: KEEP-ALIVE-INTERVAL,"},
		{"timer, no unit", "timer KEEP-ALIVE-INTERVAL 5", `timer: KEEP-ALIVE-INTERVAL: "5" is not a duration, such as 5s`},
		{"timer, zero", "timer KEEP-ALIVE-INTERVAL 0s", `timer: KEEP-ALIVE-INTERVAL: "0s" is not a duration from 1ms to 24h0m0s`},
		{"timer, range", "timer keep-alive-interval 100h", "Testfile:2 - Error during parsing: timer: KEEP-ALIVE-INTERVAL: "},
		{"threshold", "timer MAX-BAD-PE-REPORT 5s", `MAX-BAD-PE-REPORT: "5s" is not a number from 0 to 1000`},
		{"timer, one argument", "timer LINGER", "timer: got 1 arguments, want: timer NAME DURATION"},
		{"timer, empty name", `timer "" 5s`, "timer: unknown timer ''; the timers are: KEEP-ALIVE-INTERVAL,"},
		{"timer, twice", "timer LINGER 5s\ntimer KEEP-ALIVE-INTERVAL 1s\ntimer linger 5s", "Testfile:4 - Error during parsing: timer linger can be given only once in a block"},
		{"asap, port zero", "asap 192.0.2.1:0", "asap: 192.0.2.1:0 has port 0, at which nobody would find the registrar; name another port, or none for port 3863"},
		{"enrp, port zero", "enrp :0", "enrp: [::]:0 has port 0, at which nobody would find the registrar; name another port, or none for port 9901"},
		{"fallthrough, port", "fallthrough example.org:53", `fallthrough: "example.org:53" is not a zone: a zone has no protocol and no port`},
		{"limit, empty name", `limit "" 7`, "limit: unknown limit ''; the limits are: pools,"},
		{"limit, twice", "limit pools 5\nlimit pools 6", "Testfile:3 - Error during parsing: limit pools can be given only once in a block"},
		{"limit, unknown", "limit pool 5", "limit: unknown limit 'pool'; the limits are: pools,"},
		{"limit, zero", "limit pools 0", `limit: pools: "0" is not a number from 1`},
		{"limit, range", "limit peers 10001", `Testfile:2 - Error during parsing: limit: peers: "10001" is not a number from 1 to 10000`},
		{"limit, removed", "limit element_size 5000", "Testfile:2 - Error during parsing: limit: element_size cannot be set any more, and is always 4096: remove this line"},
		{"timer, removed", "timer update-interval 1s", "timer: update-interval cannot be set any more, and is always 100ms: remove this line"},
		{"timers of peers that contradict", "timer MAX-TIME-LAST-HEARD 5s", "Testfile:1 - Error during parsing: registrar config: MAX-TIME-LAST-HEARD 5s must be longer than PEER-HEARTBEAT-CYCLE 30s"},
		{"timers of suspects that contradict", "timer GUARD-LIFE 5m", "Testfile:1 - Error during parsing: registrar config: SUSPECT-LIFE 10m0s must not be longer than GUARD-LIFE 5m0s"},
		{"limits that contradict", "limit resolution_items 5\nlimit default_items 6", "limit default_items 6 is above limit resolution_items 5"},
		{"peer, everywhere", "peer [::]", "peer: [::] is not an address of a registrar"},
		{"peer, multicast", "peer 224.0.1.185", "peer: 224.0.1.185 is not an address of a registrar"},
		{"peer, twice", "peer 192.0.2.2\npeer 192.0.2.2:9901", "peer: 192.0.2.2:9901 is listed twice"},
		{"enrp, ports", "enrp 192.0.2.2:9901 192.0.2.3:9902", "have different ports"},
		{"enrp, multicast", "enrp 224.0.1.185", "use the option enrp_announce for it"},
		{"enrp, the port of asap", "enrp :3863", "overlaps with enrp [::]:3863; give one of them another port"},
		{"enrp_announce, unicast", "enrp_announce 192.0.2.1", `enrp_announce: "192.0.2.1" is not a multicast address with or without a port, such as 239.0.0.51:9901`},
		{"enrp_announce, port zero", "enrp_announce 239.0.0.1:0", "is not a multicast address"},
		{"enrp_announce, two", "enrp_announce 239.0.0.1 239.0.0.2", "enrp_announce: got 2 arguments, want: enrp_announce [MULTICAST:PORT]"},
		{"enrp_announce, the group of announce", "announce 239.0.0.1:1\nenrp_announce 239.0.0.1:1", "announce and enrp_announce both have 239.0.0.1:1"},
		{"enrp_announce, the port of asap", "asap :9901\nenrp_announce", "asap [::]:9901 overlaps with enrp [::]:9901"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseBlock(tt.corefile)
			if err == nil {
				t.Fatalf("%s: got no error, want one with %q", tt.corefile, tt.want)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got error\n%s\nwant one with\n%s", tt.corefile, err, tt.want)
			}
			if !strings.HasPrefix(err.Error(), "Testfile:") {
				t.Errorf("%s: error %q does not begin with file and line", tt.corefile, err)
			}
		})
	}
}

func TestParseZonesOfServerBlock(t *testing.T) {
	c := caddy.NewTestController("dns", "rserpool")
	c.ServerBlockKeys = []string{"dns://Example.org.:53", "tls://example.org.:853", "example.net.:53"}
	cfg, err := parse(c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"example.org.", "example.net."}, cfg.zones); diff != "" {
		t.Errorf("zones (-want +got):\n%s", diff)
	}
}

// TestZonesWithoutQueries: a line in the log names zones of which the server block gets no query.
func TestZonesWithoutQueries(t *testing.T) {
	var log strings.Builder
	stdlog.SetOutput(&log)
	defer clog.Discard()
	for _, tt := range []struct{ key, zones, want string }{
		{"p.test.:53", "pool.p.test", ""},
		{"p.test.:53", "P.test", ""},
		{"pool.p.test.:53", "p.test", ""}, // wider than the block
		{".:53", "pool.p.test", ""},
		{"p.test.:53", ".", ""},
		{"p.test.:53", "pool.exmaple.test", "Testfile:1: no query for pool.exmaple.test. reaches this server block, which has p.test., unless rewrite changes its name; correct the zone, or add it to the first line of the block: pool.exmaple.test."},
		{"tls://p.test.:853 p.test.:1653", "xp.test", "or add it to the first line of the block: tls://xp.test.:853 xp.test.:1653"},
		{"p.test.:53", "pool.p.test xp.test", "no query for xp.test. reaches"},
	} {
		log.Reset()
		c := caddy.NewTestController("dns", "rserpool "+tt.zones)
		c.ServerBlockKeys = strings.Fields(tt.key)
		_, rs := newFakes()
		if err := setup(c, rs); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s { rserpool %s }: got the log %q, want %q", tt.key, tt.zones, got, tt.want)
		}
	}
}

// TestNoZone: what is not a zone is refused.
func TestNoZone(t *testing.T) {
	for zone, want := range map[string]string{
		"tls://p.test": `"tls://p.test" is not a zone: a zone has no protocol and no port`,
		"p.test:5300":  `"p.test:5300" is not a zone: a zone has no protocol and no port`,
	} {
		if _, err := parse(caddy.NewTestController("dns", "rserpool "+zone)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rserpool %s: got error %v, want %q", zone, err, want)
		}
	}
}

// TestRelativeFiles: the plugin root is where relative paths begin, as with CoreDNS's tls.
func TestRelativeFiles(t *testing.T) {
	c := caddy.NewTestController("dns", "rserpool example.org {\n tls cert.pem sub/key.pem /ca.pem\n}")
	dnsserver.GetConfig(c).Root = "/etc/coredns"
	cfg, err := parse(c)
	if want := (rsp.TLSFiles{Cert: "/etc/coredns/cert.pem", Key: "/etc/coredns/sub/key.pem", CA: "/ca.pem"}); err != nil || cfg.options.Trust.TLSFiles != want {
		t.Errorf("got files %+v and error %v, want %+v", cfg.options.Trust.TLSFiles, err, want)
	}
}

// TestSetup: what a Corefile says reaches the handler, and errors name the
// plugin.
func TestSetup(t *testing.T) {
	rs := registrars.New(nil)
	c := caddy.NewTestController("dns", "rserpool example.org {\n ttl 7\n}")
	if err := setup(c, rs); err != nil {
		t.Fatal(err)
	}
	plugins := dnsserver.GetConfig(c).Plugin
	if len(plugins) != 1 {
		t.Fatalf("got %d handlers, want 1", len(plugins))
	}
	if h := plugins[0](nil).(*Handler); h.pools.blockOptions.ttl != 7 || h.Name() != "rserpool" {
		t.Errorf("got handler %s with TTL %d, want rserpool with 7", h.Name(), h.pools.blockOptions.ttl)
	}
	err := setup(caddy.NewTestController("dns", "rserpool example.org {\n ttl x\n}"), rs)
	if want := "plugin/rserpool: Testfile:2 - "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got error %v, want one that begins with %s", err, want)
	}
}

// TestSetupConflict: two blocks of a Corefile that want different things of
// one registrar.
func TestSetupConflict(t *testing.T) {
	tests := []struct {
		name, first, second, want string
	}{
		{"the same", "encap 9900", "encap 9900", ""},
		{"default and explicit", "", "asap :3863\nencap 9899", ""},
		{"options differ", "encap 9900\ntransport udp", "encap 9901\ntransport udp", "Testfile:1 - registrar at [::]:3863 already runs with other options (encap 9901, not 9900)"},
		{"timers differ", "timer LINGER 1s", "", "(timer LINGER 30s, not 1s)"},
		{"groups differ", "enrp_announce 239.0.0.1", "enrp_announce 239.0.0.2", "(enrp_announce 239.0.0.2:9901, not 239.0.0.1:9901)"},
		{"no group", "enrp_announce", "enrp :9901", "(enrp_announce off, not 239.0.0.51:9901)"},
		{"server IDs differ", "server_id 5", "", "(server_id random, not 0x00000005)"},
		{"states differ", "state /a", "state /b", "Testfile:1 - registrar at [::]:3863 already runs with other options (state /b, not /a)"},
		{"the same socket, by name and by default", "state /a", "state /a\ncontrol /a/control.sock", ""},
		{"no socket", "", "control off", ""},
		{"the usual guard", "guard 100%", "", ""},
		{"guard of a pool", "guard 50%\npool web guard 100%", "guard 50%", "(here: no pool web guard 100%)"},
		{"control off", "state /a\ncontrol off", "state /a", "(control default, not off)"},
		{"two registrars, one state", "asap 192.0.2.1\nstate /a", "asap 192.0.2.2\nstate /a/", "state /a is that of the registrar at 192.0.2.1:3863; give each registrar a directory of its own"},
		{"two registrars, one socket", "asap 192.0.2.1\nstate /a", "asap 192.0.2.2\nstate /b\ncontrol /a/control.sock", "control /a/control.sock is the socket of the registrar at 192.0.2.1:3863; give each registrar a path of its own"},
		{"two registrars, no sockets", "asap 192.0.2.1\ncontrol off", "asap 192.0.2.2\ncontrol off", ""},
		{"trust differs", "tls_secret /a", "tls_secret /a\ndeny dns:a", "Testfile:1 - another block of the same registrar trusts others (here: deny dns:a)"},
		{"with and without TLS", "tls_secret /a\nencap 9900", "", ""},
		{"with and without TLS, one encap", "tls_secret /a", "", "encap 9899 on :: is taken by the registrar at [::]:3864"},
		{"with and without TLS, one address", "tls_secret /a\nasap :3863", "", "(without tls, not with tls)"},
		{"addresses overlap", "asap 192.0.2.1", "", "asap [::]:3863 overlaps with asap 192.0.2.1:3863 of another registrar"},
		{"some addresses the same", "asap 192.0.2.1 192.0.2.2", "asap 192.0.2.2 192.0.2.3", "overlaps"},
		{"encapsulation port taken", "asap 192.0.2.1:3900", "asap 192.0.2.1:3901", "encap 9899 on 192.0.2.1 is taken by the registrar at 192.0.2.1:3900"},
		{"encapsulation port not used", "asap 192.0.2.1:3900\ntransport kernel", "asap 192.0.2.1:3901", ""},
		{"two registrars by port", "asap :3900\nencap 9900", "asap :3901\nencap 9901", ""},
		{"two registrars by address", "asap 192.0.2.1", "asap 192.0.2.2", ""},
		{"two registrars by family", "asap 0.0.0.0", "asap 2001:db8::1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rs := registrars.New(nil)
			inst := rs.NewInstance()
			var err error
			for _, block := range []string{tt.first, tt.second} {
				if err != nil {
					t.Fatalf("first block: %v", err)
				}
				c := caddy.NewTestController("dns", "rserpool example.org {\n"+block+"\n}")
				c.Set(instanceKey{}, inst)
				err = setup(c, rs)
			}
			if got := errText(err); !strings.Contains(got, tt.want) || got != "" && tt.want == "" {
				t.Errorf("second block: got error %q, want %q", got, tt.want)
			}
			if tt.want != "" && !strings.Contains(errText(err), "(see Testfile:1)") {
				t.Errorf("error %q does not say where the other block is", err)
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestFallthroughElsewhere: a line in the log names zones of fallthrough that do not count.
func TestFallthroughElsewhere(t *testing.T) {
	var log strings.Builder
	stdlog.SetOutput(&log)
	defer clog.Discard()
	for zones, want := range map[string]string{
		"":                        "",
		"a.example.org":           "",
		"org":                     "",
		"example.org example.net": "Testfile:1: fallthrough example.net. has no effect: it is in none of the zones example.org. 2.0.192.in-addr.arpa.",
		"1.2.0.192.in-addr.arpa":  "",
	} {
		log.Reset()
		_, rs := newFakes()
		if err := setup(caddy.NewTestController("dns", "rserpool example.org {\n reverse 192.0.2.0/24\n fallthrough "+zones+"\n}"), rs); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("fallthrough %s: got the log %q, want %q", zones, got, want)
		}
	}
}

// TestFallthroughWithoutNext: a line in the log, once, says what fallthrough without a next
// plugin does.
func TestFallthroughWithoutNext(t *testing.T) {
	var log strings.Builder
	stdlog.SetOutput(&log)
	defer clog.Discard()
	for text, want := range map[string]int{
		"rserpool example.org {\n fallthrough\n}":             1,
		"rserpool example.org {\n fallthrough example.org\n}": 1,
		"rserpool example.org":                                0,
	} {
		log.Reset()
		_, rs := newFakes()
		c := caddy.NewTestController("dns", text)
		if err := setup(c, rs); err != nil {
			t.Fatal(err)
		}
		chain := dnsserver.GetConfig(c).Plugin[0]
		chain(test.NextHandler(0, nil))
		if log.Len() > 0 {
			t.Errorf("%q with a next plugin: got the log %q, want nothing", text, &log)
		}
		chain(nil)
		chain(nil)
		if got := log.String(); strings.Count(got, "\n") != want || want > 0 && !strings.Contains(got, "Testfile:1: fallthrough") {
			t.Errorf("%q: got the log %q, want %d lines with file and line", text, got, want)
		}
	}
}
