package rserpool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

func sorted(s []string) []string { return slices.Sorted(slices.Values(s)) }

// serve answers through CoreDNS's own size check, as its server does, and
// returns what the client gets.
func serve(t *testing.T, h *Handler, w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	t.Helper()
	rec := dnstest.NewRecorder(w)
	if _, err := h.ServeDNS(context.Background(), request.NewScrubWriter(q, rec), q); err != nil {
		t.Fatal(err)
	}
	wire, err := rec.Msg.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got := new(dns.Msg)
	if err := got.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestFit: what does not fit loses additional data first, then whole elements from the end.
// TC says that elements are missing, and only that.
func TestFit(t *testing.T) {
	long := strings.Repeat("l", 60)
	wide := "192.0.2.1"
	for i := range 40 {
		wide += fmt.Sprintf(" 198.51.100.%d", i)
	}
	tests := []struct {
		name       string
		pool       string
		addrs      string // of each of 20 elements
		corefile   string
		qtype      uint16
		size       int // of the client's buffer; 0: TCP
		wantAnswer int
		wantExtra  int
		wantTC     bool
	}{
		{"everything fits", "web", "192.0.2.1 2001:db8::1", "answers 3", dns.TypeSRV, 1232, 3, 6, false},
		{"TCP", "web", "192.0.2.1 2001:db8::1", "answers 20", dns.TypeSRV, 0, 20, 40, false},
		{"no EDNS", "web", "192.0.2.1 2001:db8::1", "answers 3", dns.TypeSRV, 512, 3, 6, false},
		{"additional data goes", "web", "192.0.2.1 2001:db8::1", "answers 10", dns.TypeSRV, 512, 9, 0, true},
		{"additional data goes in part", "web", "192.0.2.1 2001:db8::1", "answers 10", dns.TypeSRV, 700, 10, 5, false},
		{"elements go", "web", "192.0.2.1", "answers 20", dns.TypeSRV, 512, 9, 0, true},
		{"long names", long + "." + long + "." + long, "192.0.2.1", "answers 3", dns.TypeSRV, 512, 1, 1, true},
		{"sets stay whole", "web", "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4", "answers 8", dns.TypeSRV, 512, 8, 0, false},
		{"addresses of several elements", "web", "192.0.2.1 192.0.2.2", "addresses 16", dns.TypeA, 512, 28, 0, true},
		{"one element too large", "web", wide, "addresses 1", dns.TypeA, 512, 29, 0, true},
		{"the first of two too large", "web", wide, "addresses 2", dns.TypeA, 512, 29, 0, true},
		{"one of two", "web", wide, "addresses 2", dns.TypeA, 1232, 41, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			for id := rsp.PEID(1); id <= 20; id++ {
				own := strings.NewReplacer("192.0.2.", fmt.Sprintf("10.0.%d.", id), "198.51.100.", fmt.Sprintf("10.1.%d.", id))
				put(t, f.space, tt.pool, element(id, 80, own.Replace(tt.addrs)))
			}
			h := newTestHandler(t, "rserpool pool.example.org {\n "+tt.corefile+"\n}", f)
			q := new(dns.Msg).SetQuestion(tt.pool+"."+zoneZ, tt.qtype)
			w := &test.ResponseWriter{TCP: tt.size == 0}
			if tt.size > 512 {
				q.SetEdns0(uint16(tt.size), false)
			}
			m := serve(t, h, w, q)
			extra := slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
			if len(m.Answer) != tt.wantAnswer || len(extra) != tt.wantExtra || m.Truncated != tt.wantTC {
				t.Errorf("got %d answers, %d additional, TC %t; want %d, %d, %t",
					len(m.Answer), len(extra), m.Truncated, tt.wantAnswer, tt.wantExtra, tt.wantTC)
			}
			m.Compress = true
			if n := m.Len(); tt.size > 0 && n > tt.size {
				t.Errorf("answer has %d octets, want at most %d", n, tt.size)
			}
		})
	}
}

// allRecords configures every type of record, and allTypes are they.
const allRecords = "https alpn=h2\nsvcb foo\ndnssd http\ntxt a b\ntxt c"

var allTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeHTTPS, dns.TypeSVCB, dns.TypePTR, dns.TypeTXT, dns.TypeNS, dns.TypeSOA, dns.TypeANY}

