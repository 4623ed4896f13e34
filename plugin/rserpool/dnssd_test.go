package rserpool

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// browsed is a handlespace with pools that are instances of services.
func browsed(t testing.TB) *fakeRegistrar {
	t.Helper()
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1 2001:db8::1"), element(2, 81, "192.0.2.2"))
	put(t, f.space, "Büro 2.OG", element(1, 80, "192.0.2.3"))
	put(t, f.space, "ss7", element(1, 2905, "192.0.2.4", over(rsp.SCTP)))
	put(t, f.space, "dns", element(1, 53, "192.0.2.5", over(rsp.UDP)))
	put(t, f.space, "plain", element(1, 80, "192.0.2.6"))
	put(t, f.space, "CASE", element(1, 80, "192.0.2.7"))
	put(t, f.space, "case", element(1, 80, "192.0.2.8"))
	put(t, f.space, "opaque", element(1, 0, "", over(rsp.Opaque)))
	put(t, f.space, "a..b", element(1, 80, "192.0.2.9"))
	put(t, f.space, "bell\a", element(1, 80, "192.0.2.10"))
	put(t, f.space, "del\x7f", element(1, 80, "192.0.2.16"))
	put(t, f.space, "bad\xff", element(1, 80, "192.0.2.11"))
	put(t, f.space, strings.Repeat("x", 64), element(1, 80, "192.0.2.12"))
	put(t, f.space, "web._http._tcp", element(1, 80, "192.0.2.13"))
	put(t, f.space, "_http._tcp", element(1, 80, "192.0.2.14"))
	put(t, f.space, "b._dns-sd._udp", element(1, 80, "192.0.2.15"))
	return f
}

// ptr returns PTR records.
func ptr(owner string, targets ...string) (s sections) {
	for _, t := range targets {
		s.answer += owner + ".pool.example.org. 5 IN PTR " + t + "pool.example.org.\n"
	}
	return s
}

const browseRules = `dnssd http
	pool plain dnssd off
	pool ss7 dnssd m3ua
	pool ss7 ttl 3
	pool DNS dnssd Domain
	pool web txt path=/ a\b
	pool web txt x`

