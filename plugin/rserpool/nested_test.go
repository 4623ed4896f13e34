package rserpool

import (
	"fmt"
	stdlog "log"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/dnssec"
	"github.com/coredns/coredns/plugin/pkg/cache"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// TestDSOfPoolName: the name of a child zone is a delegation, even if a pool of the parent has it
// or lies below it: the denial of its DS records proves an insecure zone (RFC 4035, Section 5.2).
func TestDSOfPoolName(t *testing.T) {
	for _, pool := range []string{"eu", "web.eu", "_tcp.eu"} {
		f := newFake()
		put(t, f.space, pool, element(1, 80, "192.0.2.1"))
		h := newTestHandler(t, "rserpool example.org eu.example.org", f)
		signs, key := signedBy(t, h, "example.org.")
		if err := insecureDelegation("eu.example.org.", askSigned(t, signs, "eu.example.org.", dns.TypeDS), key); err != nil {
			t.Errorf("with the pool %q: %v", pool, err)
		}
	}
}

// TestNestedSigned: the keys of the uppermost zone sign all zones below it. A validator that trusts
// them proves every answer, and finds that there are no keys in between.
func TestNestedSigned(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "10.1.2.3"))
	h := newTestHandler(t, "rserpool example.org eu.example.org {\n reverse 10.0.0.0/8 10.1.2.0/24\n}", f)
	for upper, lower := range map[string]string{"example.org.": "eu.example.org.", "10.in-addr.arpa.": "2.1.10.in-addr.arpa."} {
		signs, key := signedBy(t, h, upper)
		if err := h.checkSigners("dns://:53"); err != nil {
			t.Errorf("%s is refused: %v", upper, err)
		}
		if err := insecureDelegation(lower, askSigned(t, signs, lower, dns.TypeDS), key); err != nil {
			t.Errorf("%s: %v", lower, err)
		}
		for _, q := range []dns.Question{
			{Name: upper, Qtype: dns.TypeDNSKEY}, {Name: upper, Qtype: dns.TypeSOA}, {Name: lower, Qtype: dns.TypeSOA}, {Name: "x." + lower, Qtype: dns.TypeTXT},
			{Name: "web." + lower, Qtype: dns.TypeA}, {Name: "3." + lower, Qtype: dns.TypePTR},
		} {
			m := askSigned(t, signs, q.Name, q.Qtype)
			if err := checkSignatures(m, key); err != nil {
				t.Errorf("%s %s: %v\n%s", q.Name, dns.TypeToString[q.Qtype], err, m)
			}
		}
	}
}

// signedBy has a dnssec plugin sign the answers of a handler, with a key of the first zone.
func signedBy(t *testing.T, h *Handler, zones ...string) (plugin.Handler, *dns.DNSKEY) {
	t.Helper()
	key, file := keyOf(t, zones[0])
	parsed, err := dnssec.ParseKeyFile(file+".key", file+".private")
	if err != nil {
		t.Fatal(err)
	}
	d := dnssec.New(zones, []*dnssec.DNSKEY{parsed}, false, h, cache.New[[]dns.RR](100))
	h.signer, h.now, h.measure = d, time.Now, sync.Once{}
	return d, key
}

// askSigned asks with the flag DO.
func askSigned(t *testing.T, h plugin.Handler, name string, qtype uint16) *dns.Msg {
	t.Helper()
	return askFrom(t, h, &test.ResponseWriter{}, new(dns.Msg).SetQuestion(name, qtype).SetEdns0(4096, true))
}

// insecureDelegation returns why the answer for the DS records of a zone does not prove, with the key of
// the zone above, that there is a delegation without them.
func insecureDelegation(zone string, m *dns.Msg, key *dns.DNSKEY) error {
	n, err := denial(zone, dns.TypeDS, m)
	if err == nil {
		err = checkSignatures(m, key)
	}
	if want := []uint16{dns.TypeNS, dns.TypeRRSIG, dns.TypeNSEC}; err == nil && !slices.Equal(n.TypeBitMap, want) {
		err = fmt.Errorf("got the types %v, want %v", n.TypeBitMap, want)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, m)
	}
	return nil
}

