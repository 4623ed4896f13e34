package rserpool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/test"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	set1 = "set001.region48.amfset"
	set2 = "set002.region48.amfset"
)

// amf is an element with two addresses over SCTP.
func amf(id rsp.PEID, p rsp.Policy) *handlespace.Element {
	return element(id, 38412, fmt.Sprintf("192.0.2.%d 198.51.100.%d", id, id), over(rsp.SCTP), policy(p))
}

// naptrData returns the fields of NAPTR records, a line each, without owner, TTL and expression.
func naptrData(rrs []dns.RR) string {
	var b strings.Builder
	for _, rr := range rrs {
		switch r := rr.(type) {
		case *dns.NAPTR:
			fmt.Fprintf(&b, "%d %d %s %s %s\n", r.Order, r.Preference, r.Flags, r.Service, strings.TrimSuffix(r.Replacement, zoneZ))
			if r.Regexp != "" {
				fmt.Fprintf(&b, "expression %q\n", r.Regexp)
			}
		default:
			b.WriteString(rr.String())
		}
	}
	return b.String()
}

func TestNAPTR(t *testing.T) {
	t.Parallel()
	f := newFake()
	put(t, f.space, set1,
		amf(1, rsp.Policy{Type: rsp.WeightedRoundRobin, Weight: 255}),
		amf(2, rsp.Policy{Type: rsp.WeightedRoundRobin, Weight: 51}),
		amf(3, rsp.Policy{Type: rsp.WeightedRoundRobin, Weight: 0})) // cannot serve
	put(t, f.space, set2,
		amf(1, rsp.Policy{Type: rsp.Priority, Priority: 1}),
		amf(2, rsp.Policy{Type: rsp.Priority, Priority: 9}),
		amf(3, rsp.Policy{Type: rsp.Priority, Priority: 5}))
	put(t, f.space, "hss", amf(1, rsp.Policy{Type: rsp.RoundRobin}), amf(2, rsp.Policy{Type: rsp.RoundRobin}))
	put(t, f.space, "two", amf(1, rsp.Policy{Type: rsp.RoundRobin}), amf(2, rsp.Policy{Type: rsp.RoundRobin}))
	put(t, f.space, "sip", element(1, 5060, "192.0.2.1"))
	put(t, f.space, "sigtran", amf(1, rsp.Policy{Type: rsp.LeastUsed, Load: 1 << 31}), amf(2, rsp.Policy{Type: rsp.LeastUsed}))
	put(t, f.space, "opaque", element(1, 80, "", over(rsp.Opaque)))
	// The name of the pool has 243 octets: 12 more fit, but no _diameter._sctp.
	put(t, f.space, strings.Repeat("x123456789.", 20)+"abcdefgh", element(1, 9, "192.0.2.1", over(rsp.SCTP)))
	// That of this one has 250, too many for the names of elements.
	put(t, f.space, strings.Repeat("y123456789.", 20)+"abcdefghijklm", element(1, 9, "192.0.2.1", over(rsp.SCTP)))

	const n2 = "naptr x-3gpp-amf:x-n2"
	tests := []struct {
		name, options, pool, answer, extra string
	}{
		{"not configured", "", set1, "", ""},
		{"3GPP: 65535 - preference is the weight", n2, set1,
			"0 0 a x-3gpp-amf:x-n2 pe-00000001." + set1 + ".\n0 52428 a x-3gpp-amf:x-n2 pe-00000002." + set1 + ".\n", "A A A A"},
		{"others: by preference is no load balancing", "naptr EAMPL:ServerProtocol a", set1,
			"0 0 a EAMPL:ServerProtocol pe-00000001." + set1 + ".\n0 0 a EAMPL:ServerProtocol pe-00000002." + set1 + ".\n", "A A A A"},
		{"priority is the order", n2, set2, "0 0 a x-3gpp-amf:x-n2 pe-00000002." + set2 + ".\n" +
			"1 0 a x-3gpp-amf:x-n2 pe-00000003." + set2 + ".\n2 0 a x-3gpp-amf:x-n2 pe-00000001." + set2 + ".\n", "A A A A A A"},
		{"spare load", n2, "sigtran", "0 0 a x-3gpp-amf:x-n2 pe-00000002.sigtran.\n0 32768 a x-3gpp-amf:x-n2 pe-00000001.sigtran.\n", "A A A A"},
		{"srv rank", n2 + "\nsrv rank", set1,
			"0 0 a x-3gpp-amf:x-n2 pe-00000001." + set1 + ".\n1 0 a x-3gpp-amf:x-n2 pe-00000002." + set1 + ".\n", "A A A A"},
		{"by pool", "naptr SIP+D2S\npool *.amfset " + n2 + "\npool *.amfset naptr x-3gpp-amf:x-n26 s n26", set2, "0 0 s x-3gpp-amf:x-n26 _n26._sctp." + set2 + ".\n" +
			"0 0 a x-3gpp-amf:x-n2 pe-00000002." + set2 + ".\n1 0 a x-3gpp-amf:x-n2 pe-00000003." + set2 + ".\n2 0 a x-3gpp-amf:x-n2 pe-00000001." + set2 + ".\n",
			"SRV SRV SRV A A A A A A"},
		{"flag s", "naptr aaa+ap16777251:diameter.sctp", "hss", "0 0 s aaa+ap16777251:diameter.sctp _diameter._sctp.hss.\n", "SRV SRV A A A A"},
		{"flag s with a label", n2 + " s ngap", set1, "0 0 s x-3gpp-amf:x-n2 _ngap._sctp." + set1 + ".\n", "SRV SRV A A A A"},
		{"several services", "naptr aaa:diameter.sctp\nnaptr aaa+ap16777251:diameter.sctp\nnaptr x-test:hss a\nnaptr x-other:hss s Other", "two",
			"0 0 s aaa:diameter.sctp _diameter._sctp.two.\n0 0 s aaa+ap16777251:diameter.sctp _diameter._sctp.two.\n0 0 s x-other:hss _other._sctp.two.\n" +
				"0 0 a x-test:hss pe-00000001.two.\n0 0 a x-test:hss pe-00000002.two.\n", "SRV SRV SRV SRV A A A A"},
		{"the pool's transport", "naptr SIP+D2U\nnaptr SIP+D2T\nnaptr SIP+D2S\nnaptr SIPS+D2T", "sip",
			"0 0 s SIP+D2T _sip._tcp.sip.\n0 0 s SIPS+D2T _sips._tcp.sip.\n", "SRV SRV A"},
		{"no service of this transport", "naptr SIP+D2U", "sip", "", ""},
		{"a service with flag a has a transport, too", "naptr SIP+D2U a", "sip", "", ""},
		{"no addresses", "naptr x-test:x\nnaptr x-test:y s y", "opaque", "", ""},
		{"names too long for SRV", "naptr aaa:diameter.sctp", strings.Repeat("x123456789.", 20) + "abcdefgh", "", ""},
		{"names too long for elements", "naptr x-test:x a", strings.Repeat("y123456789.", 20) + "abcdefghijklm", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHandler(t, "rserpool pool.example.org {\n"+tt.options+"\n}", f)
			m := askFrom(t, h, &test.ResponseWriter{TCP: true}, new(dns.Msg).SetQuestion(tt.pool+"."+zoneZ, dns.TypeNAPTR))
			if diff := cmp.Diff(tt.answer, naptrData(m.Answer)); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			var types []string
			for _, rr := range m.Extra {
				types = append(types, dns.TypeToString[rr.Header().Rrtype])
			}
			if got := strings.Join(types, " "); got != tt.extra {
				t.Errorf("additional data: got %s, want %s", got, tt.extra)
			}
			if m.Truncated || m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 && len(m.Ns) != 1 {
				t.Errorf("got\n%v", m)
			}
			if _, err := m.Pack(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNAPTRTargets: what the records refer to is there, under exactly that name, and the same as
// in the additional data, whatever case the question has.
func TestNAPTRTargets(t *testing.T) {
	t.Parallel()
	f := newFake()
	put(t, f.space, "Hss", amf(1, rsp.Policy{Type: rsp.RoundRobin}), amf(2, rsp.Policy{Type: rsp.RoundRobin}))
	for _, flag := range []string{"a", "s Diameter"} {
		// The label exists, though service does not name it.
		h := newTestHandler(t, "rserpool pool.example.org {\nservice http\nnaptr x-3gpp-mme:x-s6a "+flag+"\n}", f)
		m := ask(t, h, "hSS.POOL.example.org.", dns.TypeNAPTR)
		extra := map[string]int{}
		for _, rr := range m.Extra {
			extra[rr.Header().Name+" "+dns.TypeToString[rr.Header().Rrtype]]++
		}
		if len(m.Answer) == 0 || m.Answer[0].Header().Name != "hSS.POOL.example.org." {
			t.Fatalf("got\n%v", m)
		}
		for _, rr := range m.Answer {
			target, qtype, want := rr.(*dns.NAPTR).Replacement, dns.TypeA, 2
			if flag != "a" {
				qtype = dns.TypeSRV
			}
			key := target + " " + dns.TypeToString[qtype]
			if got := ask(t, h, target, qtype); len(got.Answer) != want || extra[key] != want {
				t.Errorf("%s: %d records, %d in the additional data, want %d\n%v", key, len(got.Answer), extra[key], want, got)
			}
			if !strings.HasSuffix(target, ".Hss."+zoneZ) {
				t.Errorf("target %s has not the pool's spelling", target)
			}
		}
	}
}

// TestNAPTRLookup: NAPTR and then SRV, or A and AAAA, are one lookup; the first record is what the
// policy selects.
func TestNAPTRLookup(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		flag string
		then []uint16
	}{
		{"s hss", []uint16{dns.TypeSRV}},
		{"a", []uint16{dns.TypeA, dns.TypeAAAA}},
	} {
		f := newFake()
		for id := range rsp.PEID(3) {
			put(t, f.space, "hss", element(id, uint16(id), fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id), over(rsp.SCTP)))
		}
		h := newTestHandler(t, "rserpool pool.example.org {\nnaptr x-test:hss "+tt.flag+"\n}", f)
		for i := range 9 {
			h.now = func() time.Time { return now.Add(time.Duration(i) * 300 * time.Millisecond) }
			m := askFrom(t, h, &addrWriter{addr: udpPort(10 * i)}, new(dns.Msg).SetQuestion("hss."+zoneZ, dns.TypeNAPTR))
			if tt.flag == "a" {
				if got, want := m.Answer[0].(*dns.NAPTR).Replacement, fmt.Sprintf("pe-%08x.hss.%s", i%3, zoneZ); got != want {
					t.Errorf("flag a, lookup %d: first is %s, want %s", i, got, want)
				}
			} else if got := m.Extra[0].(*dns.SRV).Port; int(got) != i%3 {
				t.Errorf("flag s, lookup %d: first is element %d, want %d", i, got, i%3)
			}
			for j, qtype := range tt.then {
				m = askFrom(t, h, &addrWriter{addr: udpPort(10*i + j + 1)}, new(dns.Msg).SetQuestion("hss."+zoneZ, qtype))
				got := 0
				if srv, ok := m.Answer[0].(*dns.SRV); ok {
					got = int(srv.Port)
				} else {
					got = lastByte(m.Answer)
				}
				if got != i%3 {
					t.Errorf("flag %s, lookup %d, then %s: element %d, want %d", tt.flag, i, dns.TypeToString[qtype], got, i%3)
				}
			}
		}
	}
}

// TestNAPTRShares: clients that choose as 3GPP TS 29.303, C.1, says use the elements in proportion to
// their weights.
func TestNAPTRShares(t *testing.T) {
	t.Parallel()
	const n = 10000
	weights := []uint32{255, 128, 64, 32, 1}
	f := newFake()
	for i, w := range weights {
		put(t, f.space, set1, amf(rsp.PEID(i), rsp.Policy{Type: rsp.WeightedRandom, Weight: w}))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\nnaptr x-3gpp-amf:x-n2\n}", f)
	rnd := rand.New(rand.NewPCG(1, 2))
	got := make([]int, len(weights))
	for range n {
		sum, chosen := 0, rsp.PEID(0)
		for _, rr := range ask(t, h, set1+"."+zoneZ, dns.TypeNAPTR).Answer {
			r := rr.(*dns.NAPTR)
			if r.Order != 0 {
				t.Fatalf("want one order: %v", r)
			}
			weight := math.MaxUint16 - int(r.Preference)
			if sum += weight; rnd.IntN(sum) < weight {
				chosen, _ = elementID([]byte(r.Replacement[:elementLen]))
			}
		}
		got[chosen]++
	}
	var chi2 float64
	for i, w := range weights {
		want := float64(n) * float64(w) / 480
		chi2 += (float64(got[i]) - want) * (float64(got[i]) - want) / want
	}
	if chi2 > 18.5 { // one in 1,000, with 4 degrees of freedom; the source of chance is always the same
		t.Errorf("weights %v were chosen %v times, chi-square %.1f", weights, got, chi2)
	}
}

// TestNAPTRSize: of a pool of 60, an answer has whole elements, and TC if some are missing. SRV records
// in the additional data are all or none.
func TestNAPTRSize(t *testing.T) {
	t.Parallel()
	f := newFake()
	for id := range rsp.PEID(60) {
		put(t, f.space, "hss", amf(id+1, rsp.Policy{Type: rsp.RoundRobin}))
	}
	const a, b, s = "naptr x-test:a a\n", "naptr x-test:b a\n", "naptr aaa:diameter.sctp\n"
	for _, tt := range []struct {
		options   string
		size      uint16 // 0: TCP
		answer    int
		truncated bool
		services  int // SRV records
	}{
		{a, 512, 7, true, 0},
		{a, 2048, 32, true, 0},
		{a, 4096, 60, false, 0},
		{a, 0, 60, false, 0},
		{a + "answers 20\n", 4096, 20, false, 0},
		{a + b, 1232, 18, true, 0}, // two for each element
		{a + b, 0, 100, false, 0},  // BIND keeps no more records of a type
		{a + b + "answers 40\n", 1232, 18, true, 0},
		{a + b + "answers 16\n", 1232, 16, false, 0},
		{a + b + "answers 1\n", 1232, 2, false, 0},
		{a + b + "answers all\n", 0, 120, false, 0},
		{s, 512, 1, false, 0},
		{s, 1232, 1, false, 0},
		{s, 4096, 1, false, 60},
		{s, 0, 1, false, 60},
		{s + "answers 8\n", 512, 1, false, 0},
		{s + "answers 8\n", 1232, 1, false, 8},
		{s + a, 1232, 18, true, 0},
		{s + a, 0, 61, false, 60},
	} {
		h := newTestHandler(t, "rserpool pool.example.org {\n"+tt.options+"}", f)
		q := new(dns.Msg).SetQuestion("hss."+zoneZ, dns.TypeNAPTR)
		if tt.size > 0 {
			q.SetEdns0(tt.size, false)
		}
		m := askFrom(t, h, &test.ResponseWriter{TCP: tt.size == 0}, q)
		services := 0
		for _, rr := range m.Extra {
			if rr.Header().Rrtype == dns.TypeSRV {
				services++
			}
		}
		m.Compress = true
		if got := m.Len() + 11; tt.size > 0 && got > int(tt.size) {
			t.Errorf("%q, %d octets: %d octets", tt.options, tt.size, got)
		}
		if len(m.Answer) != tt.answer || m.Truncated != tt.truncated || services != tt.services {
			t.Errorf("%q, %d octets: %d records, TC %v, %d SRV records; want %d, %v, %d",
				tt.options, tt.size, len(m.Answer), m.Truncated, services, tt.answer, tt.truncated, tt.services)
		}
	}
}

// TestNAPTRStable: a client gets the same part of a large pool each time.
func TestNAPTRStable(t *testing.T) {
	t.Parallel()
	f := newFake()
	for id := range rsp.PEID(60) {
		put(t, f.space, "hss", amf(id+1, rsp.Policy{Type: rsp.RoundRobin}))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\nnaptr x-test:a a\n}", f)
	var first []string
	for i := range 10 {
		h.now = func() time.Time { return now.Add(time.Duration(i) * 2 * time.Second) }
		var got []string
		for _, rr := range ask(t, h, "hss."+zoneZ, dns.TypeNAPTR).Answer {
			got = append(got, rr.(*dns.NAPTR).Replacement)
		}
		slices.Sort(got)
		if i == 0 {
			first = got
		}
		if len(got) != 7 || !slices.Equal(got, first) {
			t.Errorf("query %d: got %v, want the 7 of the first query, %v", i, got, first)
		}
	}
}

// TestNAPTRTTL: no TTL is longer than the rest of the shortest registration.
func TestNAPTRTTL(t *testing.T) {
	t.Parallel()
	f := newFake()
	put(t, f.space, "hss", element(1, 80, "192.0.2.1", over(rsp.SCTP)), element(2, 80, "192.0.2.2", over(rsp.SCTP), expires(3900*time.Millisecond)))
	h := newTestHandler(t, "rserpool pool.example.org {\nnaptr x-test:a a\nnaptr x-test:s s s\n}", f)
	m := ask(t, h, "hss."+zoneZ, dns.TypeNAPTR)
	for _, rr := range append(m.Answer, m.Extra...) {
		if got := rr.Header().Ttl; got != 3 {
			t.Errorf("TTL %d, want 3: %v", got, rr)
		}
	}
	if len(m.Answer) != 3 || len(m.Extra) != 4 {
		t.Errorf("got\n%v", m)
	}
}

func TestParseNAPTRErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ line, want string }{
		{"naptr", "got 0 arguments, want: naptr SERVICE [s|a [LABEL]]"},
		{"naptr a:b s c d", "got 4 arguments"},
		{`naptr "a b"`, `"a b" is not a service, such as x-3gpp-amf:x-n2 or SIP+D2S`},
		{"naptr +x", `"+x" is not a service`},
		{"naptr " + strings.Repeat("x", 256), "is not a service"},
		{"naptr x:y u", `"u" is not a flag; use s (SRV records) or a (addresses)`},
		{"naptr x-3gpp-amf:x-n2 s", "the flag s needs the first label of the SRV records, such as: naptr x-3gpp-amf:x-n2 s ngap"},
		{"naptr x:y a ngap", "a label belongs to the flag s"},
		{"naptr x:y s a.b", `"a.b" is not the name of a service`},
		{"naptr SIP+D2S\nnaptr sip+d2s a", "the service sip+d2s is given twice"},
	} {
		_, err := parse(caddy.NewTestController("dns", "rserpool pool.example.org {\n"+tt.line+"\n}"))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want %s", tt.line, err, tt.want)
		}
	}
}