// TestRoughLen: the estimate that saves the computation is never too small.
func TestRoughLen(t *testing.T) {
	h := newTestHandler(t, "rserpool pool.example.org {\n"+allRecords+"\n}", testSpace(t))
	for _, name := range []string{zoneZ, "web." + zoneZ, `\000\255bin\\.` + zoneZ, "pe-00000007.homes." + zoneZ, "nowhere." + zoneZ, "_rserpool.web." + zoneZ, "_foo.web." + zoneZ, "_http._tcp." + zoneZ} {
		for _, qtype := range allTypes {
			m := ask(t, h, name, qtype)
			m.Compress = false
			if rough, exact := roughLen(m), m.Len(); rough < exact || rough > exact+40 {
				t.Errorf("%s %s: got %d, want %d or little more", name, dns.TypeToString[qtype], rough, exact)
			}
		}
	}
}

// TestRoughCompressedLen: nor is the estimate for compressed responses, and it is exact for
// those that are long: SRV records with addresses.
func TestRoughCompressedLen(t *testing.T) {
	for _, pool := range []string{"web", "a.b", `Compute Pool`, "\x00\xffbin\\", strings.Repeat("x", 60)} {
		f := newFake()
		for id := rsp.PEID(1); id <= 100; id++ {
			put(t, f.space, pool, element(id, 80, fmt.Sprintf("192.0.2.%d 192.0.2.200 2001:db8::%d", id, id)))
		}
		name, _ := poolName(&newTestHandler(t, "rserpool pool.example.org", f).zones[0], f.space, rsp.PoolHandle(pool))
		for _, corefile := range []string{"answers 1", "answers 3", "answers 100"} {
			h := newTestHandler(t, "rserpool pool.example.org {\n "+corefile+"\n"+allRecords+"\n}", f)
			for _, qname := range []string{name, "_x._tcp." + name, "pe-00000001." + name, zoneZ, "_foo." + name, "_http._tcp." + zoneZ} {
				for _, qtype := range allTypes {
					m := askFrom(t, h, fromClient(1, true), new(dns.Msg).SetQuestion(qname, qtype))
					m.Compress = true
					rough, exact := (&reply{response: &response{msg: *m}}).roughCompressedLen(), m.Len()
					if rough < exact || exact > 512 && exact < maxPointer && rough != exact && !strings.Contains(name, `\`) {
						t.Errorf("%s %s, %s: got %d, want %d", qname, dns.TypeToString[qtype], corefile, rough, exact)
					}
				}
			}
		}
	}
}

// TestFreshRecords: what a plugin does with an answer must not show in the
// next one.
func TestFreshRecords(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1 2001:db8::1"))
	h := newTestHandler(t, "rserpool pool.example.org {\n"+allRecords+"\n}", f)
	for _, tt := range []struct {
		name  string
		qtype uint16
	}{
		{"web.", dns.TypeA}, {"web.", dns.TypeAAAA}, {"web.", dns.TypeSRV}, {"web.", dns.TypeHTTPS}, {"web.", dns.TypeTXT}, {"web.", dns.TypeANY},
		{"_rserpool.web.", dns.TypeTXT}, {"_foo.web.", dns.TypeSVCB}, {"_http._tcp.", dns.TypePTR}, {"web._http._tcp.", dns.TypeTXT},
	} {
		name, qtype := tt.name+zoneZ, tt.qtype
		before := ask(t, h, name, qtype)
		want := before.String()
		if len(before.Answer) == 0 {
			t.Errorf("no answer: %s", before)
		}
		for _, rr := range slices.Concat(before.Answer, before.Extra) {
			rr.Header().Ttl = 99
			switch rr := rr.(type) {
			case *dns.A:
				rr.A[0] = 99
			case *dns.AAAA:
				rr.AAAA[0] = 99
			case *dns.SRV:
				rr.Port = 99
			case *dns.HTTPS:
				rr.Value[0], rr.Value[1].(*dns.SVCBPort).Port = &dns.SVCBPort{Port: 99}, 99
				rr.Value[2].(*dns.SVCBIPv4Hint).Hint[0][0] = 99
			case *dns.SVCB:
				rr.Value[0].(*dns.SVCBPort).Port = 99
			case *dns.PTR:
				rr.Ptr = "99."
			case *dns.HINFO:
				rr.Cpu = "99"
			case *dns.TXT:
				rr.Txt[0] = "99"
			}
		}
		after := ask(t, h, name, qtype)
		after.Id = before.Id
		if got := after.String(); got != want {
			t.Errorf("%s after a change of the answer before: got\n%s\nwant\n%s", dns.TypeToString[qtype], got, want)
		}
	}
}