// TestNestedSigners: CoreDNS does not start with a zone that dnssec signs on its own below another one
// that it signs, as no DS records link the two.
func TestNestedSigners(t *testing.T) {
	withFakes(t)
	_, file := keyOf(t, ".") // it can sign every zone
	block := func(zones, options, signed string) string {
		return fmt.Sprintf("%s {\n bind 127.0.0.1\n rserpool {\n %s\n }\n dnssec %s {\n key file \"%s\"\n }\n}\n", zones, options, signed, file)
	}
	two := func(signed string) string {
		return block("eu.example.org", "", "eu.example.org") + block("example.org", "", signed)
	}
	for _, tt := range []struct {
		name, text string
		want       string // in the warning, nothing if there is none
	}{
		{"all zones of the block", block("example.org eu.example.org", "", ""), "Corefile:3: dnssec signs eu.example.org. "},
		{"what is to be written", block("example.org a.example.org b.a.example.org example.net", "", ""), ": dnssec example.org. example.net."},
		{"the upper zone", block("example.org eu.example.org", "", "example.org"), ""},
		{"above the upper zone", block("example.org eu.example.org", "", "org"), ""},
		{"the lower zone", block("example.org eu.example.org", "", "eu.example.org"), ""},
		{"neither", block("example.org eu.example.org", "", "example.net"), ""},
		{"a part of the lower zone", block("example.org a.eu.example.org", "", "example.org eu.example.org"), "dnssec signs a.eu.example.org. "},
		{"reverse zones", block("example.org 10.in-addr.arpa 2.1.10.in-addr.arpa", "reverse 10.0.0.0/8 10.1.2.0/24", ""), "dnssec signs 2.1.10.in-addr.arpa. "},
		{"the upper reverse zone", block("example.org 10.in-addr.arpa 2.1.10.in-addr.arpa", "reverse 10.0.0.0/8 10.1.2.0/24", "10.in-addr.arpa"), ""},
		{"zones of two blocks", two(""), ""},
		{"a zone of another block", two("example.org eu.example.org"), "eu.example.org. is a zone of another server block: name only upper zones in dnssec, and only their keys: dnssec example.org."},
	} {
		var log strings.Builder
		stdlog.SetOutput(&log)
		inst, err := caddy.Start(corefile(tt.text))
		clog.Discard()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		(&server{t, inst}).stop()
		if got := log.String(); tt.want == "" && strings.Contains(got, "dnssec signs") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: the log has\n%s\nwant %q", tt.name, got, tt.want)
		}
	}
}

// TestNestedZones: the names above a zone of the block exist in the zone that has them (RFC 4592,
// Section 2.2.2).
func TestNestedZones(t *testing.T) {
	h := newTestHandler(t, "rserpool example.org a.b.example.org {\n reverse 10.0.0.0/8 10.1.2.0/24\n}", newFake())
	for name, want := range map[string]int{
		"b.example.org.":         dns.RcodeSuccess,
		"B.example.ORG.":         dns.RcodeSuccess,
		"c.example.org.":         dns.RcodeNameError,
		"x.b.example.org.":       dns.RcodeNameError,
		"x.a.b.example.org.":     dns.RcodeNameError,
		"1.10.in-addr.arpa.":     dns.RcodeSuccess,
		"3.10.in-addr.arpa.":     dns.RcodeNameError,
		"3.1.10.in-addr.arpa.":   dns.RcodeNameError,
		"2.1.10.IN-ADDR.ARPA.":   dns.RcodeSuccess,
		"7.2.1.10.in-addr.arpa.": dns.RcodeNameError,
	} {
		if m := ask(t, h, name, dns.TypeTXT); m.Rcode != want || len(m.Answer) > 0 || len(m.Ns) != 1 {
			t.Errorf("%s: got %s, want %s", name, dns.RcodeToString[m.Rcode], dns.RcodeToString[want])
		}
	}
}

// TestNestedOwnNames: records of a pool whose name would lie in another zone point to names in its
// own zone, which have the element's address.
func TestNestedOwnNames(t *testing.T) {
	f := newFake()
	put(t, f.space, "web.eu", element(1, 80, "10.1.2.3"))
	h := newTestHandler(t, "rserpool example.org eu.example.org {\n reverse 10.0.0.0/8\n}", f)
	srv := ask(t, h, encodeHandle("web.eu")+".example.org.", dns.TypeSRV).Answer
	ptr := ask(t, h, "3.2.1.10.in-addr.arpa.", dns.TypePTR).Answer
	if len(srv) != 1 || len(ptr) != 1 {
		t.Fatalf("got %v and %v, want one record each", srv, ptr)
	}
	for _, name := range []string{srv[0].(*dns.SRV).Target, ptr[0].(*dns.PTR).Ptr} {
		if m := ask(t, h, name, dns.TypeA); lastByte(m.Answer) != 3 {
			t.Errorf("%s: got %v, want the element's address", name, m)
		}
	}
	if srv = ask(t, h, "web.eu.eu.example.org.", dns.TypeSRV).Answer; len(srv) != 1 || srv[0].(*dns.SRV).Target != "pe-00000001.web.eu.eu.example.org." {
		t.Errorf("in the child zone: got %v, want its plain name", srv)
	}
}
