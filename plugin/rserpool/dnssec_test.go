package rserpool

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	stdlog "log"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/dnssec"
	"github.com/coredns/coredns/plugin/pkg/cache"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/test"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// signedServer is a CoreDNS that signs the zone, and the zone's key.
type signedServer struct {
	*server
	key   *dns.DNSKEY
	space *fakeRegistrar
}

func startSigned(t *testing.T, options string) *signedServer {
	t.Helper()
	fakes := withFakes(t)
	key, file := zoneKey(t)
	s := &signedServer{key: key}
	s.server = startServer(t, fmt.Sprintf("pool.example.org:0 {\n bind 127.0.0.1\n rserpool pool.example.org child.pool.example.org {\n %s\n }\n dnssec pool.example.org {\n key file \"%s\"\n }\n}", options, file))
	for _, f := range fakes {
		s.space = f
	}
	return s
}

// TestFallthroughSigned: a line in the log says what dnssec does to the names that fallthrough hands on.
func TestFallthroughSigned(t *testing.T) {
	withFakes(t)
	_, file := zoneKey(t)
	for _, tt := range []struct {
		options, next string
		signed        string // the zone
		want          bool
	}{
		{"fallthrough", "whoami", "pool.example.org", true},
		{"fallthrough", "whoami", "child.pool.example.org", true},
		{"", "whoami", "pool.example.org", false},
		{"fallthrough", "", "pool.example.org", false},
	} {
		var log strings.Builder
		stdlog.SetOutput(&log)
		defer clog.Discard()
		s := startServer(t, fmt.Sprintf("pool.example.org:0 {\n bind 127.0.0.1\n rserpool pool.example.org child.pool.example.org {\n %s\n }\n %s\n dnssec %s {\n key file \"%s\"\n }\n}", tt.options, tt.next, tt.signed, file))
		s.stop()
		if got := strings.Contains(log.String(), ":3: dnssec signs "+tt.signed+"., and fallthrough"); got != tt.want {
			t.Errorf("%+v: got the log %q", tt, &log)
		}
	}
}

// zoneKey makes a key, and returns the file's name without its endings.
func zoneKey(t testing.TB) (*dns.DNSKEY, string) { return keyOf(t, zoneZ) }

// keyOf is zoneKey for another zone.
func keyOf(t testing.TB, zone string) (*dns.DNSKEY, string) {
	t.Helper()
	key := &dns.DNSKEY{Hdr: header(zone, dns.TypeDNSKEY, 3600), Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	for end, text := range map[string]string{".key": key.String(), ".private": key.PrivateKeyString(private.(*ecdsa.PrivateKey))} {
		if err := os.WriteFile(file+end, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key, file
}

// ask asks with the flag DO, by UDP, or by TCP if size is 0.
func (s *signedServer) ask(t *testing.T, name string, qtype, size uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(max(size, 512), true)
	c, addr := dns.Client{Net: "udp", Timeout: 20 * time.Second}, s.addr()
	if size == 0 {
		c.Net, addr = "tcp", s.inst.Servers()[0].Addr().String()
	}
	m, _, err := c.Exchange(q, addr)
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	return m
}

// check checks that each set of records has a signature, and that all signatures are right.
func (s *signedServer) check(m *dns.Msg) error { return checkSignatures(m, s.key) }

// checkSignatures is check for any key. Its owner is the only signer.
func checkSignatures(m *dns.Msg, key *dns.DNSKEY) error {
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		sets := map[string][]dns.RR{}
		name := func(owner string, rrtype uint16) string {
			return strings.ToLower(owner) + " " + dns.TypeToString[rrtype]
		}
		for _, rr := range section {
			if h := rr.Header(); h.Rrtype != dns.TypeRRSIG && h.Rrtype != dns.TypeOPT {
				sets[name(h.Name, h.Rrtype)] = append(sets[name(h.Name, h.Rrtype)], rr)
			}
		}
		for _, rr := range section {
			sig, ok := rr.(*dns.RRSIG)
			if !ok {
				continue
			}
			set := name(sig.Hdr.Name, sig.TypeCovered)
			switch {
			case sets[set] == nil:
				return fmt.Errorf("a signature of %s, which is not there, or a second one", set)
			case !sig.ValidityPeriod(time.Now()):
				return fmt.Errorf("the signature of %s has expired", set)
			}
			if err := sig.Verify(key, sets[set]); err != nil {
				return fmt.Errorf("%s: %w", set, err)
			}
			delete(sets, set)
		}
		for set := range sets {
			return fmt.Errorf("no signature of %s", set)
		}
	}
	return nil
}

// denial returns the NSEC record of a negative answer, and what is wrong with it.
func denial(name string, qtype uint16, m *dns.Msg) (*dns.NSEC, error) {
	at := slices.IndexFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeNSEC })
	if at < 0 {
		return nil, fmt.Errorf("no NSEC record")
	}
	n := m.Ns[at].(*dns.NSEC)
	switch {
	case m.Rcode != dns.RcodeSuccess:
		return n, fmt.Errorf("the NSEC record proves that the name exists, but the code is %s", dns.RcodeToString[m.Rcode])
	case !strings.EqualFold(n.Hdr.Name, name):
		return n, fmt.Errorf("the NSEC record is of %s", n.Hdr.Name)
	case slices.Contains(n.TypeBitMap, qtype):
		return n, fmt.Errorf("the NSEC record has the type")
	case bytes.Compare(canonical(n.Hdr.Name), canonical(n.NextDomain)) >= 0:
		return n, fmt.Errorf("the next name, %s, is not behind %s", n.NextDomain, n.Hdr.Name)
	}
	return n, nil
}

