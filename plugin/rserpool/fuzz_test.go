package rserpool

import (
	"fmt"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// FuzzServeDNS asks for any name and type, with any buffer size, a handlespace
// with a pool of any handle in it. The answer is always one that a client can
// read, fits, and belongs to the question; the pool is found under its name.
func FuzzServeDNS(f *testing.F) {
	for _, handle := range []string{"web", "Compute Pool", "a..b", "a.b", "_ph-c4", "pe-00000001.web", "\x00\xff", strings.Repeat("x", 64), strings.Repeat("y", 100)} {
		f.Add(handle, handle, dns.TypeA, uint16(1232), true, uint32(rsp.RoundRobin), uint32(0), "")
		f.Add(handle, "_rserpool.pe-00000001."+handle, dns.TypeTXT, uint16(512), false, uint32(0xb0009999), uint32(0), "extra")
		f.Add(handle, "_x._tcp."+handle, dns.TypeSRV, uint16(0), false, uint32(rsp.WeightedRandom), uint32(1), "")
		f.Add(handle, encodeHandle(rsp.PoolHandle(handle)), dns.TypeSRV, uint16(600), false, uint32(rsp.LeastUsed), ^uint32(0), "")
		f.Add(handle, handle, dns.TypeSRV, uint16(0), false, uint32(rsp.LeastUsedDegradation), uint32(1<<29), "")
		f.Add(handle, handle, dns.TypeSRV, uint16(4096), true, uint32(rsp.Priority), uint32(1), "")
		f.Add(handle, handle, dns.TypeNAPTR, uint16(700), true, uint32(rsp.WeightedRandom), uint32(1), "")
		f.Add(handle, "", dns.TypeNS, uint16(0), true, uint32(rsp.RandomizedLeastUsed), ^uint32(0), "")
	}
	f.Fuzz(func(t *testing.T, handle, rel string, qtype, size uint16, do bool, policyType, value uint32, extra string) {
		if handle == "" {
			return
		}
		fake := newFake()
		put(t, fake.space, "web", element(1, 80, "192.0.2.1 2001:db8::1"))
		put(t, fake.space, "a.b", element(1, 80, "192.0.2.2"))
		for id := rsp.PEID(1); id <= 12; id++ {
			v := value * uint32(id)
			e := element(id, 80, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id), policy(rsp.Policy{
				Type: rsp.PolicyType(policyType), Weight: v, Priority: v, Load: v, LoadDegradation: v, DPF: v, Distance: v, Extra: extra,
			}))
			if _, err := fake.space.Put(rsp.PoolHandle(handle), e); err != nil {
				return // one of the other pools, with another policy
			}
		}
		h := newTestHandler(t, "rserpool pool.example.org {\n answers 10\n naptr x-3gpp-amf:x-n2\n naptr SIP+D2T\n}", fake)

		qname, ok := wireName(rel)
		if !ok {
			return
		}
		q := new(dns.Msg).SetQuestion(qname, qtype)
		if size > 0 {
			q.SetEdns0(size, do)
		}
		m := fuzzAsk(t, h, q)
		checkResponse(t, q, m)

		// The pool has its own name or else an encoded one.
		name, ok := poolName(fake.space, rsp.PoolHandle(handle))
		if !ok {
			return
		}
		q = new(dns.Msg).SetQuestion(name, dns.TypeMX)
		if m := fuzzAsk(t, h, q); m.Rcode != dns.RcodeSuccess {
			t.Errorf("pool %q is not found under %s: got\n%s", handle, name, m)
		}
	})
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
func poolName(s *handlespace.Space, h rsp.PoolHandle) (string, bool) {
	if name, ok := wireName(string(h)); ok {
		z := newZone(zoneZ, nil, nil, newPoolTable(newPoolRules()))
		// Names with a meaning of their own may hide a pool.
		if n := z.resolve(s, name); n.pool != nil && n.kind == nodePool && n.pool.Handle() == h {
			return name, true
		}
	}
	return wireName(encodeHandle(h))
}

// fuzzAsk asks as a server does, which makes answers fit the client's buffer.
func fuzzAsk(t *testing.T, h *Handler, q *dns.Msg) *dns.Msg {
	rec := dnstest.NewRecorder(&test.ResponseWriter{})
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
	for _, rr := range got.Answer {
		if rr.Header().Name != q.Question[0].Name || rr.Header().Rrtype != q.Question[0].Qtype || rr.Header().Ttl > 5 {
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
	f.Add("asap 192.0.2.1 [::1]:3863\ntimer LINGER 1s\nlimit pools 7\nnameserver a.example.org 192.0.2.1")
	f.Fuzz(func(t *testing.T, block string) {
		cfg, err := parse(caddy.NewTestController("dns", "rserpool example.org {\n"+block+"\n}"))
		switch {
		case err != nil && !strings.HasPrefix(err.Error(), "Testfile:"):
			t.Errorf("error %q does not begin with file and line", err)
		case err == nil && (len(cfg.zones) == 0 || len(cfg.options.ASAP) == 0):
			t.Errorf("accepted configuration has zones %q, asap %v", cfg.zones, cfg.options.ASAP)
		}
	})
}
