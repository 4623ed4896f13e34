package rserpool

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// longName is the handle of a pool whose elements have no names, because they would be too long.
var longName = strings.Repeat(strings.Repeat("x", 59)+".", 3) + strings.Repeat("y", 47)

// bound is a handler with pools that have HTTPS and SVCB records.
func bound(t testing.TB, corefile string) *Handler {
	t.Helper()
	f := newFake()
	put(t, f.space, "web", element(1, 8443, "192.0.2.1 2001:db8::1"), element(2, 8444, "192.0.2.2 192.0.2.3"))
	put(t, f.space, "plain", element(1, 80, "192.0.2.4"))
	put(t, f.space, "quic", element(1, 4433, "192.0.2.5 2001:db8::5 2001:db8::6", over(rsp.UDP)))
	put(t, f.space, "coap", element(1, 5684, "192.0.2.13", over(rsp.UDP)))
	put(t, f.space, "ss7", element(1, 2905, "192.0.2.6", over(rsp.SCTP)))
	put(t, f.space, "dot", element(1, 853, "2001:db8::7"), element(2, 854, "::ffff:192.0.2.8"))
	put(t, f.space, "opaque", element(1, 0, "", over(rsp.Opaque)))
	put(t, f.space, "brief", element(1, 443, "192.0.2.9 2001:db8::9", expires(3*time.Second)))
	put(t, f.space, "_https.x", element(1, 443, "192.0.2.10"))
	put(t, f.space, "_8443._https.plain", element(1, 443, "192.0.2.11"))
	put(t, f.space, "a..b", element(1, 443, "192.0.2.12"))
	put(t, f.space, longName, element(1, 443, "192.0.2.14"))
	return newTestHandler(t, "rserpool pool.example.org {\n"+corefile+"\n}", f)
}