// canonical returns a name's octets so that their order is that of RFC 4034, Section 6.1:
// the labels from the last one, in lower case, each ended by an octet less than all others.
func canonical(name string) (key []byte) {
	labels := dns.SplitDomainName(strings.ToLower(name))
	slices.Reverse(labels)
	var buf [maxName + 1]byte
	for _, l := range labels {
		n, _ := dns.PackDomainName(l+".", buf[:], 0, nil, false)
		for _, c := range buf[1 : n-1] {
			key = append(key, byte(uint16(c)+1>>8), byte(uint16(c)+1))
		}
		key = append(key, 0, 0)
	}
	return key
}

// TestSignedAnswers asks for every type at a name of every kind. All answers are signed, and no
// NSEC record denies a type that the name has: a validator answers from the records that it
// has seen (RFC 8198).
func TestSignedAnswers(t *testing.T) {
	s := startSigned(t, "nameserver ns1.pool.example.org 192.0.2.53 2001:db8::53\npool empty\nnaptr x-test a\npool web https\npool web svcb foo\npool web dnssd http\npool web txt a")
	put(t, s.space.space, "web", element(1, 80, "192.0.2.1 192.0.2.2"), element(2, 80, "192.0.2.3"))
	put(t, s.space.space, "a.deep.Pool", element(1, 80, "192.0.2.4 2001:db8::4", over(rsp.SCTP)))
	put(t, s.space.space, "opaque", element(1, 80, "", over(rsp.Opaque)))
	long := strings.Repeat(strings.Repeat("x", 59)+".", 3) + strings.Repeat("y", 47)
	put(t, s.space.space, long, element(1, 80, "192.0.2.5"))
	put(t, s.space.space, "\x00\xffbin\\", element(1, 80, "192.0.2.6"))
	put(t, s.space.space, "a..b", element(1, 80, "192.0.2.7"))
	asked := map[nodeKind]bool{}
	for _, test := range []struct {
		rel  string
		kind nodeKind
	}{
		{"", nodeApex}, {"ns1.", nodeServer}, {"child.", nodeChild},
		{"web.", nodePool}, {"a.deep.Pool.", nodePool}, {"A.DEEP.pool.", nodePool}, {"opaque.", nodePool}, {"empty.", nodePool}, {long + ".", nodePool},
		{`\000\255BIN\\.`, nodePool}, {encodeHandle("a..b") + ".", nodePool}, {`\000.web.`, nodeNone}, {`*.web.`, nodeNone},
		{"_http._tcp.web.", nodeService}, {"pe-00000001.web.", nodeElement},
		{"_rserpool.", nodeInfo}, {"_rserpool.web.", nodeInfo}, {"_rserpool.pe-00000001.web.", nodeInfo},
		{"_8443._https.web.", nodeBinding}, {"_foo.web.", nodeBinding},
		{"b._dns-sd._udp.", nodeDomain}, {"_services._dns-sd._udp.", nodeTypes}, {"_http._tcp.", nodeType}, {"web._http._tcp.", nodeInstance},
		{"deep.pool.", nodeEmpty}, {"_tcp.web.", nodeEmpty},
		{"nowhere.", nodeNone}, {"x.web.", nodeNone}, {"_http._udp.web.", nodeNone}, {"z" + long + ".", nodeNone},
	} {
		asked[test.kind] = true
		t.Run(test.rel, func(t *testing.T) {
			has, denials := s.askAll(t, test.rel+zoneZ, typesToAsk(test.kind))
			for qtype, n := range denials {
				for rrtype := range has {
					if !slices.Contains(n.TypeBitMap, rrtype) {
						t.Errorf("the name has %s, but there is %s", dns.TypeToString[rrtype], n)
					}
				}
				for rrtype, want := range map[uint16]bool{
					dns.TypeNXNAME: test.kind == nodeNone,
					dns.TypeNS:     test.kind == nodeApex && qtype != dns.TypeNS || test.kind == nodeChild,
					dns.TypeSOA:    test.kind == nodeApex && qtype != dns.TypeSOA,
				} {
					if got := slices.Contains(n.TypeBitMap, rrtype); got != want {
						t.Errorf("has the type %s: got %t, want %t, in %s", dns.TypeToString[rrtype], got, want, n)
					}
				}
			}
		})
	}
	for k := nodeNone; int(k) < nodeKinds; k++ {
		if !asked[k] && k != nodeAddress { // which is in another zone: TestReverseTypes
			t.Errorf("no name of kind %d was asked for", k)
		}
	}
}

