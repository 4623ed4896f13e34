package rserpool

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

func TestReversePrefix(t *testing.T) {
	tests := []struct{ name, want string }{
		{"in-addr.arpa.", "0.0.0.0/0"},
		{"10.in-addr.arpa.", "10.0.0.0/8"},
		{"2.0.192.in-addr.arpa.", "192.0.2.0/24"},
		{"255.2.0.192.IN-addr.arpa.", "192.0.2.255/32"},
		{"1.255.2.0.192.in-addr.arpa.", ""},
		{"01.2.0.192.in-addr.arpa.", ""},
		{"+1.2.0.192.in-addr.arpa.", ""},
		{"256.2.0.192.in-addr.arpa.", ""},
		{"x.2.0.192.in-addr.arpa.", ""},
		{"0-127.2.0.192.in-addr.arpa.", ""}, // RFC 2317
		{`1\.2.0.192.in-addr.arpa.`, ""},
		{`\0491.0.192.in-addr.arpa.`, ""},
		{"ip6.arpa.", "::/0"},
		{"8.B.d.0.1.0.0.2.ip6.arpa.", "2001:db8::/32"},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", "2001:db8::1/128"},
		{"0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.", ""},
		{"10.ip6.arpa.", ""},
		{"g.ip6.arpa.", ""},
		{"pool.example.org.", ""},
	}
	for _, tt := range tests {
		p, ok := reversePrefix(tt.name)
		got := ""
		if ok {
			got = p.String()
		}
		if got != tt.want {
			t.Errorf("reversePrefix(%q) = %q, want %q", tt.name, got, tt.want)
		}
		if back := reverseName(p); ok && !strings.EqualFold(back, tt.name) {
			t.Errorf("reverseName(%v) = %q, want %q", p, back, tt.name)
		}
	}
}