// TestDNSSD: the records, and which names exist.
func TestDNSSD(t *testing.T) {
	const buero = `B\195\188ro\ 2\.OG._http._tcp.`
	tests := []struct {
		name  string
		qtype uint16
		want  sections
	}{
		{"b._dns-sd._udp", dns.TypePTR, ptr("b._dns-sd._udp", "")},
		{"DB._DNS-SD._UDP", dns.TypePTR, ptr("DB._DNS-SD._UDP", "")},
		{"lb._dns-sd._udp", dns.TypePTR, ptr("lb._dns-sd._udp", "")},
		{"lb._dns-sd._udp", dns.TypeA, nodata()},
		{"r._dns-sd._udp", dns.TypePTR, nxdomain()},
		{"b._dns-sd._tcp", dns.TypePTR, nxdomain()},
		{"_dns-sd._udp", dns.TypePTR, nodata()},
		{"_udp", dns.TypePTR, nodata()},
		{"_tcp", dns.TypeANY, nodata()},
		{"_sctp", dns.TypePTR, nxdomain()},
		{"_services._dns-sd._udp", dns.TypePTR, ptr("_services._dns-sd._udp", "_domain._udp.", "_http._tcp.", "_m3ua._udp.")},
		{"_services._dns-sd._udp", dns.TypeTXT, nodata()},

		{"_http._tcp", dns.TypePTR, ptr("_http._tcp", buero, `_http\._tcp._http._tcp.`, `a\.\.b._http._tcp.`, `b\._dns-sd\._udp._http._tcp.`, "case._http._tcp.", "web._http._tcp.", `web\._http\._tcp._http._tcp.`)},
		{"_HTTP._TCP", dns.TypeA, nodata()},
		{"_http._udp", dns.TypePTR, nodata()},
		{"_m3ua._udp", dns.TypePTR, ptr("_m3ua._udp", "ss7._m3ua._udp.")},
		{"_m3ua._sctp", dns.TypePTR, nxdomain()},
		{"_smtp._tcp", dns.TypePTR, nxdomain()},

		{"web._http._tcp", dns.TypeSRV, sections{
			answer: "web._http._tcp.pool.example.org. 5 IN SRV 0 1 80 pe-00000001.web.pool.example.org.\nweb._http._tcp.pool.example.org. 5 IN SRV 0 1 81 pe-00000002.web.pool.example.org.\n",
			extra:  "pe-00000001.web.pool.example.org. 5 IN A 192.0.2.1\npe-00000001.web.pool.example.org. 5 IN AAAA 2001:db8::1\npe-00000002.web.pool.example.org. 5 IN A 192.0.2.2\n",
		}},
		{"web._http._tcp", dns.TypeTXT, sections{answer: `web._http._tcp.pool.example.org. 5 IN TXT "path=/" "a\\b"` + "\n" + `web._http._tcp.pool.example.org. 5 IN TXT "x"` + "\n"}},
		{"web._http._tcp", dns.TypeA, nodata()},
		{"web._http._udp", dns.TypeSRV, nxdomain()},
		{"x.web._http._tcp", dns.TypeSRV, nxdomain()},
		{"web.x._http._tcp", dns.TypeSRV, nxdomain()},
		{"WEB._Http._tcp", dns.TypeTXT, sections{answer: `WEB._Http._tcp.pool.example.org. 5 IN TXT "path=/" "a\\b"` + "\n" + `WEB._Http._tcp.pool.example.org. 5 IN TXT "x"` + "\n"}},
		{`B\195\188ro\0322\.OG._http._tcp`, dns.TypeSRV, sections{
			answer: `B\195\188ro\ 2\.OG._http._tcp.pool.example.org. 5 IN SRV 0 1 80 pe-00000001.B\195\188ro\ 2.OG.pool.example.org.` + "\n",
			extra:  `pe-00000001.B\195\188ro\ 2.OG.pool.example.org. 5 IN A 192.0.2.3` + "\n",
		}},
		{`B\195\188ro\ 2.OG._http._tcp`, dns.TypeSRV, nxdomain()},
		{"ss7._m3ua._udp", dns.TypeTXT, sections{answer: `ss7._m3ua._udp.pool.example.org. 3 IN TXT ""` + "\n"}},
		{"ss7._m3ua._udp", dns.TypeSRV, sections{
			answer: "ss7._m3ua._udp.pool.example.org. 3 IN SRV 0 1 2905 pe-00000001.ss7.pool.example.org.\n", extra: "pe-00000001.ss7.pool.example.org. 3 IN A 192.0.2.4\n",
		}},
		{"ss7._http._tcp", dns.TypeSRV, nxdomain()},
		{"dns._domain._udp", dns.TypeTXT, sections{answer: `dns._domain._udp.pool.example.org. 5 IN TXT ""` + "\n"}},
		{"plain._http._tcp", dns.TypeTXT, nxdomain()},
		{"opaque._http._udp", dns.TypeTXT, nxdomain()},
		{`bell\007._http._tcp`, dns.TypeTXT, nxdomain()},
		{`bad\255._http._tcp`, dns.TypeTXT, nxdomain()},
		{"nowhere._http._tcp", dns.TypeTXT, nxdomain()},
		{"case._http._tcp", dns.TypeSRV, sections{
			answer: "case._http._tcp.pool.example.org. 5 IN SRV 0 1 80 pe-00000001.case.pool.example.org.\n", extra: "pe-00000001.case.pool.example.org. 5 IN A 192.0.2.8\n",
		}},

		// The pools with such names.
		{encodeHandle("web._http._tcp"), dns.TypeA, sections{answer: encodeHandle("web._http._tcp") + ".pool.example.org. 5 IN A 192.0.2.13\n"}},
		{"pe-00000001.web._http._tcp", dns.TypeA, sections{answer: "pe-00000001.web._http._tcp.pool.example.org. 5 IN A 192.0.2.13\n"}},
		{"pe-00000001._http._tcp", dns.TypeA, sections{answer: "pe-00000001._http._tcp.pool.example.org. 5 IN A 192.0.2.14\n"}},
		{"web", dns.TypeTXT, sections{answer: `web.pool.example.org. 5 IN TXT "path=/" "a\\b"` + "\n" + `web.pool.example.org. 5 IN TXT "x"` + "\n"}},
		{"ss7", dns.TypeTXT, sections{ns: strings.ReplaceAll(nodata().ns, " 5", " 3")}},
	}
	for _, tt := range tests {
		h := newTestHandler(t, "rserpool pool.example.org {\n"+browseRules+"\n}", browsed(t))
		m := askFrom(t, h, fromClient(1, true), new(dns.Msg).SetQuestion(tt.name+"."+zoneZ, tt.qtype))
		got := sections{m.Rcode, lines(m.Answer), lines(m.Ns), lines(m.Extra)}
		got.answer = strings.ReplaceAll(got.answer, `\032`, `\ `)
		if got != tt.want {
			t.Errorf("%s %s: got\n%+v\nwant\n%+v", tt.name, dns.TypeToString[tt.qtype], got, tt.want)
		}
	}
}

