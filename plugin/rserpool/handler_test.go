package rserpool

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

const zoneZ = "pool.example.org."

// answers are the sections of a response; soa stands for the zone's SOA record.
type sections struct {
	rcode             int
	answer, ns, extra string
}

const soa = zoneZ + " 5 IN SOA ns.dns." + zoneZ + " hostmaster." + zoneZ + " 1000000000 60 30 86400 5\n"

func nodata() sections { return sections{ns: soa} }

func hinfo(name string) sections {
	return sections{answer: name + " 5 IN HINFO \"RFC8482\" \"\"\n"}
}

func nxdomain() sections { return sections{rcode: dns.RcodeNameError, ns: soa} }

// testSpace fills a handlespace with one pool for each rule.
func testSpace(t testing.TB) *fakeRegistrar {
	f := newFake()
	s := f.space
	put(t, s, "web", element(1, 8080, "192.0.2.1 2001:db8::1"))
	put(t, s, "four", element(0xabcdef01, 80, "192.0.2.4"))
	put(t, s, "six", element(6, 80, "2001:db8::6"))
	put(t, s, "homes", element(7, 9, "192.0.2.7 192.0.2.8 2001:db8::7 2001:db8::8", over(rsp.SCTP)))
	put(t, s, "Compute Pool", element(1, 80, "192.0.2.9"))
	put(t, s, "a.deep.one", element(1, 80, "192.0.2.10"))
	put(t, s, "CASE", element(1, 80, "192.0.2.11"))
	put(t, s, "case", element(1, 80, "192.0.2.12"))
	put(t, s, "\x00\xffbin\\", element(1, 80, "192.0.2.13"))
	put(t, s, "a..b", element(1, 80, "192.0.2.14"))
	put(t, s, strings.Repeat("x", 64), element(1, 80, "192.0.2.15"))
	put(t, s, "pe-00000001.web", element(1, 80, "192.0.2.16"))
	put(t, s, "pe-00000002.web", element(1, 80, "192.0.2.17"))
	put(t, s, "_http._tcp.web", element(1, 80, "192.0.2.18"))
	put(t, s, "opaque", element(1, 80, "", over(rsp.Opaque)))
	put(t, s, "brief", element(1, 80, "192.0.2.19", expires(3900*time.Millisecond)))
	put(t, s, "long", element(1, 80, "192.0.2.20", expires(time.Hour)))
	put(t, s, "late", element(1, 80, "192.0.2.21", expires(-time.Second)))
	f.stats.Suspects, f.stats.PoolsGuarded, f.stats.Guarded = 4, 1, 1
	return f
}