// TestBindings: the records, and which names exist.
func TestBindings(t *testing.T) {
	const corefile = `pool web https alpn=h2,h3 key65400=a\032b
		pool web addresses 2
		pool quic https alpn=h3 no-default-alpn
		pool coap https alpn=h2,h3 no-default-alpn
		pool ss7 https
		pool ss7 svcb m3ua
		pool opaque https
		pool xxx* https
		pool brief https ech=AAQAAAAA mandatory=ech`
	const dotted = `
		pool dot svcb dns alpn=dot,h2 dohpath=/dns-query{?dns} mandatory=port
		pool dot svcb foo
		pool dot https`
	web := func(name string) sections {
		return sections{
			answer: name + ".pool.example.org. 5 IN HTTPS 1 pe-00000001.web.pool.example.org. alpn=\"h2,h3\" port=\"8443\" ipv4hint=\"192.0.2.1\" ipv6hint=\"2001:db8::1\" key65400=\"a\\ b\"\n" +
				name + ".pool.example.org. 5 IN HTTPS 2 pe-00000002.web.pool.example.org. alpn=\"h2,h3\" port=\"8444\" ipv4hint=\"192.0.2.2,192.0.2.3\" key65400=\"a\\ b\"\n",
			extra: "pe-00000001.web.pool.example.org. 5 IN A 192.0.2.1\npe-00000001.web.pool.example.org. 5 IN AAAA 2001:db8::1\n" +
				"pe-00000002.web.pool.example.org. 5 IN A 192.0.2.2\npe-00000002.web.pool.example.org. 5 IN A 192.0.2.3\n",
		}
	}
	one := func(rr string, addrs ...string) (s sections) {
		for _, a := range addrs {
			s.extra += strings.Fields(rr)[5] + " " + strings.Fields(rr)[1] + " IN " + a + "\n"
		}
		s.answer = rr + "\n"
		return s
	}
	tests := []struct {
		name  string
		qtype uint16
		want  sections
	}{
		{"web", dns.TypeHTTPS, web("web")},
		{"WEB", dns.TypeHTTPS, web("WEB")},
		{"_8443._https.web", dns.TypeHTTPS, web("_8443._https.web")},
		{"_8080._HTTPS.Web", dns.TypeHTTPS, web("_8080._HTTPS.Web")},
		{"_65535._https.web", dns.TypeHTTPS, web("_65535._https.web")},
		{"_443._https.web", dns.TypeHTTPS, nxdomain()},
		{"_65536._https.web", dns.TypeHTTPS, nxdomain()},
		{"_0._https.web", dns.TypeHTTPS, nxdomain()},
		{"_08443._https.web", dns.TypeHTTPS, nxdomain()},
		{"8443._https.web", dns.TypeHTTPS, nxdomain()},
		{"_x._https.web", dns.TypeHTTPS, nxdomain()},
		{"_8443._http.web", dns.TypeHTTPS, nxdomain()},
		{"x._8443._https.web", dns.TypeHTTPS, nxdomain()},
		{"_8443._https", dns.TypeHTTPS, nxdomain()},
		{"_https", dns.TypeHTTPS, nxdomain()},
		{"_https.web", dns.TypeHTTPS, nodata()},
		{"_https.web", dns.TypeSVCB, nodata()},
		{"_https.web", dns.TypeANY, nodata()},
		{"_8443._https.web", dns.TypeSVCB, nodata()},
		{"_8443._https.web", dns.TypeA, nodata()},
		{"web", dns.TypeSVCB, nodata()},
		{"pe-00000001.web", dns.TypeHTTPS, nodata()},
		{"_http._tcp.web", dns.TypeHTTPS, nodata()},
		{"_8443._tcp.web", dns.TypeSRV, sections{
			answer: "_8443._tcp.web.pool.example.org. 5 IN SRV 0 1 8443 pe-00000001.web.pool.example.org.\n_8443._tcp.web.pool.example.org. 5 IN SRV 0 1 8444 pe-00000002.web.pool.example.org.\n",
			extra:  web("").extra,
		}},

		// Not configured.
		{"plain", dns.TypeHTTPS, nodata()},
		{"_https.plain", dns.TypeHTTPS, nodata()}, // of the pool _8443._https.plain
		{"_80._https.plain", dns.TypeHTTPS, nxdomain()},
		{"_8443._https.plain", dns.TypeA, sections{answer: "_8443._https.plain.pool.example.org. 5 IN A 192.0.2.11\n"}},
		{"_https.x", dns.TypeA, sections{answer: "_https.x.pool.example.org. 5 IN A 192.0.2.10\n"}},
		{"nowhere", dns.TypeHTTPS, nxdomain()},
		{"_8443._https.nowhere", dns.TypeHTTPS, nxdomain()},

		// Transports.
		{"quic", dns.TypeHTTPS, one(`quic.pool.example.org. 5 IN HTTPS 1 pe-00000001.quic.pool.example.org. alpn="h3" no-default-alpn="" port="4433" ipv4hint="192.0.2.5" ipv6hint="2001:db8::5,2001:db8::6"`, "A 192.0.2.5", "AAAA 2001:db8::5", "AAAA 2001:db8::6")},
		{"coap", dns.TypeHTTPS, nodata()},
		{"_8443._https.coap", dns.TypeHTTPS, nxdomain()},
		{"ss7", dns.TypeHTTPS, nodata()},
		{"_8443._https.ss7", dns.TypeHTTPS, nxdomain()},
		{"_m3ua.ss7", dns.TypeSVCB, one(`_m3ua.ss7.pool.example.org. 5 IN SVCB 1 pe-00000001.ss7.pool.example.org. port="2905" ipv4hint="192.0.2.6"`, "A 192.0.2.6")},
		{"opaque", dns.TypeHTTPS, nodata()},
		{longName, dns.TypeHTTPS, nodata()},

		{"brief", dns.TypeHTTPS, one(`brief.pool.example.org. 3 IN HTTPS 1 pe-00000001.brief.pool.example.org. mandatory="ech" port="443" ipv4hint="192.0.2.9" ech="AAQAAAAA" ipv6hint="2001:db8::9"`, "A 192.0.2.9", "AAAA 2001:db8::9")},
		{encodeHandle("a..b"), dns.TypeHTTPS, nodata()},
	}
	run := func(t *testing.T, corefile, name string, qtype uint16, want sections) {
		t.Helper()
		m := ask(t, bound(t, corefile), name+"."+zoneZ, qtype)
		if got := (sections{m.Rcode, lines(m.Answer), lines(m.Ns), lines(m.Extra)}); got != want {
			t.Errorf("%s %s: got\n%+v\nwant\n%+v", name, dns.TypeToString[qtype], got, want)
		}
	}
	for _, tt := range tests {
		run(t, corefile, tt.name, tt.qtype, tt.want)
	}
	for _, tt := range []struct {
		name  string
		qtype uint16
		want  sections
	}{
		{"_dns.dot", dns.TypeSVCB, one(`_dns.dot.pool.example.org. 5 IN SVCB 1 pe-00000001.dot.pool.example.org. mandatory="port" alpn="dot,h2" port="853" ipv6hint="2001:db8::7" dohpath="/dns-query{?dns}"`, "AAAA 2001:db8::7")},
		{"_8053._DNS.dot", dns.TypeSVCB, one(`_8053._DNS.dot.pool.example.org. 5 IN SVCB 1 pe-00000001.dot.pool.example.org. mandatory="port" alpn="dot,h2" port="853" ipv6hint="2001:db8::7" dohpath="/dns-query{?dns}"`, "AAAA 2001:db8::7")},
		{"_foo.dot", dns.TypeSVCB, one(`_foo.dot.pool.example.org. 5 IN SVCB 1 pe-00000001.dot.pool.example.org. port="853" ipv6hint="2001:db8::7"`, "AAAA 2001:db8::7")},
		{"_443._foo.dot", dns.TypeSVCB, one(`_443._foo.dot.pool.example.org. 5 IN SVCB 1 pe-00000001.dot.pool.example.org. port="853" ipv6hint="2001:db8::7"`, "AAAA 2001:db8::7")},
		{"_foo.dot", dns.TypeHTTPS, nodata()},
		{"_bar.dot", dns.TypeSVCB, nxdomain()},
	} {
		run(t, dotted, tt.name, tt.qtype, tt.want)
	}
}

