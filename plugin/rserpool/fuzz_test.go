package rserpool

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// FuzzServeDNS asks for any name and type, with any options and buffer size, a handlespace
// with a pool of any handle in it. The answer is always one that a client can read, fits, and
// belongs to the question; see checkResponse and checkAnswers. The pool is found under its
// name.
func FuzzServeDNS(f *testing.F) {
	for i, handle := range []string{"web", "Compute Pool", "a..b", "a.b", "_ph-c4", "pe-00000001.web", "\x00\xff", "_443._https.web", "B\u00fcro 2.OG", "web._http._tcp", strings.Repeat("x", 64), strings.Repeat("y", 100)} {
		f.Add(handle, handle, dns.TypeA, uint16(1232), true, uint32(rsp.RoundRobin), uint32(0), "", uint16(rsp.TCP), uint16(i))
		f.Add(handle, "_rserpool.pe-00000001."+handle, dns.TypeTXT, uint16(512), false, uint32(0xb0009999), uint32(0), "extra", uint16(rsp.TCP), uint16(0))
		f.Add(handle, "_x._tcp."+handle, dns.TypeSRV, uint16(0), false, uint32(rsp.WeightedRandom), uint32(1), "", uint16(rsp.TCP), uint16(0))
		f.Add(handle, encodeHandle(rsp.PoolHandle(handle)), dns.TypeSRV, uint16(600), false, uint32(rsp.LeastUsed), ^uint32(0), "", uint16(rsp.SCTP), ^uint16(0))
		f.Add(handle, handle, dns.TypeSRV, uint16(0), false, uint32(rsp.LeastUsedDegradation), uint32(1<<29), "", uint16(rsp.UDP), uint16(1<<i))
		f.Add(handle, handle, dns.TypeSRV, uint16(4096), true, uint32(rsp.Priority), uint32(1), "", uint16(rsp.Opaque), ^uint16(0))
		f.Add(handle, handle, dns.TypeNAPTR, uint16(700), true, uint32(rsp.WeightedRandom), uint32(1), "", uint16(rsp.TCP), ^uint16(0))
		f.Add(handle, "", dns.TypeNS, uint16(0), true, uint32(rsp.RandomizedLeastUsed), ^uint32(0), "", uint16(rsp.TCP), uint16(0))
		f.Add(handle, handle, dns.TypeHTTPS, uint16(520), true, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), ^uint16(0))
		f.Add(handle, "_8443._https."+handle, dns.TypeHTTPS, uint16(0), true, uint32(rsp.Random), uint32(1), "", uint16(rsp.UDP), ^uint16(0))
		f.Add(handle, "_853._dns."+handle, dns.TypeSVCB, uint16(1232), true, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.DCCP), ^uint16(0))
		f.Add(handle, "_http._tcp", dns.TypePTR, uint16(0), true, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), ^uint16(0))
		f.Add(handle, handle, dns.TypeSRV, uint16(3000), false, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), uint16(0))
		f.Add(handle, handle, dns.TypeA, uint16(0), false, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), uint16(2))
		f.Add(handle, "lb._dns-sd._udp", dns.TypePTR, uint16(0), true, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), ^uint16(0))
		f.Add(handle, handle, dns.TypeNXNAME, uint16(0), false, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), uint16(0))
		f.Add(handle, "lb._dns-sd._udp", dns.TypeANY, uint16(0), true, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), ^uint16(0))
		f.Add(handle, "_services._dns-sd._udp", dns.TypePTR, uint16(0), true, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.UDP), ^uint16(0))
		f.Add(handle, "web._http._tcp", dns.TypeSRV, uint16(0), true, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), ^uint16(0))
		f.Add(handle, handle, dns.TypeTXT, uint16(700), true, uint32(rsp.RoundRobin), uint32(1), "", uint16(rsp.TCP), ^uint16(0))
	}
	f.Fuzz(func(t *testing.T, handle, rel string, qtype, size uint16, do bool, policyType, value uint32, extra string, transport, options uint16) {
		qname, ok := wireName(rel)
		if handle == "" || !ok {
			return
		}
		h := newSizedHandler(t, fuzzOptions(options), nil, 1)
		// ask asks as the first one after the start.
		ask := func(qname string, tcp bool) (q, m *dns.Msg) {
			fake := newFake()
			if !fuzzPools(fake.space, handle, rsp.Policy{Type: rsp.PolicyType(policyType), Extra: extra}, value, rsp.TransportType(transport)) {
				return nil, nil
			}
			h.registrar, h.lookups = fake, lookup.New(1, h.pools.mostAddresses())
			q = new(dns.Msg).SetQuestion(qname, qtype)
			if size > 0 {
				q.SetEdns0(size, do)
			}
			return q, fuzzAsk(t, h, q, tcp)
		}
		q, m := ask(qname, false)
		if m == nil {
			return // one of the other pools, with another policy or transport
		}
		checkResponse(t, q, m)
		_, full := ask(qname, true)
		_, swapped := ask(swapCase(qname), false)
		checkAnswers(t, h, m, full, swapped)

		// The pool has its own name or else an encoded one.
		space := h.registrar.Space()
		name, ok := poolName(&h.zones[0], space, rsp.PoolHandle(handle))
		if !ok {
			return
		}
		if n := h.zones[0].resolve(space, name); n.kind != nodePool || n.pool != space.Pool(rsp.PoolHandle(handle)) {
			t.Errorf("pool %q is not found under %s: got %+v", handle, name, n)
		}
	})
}