func TestAnswers(t *testing.T) {
	x64 := encodeHandle(rsp.PoolHandle(strings.Repeat("x", 64)))
	tests := []struct {
		name  string
		qname string
		qtype uint16
		want  sections
	}{
		// Zone apex and name server.
		{"SOA at the apex", zoneZ, dns.TypeSOA, sections{answer: soa}},
		{"NS at the apex", zoneZ, dns.TypeNS, sections{
			answer: zoneZ + " 5 IN NS ns.dns." + zoneZ + "\n",
			extra:  "ns.dns." + zoneZ + " 5 IN A 192.0.2.53\nns.dns." + zoneZ + " 5 IN AAAA 2001:db8::53\n",
		}},
		{"TXT about the zone", "_rserpool." + zoneZ, dns.TypeTXT, sections{answer: "_rserpool." + zoneZ + ` 5 IN TXT "pools=18" "elements=18" "suspects=4" "pools_guarded=1" "registrar_guarded=yes"` + "\n"}},
		{"no TXT at the apex", zoneZ, dns.TypeTXT, nodata()},
		{"only TXT about the zone", "_rserpool." + zoneZ, dns.TypeA, nodata()},
		{"nothing about an unknown pool", "_rserpool.nowhere." + zoneZ, dns.TypeTXT, nxdomain()},
		{"no address at the apex", zoneZ, dns.TypeA, nodata()},
		{"name server's A", "ns.dns." + zoneZ, dns.TypeA, sections{answer: "ns.dns." + zoneZ + " 5 IN A 192.0.2.53\n"}},
		{"name server's AAAA", "ns.dns." + zoneZ, dns.TypeAAAA, sections{answer: "ns.dns." + zoneZ + " 5 IN AAAA 2001:db8::53\n"}},
		{"name server has no SRV", "ns.dns." + zoneZ, dns.TypeSRV, nodata()},
		{"above the name server", "dns." + zoneZ, dns.TypeA, nodata()},
		{"below the name server", "x.ns.dns." + zoneZ, dns.TypeA, nxdomain()},

		// Pools.
		{"A of a pool", "web." + zoneZ, dns.TypeA, sections{answer: "web." + zoneZ + " 5 IN A 192.0.2.1\n"}},
		{"AAAA of a pool", "web." + zoneZ, dns.TypeAAAA, sections{answer: "web." + zoneZ + " 5 IN AAAA 2001:db8::1\n"}},
		{"query's case is echoed", "wEb.PoOl.example.ORG.", dns.TypeA, sections{answer: "wEb.PoOl.example.ORG. 5 IN A 192.0.2.1\n"}},
		{"no element has the family", "four." + zoneZ, dns.TypeAAAA, nodata()},
		{"all addresses of the family", "homes." + zoneZ, dns.TypeA, sections{answer: "homes." + zoneZ + " 5 IN A 192.0.2.7\nhomes." + zoneZ + " 5 IN A 192.0.2.8\n"}},
		{"TXT about a pool", "_rserpool.homes." + zoneZ, dns.TypeTXT, sections{answer: "_rserpool.homes." + zoneZ + ` 5 IN TXT "policy=RoundRobin" "elements=1" "transport=sctp" "suspects=0" "guarded=no"` + "\n"}},
		{"TXT about a pool by its encoded form", "_RSERPOOL." + encodeHandle("four") + "." + zoneZ, dns.TypeTXT, sections{answer: "_RSERPOOL." + encodeHandle("four") + "." + zoneZ + ` 5 IN TXT "policy=RoundRobin" "elements=1" "transport=tcp" "suspects=0" "guarded=no"` + "\n"}},
		{"no TXT of a pool: programs read texts of their own there", "web." + zoneZ, dns.TypeTXT, nodata()},
		{"other type", "web." + zoneZ, dns.TypeMX, nodata()},
		{"ANY", "web." + zoneZ, dns.TypeANY, hinfo("web." + zoneZ)},
		{"ANY of the zone", zoneZ, dns.TypeANY, hinfo(zoneZ)},
		{"ANY of an element", "PE-abcdef01.four." + zoneZ, dns.TypeANY, hinfo("PE-abcdef01.four." + zoneZ)},
		{"ANY of a service", "_ssh._tcp.web." + zoneZ, dns.TypeANY, hinfo("_ssh._tcp.web." + zoneZ)},
		{"ANY of an empty non-terminal", "_tcp.web." + zoneZ, dns.TypeANY, nodata()},
		{"ANY of an unknown name", "nowhere." + zoneZ, dns.TypeANY, nxdomain()},
		{"HINFO", "web." + zoneZ, dns.TypeHINFO, hinfo("web." + zoneZ)},
		{"HTTPS without the option", "web." + zoneZ, dns.TypeHTTPS, nodata()},
		{"SVCB without the option", "web." + zoneZ, dns.TypeSVCB, nodata()},
		{"DS", "web." + zoneZ, dns.TypeDS, nodata()},
		{"unknown pool", "nowhere." + zoneZ, dns.TypeA, nxdomain()},
		{"below a pool", "x.web." + zoneZ, dns.TypeA, nxdomain()},
		{"elements without address", "opaque." + zoneZ, dns.TypeA, nodata()},
		{"SRV of elements without address", "opaque." + zoneZ, dns.TypeSRV, nodata()},

		// Handles as names.
		{"blank", `Compute\032Pool.` + zoneZ, dns.TypeA, sections{answer: `Compute\ Pool.` + zoneZ + " 5 IN A 192.0.2.9\n"}},
		{"blank, the other escape", `compute\ pool.` + zoneZ, dns.TypeA, sections{answer: `compute\ pool.` + zoneZ + " 5 IN A 192.0.2.9\n"}},
		{"bytes", `\000\255bin\\.` + zoneZ, dns.TypeA, sections{answer: `\000\255bin\\.` + zoneZ + " 5 IN A 192.0.2.13\n"}},
		{"several labels", "a.deep.one." + zoneZ, dns.TypeA, sections{answer: "a.deep.one." + zoneZ + " 5 IN A 192.0.2.10\n"}},
		{"empty non-terminal", "deep.one." + zoneZ, dns.TypeA, nodata()},
		{"empty non-terminal above that", "one." + zoneZ, dns.TypeSRV, nodata()},
		{"beside an empty non-terminal", "eep.one." + zoneZ, dns.TypeA, nxdomain()},
		{"a dot in a label is no separator", `a\.deep.one.` + zoneZ, dns.TypeA, nxdomain()},
		{"a decimal dot in a label", `a\046deep.one.` + zoneZ, dns.TypeA, nxdomain()},
		{"lower case wins", "case." + zoneZ, dns.TypeA, sections{answer: "case." + zoneZ + " 5 IN A 192.0.2.12\n"}},
		{"lower case wins, asked in capitals", "CASE." + zoneZ, dns.TypeA, sections{answer: "CASE." + zoneZ + " 5 IN A 192.0.2.12\n"}},
		{"capitals by the encoded form", encodeHandle("CASE") + "." + zoneZ, dns.TypeA, sections{answer: encodeHandle("CASE") + "." + zoneZ + " 5 IN A 192.0.2.11\n"}},
		{"handle with an empty label", encodeHandle("a..b") + "." + zoneZ, dns.TypeA, sections{answer: encodeHandle("a..b") + "." + zoneZ + " 5 IN A 192.0.2.14\n"}},
		{"handle with a long label", x64 + "." + zoneZ, dns.TypeA, sections{answer: x64 + "." + zoneZ + " 5 IN A 192.0.2.15\n"}},
		{"every handle by its encoded form", encodeHandle("web") + "." + zoneZ, dns.TypeA, sections{answer: encodeHandle("web") + "." + zoneZ + " 5 IN A 192.0.2.1\n"}},
		{"encoded form in capitals", strings.ToUpper(encodeHandle("web")) + "." + zoneZ, dns.TypeA, sections{answer: strings.ToUpper(encodeHandle("web")) + "." + zoneZ + " 5 IN A 192.0.2.1\n"}},
		{"encoded unknown handle", encodeHandle("nowhere") + "." + zoneZ, dns.TypeA, nxdomain()},
		{"encoded form with stray bits", "_ph-" + strings.TrimSuffix(encodeHandle("web")[4:], "o") + "p." + zoneZ, dns.TypeA, nxdomain()},
		{"nothing encoded", "_ph-." + zoneZ, dns.TypeA, nxdomain()},

		// Elements.
		{"A of an element", "pe-abcdef01.four." + zoneZ, dns.TypeA, sections{answer: "pe-abcdef01.four." + zoneZ + " 5 IN A 192.0.2.4\n"}},
		{"identifier in capitals", "PE-ABCDEF01.four." + zoneZ, dns.TypeA, sections{answer: "PE-ABCDEF01.four." + zoneZ + " 5 IN A 192.0.2.4\n"}},
		{"AAAA of an element without", "pe-abcdef01.four." + zoneZ, dns.TypeAAAA, nodata()},
		{"SRV of an element", "pe-abcdef01.four." + zoneZ, dns.TypeSRV, sections{
			answer: "pe-abcdef01.four." + zoneZ + " 5 IN SRV 0 0 80 pe-abcdef01.four." + zoneZ + "\n",
			extra:  "pe-abcdef01.four." + zoneZ + " 5 IN A 192.0.2.4\n",
		}},
		{"TXT about an element", "_rserpool.pe-abcdef01.four." + zoneZ, dns.TypeTXT, sections{answer: "_rserpool.pe-abcdef01.four." + zoneZ + ` 5 IN TXT "policy=RoundRobin" "transport=tcp:80" "home=0000cafe" "life=infinite"` + "\n"}},
		{"unknown element", "pe-00000002.four." + zoneZ, dns.TypeA, nxdomain()},
		{"identifier too short", "pe-abcdef0.four." + zoneZ, dns.TypeA, nxdomain()},
		{"no identifier", "pe-abcdefgh.four." + zoneZ, dns.TypeA, nxdomain()},
		{"element of an encoded pool", "pe-00000001." + encodeHandle("a..b") + "." + zoneZ, dns.TypeA, sections{answer: "pe-00000001." + encodeHandle("a..b") + "." + zoneZ + " 5 IN A 192.0.2.14\n"}},
		{"element before a pool of that name", "pe-00000001.web." + zoneZ, dns.TypeA, sections{answer: "pe-00000001.web." + zoneZ + " 5 IN A 192.0.2.1\n"}},
		{"which has its encoded form", encodeHandle("pe-00000001.web") + "." + zoneZ, dns.TypeA, sections{answer: encodeHandle("pe-00000001.web") + "." + zoneZ + " 5 IN A 192.0.2.16\n"}},
		{"without such an element the pool", "pe-00000002.web." + zoneZ, dns.TypeA, sections{answer: "pe-00000002.web." + zoneZ + " 5 IN A 192.0.2.17\n"}},
		{"element of a pool named like an element", "pe-00000001.pe-00000002.web." + zoneZ, dns.TypeA, sections{answer: "pe-00000001.pe-00000002.web." + zoneZ + " 5 IN A 192.0.2.17\n"}},

		// Services.
		{"SRV of a pool", "four." + zoneZ, dns.TypeSRV, sections{
			answer: "four." + zoneZ + " 5 IN SRV 0 1 80 pe-abcdef01.four." + zoneZ + "\n",
			extra:  "pe-abcdef01.four." + zoneZ + " 5 IN A 192.0.2.4\n",
		}},
		{"SRV of a service", "_ssh._tcp.web." + zoneZ, dns.TypeSRV, sections{
			answer: "_ssh._tcp.web." + zoneZ + " 5 IN SRV 0 1 8080 pe-00000001.web." + zoneZ + "\n",
			extra:  "pe-00000001.web." + zoneZ + " 5 IN A 192.0.2.1\npe-00000001.web." + zoneZ + " 5 IN AAAA 2001:db8::1\n",
		}},
		{"service before a pool of that name", "_http._tcp.web." + zoneZ, dns.TypeA, nodata()},
		{"service of an encoded pool", "_x._tcp." + encodeHandle("a..b") + "." + zoneZ, dns.TypeSRV, sections{
			answer: "_x._tcp." + encodeHandle("a..b") + "." + zoneZ + " 5 IN SRV 0 1 80 pe-00000001." + encodeHandle("a..b") + "." + zoneZ + "\n",
			extra:  "pe-00000001." + encodeHandle("a..b") + "." + zoneZ + " 5 IN A 192.0.2.14\n",
		}},
		{"SRV of a multi-homed element", "_x._SCTP.homes." + zoneZ, dns.TypeSRV, sections{
			answer: "_x._SCTP.homes." + zoneZ + " 5 IN SRV 0 1 9 pe-00000007.homes." + zoneZ + "\n",
			extra: "pe-00000007.homes." + zoneZ + " 5 IN A 192.0.2.7\npe-00000007.homes." + zoneZ + " 5 IN A 192.0.2.8\n" +
				"pe-00000007.homes." + zoneZ + " 5 IN AAAA 2001:db8::7\npe-00000007.homes." + zoneZ + " 5 IN AAAA 2001:db8::8\n",
		}},
		{"a service has no address", "_ssh._tcp.web." + zoneZ, dns.TypeA, nodata()},
		{"other transport", "_ssh._udp.web." + zoneZ, dns.TypeSRV, nxdomain()},
		{"unknown transport", "_ssh._quic.web." + zoneZ, dns.TypeSRV, nxdomain()},
		{"service of an unknown pool", "_ssh._tcp.nowhere." + zoneZ, dns.TypeSRV, nxdomain()},
		{"service without underscore", "ssh._tcp.web." + zoneZ, dns.TypeSRV, nxdomain()},
		{"transport alone", "_tcp.web." + zoneZ, dns.TypeSRV, nodata()},
		{"other transport alone", "_udp.web." + zoneZ, dns.TypeSRV, nxdomain()},
		{"transport without pool", "_tcp." + zoneZ, dns.TypeSRV, nxdomain()},
		{"service without pool", "_ssh._tcp." + zoneZ, dns.TypeSRV, nxdomain()},
		{"below a service", "x._ssh._tcp.web." + zoneZ, dns.TypeSRV, nxdomain()},

		// Time to live.
		{"TTL within the registration life", "brief." + zoneZ, dns.TypeA, sections{answer: "brief." + zoneZ + " 3 IN A 192.0.2.19\n"}},
		{"TTL of SRV and its addresses", "brief." + zoneZ, dns.TypeSRV, sections{
			answer: "brief." + zoneZ + " 3 IN SRV 0 1 80 pe-00000001.brief." + zoneZ + "\n",
			extra:  "pe-00000001.brief." + zoneZ + " 3 IN A 192.0.2.19\n",
		}},
		{"TTL of an element", "pe-00000001.brief." + zoneZ, dns.TypeA, sections{answer: "pe-00000001.brief." + zoneZ + " 3 IN A 192.0.2.19\n"}},
		{"TTL of the TXT about an element", "_rserpool.pe-00000001.brief." + zoneZ, dns.TypeTXT, sections{answer: "_rserpool.pe-00000001.brief." + zoneZ + ` 3 IN TXT "policy=RoundRobin" "transport=tcp:80" "home=0000cafe" "life=60"` + "\n"}},
		{"TTL with a long life", "long." + zoneZ, dns.TypeA, sections{answer: "long." + zoneZ + " 5 IN A 192.0.2.20\n"}},
		{"TTL with a life that is over", "late." + zoneZ, dns.TypeA, sections{answer: "late." + zoneZ + " 0 IN A 192.0.2.21\n"}},

		{"AXFR", zoneZ, dns.TypeAXFR, sections{rcode: dns.RcodeRefused}},
		{"IXFR", zoneZ, dns.TypeIXFR, sections{rcode: dns.RcodeRefused}},
	}
	h := newTestHandler(t, "rserpool pool.example.org", testSpace(t))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := ask(t, h, tt.qname, tt.qtype)
			got := sections{m.Rcode, lines(m.Answer), lines(m.Ns), lines(m.Extra)}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(sections{})); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", tt.qname, dns.TypeToString[tt.qtype], diff)
			}
			if len(m.Answer)+len(m.Ns) > 0 && !m.Authoritative {
				t.Error("answer is not authoritative")
			}
			if _, err := m.Pack(); err != nil {
				t.Errorf("answer does not pack: %v", err)
			}
			if m.Question[0].Name != tt.qname {
				t.Errorf("question is %q, want %q", m.Question[0].Name, tt.qname)
			}
		})
	}
}