func TestParseReverse(t *testing.T) {
	tests := []struct {
		keys  string
		block string
		want  string // the reverse zones, or the error
	}{
		{"", "reverse 2.0.192.in-addr.arpa 8.B.d.0.1.0.0.2.ip6.arpa.", "2.0.192.in-addr.arpa. 8.b.d.0.1.0.0.2.ip6.arpa."},
		{"", "reverse 192.0.2.0/24\nreverse 2001:db8::/32", "2.0.192.in-addr.arpa. 8.b.d.0.1.0.0.2.ip6.arpa."},
		{"", "reverse 10.0.0.0/8", "10.in-addr.arpa."},
		{"", "reverse 192.0.2.0/25", "reverse: 192.0.2.0/25 has no reverse zone of its own, and parts of a zone are not supported; use 192.0.2.0/24"},
		{"", "reverse 172.16.0.0/12", "reverse: 172.16.0.0/12 has no reverse zone of its own, and parts of a zone are not supported; use 172.0.0.0/8, or the networks of 16 bits in it, such as 172.16.0.0/16"},
		{"", "reverse 12.0.0.0/7", "reverse: 12.0.0.0/7 has no reverse zone of its own, and parts of a zone are not supported; use the networks of 8 bits in it, such as 12.0.0.0/8"},
		{"", "reverse 192.0.2.1/24", "reverse: 192.0.2.1/24 has host bits: write 192.0.2.0/24"},
		{"", "reverse 2001:db8::1/32", "reverse: 2001:db8::1/32 has host bits: write 2001:db8::/32"},
		{"", "reverse 192.0.2.1/32", "192.0.2.1/32 has no reverse zone of its own, and parts of a zone are not supported; use 192.0.2.0/24"},
		{"", "reverse 2001:db8::1/128", "use 2001:db8::/124"},
		{"", "reverse 2001:db8::/33", "use 2001:db8::/32, or the networks of 36 bits in it, such as 2001:db8::/36"},
		{"", "reverse 192.0.2.1", `"192.0.2.1" is not a reverse zone`},
		{"", "reverse 1.2.0.192.in-addr.arpa", "is not a reverse zone"},
		{"", "reverse 0-127.2.0.192.in-addr.arpa", "zones as in RFC 2317 are not supported"},
		{"", "reverse example.org", "is not a reverse zone"},
		{"", "reverse 192.0.2.0/24\nreverse 2.0.192.in-addr.arpa", "zone 2.0.192.in-addr.arpa. is listed twice"},
		{"", "nameserver 2.0.192.in-addr.arpa\nreverse 192.0.2.0/24", "nameserver 2.0.192.in-addr.arpa. is the zone itself"},
		{"dns://example.org.:53 dns://2.0.192.in-addr.arpa.:53", "reverse 192.0.2.0/24", "2.0.192.in-addr.arpa."},
		{"dns://example.org.:53 dns://10.in-addr.arpa.:53", "reverse 10.1.0.0/16", "1.10.in-addr.arpa."},
		{"dns://.:53", "reverse 192.0.2.0/24", "2.0.192.in-addr.arpa."},
		{"dns://example.org.:53", "reverse 192.0.2.0/24", "reverse: no query for 2.0.192.in-addr.arpa. reaches this server block; add it to the first line of the block: 2.0.192.in-addr.arpa."},
		{"dns://example.org.:1653", "reverse 192.0.2.0/24", "add it to the first line of the block: 2.0.192.in-addr.arpa.:1653"},
		{"dns://example.org.:53 tls://example.org.:853 dns://example.net.:53 dns://example.net.:1653", "reverse 192.0.2.0/24", "first line of the block: 2.0.192.in-addr.arpa. tls://2.0.192.in-addr.arpa.:853 2.0.192.in-addr.arpa.:1653"},
		{"dns://example.org.:1653 dns://0.2.0.192.in-addr.arpa.:1653 dns://1.2.0.192.in-addr.arpa.:1653", "", "0.2.0.192.in-addr.arpa. is a part of a reverse zone, and parts are not supported; in the first line of the block, write 192.0.2.0/24:1653 in its place, and add the line: reverse 192.0.2.0/24; or name the zones of the pools: rserpool example.org."},
		{"dns://example.org.:53 dns://0-127.2.0.192.in-addr.arpa.:53", "", "0-127.2.0.192.in-addr.arpa. is a part of a reverse zone, and parts are not supported; in the first line of the block, write 192.0.2.0/24 in its place,"},
		{"dns://example.org.:53 dns://1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.:53", "", "write 2001:db8::/124 in its place, and add the line: reverse 2001:db8::/124;"},
		{"dns://example.org.:53 dns://2.0.192.in-addr.arpa.:53", "", "2.0.192.in-addr.arpa. is a reverse zone; add the line: reverse 2.0.192.in-addr.arpa.; or name the zones of the pools: rserpool example.org."},
		{"dns://2.0.192.in-addr.arpa.:53", "reverse 192.0.2.0/24", "no zone to serve"},
	}
	for _, tt := range tests {
		zones := " example.org"
		if tt.keys != "" {
			zones = ""
		}
		c := caddy.NewTestController("dns", "rserpool"+zones+" {\n"+tt.block+"\n}")
		c.ServerBlockKeys = strings.Fields(tt.keys)
		cfg, err := parse(c)
		got := strings.Join(cfg.reverse, " ")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) || err == nil && got != tt.want {
			t.Errorf("%q in %q: got\n%s\nwant\n%s", tt.block, tt.keys, got, tt.want)
		}
	}
}