// fuzzOptions returns a Corefile with the options that the bits select, for all pools in
// different ways.
func fuzzOptions(bits uint16) string {
	lines := []string{
		"answers 10", "addresses 16", "srv rank", "service http", "naptr x-3gpp-amf:x-n2\nnaptr SIP+D2T", "https alpn=h3 no-default-alpn",
		"svcb foo key7777=" + strings.Repeat("x", 200), "svcb dns alpn=dot mandatory=alpn", "dnssd http", "txt a " + strings.Repeat("b", 255), "txt c",
		"pool w* https alpn=h2", "pool * dnssd x", "pool web dnssd http", "pool declared\npool declared svcb foo", "pool *.* addresses 2\npool *b addresses all",
	}
	var b strings.Builder
	b.WriteString("rserpool pool.example.org {\n")
	for i, line := range lines {
		if bits>>i&1 != 0 {
			b.WriteString(line + "\n")
		}
	}
	return b.String() + "}"
}

// fuzzPools fills a handlespace. It reports false if the handle is one of the other pools and
// the elements do not fit it.
func fuzzPools(s *handlespace.Space, handle string, p rsp.Policy, value uint32, transport rsp.TransportType) bool {
	for _, e := range []struct {
		pool string
		id   rsp.PEID
	}{{"web", 101}, {"web", 102}, {"a.b", 103}} {
		if _, err := s.Put(rsp.PoolHandle(e.pool), fuzzElement(e.id)); err != nil {
			return false
		}
	}
	for id := rsp.PEID(1); id <= 24; id++ {
		e, v := fuzzElement(id), value*uint32(id)
		p.Weight, p.Priority, p.Load, p.LoadDegradation, p.DPF, p.Distance = v, v, v, v, v, v
		e.Policy, e.UserTransport.Type = p, transport
		if _, err := s.Put(rsp.PoolHandle(handle), e); err != nil {
			return false
		}
	}
	return true
}

// fuzzElement makes an element with addresses that end in its identifier: some with none,
// some with an IPv4-mapped one.
func fuzzElement(id rsp.PEID) *handlespace.Element {
	var addrs strings.Builder
	for i := range fuzzAddrs(id, dns.TypeA) {
		fmt.Fprintf(&addrs, "10.0.%d.%d ", i, uint32(id))
	}
	for i := range fuzzAddrs(id, dns.TypeAAAA) {
		fmt.Fprintf(&addrs, []string{"2001:db8::%x ", "::ffff:192.0.2.%d "}[i], uint32(id))
	}
	return element(id, uint16(id), addrs.String())
}

// fuzzAddrs returns how many addresses an element has.
func fuzzAddrs(id rsp.PEID, qtype uint16) int {
	if qtype == dns.TypeA {
		return int(id % 8)
	}
	return int(id % 3)
}

