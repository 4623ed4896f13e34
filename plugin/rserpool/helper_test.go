package rserpool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/glob"
	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	core "github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// now is the time of tests whose time stands still.
var now = time.Unix(1_000_000_000, 0)

// fakeRegistrar is a registrar without network: tests write its handlespace.
type fakeRegistrar struct {
	space    *handlespace.Space
	stats    host.Stats
	notReady atomic.Bool
	answers  atomic.Bool // also while it is not ready
}

func newFake() *fakeRegistrar {
	return &fakeRegistrar{space: handlespace.New(rand.New(rand.NewPCG(1, 2)))}
}

func (f *fakeRegistrar) Ready() bool                 { return !f.notReady.Load() }
func (f *fakeRegistrar) Answers() bool               { return f.Ready() || f.answers.Load() }
func (f *fakeRegistrar) Space() *handlespace.Space   { return f.space }
func (f *fakeRegistrar) Stats() host.Stats           { return f.stats }
func (f *fakeRegistrar) ID() rsp.ServerID            { return 7 }
func (f *fakeRegistrar) ENRPAddrs() []netip.AddrPort { return nil }
func (f *fakeRegistrar) LocalAddrs() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:3863")}
}

func (f *fakeRegistrar) CheckTrust(host.Trust) error { return nil }
func (f *fakeRegistrar) SetTrust(host.Trust) error   { return nil }
func (f *fakeRegistrar) LookAtTrust()                {}

func (f *fakeRegistrar) SetRules(core.PoolRules) {}

func (f *fakeRegistrar) Remove(_ context.Context, h rsp.PoolHandle, id rsp.PEID) (core.Removed, error) {
	if h == "none" {
		return core.Removed{Result: core.RemovalUnknown}, nil
	}
	return core.Removed{Result: core.RemovalElsewhere, Home: rsp.ServerID(id), At: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:9901")}}, nil
}

func (f *fakeRegistrar) Close() error { return nil }

// fakes are registrars without network, by where they serve.
type fakes map[string]*fakeRegistrar

func newFakes() (fakes, *registrars.Set) {
	f := fakes{}
	return f, registrars.New(func(c host.Config) (registrars.Registrar, error) {
		r := newFake()
		f[fmt.Sprint(c.ASAP)] = r
		return r, nil
	})
}

// withFakes has the servers of a test use registrars without network, and free ports.
func withFakes(t *testing.T) fakes {
	t.Helper()
	f, rs := newFakes()
	was, port := process, dnsserver.Port
	process, dnsserver.Port = rs, "0"
	t.Cleanup(func() { process, dnsserver.Port = was, port })
	return f
}

// element makes a round robin element on TCP; change adapts it.
func element(id rsp.PEID, port uint16, addrs string, change ...func(*handlespace.Element)) *handlespace.Element {
	e := &handlespace.Element{PoolElement: rsp.PoolElement{
		ID:            id,
		Home:          0x0000cafe,
		Life:          -1,
		UserTransport: rsp.Transport{Type: rsp.TCP, Port: port},
		Policy:        rsp.Policy{Type: rsp.RoundRobin},
	}}
	for _, a := range strings.Fields(addrs) {
		e.UserTransport.Addrs = append(e.UserTransport.Addrs, netip.MustParseAddr(a))
	}
	for _, c := range change {
		c(e)
	}
	return e
}

func over(t rsp.TransportType) func(*handlespace.Element) {
	return func(e *handlespace.Element) { e.UserTransport.Type = t }
}

func policy(p rsp.Policy) func(*handlespace.Element) {
	return func(e *handlespace.Element) { e.Policy = p }
}

// expires gives an element so much of its registration life to go.
func expires(left time.Duration) func(*handlespace.Element) {
	return func(e *handlespace.Element) { e.Expires, e.Life = now.Add(left), 60 }
}

func put(t testing.TB, s *handlespace.Space, pool string, elements ...*handlespace.Element) {
	t.Helper()
	for _, e := range elements {
		if _, err := s.Put(rsp.PoolHandle(pool), e); err != nil {
			t.Fatalf("pool %q, element %v: %v", pool, e.ID, err)
		}
	}
}

// newTestHandler makes the handler of a directive, with time standing still.
func newTestHandler(t testing.TB, corefile string, r registrar) *Handler {
	t.Helper()
	return newSizedHandler(t, corefile, r, lookup.Buckets)
}

// newSizedHandler is newTestHandler with a memory of lookups of that size.
func newSizedHandler(t testing.TB, corefile string, r registrar, buckets int) *Handler {
	t.Helper()
	cfg, err := parse(caddy.NewTestController("dns", corefile))
	if err != nil {
		t.Fatal(err)
	}
	h := newHandler(cfg, []string{"192.0.2.53", "2001:db8::53"}, buckets)
	h.registrar = r
	t.Cleanup(h.indexAddrs())
	h.now = func() time.Time { return now }
	return h
}

// ask has the handler answer one query over UDP.
func ask(t testing.TB, h *Handler, name string, qtype uint16) *dns.Msg {
	t.Helper()
	return askFrom(t, h, &test.ResponseWriter{}, new(dns.Msg).SetQuestion(name, qtype))
}

func askFrom(t testing.TB, h plugin.Handler, w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
	t.Helper()
	rec := dnstest.NewRecorder(w)
	return answer(t, h, rec, rec, q)
}

// answer has the handler answer to w, which hands the answer to rec.
func answer(t testing.TB, h plugin.Handler, w dns.ResponseWriter, rec *dnstest.Recorder, q *dns.Msg) *dns.Msg {
	t.Helper()
	rcode, err := h.ServeDNS(context.Background(), w, q)
	if err != nil {
		t.Fatalf("%s: %v", q.Question[0].String(), err)
	}
	if rec.Msg == nil {
		m := new(dns.Msg).SetReply(q)
		m.Rcode = rcode
		return m
	}
	return rec.Msg
}

// lines returns records in presentation form, one a line, tabs as blanks.
func lines(rrs []dns.RR) string {
	var b strings.Builder
	for _, rr := range rrs {
		b.WriteString(strings.ReplaceAll(rr.String(), "\t", " "))
		b.WriteByte('\n')
	}
	return b.String()
}

func addrs(s ...string) (as []netip.Addr) {
	for _, a := range s {
		as = append(as, netip.MustParseAddr(a))
	}
	return as
}

func addrPorts(s ...string) (as []netip.AddrPort) {
	for _, a := range s {
		as = append(as, netip.MustParseAddrPort(a))
	}
	return as
}

// exported lets cmp.Diff look into this package's types.
var exported = cmp.Options{
	cmp.AllowUnexported(config{}, poolRules{}, poolRule{}, glob.Matcher{}, poolOptions{}, answerOptions{}, binding{}, nameserver{}, host.Config{}, host.Trust{}),
	cmpopts.IgnoreFields(poolRule{}, "lines"),
	cmp.AllowUnexported(inspectors{}),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}