// TestReverseAdvice: the advice of the errors leads to a Corefile without errors.
func TestReverseAdvice(t *testing.T) {
	tests := []struct{ keys, option string }{
		{"pool.example.org:0 192.0.2.0/25:0", ""},
		{"pool.example.org:0 192.0.2.0/25:0", "reverse 192.0.2.0/25"},
		{"pool.example.org:0", "reverse 192.0.2.0/25"},
		{"pool.example.org:0", "reverse 172.16.0.0/12"},
		{"pool.example.org:0 172.16.0.0/12:0", "reverse 172.16.0.0/12"},
		{"pool.example.org:0", "reverse 2001:db8::/33"},
		{"pool.example.org:0 0-127.2.0.192.in-addr.arpa:0", ""},
		{"pool.example.org:0 7.2.0.192.in-addr.arpa:0", ""},
		{"pool.example.org:0 2.0.192.in-addr.arpa:0", ""},
	}
	_, rs := newFakes()
	defer func(p *registrars.Set, port string) { process, dnsserver.Port = p, port }(process, dnsserver.Port)
	process, dnsserver.Port = rs, "1653"
	after := func(text, words string) string {
		if m := regexp.MustCompile(words + ` ([^;,]+)`).FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	for _, tt := range tests {
		t.Run(tt.keys+" "+tt.option, func(t *testing.T) {
			keys, option, said := tt.keys, tt.option, ""
			for range 4 {
				inst, err := caddy.Start(corefile(keys + " {\n bind 127.0.0.1\n rserpool {\n" + option + "\n}\n}"))
				if err == nil {
					s := &server{t, inst}
					s.stop()
					return
				}
				text := err.Error()
				said += text + "\n"
				if line := after(text, "add the line: reverse"); line != "" {
					option += "\nreverse " + line
				} else if use := after(text, "supported; use"); use != "" {
					option = "reverse " + use
				}
				if key := strings.TrimSuffix(after(text, "first line of the block, write"), " in its place"); key != "" {
					first, _, _ := strings.Cut(keys, " ")
					keys = first + " " + key
				}
				if _, more, ok := strings.Cut(text, "first line of the block: "); ok {
					keys += " " + more
				}
			}
			t.Errorf("the errors lead nowhere:\n%s", said)
		})
	}
}

// reverseSpace has elements that share addresses.
func reverseSpace(t testing.TB) *fakeRegistrar {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1 198.51.100.1 2001:db8::1", over(rsp.SCTP)), element(2, 80, "192.0.2.1", over(rsp.SCTP)))
	put(t, f.space, "Mail", element(7, 25, "192.0.2.1 10.1.2.3"))
	put(t, f.space, "mail", element(7, 25, "10.1.2.3"))
	put(t, f.space, strings.Repeat("y", 60)+strings.Repeat("."+strings.Repeat("y", 58), 3), element(1, 80, "192.0.2.9")) // no room for elements
	return f
}

const reverseBlock = "rserpool pool.example.org {\n answers 3\n reverse 192.0.2.0/24 10.0.0.0/8 2001:db8::/32\n}"

func TestReverse(t *testing.T) {
	f := reverseSpace(t)
	h := newTestHandler(t, reverseBlock, f)
	apex := func(z string) string {
		return z + " 5 IN SOA ns.dns." + zoneZ + " hostmaster." + zoneZ + " 1000000000 60 30 86400 5\n"
	}
	const v4, ten, v6 = "2.0.192.in-addr.arpa.", "10.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."
	six := "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + v6
	tests := []struct {
		qname string
		qtype uint16
		want  sections
	}{
		{v4, dns.TypeSOA, sections{answer: apex(v4)}},
		{v4, dns.TypeNS, sections{answer: v4 + " 5 IN NS ns.dns." + zoneZ + "\n"}},
		{v4, dns.TypePTR, sections{ns: apex(v4)}},
		{"1." + v4, dns.TypePTR, sections{answer: "1." + v4 + " 5 IN PTR pe-00000001.web." + zoneZ + "\n" +
			"1." + v4 + " 5 IN PTR pe-00000002.web." + zoneZ + "\n" +
			"1." + v4 + " 5 IN PTR pe-00000007." + encodeHandle("Mail") + "." + zoneZ + "\n"}},
		{"1." + v4, dns.TypeA, sections{ns: apex(v4)}},
		{"2." + v4, dns.TypePTR, sections{rcode: dns.RcodeNameError, ns: apex(v4)}},
		{"9." + v4, dns.TypePTR, sections{ns: apex(v4)}}, // of an element without a name
		{"x." + v4, dns.TypePTR, sections{rcode: dns.RcodeNameError, ns: apex(v4)}},
		{"1.1." + v4, dns.TypePTR, sections{rcode: dns.RcodeNameError, ns: apex(v4)}},
		{"3.2.1." + ten, dns.TypePTR, sections{answer: "3.2.1." + ten + " 5 IN PTR pe-00000007." + encodeHandle("Mail") + "." + zoneZ + "\n" +
			"3.2.1." + ten + " 5 IN PTR pe-00000007.mail." + zoneZ + "\n"}},
		{"2.1." + ten, dns.TypePTR, sections{ns: apex(ten)}},
		{"1." + ten, dns.TypeA, sections{ns: apex(ten)}},
		{"2." + ten, dns.TypePTR, sections{rcode: dns.RcodeNameError, ns: apex(ten)}},
		{strings.ToUpper(six), dns.TypePTR, sections{answer: strings.ToUpper(six) + " 5 IN PTR pe-00000001.web." + zoneZ + "\n"}},
		{parentName(six), dns.TypePTR, sections{ns: apex(v6)}},
		{"2" + six[1:], dns.TypePTR, sections{rcode: dns.RcodeNameError, ns: apex(v6)}},
	}
	for _, tt := range tests {
		m := ask(t, h, tt.qname, tt.qtype)
		got := sections{m.Rcode, lines(m.Answer), lines(m.Ns), lines(m.Extra)}
		if strings.ToUpper(tt.qname) == tt.qname {
			got.ns = strings.ToLower(got.ns)
		}
		if got != tt.want {
			t.Errorf("%s %s: got\n%+v\nwant\n%+v", tt.qname, dns.TypeToString[tt.qtype], got, tt.want)
		}
	}

	// What changes, and what is in no zone.
	f.space.Remove("web", 1)
	put(t, f.space, "web", element(2, 80, "192.0.2.2", over(rsp.SCTP)))
	for qname, want := range map[string]int{"1." + v4: 1, "2." + v4: 1, six: 0} {
		if got := ask(t, h, qname, dns.TypePTR).Answer; len(got) != want {
			t.Errorf("%s after a change: got\n%s\nwant %d records", qname, lines(got), want)
		}
	}
	if z := h.zones.match("1.100.51.198.in-addr.arpa.", dns.TypePTR); z != nil {
		t.Errorf("%s has an address that no zone has", z.name)
	}
}

// TestReverseBounds: an answer has at most as many names as the option answers says, and fits.
func TestReverseBounds(t *testing.T) {
	f := newFake()
	for id := range rsp.PEID(300) {
		put(t, f.space, "web", element(id, 80, "192.0.2.1"))
	}
	for block, want := range map[string]int{"": 100, "answers 5": 5, "answers all": 128} {
		h := newTestHandler(t, "rserpool pool.example.org {\n reverse 192.0.2.0/24\n"+block+"\n}", f)
		m := serve(t, h, &test.ResponseWriter{TCP: true}, new(dns.Msg).SetQuestion("1.2.0.192.in-addr.arpa.", dns.TypePTR))
		if len(m.Answer) != want || m.Truncated {
			t.Errorf("%q: got %d names by TCP, want %d", block, len(m.Answer), want)
		}
		m = serve(t, h, &test.ResponseWriter{}, new(dns.Msg).SetQuestion("1.2.0.192.in-addr.arpa.", dns.TypePTR))
		if len(m.Answer) == 0 || m.Truncated != (len(m.Answer) < want) {
			t.Errorf("%q: got %d names by UDP, TC %t", block, len(m.Answer), m.Truncated)
		}
	}
}

func TestReverseFallthrough(t *testing.T) {
	h := newTestHandler(t, reverseBlock, reverseSpace(t))
	h.Fall = fall.Root
	h.Next = test.NextHandler(dns.RcodeYXDomain, nil)
	for name, want := range map[string]int{"77.2.0.192.in-addr.arpa.": dns.RcodeYXDomain, "1.2.0.192.in-addr.arpa.": dns.RcodeSuccess, "2.1.10.in-addr.arpa.": dns.RcodeSuccess} {
		if got := ask(t, h, name, dns.TypePTR).Rcode; got != want {
			t.Errorf("%s: got %s, want %s", name, dns.RcodeToString[got], dns.RcodeToString[want])
		}
	}
}

// TestReverseTransfer: the copies of reverse zones, one in another, answer as we do.
func TestReverseTransfer(t *testing.T) {
	f := reverseSpace(t)
	h := newTestHandler(t, strings.Replace(reverseBlock, "10.0.0.0/8", "10.0.0.0/8 10.1.0.0/16", 1), f)
	for _, zone := range []string{"2.0.192.in-addr.arpa.", "10.in-addr.arpa.", "1.10.in-addr.arpa.", "8.b.d.0.1.0.0.2.ip6.arpa."} {
		all := transferred(t, h, zone, 0)
		checkCopy(t, zone, all)
		sec := newSecondary(zone, all)
		p, _ := reversePrefix(zone)
		for _, a := range append(addrs("192.0.2.1", "192.0.2.2", "10.1.2.3", "10.2.0.0", "2001:db8::1", "2001:db8:1::"), p.Addr()) {
			if !p.Contains(a) {
				continue
			}
			for name := reverseName(netip.PrefixFrom(a, a.BitLen())); name != zone; name = parentName(name) {
				if h.zones.match(name, dns.TypePTR).name != zone {
					continue
				}
				if got, want := content(t, sec, name, dns.TypePTR), content(t, h, name, dns.TypePTR); got != want {
					t.Errorf("%s: a secondary answers\n%s\nwe answer\n%s", name, got, want)
				}
			}
		}
	}
	ns := slices.ContainsFunc(transferred(t, h, "10.in-addr.arpa.", 0), func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeNS && rr.Header().Name == "1.10.in-addr.arpa."
	})
	if !ns {
		t.Error("a zone of the block is not delegated by the one above")
	}
}