// swapCase returns a name with the case of its letters changed.
func swapCase(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, name)
}

// checkAnswers compares a response with that by TCP, and with that to the question in other
// letters.
func checkAnswers(t *testing.T, h *Handler, m, full, swapped *dns.Msg) {
	t.Helper()
	question := m.Question[0].String()
	if missing := len(m.Answer) < len(full.Answer); m.Truncated != (missing || full.Truncated) {
		t.Errorf("%s: TC %t, with %d of %d records; by TCP TC %t", question, m.Truncated, len(m.Answer), len(full.Answer), full.Truncated)
	}
	// Only the spelling of the owners depends on that of the question.
	if got, want := rdata(swapped), rdata(m); got != want || swapped.Rcode != m.Rcode || swapped.Truncated != m.Truncated {
		t.Errorf("%s: got\n%s, in other letters\n%s", question, want, got)
	}
	sets := make(map[string]int)
	for _, rr := range slices.Concat(m.Answer, m.Extra) {
		if id := addrID(rr); id != 0 {
			sets[fmt.Sprint(id, rr.Header().Rrtype)]++
		}
		for _, name := range namesIn(rr) {
			if !strings.HasSuffix(name, zoneZ) {
				t.Errorf("%s: the name %s is not spelled as the zone", question, name)
			}
			if n := h.zones[0].resolve(h.registrar.Space(), name); n.kind == nodeNone || n.kind == nodeEmpty {
				t.Errorf("%s: the answer names %s, which has no records: %v", question, name, rr)
			}
		}
	}
	for _, rr := range slices.Concat(m.Answer, m.Extra) {
		id := addrID(rr)
		if id == 0 {
			continue
		}
		got, want := sets[fmt.Sprint(id, rr.Header().Rrtype)], fuzzAddrs(id, rr.Header().Rrtype)
		if got != want {
			t.Errorf("%s: %d of %d addresses of element %d, TC %t", question, got, want, id, m.Truncated)
		}
	}
}

// rdata returns the records of a response without the owners of the answer.
func rdata(m *dns.Msg) string {
	m = m.Copy()
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		rr.Header().Name = "."
	}
	return lines(m.Answer) + lines(m.Ns) + lines(m.Extra)
}

// addrID returns the element to which an address belongs, 0 if rr is none of an element.
func addrID(rr dns.RR) rsp.PEID {
	switch rr := rr.(type) {
	case *dns.A:
		if rr.A[0] == 10 {
			return rsp.PEID(rr.A[3])
		}
	case *dns.AAAA:
		if id := rr.AAAA[15]; id != 0x53 {
			return rsp.PEID(id)
		}
	}
	return 0 // the name server
}

// namesIn returns the names that a record points to.
func namesIn(rr dns.RR) []string {
	switch rr := rr.(type) {
	case *dns.SRV:
		return []string{rr.Target}
	case *dns.HTTPS:
		return []string{rr.Target}
	case *dns.SVCB:
		return []string{rr.Target}
	case *dns.NAPTR:
		return []string{rr.Replacement}
	case *dns.PTR:
		return []string{rr.Ptr}
	case *dns.NS:
		return []string{rr.Ns}
	}
	return nil
}

// wireName returns rel, with its dots between labels, below the test zone as
// it would come from the wire.
func wireName(rel string) (string, bool) {
	var b strings.Builder
	for i := range len(rel) {
		if rel[i] == '.' {
			b.WriteByte('.')
		} else {
			fmt.Fprintf(&b, "\\%03d", rel[i])
		}
	}
	if rel != "" {
		b.WriteByte('.')
	}
	var buf [maxName]byte
	n, err := dns.PackDomainName(b.String()+zoneZ, buf[:], 0, nil, false)
	if err != nil {
		return "", false
	}
	name, _, err := dns.UnpackDomainName(buf[:n], 0)
	return name, err == nil
}