// TestAnswersStandard checks some answers with CoreDNS's own test helper, too.
func TestAnswersStandard(t *testing.T) {
	h := newTestHandler(t, "rserpool pool.example.org", testSpace(t))
	for _, tc := range []test.Case{
		{
			Qname: "web.pool.example.org.", Qtype: dns.TypeA,
			Answer: []dns.RR{test.A("web.pool.example.org. 5 IN A 192.0.2.1")},
		},
		{
			Qname: "_ssh._tcp.web.pool.example.org.", Qtype: dns.TypeSRV,
			Answer: []dns.RR{test.SRV("_ssh._tcp.web.pool.example.org. 5 IN SRV 0 1 8080 pe-00000001.web.pool.example.org.")},
			Extra: []dns.RR{
				test.A("pe-00000001.web.pool.example.org. 5 IN A 192.0.2.1"),
				test.AAAA("pe-00000001.web.pool.example.org. 5 IN AAAA 2001:db8::1"),
			},
		},
		{
			Qname: "nowhere.pool.example.org.", Qtype: dns.TypeA, Rcode: dns.RcodeNameError,
			Ns: []dns.RR{test.SOA("pool.example.org. 5 IN SOA ns.dns.pool.example.org. hostmaster.pool.example.org. 100 60 30 86400 5")},
		},
	} {
		m := askFrom(t, h, &test.ResponseWriter{}, tc.Msg())
		if err := test.SortAndCheck(m, tc); err != nil {
			t.Errorf("%s: %v", tc.Qname, err)
		}
	}
}