// TestBindingIPv4Mapped: a hint cannot be an IPv4-mapped address.
func TestBindingIPv4Mapped(t *testing.T) {
	h := bound(t, "pool dot https")
	for range 2 {
		m := serve(t, h, fromClient(1, true), new(dns.Msg).SetQuestion("dot."+zoneZ, dns.TypeHTTPS))
		rr := m.Answer[0].(*dns.HTTPS)
		if hinted, mapped := strings.Contains(rr.String(), "hint"), strings.HasPrefix(rr.Target, "pe-00000002"); hinted == mapped {
			t.Errorf("got %v", rr)
		}
	}
}

// TestBindingsOff: a pool can be left out of what the block says.
func TestBindingsOff(t *testing.T) {
	h := bound(t, "https alpn=h2\npool plain https off\npool dot https")
	for name, want := range map[string]string{"web": `alpn="h2" port`, "plain": "", "dot": `. port`} {
		got := lines(ask(t, h, name+"."+zoneZ, dns.TypeHTTPS).Answer)
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestBindingLookup: A, AAAA, HTTPS and SVCB questions of one lookup are about one element, in
// each order and number of them.
func TestBindingLookup(t *testing.T) {
	f := newFake()
	for id := rsp.PEID(1); id <= 5; id++ {
		put(t, f.space, "web", element(id, 8443, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id)))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n https\n svcb foo\n}", f)
	type q struct {
		name  string
		qtype uint16
	}
	a, aaaa, https, svcb := q{"web.", dns.TypeA}, q{"web.", dns.TypeAAAA}, q{"web.", dns.TypeHTTPS}, q{"_foo.web.", dns.TypeSVCB}
	want := 0
	for i, lookup := range [][]q{{a, aaaa, https}, {https, aaaa, a}, {https}, {https, svcb, a}, {svcb}, {svcb, {"web.", dns.TypeSRV}, https}, {{"_8443._https.web.", dns.TypeHTTPS}, a, aaaa, {"web.", dns.TypeSRV}}, {a, a}} {
		for j, q := range lookup {
			m := askFrom(t, h, &addrWriter{addr: udpPort(1000 + i)}, new(dns.Msg).SetQuestion(q.name+zoneZ, q.qtype))
			got := firstID(m.Answer[0])
			if j == 0 || q == lookup[j-1] {
				want = want%5 + 1
			}
			if got != want {
				t.Errorf("lookup %d, question %d: got element %d, want %d", i, j, got, want)
			}
		}
		h.now = func() time.Time { return now.Add(time.Duration(i+1) * time.Second) }
	}
}

func firstID(rr dns.RR) (id int) {
	switch rr := rr.(type) {
	case *dns.A:
		return int(rr.A[3])
	case *dns.AAAA:
		return int(rr.AAAA[15])
	case *dns.SRV:
		fmt.Sscanf(rr.Target, "pe-%08x", &id)
	case *dns.HTTPS:
		fmt.Sscanf(rr.Target, "pe-%08x", &id)
	case *dns.SVCB:
		fmt.Sscanf(rr.Target, "pe-%08x", &id)
	}
	return id
}

// TestBindingsFit: what does not fit is left out as for other types.
func TestBindingsFit(t *testing.T) {
	f := newFake()
	for id := rsp.PEID(1); id <= 20; id++ {
		put(t, f.space, "web", element(id, 8443, "192.0.2.1 2001:db8::1"))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n https alpn=h2\n addresses 16\n svcb foo\n}", f)
	all := newTestHandler(t, "rserpool pool.example.org {\n https alpn=h2\n addresses all\n svcb foo\n}", f)
	for _, tt := range []struct {
		h             *Handler
		name          string
		qtype         uint16
		size          uint16 // 0: TCP
		answer, extra int
		tc            bool
	}{
		{h, "web.", dns.TypeHTTPS, 512, 5, 0, true},
		{h, "web.", dns.TypeHTTPS, 1232, 13, 0, true},
		{h, "web.", dns.TypeHTTPS, 1500, 16, 1, false},
		{h, "web.", dns.TypeHTTPS, 4096, 16, 32, false},
		{all, "web.", dns.TypeHTTPS, 0, 20, 40, false},
		{all, "_8443._https.web.", dns.TypeHTTPS, 1232, 13, 0, true},
		{all, "web.", dns.TypeHTTPS, 4096, 20, 40, false},
		{all, "_foo.web.", dns.TypeSVCB, 4096, 20, 40, false},
	} {
		q := new(dns.Msg).SetQuestion(tt.name+zoneZ, tt.qtype)
		if tt.size > 512 {
			q.SetEdns0(tt.size, false)
		}
		m := serve(t, tt.h, fromClient(int(tt.size), tt.size == 0), q)
		extra := len(m.Extra)
		if m.IsEdns0() != nil {
			extra--
		}
		if len(m.Answer) != tt.answer || extra != tt.extra || m.Truncated != tt.tc {
			t.Errorf("%s, %d octets: got %d records, %d additional, TC %t; want %+v", q.Question[0].String(), tt.size, len(m.Answer), extra, m.Truncated, tt)
		}
		for i, rr := range m.Answer {
			if r, ok := rr.(*dns.HTTPS); ok && int(r.Priority) != i+1 {
				t.Errorf("record %d has priority %d", i, r.Priority)
			}
		}
	}
}

// TestBindingsAll: with the whole pool, too, the first record is the element of the lookup,
// and only it is selected.
func TestBindingsAll(t *testing.T) {
	f := newFake()
	for id := rsp.PEID(1); id <= 5; id++ {
		put(t, f.space, "web", element(id, 8443, fmt.Sprintf("192.0.2.%d", id)))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n https\n addresses all\n}", f)
	for i := range 10 {
		for _, qtype := range []uint16{dns.TypeHTTPS, dns.TypeA, dns.TypeSRV} {
			m := askFrom(t, h, fromClient(i, false), new(dns.Msg).SetQuestion("web."+zoneZ, qtype))
			if got := firstID(m.Answer[0]); got != 1+i%5 || len(m.Answer) != 5 {
				t.Errorf("lookup %d, %s: got element %d of %d first, want %d of 5", i, dns.TypeToString[qtype], got, len(m.Answer), 1+i%5)
			}
		}
	}
}

func TestParseBindingErrors(t *testing.T) {
	tests := []struct{ line, want string }{
		{"https alpn=h2 alpn=h3", "https: alpn is given twice"},
		{"https alpn", `https: "alpn" is not valid; write alpn=h2,h3`},
		{"https alpn=h2,,h3", `"alpn=h2,,h3" is not valid`},
		{"https alpn=h2,h2", `"alpn=h2,h2" is not valid`},
		{`https alpn=h\2`, `is not valid`},
		{"https no-default-alpn=1", `"no-default-alpn=1" is not valid; write no-default-alpn`},
		{"https no-default-alpn", "https: no-default-alpn needs alpn, such as: alpn=h3 no-default-alpn"},
		{"https port=80", "https: port comes from the registration of each element; remove it"},
		{"https ipv4hint=192.0.2.1", "ipv4hint comes from the registration"},
		{"https alpn=h2 mandatory=ipv6hint", "https: mandatory lists ipv6hint, which not every record has"},
		{"https mandatory=ech", "https: mandatory lists ech, which not every record has"},
		{"https mandatory=mandatory", `"mandatory=mandatory" is not valid; write mandatory=alpn`},
		{"https mandatory=port,port", `"mandatory=port,port" is not valid`},
		{"https ech=xx", `"ech=xx" is not valid; write ech=`},
		{"https ech=AAUAAAAA", `"ech=AAUAAAAA" is not valid`},
		{"https dohpath=dns-query", `"dohpath=dns-query" is not valid; write dohpath=/dns-query{?dns}`},
		{"https key1=h2", `https: "key1=h2" is not a parameter; use alpn,`},
		{"https key65535=x", `is not a parameter`},
		{"https key065400=x", `is not a parameter`},
		{`https key65400=\x\1`, `write a backslash as \\ and other octets as \DDD`},
		{"https h2", `https: "h2" is not a parameter`},
		{"https off alpn=h2", `https: "off" is not a parameter`},
		{"https key65400=" + strings.Repeat("x", 5000), "https: the parameters have 5009 octets, more than 4096"},
		{"https\nhttps", "https can be given only once"},
		{"svcb", "svcb: got 0 arguments, want: svcb SCHEME [PARAM...]"},
		{"svcb https", "svcb: https URLs have HTTPS records; use the option https"},
		{"svcb _WSS", "svcb: wss URLs have HTTPS records; use the option https"},
		{"svcb a.b", `svcb: "a.b" is not a URI scheme, such as dns`},
		{"svcb 8443", `svcb: "8443" is not a URI scheme`},
		{"svcb tcp", "svcb: the name _tcp has another meaning; use another scheme"},
		{"svcb rserpool", "svcb: the name _rserpool has another meaning"},
		{"svcb foo\nsvcb FOO", "svcb: scheme foo is listed twice; give all its parameters in one line"},
		{"svcb dns", "svcb: dns needs alpn, such as alpn=dot"},
		{"svcb dns alpn=dot no-default-alpn", "svcb: no-default-alpn has no meaning for dns"},
		{"svcb dns alpn=dot,h3", "svcb: DNS over HTTPS (alpn h2 or h3) needs dohpath"},
		{"pool web https port=1", "pool: web: https: port comes from"},
	}
	for _, tt := range tests {
		if _, err := parseBlock(tt.line); !strings.Contains(errText(err), tt.want) || !strings.HasPrefix(errText(err), "Testfile:") {
			t.Errorf("%s: got error\n%v\nwant one with\n%s", tt.line, err, tt.want)
		}
	}
}

// TestParseBinding: what is configured comes out as in a zone file.
func TestParseBinding(t *testing.T) {
	for line, want := range map[string]string{
		"https": `port="443" ipv4hint="192.0.2.4"`,
		"https ohttp key65400=\\000\\\\x alpn=\"h3,http/1.1\" no-default-alpn": `alpn="h3,http/1.1" no-default-alpn="" port="443" ipv4hint="192.0.2.4" ohttp="" key65400="\000\\x"`,
		"https key9 mandatory=port,key9,alpn alpn=h2":                          `mandatory="alpn,port,key9" alpn="h2" port="443" ipv4hint="192.0.2.4" key9=""`,
		`https "key65400=a b"`: `port="443" ipv4hint="192.0.2.4" key65400="a\ b"`,
	} {
		f := newFake()
		put(t, f.space, "web", element(1, 443, "192.0.2.4"))
		h := newTestHandler(t, "rserpool pool.example.org {\n"+line+"\n}", f)
		m := serve(t, h, fromClient(1, true), new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeHTTPS))
		got, _ := strings.CutPrefix(lines(m.Answer), "web.pool.example.org. 5 IN HTTPS 1 pe-00000001.web.pool.example.org. ")
		if got != want+"\n" {
			t.Errorf("%s: got\n%s, want\n%s", line, got, want)
		}
		if rr, err := dns.NewRR(m.Answer[0].String()); err != nil || !dns.IsDuplicate(rr, m.Answer[0]) {
			t.Errorf("%s: read again: %v, %v", line, rr, err)
		}
	}
}