// poolName returns the name under which DNS has the pool, if it can have it.
func poolName(z *zone, s *handlespace.Space, h rsp.PoolHandle) (string, bool) {
	if name, ok := wireName(string(h)); ok {
		// Names with a meaning of their own may hide a pool.
		if n := z.resolve(s, name); n.pool != nil && n.kind == nodePool && n.pool.Handle() == h {
			return name, true
		}
	}
	return wireName(encodeHandle(h))
}

// fuzzAsk asks as a server does, which makes answers fit the client's buffer.
func fuzzAsk(t *testing.T, h *Handler, q *dns.Msg, tcp bool) *dns.Msg {
	rec := dnstest.NewRecorder(&test.ResponseWriter{TCP: tcp})
	return answer(t, h, request.NewScrubWriter(q, rec), rec, q)
}

func checkResponse(t *testing.T, q, m *dns.Msg) {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatalf("%s: answer does not pack: %v\n%s", q.Question[0].String(), err, m)
	}
	size := dns.MinMsgSize
	if opt := q.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
	}
	if len(wire) > size {
		t.Errorf("%s: answer has %d octets, want at most %d", q.Question[0].String(), len(wire), size)
	}
	got := new(dns.Msg)
	if err := got.Unpack(wire); err != nil {
		t.Fatalf("%s: answer does not unpack: %v", q.Question[0].String(), err)
	}
	if got.Id != q.Id || len(got.Question) != 1 || got.Question[0] != q.Question[0] {
		t.Errorf("answer to %s is for question %v", q.Question[0].String(), got.Question)
	}
	rrtype := q.Question[0].Qtype
	if rrtype == dns.TypeANY {
		rrtype = dns.TypeHINFO
	}
	for _, rr := range got.Answer {
		if rr.Header().Name != q.Question[0].Name || rr.Header().Rrtype != rrtype || rr.Header().Ttl > 5 {
			t.Errorf("answer to %s has %v", q.Question[0].String(), rr)
		}
	}
	switch got.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		negative := len(got.Answer) == 0
		if soa := len(got.Ns) == 1 && got.Ns[0].Header().Rrtype == dns.TypeSOA; negative != soa && !got.Truncated {
			t.Errorf("%s, %d answers, authority %v: want the SOA if and only if there is no answer", q.Question[0].String(), len(got.Answer), got.Ns)
		}
		if got.Rcode == dns.RcodeNameError && !negative {
			t.Errorf("%s: NXDOMAIN with answers", q.Question[0].String())
		}
	case dns.RcodeRefused:
		if qt := q.Question[0].Qtype; qt != dns.TypeAXFR && qt != dns.TypeIXFR {
			t.Errorf("%s is refused", q.Question[0].String())
		}
	case dns.RcodeFormatError:
		if q.Question[0].Qtype != dns.TypeNXNAME {
			t.Errorf("%s is called malformed", q.Question[0].String())
		}
	default:
		t.Errorf("%s: got %s", q.Question[0].String(), dns.RcodeToString[got.Rcode])
	}
}

// FuzzParse: no Corefile makes the parser panic, and every error says where it
// is.
func FuzzParse(f *testing.F) {
	for _, p := range properties() {
		f.Add(p.name + " x 1\n" + p.name)
	}
	for _, o := range poolOptionTable {
		f.Add("pool w* " + o.name + " 1\npool web " + o.name + " x 2s\npool a\\*b " + o.name)
	}
	f.Add("asap 192.0.2.1 [::1]:3863\ntimer LINGER 1s\nlimit pools 7\nnameserver a.example.org 192.0.2.1")
	f.Fuzz(func(t *testing.T, block string) {
		cfg, err := parse(caddy.NewTestController("dns", "rserpool example.org {\n"+block+"\n}"))
		switch {
		case err != nil && !strings.HasPrefix(err.Error(), "Testfile:"):
			t.Errorf("error %q does not begin with file and line", err)
		case err == nil && newPoolTable(cfg.pools).blockOptions == nil:
			t.Error("accepted configuration has no options")
		case err == nil && (len(cfg.zones) == 0 || len(cfg.options.ASAP) == 0):
			t.Errorf("accepted configuration has zones %q, asap %v", cfg.zones, cfg.options.ASAP)
		}
	})
}