// TestServerReverse: a reload makes a reverse zone of a running registrar, and another one ends it.
func TestServerReverse(t *testing.T) {
	p := freePorts(t)
	text := func(zone, option string) string {
		return fmt.Sprintf("pool.example.org:0%s {\n rserpool {\n%s%s\n}\n}", zone, p.options(), option)
	}
	s := startServer(t, text("", ""))
	defer register(t, p, "web", 7).leave(t)
	if err := s.reload(text(" 127.in-addr.arpa:0", "reverse 127.0.0.0/8")); err != nil {
		t.Fatal(err)
	}
	ask := func() (all string) {
		for _, l := range s.inst.Servers() {
			m, err := dns.Exchange(new(dns.Msg).SetQuestion("1.0.0.127.in-addr.arpa.", dns.TypePTR), l.LocalAddr().String())
			if err == nil {
				all += lines(m.Answer)
			}
		}
		return all
	}
	if got := ask(); !strings.Contains(got, "PTR pe-00000007.web."+zoneZ) {
		t.Errorf("after a reload, got %q", got)
	}
	if err := s.reload(text("", "")); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != "" {
		t.Errorf("after another reload, got %q", got)
	}
}

// TestReverseTypes: an NSEC record at an address does not deny the type that answers have.
func TestReverseTypes(t *testing.T) {
	if n := (&node{kind: nodeAddress}); !slices.Contains(n.types(), dns.TypePTR) {
		t.Errorf("got the types %v", n.types())
	}
}