// TestEmptyPoolNames: a declared pool without elements has the names that it has with them.
func TestEmptyPoolNames(t *testing.T) {
	h := newTestHandler(t, "rserpool pool.example.org {\n pool web https\n pool web svcb foo\n pool web dnssd http\n pool web txt a\n pool other dnssd ftp\n}", newFake())
	text := "web." + zoneZ + " 5 IN TXT \"a\"\n"
	for _, tt := range []struct {
		name  string
		qtype uint16
		want  sections
	}{
		{"web.", dns.TypeHTTPS, nodata()},
		{"web.", dns.TypeTXT, sections{answer: text}},
		{"web.", dns.TypeANY, hinfo("web." + zoneZ)},
		{"_https.web.", dns.TypeHTTPS, nodata()},
		{"_8443._https.web.", dns.TypeHTTPS, nodata()},
		{"_foo.web.", dns.TypeSVCB, nodata()},
		{"_bar.web.", dns.TypeSVCB, nxdomain()},
		{"_http._tcp.", dns.TypePTR, nodata()},
		{"_services._dns-sd._udp.", dns.TypePTR, nodata()},
		{"WEB._http._tcp.", dns.TypeSRV, nodata()},
		{"web._http._tcp.", dns.TypeTXT, nodata()},
		{"web._ftp._tcp.", dns.TypeTXT, nxdomain()},
		{"www._http._tcp.", dns.TypeTXT, nxdomain()},
	} {
		m := ask(t, h, tt.name+zoneZ, tt.qtype)
		if got := (sections{m.Rcode, lines(m.Answer), lines(m.Ns), lines(m.Extra)}); got != tt.want {
			t.Errorf("%s %s: got\n%+v\nwant\n%+v", tt.name, dns.TypeToString[tt.qtype], got, tt.want)
		}
	}
}
