package rserpool

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

func TestDecodeLabels(t *testing.T) {
	tests := []struct {
		rel  string
		want []string // first label, second label, rest
		ok   bool
	}{
		{"web.", []string{"web", "", ""}, true},
		{"a.b.", []string{"a", "b", ""}, true},
		{"a.b.c.d.", []string{"a", "b", "c.d"}, true},
		{`a\.b.`, nil, false},
		{`a\046b.`, nil, false},
		{`\097.b.`, []string{"a", "b", ""}, true},
		{`\a.b.`, []string{"a", "b", ""}, true},
		{`a\\.b.c.`, []string{`a\`, "b", "c"}, true},
		{`\000.\255.`, []string{"\x00", "\xff", ""}, true},
		{`a\256.`, nil, false},
		{`a\25`, nil, false},
		{`a\`, nil, false},
		{"a", nil, false},
		{"a..", nil, false},
		{".", nil, false},
		{"", nil, false},
		{strings.Repeat("x", 63) + ".", []string{strings.Repeat("x", 63), "", ""}, true},
		{strings.Repeat("x", 64) + ".", nil, false},
		{strings.Repeat("x.", 129), nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.rel, func(t *testing.T) {
			var buf [maxName]byte
			l, ok := decodeLabels(buf[:0], tt.rel)
			if ok != tt.ok {
				t.Fatalf("got ok %t, want %t", ok, tt.ok)
			}
			if !tt.ok {
				return
			}
			got := []string{string(l.label(0)), string(l.label(1)), ""}
			if l.n > 2 {
				got[2] = string(l.after(2))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
			if l.n > 1 && tt.rel[l.offset[0]-1] != '.' {
				t.Errorf("second label is said to begin at %d", l.offset[0])
			}
		})
	}
}

func TestEncodeHandle(t *testing.T) {
	tests := []struct {
		handle rsp.PoolHandle
		want   string
	}{
		{"a", "_ph-c4"},
		{"foobar", "_ph-cpnmuoj1e8"}, // RFC 4648, Section 10
		{"a..b", "_ph-c4n2sog"},
		{"\x00", "_ph-00"},
		{"\xff\xff\xff\xff\xff", "_ph-vvvvvvvv"},
		{rsp.PoolHandle(strings.Repeat("\x00", 36)), "_ph-" + strings.Repeat("0", 58)},
		{rsp.PoolHandle(strings.Repeat("\x00", 37)), "_ph-" + strings.Repeat("0", 59) + ".0"},
		{rsp.PoolHandle(strings.Repeat("\x00", 80)), "_ph-" + strings.Repeat("0", 59) + "." + strings.Repeat("0", 59) + "." + strings.Repeat("0", 10)},
	}
	for _, tt := range tests {
		got := encodeHandle(tt.handle)
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.handle, got, tt.want)
		}
		if _, ok := dns.IsDomainName(got); !ok {
			t.Errorf("%q: %s is no domain name", tt.handle, got)
		}
		for _, name := range []string{got, strings.ToUpper(got)} {
			if back, ok := decodeHandle([]byte(name)); !ok || back != tt.handle {
				t.Errorf("%s: got %q, %t, want %q", name, back, ok, tt.handle)
			}
		}
	}
}

// TestDecodeHandleStrict: one handle has one name.
func TestDecodeHandleStrict(t *testing.T) {
	zeros := strings.Repeat("0", 58)
	for _, name := range []string{
		"_ph-",
		"_ph-c",                   // five bits are no byte
		"_ph-c5",                  // stray bits
		"_ph-c4======",            // padding
		"_ph-w4",                  // no digit
		"_ph-c\n4",                // Go's decoder skips line ends
		"_ph-cpnm.uoj1e8",         // cut early
		"_ph-" + zeros + ".00",    // cut one early
		"_ph-" + zeros + "00",     // not cut
		"_ph-" + zeros + "0.",     // nothing after the cut
		"_ph-" + zeros + "0.0.00", // cut twice
	} {
		if h, ok := decodeHandle([]byte(name)); ok {
			t.Errorf("%q: got %q, want no handle", name, h)
		}
	}
}

func TestElementName(t *testing.T) {
	got := elementName(0xabcdef01, "web.pool.example.org.")
	if want := "pe-abcdef01.web.pool.example.org."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, length := range []int{243, 244} { // of the pool's name on the wire
		pool := strings.Repeat(strings.Repeat("x", 59)+".", 4)
		pool += strings.Repeat("y", length-len(pool)-2) + "."
		if n := wireLen(pool); n != length {
			t.Fatalf("test name has %d octets, want %d", n, length)
		}
		name, ok := elementName(1, pool), hasElementNames(pool)
		if want := length <= 243; ok != want {
			t.Errorf("pool name of %d octets: got %t, want %t", length, ok, want)
		}
		if _, valid := dns.IsDomainName(name); ok && !valid {
			t.Errorf("%q is no domain name", name)
		}
	}
}

func TestWireLen(t *testing.T) {
	for _, name := range []string{".", "a.", "a.b.", `a\.b.`, `\000\255.`, `\\.`, "pool.example.org."} {
		var buf [maxName]byte
		want, err := dns.PackDomainName(name, buf[:], 0, nil, false)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if got := wireLen(name); got != want {
			t.Errorf("%q: got %d, want %d", name, got, want)
		}
	}
}

func TestHasSuffixName(t *testing.T) {
	tests := []struct {
		name, zone string
		want       bool
	}{
		{"a.b.", "b.", true},
		{"b.", "b.", true},
		{"A.B.", "b.", true},
		{"ab.", "b.", false},
		{`a\.b.`, "b.", false},
		{`a\\.b.`, "b.", true},
		{`a\\\.b.`, "b.", false},
		{"b.", "a.b.", false},
		{"a.", ".", true},
		{".", ".", true},
		{"a", ".", false},
		{"", "b.", false},
	}
	for _, tt := range tests {
		if got := hasSuffixName(tt.name, tt.zone); got != tt.want {
			t.Errorf("%s in %s: got %t, want %t", tt.name, tt.zone, got, tt.want)
		}
	}
}

func TestCanonicalName(t *testing.T) {
	tests := []struct {
		name, want string
		ok         bool
	}{
		{"Pool.Example.ORG", "pool.example.org.", true},
		{`\112ool.example.`, "pool.example.", true},
		{`a\032b.`, `a\ b.`, true},
		{".", ".", true},
		{"a..b", "", false},
		{strings.Repeat("x", 64), "", false},
		{strings.Repeat("x.", 130), "", false},
	}
	for _, tt := range tests {
		if got, ok := canonicalName(tt.name); got != tt.want || ok != tt.ok {
			t.Errorf("%q: got %q, %t, want %q, %t", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

func TestOwnAddrs(t *testing.T) {
	tests := []struct {
		name   string
		listen []string
		want   []netip.Addr
	}{
		{"bound", []string{"192.0.2.1", "2001:db8::1"}, addrs("192.0.2.1", "2001:db8::1")},
		{"bound to loopback as well", []string{"127.0.0.1", "192.0.2.1"}, addrs("192.0.2.1")},
		{"bound to loopback alone", []string{"127.0.0.1", "::1"}, addrs("127.0.0.1", "::1")},
		{"IPv4 in IPv6 form", []string{"::ffff:192.0.2.1"}, addrs("192.0.2.1")},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, ownAddrs(tt.listen), exported); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	for _, listen := range [][]string{nil, {""}, {"0.0.0.0"}, {"::"}} {
		got := ownAddrs(listen)
		if slices.ContainsFunc(got, netip.Addr.IsLoopback) && slices.ContainsFunc(got, netip.Addr.IsGlobalUnicast) {
			t.Errorf("bound to %q: got %v, want loopback addresses only where there are no others", listen, got)
		}
	}
}

func TestNameservers(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"))
	put(t, f.space, "ns1", element(1, 80, "192.0.2.2"))
	h := newTestHandler(t, `rserpool pool.example.org {
		nameserver NS1.pool.example.org 192.0.2.54 2001:db8::54
		nameserver ns2.deep.er.pool.example.org
		nameserver ns.example.net
	}`, f)
	tests := []struct {
		qname string
		qtype uint16
		want  string
	}{
		{zoneZ, dns.TypeNS, zoneZ + " 5 IN NS ns1." + zoneZ + "\n" + zoneZ + " 5 IN NS ns2.deep.er." + zoneZ + "\n" + zoneZ + " 5 IN NS ns.example.net.\n"},
		{"Ns1." + zoneZ, dns.TypeA, "Ns1." + zoneZ + " 5 IN A 192.0.2.54\n"},
		{"ns1." + zoneZ, dns.TypeAAAA, "ns1." + zoneZ + " 5 IN AAAA 2001:db8::54\n"},
		{encodeHandle("ns1") + "." + zoneZ, dns.TypeA, encodeHandle("ns1") + "." + zoneZ + " 5 IN A 192.0.2.2\n"},
		{"ns2.deep.er." + zoneZ, dns.TypeA, "ns2.deep.er." + zoneZ + " 5 IN A 192.0.2.53\n"},
	}
	for _, tt := range tests {
		if got := lines(ask(t, h, tt.qname, tt.qtype).Answer); got != tt.want {
			t.Errorf("%s %s: got\n%swant\n%s", tt.qname, dns.TypeToString[tt.qtype], got, tt.want)
		}
	}
	for name, want := range map[string]int{"deep.er.": 0, "er.": 0, "ns.dns.": dns.RcodeNameError, "dns.": dns.RcodeNameError} {
		if got := ask(t, h, name+zoneZ, dns.TypeA).Rcode; got != want {
			t.Errorf("%s: got %s, want %s", name+zoneZ, dns.RcodeToString[got], dns.RcodeToString[want])
		}
	}
	glue := lines(ask(t, h, zoneZ, dns.TypeNS).Extra)
	if strings.Contains(glue, "example.net") || strings.Count(glue, "\n") != 4 {
		t.Errorf("additional data of NS: got\n%swant the four addresses in the zone", glue)
	}
	if got := ask(t, h, zoneZ, dns.TypeSOA).Answer[0].(*dns.SOA).Ns; got != "ns1."+zoneZ {
		t.Errorf("primary name server in the SOA: got %s, want the first one", got)
	}
}

// TestRootZone: names have no zone to take off.
func TestRootZone(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"))
	h := newTestHandler(t, "rserpool .", f)
	tests := []struct {
		qname string
		qtype uint16
		want  string
	}{
		{"web.", dns.TypeA, "web. 5 IN A 192.0.2.1\n"},
		{"web.", dns.TypeSRV, "web. 5 IN SRV 0 1 80 pe-00000001.web.\n"},
		{".", dns.TypeNS, ". 5 IN NS ns.dns.\n"},
		{".", dns.TypeSOA, ". 5 IN SOA ns.dns. hostmaster. 1000000000 60 30 86400 5\n"},
		{"ns.dns.", dns.TypeA, "ns.dns. 5 IN A 192.0.2.53\n"},
	}
	for _, tt := range tests {
		if got := lines(ask(t, h, tt.qname, tt.qtype).Answer); got != tt.want {
			t.Errorf("%s %s: got %q, want %q", tt.qname, dns.TypeToString[tt.qtype], got, tt.want)
		}
	}
}

// TestOneSpelling: names in RDATA and of additional records do not depend on how a query is
// spelled. HAProxy, Prometheus and others compare them, and resolvers choose the case of
// letters at random.
func TestOneSpelling(t *testing.T) {
	f := newFake()
	for i, pool := range []string{"web", "Shop", "BANK", "bank", "a..b", "pe-0000002a.web", "_http._tcp.web", "Compute Pool", `back\slash`} {
		put(t, f.space, pool, element(rsp.PEID(i+1), 80, "192.0.2.1"))
	}
	h := newTestHandler(t, "rserpool Pool.Example.org", f)
	tests := []struct{ asked, want string }{
		{"web", "pe-00000001.web."},
		{"wEb", "pe-00000001.web."},
		{encodeHandle("web"), "pe-00000001.web."},
		{strings.ToUpper(encodeHandle("web")), "pe-00000001.web."},
		{"_http._TCP.WEB", "pe-00000001.web."}, // the service
		{"PE-00000001.WEB", "pe-00000001.web."},
		{"shop", "pe-00000002.Shop."},
		{"Shop", "pe-00000002.Shop."},
		{"BANK", "pe-00000004.bank."},
		{encodeHandle("BANK"), "pe-00000003." + encodeHandle("BANK") + "."},
		{strings.ToUpper(encodeHandle("BANK")), "pe-00000003." + encodeHandle("BANK") + "."},
		{encodeHandle("a..b"), "pe-00000005." + encodeHandle("a..b") + "."},
		{"PE-0000002A.web", "pe-00000006.pe-0000002a.web."},
		{encodeHandle("_http._tcp.web"), "pe-00000007._http._tcp.web."},
		{`COMPUTE\032POOL`, `pe-00000008.Compute\ Pool.`},
		{`back\\slash`, `pe-00000009.back\\slash.`},
	}
	for _, tt := range tests {
		for _, zone := range []string{zoneZ, "POOL.example.ORG."} {
			name := tt.asked + "." + zone
			m := ask(t, h, name, dns.TypeSRV)
			if len(m.Answer) != 1 || len(m.Extra) != 1 {
				t.Errorf("%s: got %v", name, m)
				continue
			}
			if got := m.Answer[0].Header().Name; got != name {
				t.Errorf("%s: the owner is %s, want the case of the question", name, got)
			}
			want := tt.want + zoneZ
			if got := m.Answer[0].(*dns.SRV).Target; got != want {
				t.Errorf("%s: the target is %s, want %s", name, got, want)
			}
			if got := m.Extra[0].Header().Name; got != want {
				t.Errorf("%s: the additional record is of %s, want %s", name, got, want)
			}
			if a := ask(t, h, want, dns.TypeA); len(a.Answer) != 1 {
				t.Errorf("%s: the target %s has no address: %v", name, want, a)
			}
		}
	}
}