// askAll asks for all types at a name. It returns those that there are, and the NSEC records
// of the answers for the others.
func (s *signedServer) askAll(t *testing.T, name string, types []uint16) (has map[uint16]bool, denials map[uint16]*dns.NSEC) {
	t.Helper()
	has, denials = map[uint16]bool{}, map[uint16]*dns.NSEC{}
	for _, qtype := range types {
		m := s.ask(t, name, qtype, 4096)
		err := s.check(m)
		if err == nil && len(m.Answer) == 0 {
			denials[qtype], err = denial(name, qtype, m)
		}
		if err != nil {
			t.Fatalf("%s: %v\n%s", dns.TypeToString[qtype], err, m)
		}
		for _, rr := range m.Answer {
			has[rr.Header().Rrtype] = true
		}
	}
	return has, denials
}

// typesToAsk returns the types that are asked for: all that there are, in essence.
func typesToAsk(k nodeKind) (types []uint16) {
	if k == nodeChild {
		return []uint16{dns.TypeDS} // all others are in the child zone, which is not signed
	}
	for t := range dns.TypeToString {
		switch t {
		case dns.TypeNone, dns.TypeOPT, dns.TypeTSIG, dns.TypeAXFR, dns.TypeIXFR, dns.TypeANY, dns.TypeRRSIG, dns.TypeReserved, dns.TypeTKEY, dns.TypeMAILA, dns.TypeMAILB, dns.TypeNXNAME:
		default:
			types = append(types, t)
		}
	}
	slices.Sort(types)
	return append(types, dns.TypeANY, 65280)
}