// TestDNSSDOff: without the option there are no names for browsing.
func TestDNSSDOff(t *testing.T) {
	h := newTestHandler(t, "rserpool pool.example.org {\n pool web dnssd off\n}", browsed(t))
	for name, want := range map[string]int{"lb._dns-sd._udp.": dns.RcodeNameError, "_udp.": dns.RcodeSuccess, "_tcp.": dns.RcodeSuccess, "_services._dns-sd._udp.": dns.RcodeNameError, "_http._udp.": dns.RcodeNameError} {
		// _tcp and _udp have pools below them.
		if m := ask(t, h, name+zoneZ, dns.TypePTR); m.Rcode != want || len(m.Answer) > 0 {
			t.Errorf("%s: got\n%s", name, m)
		}
	}
}

// TestDNSSDLongNames: an instance whose name would be too long for DNS is left out.
func TestDNSSDLongNames(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"))
	put(t, f.space, strings.Repeat("x", 63), element(1, 80, "192.0.2.2"))
	zone := strings.Repeat(strings.Repeat("z", 49)+".", 4)
	h := newTestHandler(t, "rserpool "+zone+" {\n dnssd http\n}", f)
	m := serve(t, h, fromClient(1, true), new(dns.Msg).SetQuestion("_http._tcp."+zone, dns.TypePTR))
	if len(m.Answer) != 1 || m.Answer[0].(*dns.PTR).Ptr != "web._http._tcp."+zone {
		t.Errorf("got\n%s", m)
	}
}

// instances asks for the instances of http, as a client that has a large buffer.
func instances(t testing.TB, h *Handler) (names []string, m *dns.Msg) {
	t.Helper()
	m = askFrom(t, h, fromClient(1, true), new(dns.Msg).SetQuestion("_http._tcp."+zoneZ, dns.TypePTR))
	for _, rr := range m.Answer {
		names = append(names, strings.TrimSuffix(rr.(*dns.PTR).Ptr, "._http._tcp."+zoneZ))
	}
	return names, m
}

// TestDNSSDChanges: a list has no pool that is gone, and soon the new ones, whether rules name
// them or match them.
func TestDNSSDChanges(t *testing.T) {
	for _, rule := range []string{"dnssd http", "pool w* dnssd http", "pool web dnssd http\npool WWW dnssd http\npool wap dnssd http"} {
		f := newFake()
		h := newTestHandler(t, "rserpool pool.example.org {\n"+rule+"\n}", f)
		step := func(what string, want ...string) {
			t.Helper()
			if got, _ := instances(t, h); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%s, %s: got %q, want %q", rule, what, got, want)
			}
		}
		step("no pool")
		put(t, f.space, "web", element(1, 80, "192.0.2.1"))
		step("a pool", "web")
		put(t, f.space, "www", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"))
		step("two pools", "web", "www")
		f.space.Remove("www", 1)
		step("an element less", "web", "www")

		// While no other list may be made:
		h.pools.browser.list.Load().next = now.Add(time.Hour)
		f.space.Remove("www", 2)
		step("a pool less", "web")
		put(t, f.space, "WEB", element(1, 80, "192.0.2.1"))
		step("capitals", "web")
		f.space.Remove("web", 1)
		step("only capitals", "WEB")
		if _, err := f.space.Renew("WEB", element(1, 80, "192.0.2.1", over(rsp.UDP))); err != nil {
			t.Fatal(err)
		}
		step("another transport")
		put(t, f.space, "wap", element(1, 80, "192.0.2.1"))
		step("a pool more")
		h.now = func() time.Time { return now.Add(time.Hour) }
		step("a pool more, later", "wap")
	}
}

// TestDNSSDMany: an answer has as many instances as the option answers says, and TC says that
// the client's buffer is too small for them.
func TestDNSSDMany(t *testing.T) {
	f := newFake()
	for i := range 3*maxAnswers + 7 {
		put(t, f.space, fmt.Sprintf("pool%05d", i), element(1, 80, "192.0.2.1"))
	}
	for corefile, want := range map[string]int{"": 100, "answers 7": 7, "answers all": maxAnswers} {
		h := newTestHandler(t, "rserpool pool.example.org {\n dnssd http\n"+corefile+"\n}", f)
		names, m := instances(t, h)
		if len(names) != want || m.Truncated || names[0] != "pool00000" || names[want-1] != fmt.Sprintf("pool%05d", want-1) {
			t.Errorf("%q: got %d instances, TC %t; want %d", corefile, len(names), m.Truncated, want)
		}
		if m := serve(t, h, fromClient(1, false), new(dns.Msg).SetQuestion("_http._tcp."+zoneZ, dns.TypePTR)); m.Truncated != (want > 19) || len(m.Answer) != min(want, 19) {
			t.Errorf("%q, 512 octets: got %d instances, TC %t", corefile, len(m.Answer), m.Truncated)
		}
	}
}