func TestNotReady(t *testing.T) {
	f := testSpace(t)
	f.notReady.Store(true)
	h := newTestHandler(t, "rserpool pool.example.org {\n fallthrough\n}", f)
	h.Next = test.NextHandler(dns.RcodeSuccess, nil)
	for _, name := range []string{"web." + zoneZ, "nowhere." + zoneZ} {
		if got := ask(t, h, name, dns.TypeA).Rcode; got != dns.RcodeServerFailure {
			t.Errorf("%s before the handlespace is known: got %s, want SERVFAIL", name, dns.RcodeToString[got])
		}
	}
}

// TestAnswersBeforeReady: elements of the stored state are answered while the registrar learns
// what others have. A name that it does not know may exist: it does not deny it, and asks no
// other plugin.
func TestAnswersBeforeReady(t *testing.T) {
	f := testSpace(t)
	f.notReady.Store(true)
	f.answers.Store(true)
	h := newTestHandler(t, "rserpool pool.example.org {\n fallthrough\n}", f)
	h.Next = test.NextHandler(dns.RcodeNameError, nil)
	for _, tc := range []struct {
		name  string
		qtype uint16
		want  int
	}{
		{"web." + zoneZ, dns.TypeA, dns.RcodeSuccess},
		{zoneZ, dns.TypeSOA, dns.RcodeSuccess},
		{"web." + zoneZ, dns.TypeLOC, dns.RcodeSuccess}, // it is known that the pool has none
		{"nowhere." + zoneZ, dns.TypeA, dns.RcodeServerFailure},
	} {
		m := ask(t, h, tc.name, tc.qtype)
		if m.Rcode != tc.want || (m.Rcode == dns.RcodeSuccess && tc.qtype != dns.TypeLOC) != (len(m.Answer) > 0) {
			t.Errorf("%s %s: got %s with %d answers, want %s", tc.name, dns.TypeToString[tc.qtype], dns.RcodeToString[m.Rcode], len(m.Answer), dns.RcodeToString[tc.want])
		}
	}
	f.notReady.Store(false)
	if got := ask(t, h, "nowhere."+zoneZ, dns.TypeA).Rcode; got != dns.RcodeNameError {
		t.Errorf("an unknown name, when ready: got %s, want that of the next plugin", dns.RcodeToString[got])
	}
}