// TestSignedSizes asks for the SRV records of a large pool, with several buffers. A response that
// is not marked as truncated has all of them, and each record that it has is signed.
func TestSignedSizes(t *testing.T) {
	s := startSigned(t, "")
	const n = 60
	for id := range rsp.PEID(n) {
		put(t, s.space.space, "web", element(id, 80, fmt.Sprintf("192.0.2.%d 2001:db8::%[1]x", int(id))))
	}
	put(t, s.space.space, "few", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"), element(3, 80, "192.0.2.3"))
	for _, pool := range []string{"web.", "few."} {
		elements := map[string]int{"web.": n, "few.": 3}[pool]
		for _, size := range []uint16{512, 600, 700, 800, 1000, 1232, 1400, 2048, 4096, 0} {
			m := s.ask(t, pool+zoneZ, dns.TypeSRV, size)
			if err := s.check(m); err != nil {
				t.Errorf("%s with %d octets: %v", pool, size, err)
			}
			records := 0
			for _, rr := range m.Answer {
				if rr.Header().Rrtype == dns.TypeSRV {
					records++
				}
			}
			if m.Truncated != (records < elements) {
				t.Errorf("%s with %d octets: TC is %t with %d of %d elements", pool, size, m.Truncated, records, elements)
			}
			m.Compress = true
			if l := m.Len(); size > 0 && m.Truncated && l < int(size)-100 {
				t.Errorf("%s with %d octets: the truncated response has only %d", pool, size, l)
			}
		}
	}
}

// TestSignedCase: the case of a question makes no new signatures. ECDSA never makes the same one
// twice.
func TestSignedCase(t *testing.T) {
	s := startSigned(t, "")
	put(t, s.space.space, "Web", element(1, 80, "192.0.2.1"))
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeMX} {
		one, other := s.ask(t, "wEb.pool.example.ORG.", qtype, 4096), s.ask(t, "WeB.Pool.example.org.", qtype, 4096)
		for _, m := range []*dns.Msg{one, other} {
			if err := s.check(m); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(allLines(one), allLines(other)); diff != "" {
			t.Errorf("%s (-first +second):\n%s", dns.TypeToString[qtype], diff)
		}
	}
}

// allLines returns the records of a response, sorted, without the SOA, whose serial may grow.
func allLines(m *dns.Msg) []string {
	all := sorted(strings.Split(lines(slices.Concat(m.Answer, m.Ns, m.Extra)), "\n"))
	return slices.DeleteFunc(all, func(l string) bool { return strings.Contains(l, " SOA ") })
}

// TestSignedReload: a server that begins or ceases to sign does so for negative answers, too.
func TestSignedReload(t *testing.T) {
	s := startSigned(t, "")
	put(t, s.space.space, "web", element(1, 80, "192.0.2.1"))
	if m := s.ask(t, "web."+zoneZ, dns.TypeMX, 4096); len(m.Ns) != 4 {
		t.Fatalf("signed: got\n%s\nwant SOA, NSEC and their signatures", m)
	}
	if err := s.reload("pool.example.org:0 {\n bind 127.0.0.1\n rserpool\n}"); err != nil {
		t.Fatal(err)
	}
	if m := s.ask(t, "web."+zoneZ, dns.TypeMX, 4096); len(m.Ns) != 1 {
		t.Errorf("not signed: got\n%s\nwant the SOA", m)
	}
	if m := s.ask(t, "nowhere."+zoneZ, dns.TypeA, 4096); !isUnknown(m) {
		t.Errorf("not signed: got\n%s\nwant NXDOMAIN", m)
	}
}

// TestNextName: the next name is behind the name, and no other name can be between the two.
func TestNextName(t *testing.T) {
	x63 := strings.Repeat("x", 63)
	two, longest := strings.Repeat(x63+".", 2), strings.Repeat(x63+".", 3)
	y57, last := strings.Repeat("y", 57), strings.Repeat(`\255`, 63)
	for _, test := range []struct{ name, want string }{
		{".", `\000.`},
		{"a.org.", `\000.a.org.`},
		{"a." + longest + strings.Repeat("y", 57) + ".", `\000.a.` + longest + strings.Repeat("y", 57) + "."},                   // 253
		{"ab." + longest + strings.Repeat("y", 57) + ".", `ab\000.` + longest + strings.Repeat("y", 57) + "."},                  // 254
		{"abc." + longest + strings.Repeat("y", 57) + ".", "abd." + longest + strings.Repeat("y", 57) + "."},                    // 255
		{`ab\255.` + longest + strings.Repeat("y", 57) + ".", "ac." + longest + strings.Repeat("y", 57) + "."},                  // 255
		{`a\255\255.` + longest + strings.Repeat("y", 57) + ".", "b." + longest + strings.Repeat("y", 57) + "."},                // 255
		{x63 + "." + two + strings.Repeat("y", 60) + ".", strings.Repeat("x", 62) + "y." + two + strings.Repeat("y", 60) + "."}, // 254
		{"ab@." + longest + y57 + ".", "ab[." + longest + y57 + "."},
		{`\255\255\255.` + longest + y57 + ".", strings.Repeat("x", 62) + "y." + two + y57 + "."},
		{`\255.ab.` + longest + strings.Repeat("y", 56) + ".", `ab\000.` + longest + strings.Repeat("y", 56) + "."},
		{`\255\255\255.` + last + "." + two + y57 + ".", strings.Repeat("x", 62) + "y." + x63 + "." + y57 + "."},
	} {
		got := nextName(test.name, "org.")
		if got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
		if _, err := dns.PackDomainName(got, make([]byte, 256), 0, nil, false); err != nil || wireLen(got) > maxName {
			t.Errorf("%s, %d octets: %v", got, wireLen(got), err)
		}
		if a, b := canonical(test.name), canonical(got); bytes.Compare(a, b) >= 0 {
			t.Errorf("%s is not behind %s: %s, %s", got, test.name, hex.EncodeToString(b), hex.EncodeToString(a))
		}
	}
}

// TestNextNameLast: behind the last name of a zone there is the zone itself.
func TestNextNameLast(t *testing.T) {
	name := strings.Repeat(`\255`, 57) + "." + strings.Repeat(strings.Repeat(`\255`, 63)+".", 3) + "org."
	if got := nextName(name, "org."); got != "org." {
		t.Errorf("%s: got %s, want the zone", name, got)
	}
}

// BenchmarkSigned answers behind the dnssec plugin, whose cache has the signatures of answers
// that were given before.
func BenchmarkSigned(b *testing.B) {
	_, file := zoneKey(b)
	key, err := dnssec.ParseKeyFile(file+".key", file+".private")
	if err != nil {
		b.Fatal(err)
	}
	f := newFake()
	for id := range rsp.PEID(60) {
		put(b, f.space, "many", element(id, 80, fmt.Sprintf("192.0.2.%d", int(id))))
	}
	put(b, f.space, "web", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"), element(3, 80, "192.0.2.3"))
	h := newTestHandler(b, "rserpool pool.example.org", f)
	signs := dnssec.New([]string{zoneZ}, []*dnssec.DNSKEY{key}, false, h, cache.New[[]dns.RR](10000))
	h.signer, h.now = signs, time.Now
	for _, bb := range []struct {
		name, qname string
		qtype       uint16
		vary        bool
	}{
		{"A", "web." + zoneZ, dns.TypeA, false},
		{"A in random case", "web." + zoneZ, dns.TypeA, true},
		{"AAAA, none", "web." + zoneZ, dns.TypeAAAA, false},
		{"SRV of 3", "web." + zoneZ, dns.TypeSRV, false},
		{"SRV of 60", "many." + zoneZ, dns.TypeSRV, false},
		{"unknown name", "nowhere." + zoneZ, dns.TypeA, false},
	} {
		b.Run(bb.name, func(b *testing.B) {
			w := &test.ResponseWriter{TCP: true}
			name := []byte(bb.qname)
			for i := 0; b.Loop(); i++ {
				if bb.vary {
					for j := range 16 { // letters and dots, of which some are changed
						if c := bb.qname[j]; c >= 'a' {
							name[j] = c - byte(i>>j&1)*('a'-'A')
						}
					}
				}
				q := new(dns.Msg).SetQuestion(string(name), bb.qtype).SetEdns0(4096, true)
				if _, err := signs.ServeDNS(context.Background(), w, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