// TestDNSSDShare: lists of many pools are made in a small share of the time, however often
// clients ask and pools change.
func TestDNSSDShare(t *testing.T) {
	f := newFake()
	h := newTestHandler(t, "rserpool pool.example.org {\n dnssd http\n}", f)
	var mu sync.Mutex
	at, lists := now, 0
	var last *instanceList
	h.now = func() time.Time { // each look at the clock takes a millisecond
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(time.Millisecond)
		return at
	}
	for i := range 1000 {
		put(t, f.space, "web", element(rsp.PEID(i+1), 80, "192.0.2.1"))
		instances(t, h)
		if l := h.pools.browser.list.Load(); l != last {
			last = l
			lists++
		}
	}
	// Each list takes 1 ms, and each question about 2.
	if spent := time.Duration(lists) * time.Millisecond; spent > at.Sub(now)/8 || lists < 10 {
		t.Errorf("%d lists in %v, want one tenth of the time", lists, at.Sub(now))
	}
}

// TestDNSSDRace: many clients browse while pools change.
func TestDNSSDRace(t *testing.T) {
	f := newFake()
	h := newTestHandler(t, "rserpool pool.example.org {\n dnssd http\n}", f)
	h.now = time.Now
	put(t, f.space, "always", element(1, 80, "192.0.2.1"))
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for range 200 {
				if names, _ := instances(t, h); len(names) == 0 || names[0] != "always" {
					t.Errorf("got %q", names)
					return
				}
			}
		})
	}
	for i := range 500 {
		put(t, f.space, fmt.Sprint("pool", i%50), element(1, 80, "192.0.2.1"))
		f.space.Remove(rsp.PoolHandle(fmt.Sprint("pool", (i+25)%50)), 1)
	}
	clients.Wait()
}

func TestParseDNSSDErrors(t *testing.T) {
	for line, want := range map[string]string{
		"dnssd":                                  "dnssd: got 0 arguments, want: dnssd SERVICE|off",
		"dnssd _http._tcp":                       `dnssd: "_http._tcp" is not the name of a service, such as http: up to 15 letters, digits and hyphens`,
		"dnssd a-name-too-long-x":                "is not the name of a service",
		"dnssd -a":                               "is not the name of a service",
		"dnssd a--b":                             "is not the name of a service",
		"dnssd 123":                              "is not the name of a service",
		"pool web dnssd http ipp":                "pool: web: dnssd: got 2 arguments",
		"txt":                                    "txt: got 0 arguments, want: txt STRING...",
		`txt "` + strings.Repeat("x", 256) + `"`: "txt: a string has 256 octets, more than 255; divide the one that begins with",
		"txt" + strings.Repeat(" "+strings.Repeat("x", 255), 17): "txt: the strings have 4352 octets, more than 4096",
		"txt a b\ntxt c\ntxt a b":                                "Testfile:4 - Error during parsing: txt: the same record is given twice",
	} {
		if _, err := parseBlock(line); !strings.Contains(errText(err), want) || !strings.HasPrefix(errText(err), "Testfile:") {
			t.Errorf("%s: got error\n%v\nwant one with\n%s", line, err, want)
		}
	}
}

// BenchmarkBrowse: a million pools, few of which are instances. The list is made again
// because of a change before each question.
func BenchmarkBrowse(b *testing.B) {
	f := newFake()
	for i := range 1_000_000 {
		put(b, f.space, fmt.Sprint("pool", i), element(1, 80, "192.0.2.1"))
	}
	for _, rule := range []string{"pool pool1 dnssd http", "pool *99999 dnssd http", "dnssd http"} {
		b.Run(strings.ReplaceAll(rule, " ", "-"), func(b *testing.B) {
			h := newTestHandler(b, "rserpool pool.example.org {\n"+rule+"\n}", f)
			var list time.Duration
			for b.Loop() {
				start := time.Now()
				h.pools.browser.collect(f.space, time.Now)
				list += time.Since(start)
				instances(b, h)
			}
			b.ReportMetric(float64(list.Microseconds())/float64(b.N), "µs/list")
		})
	}
}