// TestNotReadyExtendedError: clients with EDNS learn why.
func TestNotReadyExtendedError(t *testing.T) {
	f := testSpace(t)
	f.notReady.Store(true)
	h := newTestHandler(t, "rserpool pool.example.org", f)
	q := new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeA)
	q.SetEdns0(1232, false)
	m := askFrom(t, h, &test.ResponseWriter{}, q)
	if m.Rcode != dns.RcodeServerFailure || m.IsEdns0() == nil || len(m.IsEdns0().Option) != 1 {
		t.Fatalf("got %v, want SERVFAIL with an extended error", m)
	}
	if e, ok := m.IsEdns0().Option[0].(*dns.EDNS0_EDE); !ok || e.InfoCode != dns.ExtendedErrorCodeNotReady {
		t.Errorf("got option %v, want extended error 14", m.IsEdns0().Option[0])
	}
	if m := ask(t, h, "web."+zoneZ, dns.TypeA); m.IsEdns0() != nil {
		t.Errorf("got %v for a client without EDNS, want no OPT record", m)
	}
}

func TestRefusals(t *testing.T) {
	h := newTestHandler(t, "rserpool pool.example.org", testSpace(t))
	tests := []struct {
		name   string
		change func(*dns.Msg)
		want   int
	}{
		{"class CH", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, dns.RcodeRefused},
		{"class ANY", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassANY }, dns.RcodeRefused},
		{"opcode NOTIFY", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, dns.RcodeNotImplemented},
		{"opcode UPDATE", func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }, dns.RcodeNotImplemented},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeA)
			tt.change(q)
			if got := askFrom(t, h, &test.ResponseWriter{}, q).Rcode; got != tt.want {
				t.Errorf("got %s, want %s", dns.RcodeToString[got], dns.RcodeToString[tt.want])
			}
		})
	}
}

