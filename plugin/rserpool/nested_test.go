package rserpool

import (
	"slices"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// TestDSOfPoolName: the name of a child zone is a delegation, even if a pool of the parent has it
// or lies below it: the denial of its DS records proves an insecure zone (RFC 4035, Section 5.2).
func TestDSOfPoolName(t *testing.T) {
	for _, pool := range []string{"eu", "web.eu", "_tcp.eu"} {
		f := newFake()
		put(t, f.space, pool, element(1, 80, "192.0.2.1"))
		h := newTestHandler(t, "rserpool example.org eu.example.org", f)
		h.signer = noSigner{}
		q := new(dns.Msg).SetQuestion("eu.example.org.", dns.TypeDS).SetEdns0(4096, true)
		m := askFrom(t, h, &test.ResponseWriter{}, q)
		var types []uint16
		for _, rr := range m.Ns {
			if n, ok := rr.(*dns.NSEC); ok {
				types = n.TypeBitMap
			}
		}
		if want := []uint16{dns.TypeNS, dns.TypeRRSIG, dns.TypeNSEC}; m.Rcode != dns.RcodeSuccess || !slices.Equal(types, want) {
			t.Errorf("with the pool %q: got %s and the types %v, want NODATA and %v", pool, dns.RcodeToString[m.Rcode], types, want)
		}
	}
}

// noSigner is a dnssec plugin that says that it signs, and does not.
type noSigner struct{}

func (noSigner) Sign(state request.Request, _ time.Time, _ string) *dns.Msg {
	m := state.Req
	m.Answer = append(m.Answer, &dns.RRSIG{Hdr: header(state.Name(), dns.TypeRRSIG, 0), SignerName: "."})
	return m
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