func TestNextPlugin(t *testing.T) {
	next := errors.New("next plugin")
	tests := []struct {
		name, corefile, qname string
		wantNext              bool
	}{
		{"other zone", "rserpool pool.example.org", "web.example.org.", true},
		{"longer last label", "rserpool pool.example.org", "xpool.example.org.", true},
		{"escaped dot before the zone", "rserpool pool.example.org", `web\.pool.example.org.`, true},
		{"escaped backslash before the zone", "rserpool pool.example.org", `web\\.pool.example.org.`, false},
		{"root zone", "rserpool .", "web.", false},
		{"root itself", "rserpool .", ".", false},
		{"no fallthrough", "rserpool pool.example.org", "nowhere." + zoneZ, false},
		{"fallthrough", "rserpool pool.example.org {\n fallthrough\n}", "nowhere." + zoneZ, true},
		{"fallthrough in this zone", "rserpool pool.example.org {\n fallthrough sub.pool.example.org\n}", "x.sub." + zoneZ, true},
		{"fallthrough in another zone", "rserpool pool.example.org {\n fallthrough sub.pool.example.org\n}", "x." + zoneZ, false},
		{"no fallthrough for known names", "rserpool pool.example.org {\n fallthrough\n}", "web." + zoneZ, false},
		{"no fallthrough for empty non-terminals", "rserpool pool.example.org {\n fallthrough\n}", "one." + zoneZ, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHandler(t, tt.corefile, testSpace(t))
			h.Next = test.NextHandler(dns.RcodeSuccess, next)
			rec := dnstest.NewRecorder(&test.ResponseWriter{})
			_, err := h.ServeDNS(context.Background(), rec, new(dns.Msg).SetQuestion(tt.qname, dns.TypeMX))
			if got := errors.Is(err, next); got != tt.wantNext {
				t.Errorf("%s goes to the next plugin: got %t, want %t", tt.qname, got, tt.wantNext)
			}
		})
	}
	t.Run("no question", func(t *testing.T) {
		h := newTestHandler(t, "rserpool pool.example.org", testSpace(t))
		h.Next = test.NextHandler(dns.RcodeSuccess, next)
		if _, err := h.ServeDNS(context.Background(), &test.ResponseWriter{}, new(dns.Msg)); !errors.Is(err, next) {
			t.Errorf("got %v, want the next plugin's error", err)
		}
	})
}

func TestMostSpecificZone(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"))
	put(t, f.space, "web.sub", element(1, 80, "192.0.2.2"))
	h := newTestHandler(t, "rserpool example.org sub.example.org", f)
	got := lines(ask(t, h, "web.sub.example.org.", dns.TypeA).Answer)
	if want := "web.sub.example.org. 5 IN A 192.0.2.1\n"; got != want {
		t.Errorf("got %q, want the answer of zone sub.example.org: %q", got, want)
	}
}

// TestPoolWithoutElementNames: a pool whose name leaves no room for those of
// its elements has addresses, but no SRV records.
func TestPoolWithoutElementNames(t *testing.T) {
	f := newFake()
	label := strings.Repeat("y", 63)
	handle := strings.Join([]string{label, label, label, strings.Repeat("y", 254-18-3*64-11)}, ".")
	fits := handle[12:]
	put(t, f.space, handle, element(1, 80, "192.0.2.1"))
	put(t, f.space, fits, element(1, 80, "192.0.2.1"))
	h := newTestHandler(t, "rserpool pool.example.org", f)
	if n := wireLen(fits + "." + zoneZ); n+12 > 255 {
		t.Fatalf("short handle makes a name of %d octets, which has no room either", n)
	}
	for name, want := range map[string]int{handle: 0, fits: 1} {
		qname := name + "." + zoneZ
		if got := ask(t, h, qname, dns.TypeA); len(got.Answer) != 1 {
			t.Errorf("A of a name of %d octets: got %d records, want 1", wireLen(qname), len(got.Answer))
		}
		m := ask(t, h, qname, dns.TypeSRV)
		if len(m.Answer) != want || m.Rcode != dns.RcodeSuccess {
			t.Errorf("SRV of a name of %d octets: got %d records, %s; want %d", wireLen(qname), len(m.Answer), dns.RcodeToString[m.Rcode], want)
		}
		if _, err := m.Pack(); err != nil {
			t.Error(err)
		}
	}
}

// TestServices: only the services that the option names exist. etcd's client asks for two,
// and takes each that exists for one of its servers.
func TestServices(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"))
	h := newTestHandler(t, "rserpool pool.example.org {\n service etcd-client http\n}", f)
	for name, want := range map[string]int{
		"_etcd-client._tcp.web.":     dns.RcodeSuccess,
		"_ETCD-client._tcp.web.":     dns.RcodeSuccess,
		"_http._tcp.web.":            dns.RcodeSuccess,
		"_etcd-client-ssl._tcp.web.": dns.RcodeNameError,
		"_htt._tcp.web.":             dns.RcodeNameError,
		"_http._udp.web.":            dns.RcodeNameError,
		"_tcp.web.":                  dns.RcodeSuccess, // an empty non-terminal
	} {
		if m := ask(t, h, name+zoneZ, dns.TypeSRV); m.Rcode != want {
			t.Errorf("%s: got %s, want %s", name, dns.RcodeToString[m.Rcode], dns.RcodeToString[want])
		}
	}
}

// TestServicesOfOthers: no pool can be a service of another one that the options or its transport
// leave out. It has its _ph- name, and its elements have theirs.
func TestServicesOfOthers(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"))
	h := newTestHandler(t, "rserpool pool.example.org {\n service etcd-client\n pool none\n}", f)
	for _, other := range []string{"_etcd-client-ssl._tcp.web", "_etcd-client._udp.web", "_X._TCP.WEB", "_x._tcp." + encodeHandle("web"), "_x._tcp.none"} {
		put(t, f.space, other, element(2, 80, "192.0.2.66"))
		for _, qtype := range []uint16{dns.TypeSRV, dns.TypeA} {
			if m := ask(t, h, other+"."+zoneZ, qtype); m.Rcode != dns.RcodeSuccess || len(m.Answer) > 0 {
				t.Errorf("%s: got\n%s\nwant NODATA", other, m)
			}
		}
		m := ask(t, h, encodeHandle(rsp.PoolHandle(other))+"."+zoneZ, dns.TypeSRV)
		if len(m.Answer) != 1 {
			t.Fatalf("%s: got\n%s\nwant its element at its _ph- name", other, m)
		}
		if m := ask(t, h, m.Answer[0].(*dns.SRV).Target, dns.TypeA); len(m.Answer) != 1 {
			t.Errorf("%s: got\n%s\nwant the address of its element", other, m)
		}
	}
	for _, rr := range transferred(t, h, zoneZ, 0) {
		if strings.HasSuffix(rr.Header().Name, "p.web."+zoneZ) && rr.Header().Name != "_etcd-client._tcp.web."+zoneZ {
			t.Errorf("the copy has %s", rr)
		}
	}
}

// TestRepeatedAddress: an answer has each address once, though a peer tells of an element that has
// it twice.
func TestRepeatedAddress(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1 2001:db8::1 192.0.2.1 2001:db8::1", over(rsp.SCTP)))
	h := newTestHandler(t, "rserpool pool.example.org {\n svcb x\n}", f)
	for _, name := range []string{"web.", "pe-00000001.web.", "_x.web."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSVCB} {
			seen := map[string]bool{}
			m := ask(t, h, name+zoneZ, qtype)
			for _, rr := range slices.Concat(m.Answer, m.Extra) {
				if seen[rr.String()] {
					t.Errorf("%s %s: twice %s", name, dns.TypeToString[qtype], rr)
				}
				seen[rr.String()] = true
				if b, ok := rr.(*dns.SVCB); ok && (strings.Count(b.String(), "192.0.2.1") != 1 || strings.Count(b.String(), "2001:db8::1") != 1) {
					t.Errorf("an address twice: %s", b)
				}
			}
		}
	}
}

// TestDS: the parent answers for the DS records of a zone (RFC 4035, Section 3.1.4.1).
func TestDS(t *testing.T) {
	h := newTestHandler(t, "rserpool example.org sub.example.org", newFake())
	for name, want := range map[string]string{
		"sub.example.org.":      "example.org.",
		"SUB.example.org.":      "example.org.",
		"example.org.":          "example.org.", // the parent is elsewhere
		"web.sub.example.org.":  "sub.example.org.",
		"deep.sub.example.org.": "sub.example.org.",
	} {
		m := ask(t, h, name, dns.TypeDS)
		if len(m.Ns) != 1 || !strings.EqualFold(m.Ns[0].Header().Name, want) {
			t.Errorf("DS of %s: got %v, want the SOA of %s", name, m.Ns, want)
		}
		if strings.EqualFold(name, "sub.example.org.") && m.Rcode != dns.RcodeSuccess {
			t.Errorf("DS of %s: got %s, want NODATA", name, dns.RcodeToString[m.Rcode])
		}
	}
}

// TestTextOfUnknownPolicy: whatever comes with a policy, the text fits into a
// TXT record.
func TestTextOfUnknownPolicy(t *testing.T) {
	f := newFake()
	put(t, f.space, "web",
		element(1, 80, "192.0.2.1", policy(rsp.Policy{Type: 0xb0009999, Extra: strings.Repeat("x", 4000)})),
		element(2, 80, "192.0.2.2", policy(rsp.Policy{Type: 0xb0009999})))
	h := newTestHandler(t, "rserpool pool.example.org", f)
	for _, id := range []string{"1", "2"} {
		m := ask(t, h, "_rserpool.pe-0000000"+id+".web."+zoneZ, dns.TypeTXT)
		if _, err := m.Pack(); err != nil {
			t.Errorf("element %s: %v", id, err)
		}
		if got := lines(m.Answer); !strings.Contains(got, `"policy=0xb0009999"`) {
			t.Errorf("element %s: got %s, want the policy's number", id, got)
		}
	}
}

// TestElementGone: what is not registered is in no answer.
func TestElementGone(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"))
	h := newTestHandler(t, "rserpool pool.example.org", f)
	f.space.Remove("web", 1)
	for range 5 {
		if got, want := lines(ask(t, h, "web."+zoneZ, dns.TypeA).Answer), "web."+zoneZ+" 5 IN A 192.0.2.2\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f.space.Remove("web", 2)
	if m := ask(t, h, "web."+zoneZ, dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("pool without elements: got %s, want NXDOMAIN", dns.RcodeToString[m.Rcode])
	}
}

func TestSOASerialGrows(t *testing.T) {
	f := testSpace(t)
	h := newTestHandler(t, "rserpool pool.example.org", f)
	serial := func() uint32 { return ask(t, h, zoneZ, dns.TypeSOA).Answer[0].(*dns.SOA).Serial }
	before := serial()
	f.space.Remove("web", 1)
	h.now = func() time.Time { return now.Add(time.Second) }
	if after := serial(); int32(after-before) <= 0 {
		t.Errorf("serial after a change: got %d, want more than %d", after, before)
	}
}
