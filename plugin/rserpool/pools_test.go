package rserpool

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	core "github.com/rserpool/coredns-rserpool/registrar"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// optionText is what a handler does for a pool.
func optionText(h *Handler, pool string) string {
	f := newFake()
	if _, err := f.space.Put(rsp.PoolHandle(pool), element(1, 80, "192.0.2.1")); err != nil {
		panic(err)
	}
	o := h.optionsOf(f.space.Pool(rsp.PoolHandle(pool)))
	return fmt.Sprintf("ttl %d answers %d addresses %d srv %d service %s", o.ttl, o.answers, o.addresses, o.srv, strings.Join(o.services, " "))
}

func TestParsePools(t *testing.T) {
	const usual = "ttl 5 answers 100 addresses 1 srv 0 service "
	tests := []struct {
		name     string
		corefile string
		want     map[string]string // by pool handle
	}{
		{"no option", "pool web", map[string]string{"web": usual}},
		{"each option", "pool web ttl 1\npool web answers 2\npool web addresses 3\npool web srv rank\npool web service http", map[string]string{
			"web": "ttl 1 answers 2 addresses 3 srv 1 service _http", "www": usual,
		}},
		{"block", "pool web ttl 1\nanswers all", map[string]string{"web": "ttl 1 answers 2000 addresses 1 srv 0 service ", "www": "ttl 5 answers 2000 addresses 1 srv 0 service "}},
		{"name before globs", "pool web ttl 1\npool w* ttl 2\npool * ttl 3", map[string]string{
			"web": "ttl 1 answers 100 addresses 1 srv 0 service ", "www": "ttl 3 answers 100 addresses 1 srv 0 service ", "x": "ttl 3 answers 100 addresses 1 srv 0 service ",
		}},
		{"option by option", "pool * ttl 3\npool w* answers 2\npool web srv rank\nttl 9", map[string]string{
			"web": "ttl 3 answers 2 addresses 1 srv 1 service ", "www": "ttl 3 answers 2 addresses 1 srv 0 service ",
		}},
		{"lines of one glob add up", "service a\npool w* service b\npool * service c\npool w* service d", map[string]string{
			"web": "ttl 5 answers 100 addresses 1 srv 0 service _c", "x": "ttl 5 answers 100 addresses 1 srv 0 service _c",
		}},
		{"lines of one name add up", "service a\npool * service c\npool web service b\npool WEB service d e", map[string]string{
			"web": "ttl 5 answers 100 addresses 1 srv 0 service _b _d _e", "x": "ttl 5 answers 100 addresses 1 srv 0 service _c",
		}},
		{"case", "pool WEB ttl 1\npool *.EU ttl 2", map[string]string{
			"Web": "ttl 1 answers 100 addresses 1 srv 0 service ", "a.b.Eu": "ttl 2 answers 100 addresses 1 srv 0 service ",
		}},
		{"escapes", `pool Compute\032Pool ttl 1` + "\n" + `pool a\* ttl 2` + "\n" + `pool b\042? ttl 3`, map[string]string{
			"compute pool": "ttl 1 answers 100 addresses 1 srv 0 service ", "a*": "ttl 2 answers 100 addresses 1 srv 0 service ", "ab": usual,
			"b*x": "ttl 3 answers 100 addresses 1 srv 0 service ", "bxx": usual,
		}},
		{"encoded name", "pool " + encodeHandle("a..B") + " ttl 1", map[string]string{"a..B": "ttl 1 answers 100 addresses 1 srv 0 service "}},
		{"handles that are no names", "pool a* ttl 1", map[string]string{"a..b.": "ttl 1 answers 100 addresses 1 srv 0 service ", strings.Repeat("A", 1000): "ttl 1 answers 100 addresses 1 srv 0 service "}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHandler(t, "rserpool pool.example.org {\n"+tt.corefile+"\n}", newFake())
			for pool, want := range tt.want {
				for range 2 { // the second time from memory
					if got := optionText(h, pool); got != want {
						t.Errorf("pool %q: got %s\nwant %s", pool, got, want)
					}
				}
			}
		})
	}
}

func TestParsePoolErrors(t *testing.T) {
	tests := []struct {
		name     string
		corefile string
		want     string
	}{
		{"nothing", "pool", "pool: got 0 arguments, want: pool GLOB [OPTION VALUE...]"},
		{"empty", `pool ""`, `pool: "" is empty; write a pool as its name without the zone, such as web,`},
		{"empty label", "pool a..b", `pool: "a..b" has an empty label`},
		{"a dot first", "pool .a", `pool: ".a" has an empty label`},
		{"a dot last", "pool web.pool.example.org.", `pool: "web.pool.example.org." ends in a dot`},
		{"a dot last, glob", "pool *.", `ends in a dot`},
		{"a dot in a label", `pool a\.b`, `has a dot within a label`},
		{"a dot in a label, in digits", `pool a\046b`, `has a dot within a label`},
		{"bad escape", `pool a\1`, `has an escape that is not \DDD`},
		{"long label", "pool " + strings.Repeat("a", 64), "has a label of more than 63 octets"},
		{"long name", "pool " + strings.Repeat("a.", 126) + "aa", "is too long"},
		{"long glob", "pool " + strings.Repeat("?", 256), "is too long"},
		{"bad encoded name", "pool _ph-c4n2", "is not the _ph- form of a handle"},
		{"unknown option", "pool web tttl 3", "Testfile:2 - Error during parsing: pool: web: a pool has no option 'tttl'; its options are: ttl, answers,"},
		{"an option of the registrar", "pool web asap 192.0.2.1", "pool: web: a pool has no option 'asap'"},
		{"no value", "pool web ttl", "pool: web: ttl: got 0 arguments, want: ttl SECONDS"},
		{"two values", "pool web ttl 3 4", "pool: web: ttl: got 2 arguments, want: ttl SECONDS"},
		{"bad value", "pool web\npool web ttl x", `Testfile:3 - Error during parsing: pool: web: ttl: "x" is not a number from 0 to 3600`},
		{"twice", "pool w* ttl 3\npool * ttl 4\npool w* ttl 5", "Testfile:4 - Error during parsing: pool: w*: ttl is set twice (the lines of this pool begin at Testfile:2)"},
		{"guard, number", "pool web guard 50", `pool: web: guard: "50" is not a share of the pool's elements, such as 50%, and not off`},
		{"guard, zero", "pool web guard 0%", `guard: "0%" is not a share`},
		{"guard, more than all", "pool web guard 101%", `guard: "101%" is not a share`},
		{"guard, twice", "pool web guard off\npool web guard 50%", "pool: web: guard is set twice"},
		{"policy", "pool web policy fair", `pool: web: policy: unknown policy "fair": want one of RoundRobin,`},
		{"policy, reserved", "pool web policy 0x40000000", "is reserved"},
		{"transport", "pool web transport kernel", `pool: web: transport: "kernel" is not a transport of pool elements; use tcp, udp, sctp, dccp or udplite`},
		{"timer", "pool web timer LINGER 1s", "pool: web: timer: a pool has no timer 'LINGER', only KEEP-ALIVE-INTERVAL, such as: timer KEEP-ALIVE-INTERVAL 1s"},
		{"timer, range", "pool web timer KEEP-ALIVE-INTERVAL 0s", `timer: KEEP-ALIVE-INTERVAL: "0s" is not a duration from 1ms to 24h0m0s`},
		{"metrics, value", "pool web metrics on", "pool: web: metrics: got 1 arguments, want: metrics"},
		{"policy for all", "policy Random", "unknown option 'policy': it can be set only for pools, such as: pool web policy Random, or for all: pool * policy Random"},
		{"metrics for all", "metrics", "unknown option 'metrics': it can be set only for pools, such as: pool web metrics, or for all: pool * metrics"},
		{"with the zone", "pool Web.Pool.example.org ttl 1", `pool: "Web.Pool.example.org" ends in the zone; write the pool as its name without the zone: Web.Pool`},
		{"with the zone, glob", "pool *.pool.example.org ttl 1", `write the pool as its name without the zone: *.pool`},
		{"service twice", "pool web service a\npool web service A", "pool: web: service: _a is listed twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseBlock(tt.corefile); !strings.Contains(errText(err), tt.want) || !strings.HasPrefix(errText(err), "Testfile:") {
				t.Errorf("%s: got error\n%v\nwant one with\n%s", tt.corefile, err, tt.want)
			}
		})
	}
	t.Run("many globs", func(t *testing.T) {
		var all strings.Builder
		for i := range maxGlobs {
			fmt.Fprintf(&all, "pool *%d\npool name%d\n", i, i)
		}
		if _, err := parseBlock(all.String() + "pool *0 ttl 3"); err != nil {
			t.Errorf("%d globs: %v", maxGlobs, err)
		}
		if _, err := parseBlock(all.String() + "pool a* ttl 3"); !strings.Contains(errText(err), "a block can have 64 patterns") {
			t.Errorf("one glob more: got error %v", err)
		}
	})
}

// TestPoolOptionsInAnswers: an answer has the options of its pool, under each name of the
// pool.
func TestPoolOptionsInAnswers(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"))
	put(t, f.space, "www", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"))
	h := newTestHandler(t, "rserpool pool.example.org {\n pool we? ttl 7\n pool web addresses 2\n pool web srv rank\n pool web service http\n service smtp\n}", f)
	tests := []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"web.", dns.TypeA, "web.pool.example.org. 7 IN A 192.0.2.1\nweb.pool.example.org. 7 IN A 192.0.2.2\n"},
		{"WEB.", dns.TypeA, "WEB.pool.example.org. 7 IN A 192.0.2.2\nWEB.pool.example.org. 7 IN A 192.0.2.1\n"},
		{"www.", dns.TypeA, "www.pool.example.org. 5 IN A 192.0.2.1\n"},
		{encodeHandle("web") + ".", dns.TypeA, encodeHandle("web") + ".pool.example.org. 7 IN A 192.0.2.1\n" + encodeHandle("web") + ".pool.example.org. 7 IN A 192.0.2.2\n"},
		{"pe-00000001.web.", dns.TypeA, "pe-00000001.web.pool.example.org. 7 IN A 192.0.2.1\n"},
		{"_rserpool.web.", dns.TypeTXT, `_rserpool.web.pool.example.org. 7 IN TXT "policy=RoundRobin" "elements=2" "transport=tcp" "suspects=0" "guarded=no"` + "\n"},
		{"_http._tcp.web.", dns.TypeSRV, "_http._tcp.web.pool.example.org. 7 IN SRV 0 0 80 pe-00000002.web.pool.example.org.\n_http._tcp.web.pool.example.org. 7 IN SRV 1 0 80 pe-00000001.web.pool.example.org.\n"},
		{"_smtp._tcp.web.", dns.TypeSRV, ""},
		{"_http._tcp.www.", dns.TypeSRV, ""},
	}
	for i, tt := range tests {
		// A client of its own each, so that they share no selection.
		m := askFrom(t, h, fromClient(i, false), new(dns.Msg).SetQuestion(tt.name+zoneZ, tt.qtype))
		if got := lines(m.Answer); got != tt.want {
			t.Errorf("%s %s: got\n%swant\n%s", tt.name, dns.TypeToString[tt.qtype], got, tt.want)
		}
	}
	m := ask(t, h, "web."+zoneZ, dns.TypeAAAA)
	if soa := m.Ns[0].(*dns.SOA); soa.Minttl != 7 || soa.Hdr.Ttl != 7 {
		t.Errorf("NODATA at a pool with ttl 7 has %v", soa)
	}
}

// TestPoolOptionsAllocate: the options of a pool cost no memory, whatever its rules and its
// handle's case.
func TestPoolOptionsAllocate(t *testing.T) {
	cfg, err := parse(caddy.NewTestController("dns", "rserpool pool.example.org {\n pool we? ttl 7\n pool web ttl 8\n}"))
	if err != nil {
		t.Fatal(err)
	}
	table := newPoolTable(cfg.pools)
	for pool, want := range map[rsp.PoolHandle]uint32{"web": 8, "WEB": 8, "wet": 7, "other": 5} {
		if got := testing.AllocsPerRun(100, func() {
			if o := table.of(pool); o.ttl != want {
				t.Fatalf("pool %s: got ttl %d, want %d", pool, o.ttl, want)
			}
		}); got != 0 {
			t.Errorf("pool %s: got %v allocations", pool, got)
		}
	}
}

// TestDeclaredPools: while a declared pool is empty, its names exist without data.
func TestDeclaredPools(t *testing.T) {
	const corefile = "rserpool pool.example.org {\n pool web ttl 2\n pool web service http\n pool Set001.region48.amfset\n pool _ph-c4n2s\n}" // a..
	type want struct {
		rcode int
		ttl   uint32 // of a negative answer; 0 if there is data
		text  string
	}
	data, nodata, nxdomain := want{}, want{ttl: 5}, want{dns.RcodeNameError, 5, ""}
	tests := []struct {
		name  string
		qtype uint16
		empty want
		// filled is the answer if the pools have an element each; WEB and set001 do.
		filled want
	}{
		{"web.", dns.TypeA, want{ttl: 2}, data},
		{"WeB.", dns.TypeSRV, want{ttl: 2}, data},
		{"_http._tcp.web.", dns.TypeSRV, want{ttl: 2}, data},
		{"_http._udp.web.", dns.TypeSRV, want{ttl: 2}, want{dns.RcodeNameError, 2, ""}},
		{"_smtp._tcp.web.", dns.TypeSRV, want{dns.RcodeNameError, 2, ""}, want{dns.RcodeNameError, 2, ""}},
		{"_tcp.web.", dns.TypeSRV, want{ttl: 2}, want{ttl: 2}},
		{"pe-00000001.web.", dns.TypeA, want{dns.RcodeNameError, 2, ""}, data},
		{"pe-00000002.web.", dns.TypeA, want{dns.RcodeNameError, 2, ""}, want{dns.RcodeNameError, 2, ""}},
		{"x.y.web.", dns.TypeA, want{dns.RcodeNameError, 2, ""}, want{dns.RcodeNameError, 2, ""}},
		{"_rserpool.web.", dns.TypeTXT, want{text: `"elements=0"`}, want{text: `"policy=RoundRobin" "elements=1" "transport=tcp" "suspects=0" "guarded=no"`}},
		{"_rserpool.web.", dns.TypeA, want{ttl: 2}, want{ttl: 2}},
		{encodeHandle("web") + ".", dns.TypeA, want{ttl: 2}, want{ttl: 2}}, // the pool is WEB
		{encodeHandle("WEB") + ".", dns.TypeA, want{ttl: 2}, data},
		{"_x._tcp." + encodeHandle("a..") + ".", dns.TypeSRV, nodata, data},
		{"set001.region48.amfset.", dns.TypeA, nodata, data},
		{"REGION48.amfset.", dns.TypeA, nodata, nodata},
		{"amfset.", dns.TypeA, nodata, nodata},
		{"region49.amfset.", dns.TypeA, nxdomain, nxdomain},
		{"www.", dns.TypeA, nxdomain, nxdomain},
		{"_rserpool.", dns.TypeTXT, want{text: `"pools=0" "elements=0"`}, want{text: `"pools=3" "elements=3" "suspects=0" "pools_guarded=0" "registrar_guarded=no"`}},
	}
	f, empty := newFake(), newFake()
	for _, pool := range []string{"WEB", "set001.region48.amfset", "a.."} {
		put(t, f.space, pool, element(1, 80, "192.0.2.1"))
	}
	check := func(h *Handler, qname string, qtype uint16, want want) {
		t.Helper()
		m := ask(t, h, qname+zoneZ, qtype)
		var got struct {
			rcode int
			ttl   uint32
		}
		got.rcode = m.Rcode
		if len(m.Answer) == 0 {
			got.ttl = m.Ns[0].(*dns.SOA).Minttl
		}
		if got.rcode != want.rcode || got.ttl != want.ttl || !strings.Contains(lines(m.Answer), want.text) {
			t.Errorf("%s %s: got %+v\n%s\nwant %+v", qname, dns.TypeToString[qtype], got, m, want)
		}
	}
	for _, tt := range tests {
		check(newTestHandler(t, corefile, empty), tt.name, tt.qtype, tt.empty)
		check(newTestHandler(t, corefile, f), tt.name, tt.qtype, tt.filled)
	}
	if h := newTestHandler(t, "rserpool pool.example.org {\n pool *.eu ttl 1\n}", empty); ask(t, h, "x.EU."+zoneZ, dns.TypeA).Ns[0].(*dns.SOA).Minttl != 1 {
		t.Error("a name that would be a pool with ttl 1 has another negative TTL")
	}
}

// TestDeclaredANY: the answer to ANY does not deny the texts of an empty pool (RFC 8482, Section 4.2).
func TestDeclaredANY(t *testing.T) {
	h := newTestHandler(t, "rserpool pool.example.org {\n pool web txt a\n pool bare\n}", newFake())
	for name, want := range map[string]int{"web.": 1, "bare.": 0, "_http._tcp.web.": 0} {
		for _, qtype := range []uint16{dns.TypeANY, dns.TypeHINFO} {
			m := ask(t, h, name+zoneZ, qtype)
			if m.Rcode != dns.RcodeSuccess || len(m.Answer) != want || want > 0 && m.Answer[0].Header().Rrtype != dns.TypeHINFO {
				t.Errorf("%s of %s: got %v, want %d HINFO records", dns.TypeToString[qtype], name, m, want)
			}
		}
	}
}

// TestPoolRules: what the lines say to the registrar, in one spelling.
func TestPoolRules(t *testing.T) {
	const corefile = `pool Web policy lu
		pool *.eu timer keep-alive-interval 1s
		pool web transport TCP
		pool web ttl 7
		pool a*\042 metrics
		pool other ttl 7
		pool * policy Random
		guard off
		pool *.eu guard 0.5
		pool web guard 100%
		pool a\* answers 1`
	cfg, err := parseBlock(corefile)
	if err != nil {
		t.Fatal(err)
	}
	p := newPoolTable(cfg.pools).forRegistrar()
	want := []string{
		"guard off", "pool web guard 100%", "pool web policy LeastUsed", "pool web transport tcp", "pool *.eu guard 50%", "pool *.eu timer KEEP-ALIVE-INTERVAL 1s", `pool a*\* metrics`, "pool * policy Random", `pool a\*`,
	}
	if diff := cmp.Diff(want, p.Lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	for pool, want := range map[rsp.PoolHandle]core.PoolRule{
		"WEB":  {Policy: rsp.LeastUsed, Transport: rsp.TCP},
		"a.eu": {Policy: rsp.Random, KeepAliveInterval: time.Second, Guard: core.Guard{Share: 0.5}},
		"x":    {Policy: rsp.Random, Guard: core.Guard{Off: true}},
	} {
		if got := p.Rules(pool); got != want {
			t.Errorf("pool %s: got %+v, want %+v", pool, got, want)
		}
	}
	for pool, want := range map[rsp.PoolHandle]string{"web": "", "a*": `a*`, "A b*": `A\ b*`, "a..*": encodeHandle("a..*")} {
		if got := p.Listed(pool); got != want {
			t.Errorf("pool %s: got label %q, want %q", pool, got, want)
		}
	}
	if len(p.Declared) != 1 || p.Declared[0] != "a*" {
		t.Errorf("got declared pools with metrics %q, want a*", p.Declared)
	}
	if p := newPoolTable(newPoolRules()).forRegistrar(); p.Rules != nil || p.Lines != nil || p.Listed != nil {
		t.Errorf("without lines: got %+v", p)
	}
}

// TestPoolLabels: no two handles have one label.
func TestPoolLabels(t *testing.T) {
	seen := map[string]rsp.PoolHandle{}
	for _, h := range []rsp.PoolHandle{"a", "A", "a.b", "a..b", rsp.PoolHandle(encodeHandle("a..b")), rsp.PoolHandle(encodeHandle("a")), "\xff", `\255`, "a b", `a\032b`} {
		label := labelOf(h)
		if other, ok := seen[label]; ok || strings.ContainsFunc(label, func(r rune) bool { return r > '~' || r < ' ' }) {
			t.Errorf("pool %q has the label %q, as %q, or it is no text", h, label, other)
		}
		seen[label] = h
	}
}

// TestDeclaredText: an empty pool tells what the operator has said about it, and has only the
// names of its transport.
func TestDeclaredText(t *testing.T) {
	h := newTestHandler(t, "rserpool pool.example.org {\n pool web policy LeastUsed\n pool web transport tcp\n}", newFake())
	m := ask(t, h, "_rserpool.web."+zoneZ, dns.TypeTXT)
	if want := `"policy=LeastUsed" "elements=0" "transport=tcp"`; !strings.Contains(lines(m.Answer), want) {
		t.Errorf("got %s, want %s", lines(m.Answer), want)
	}
	for name, want := range map[string]int{"_x._tcp.web.": dns.RcodeSuccess, "_tcp.web.": dns.RcodeSuccess, "_x._udp.web.": dns.RcodeNameError, "_udp.web.": dns.RcodeNameError} {
		if m := ask(t, h, name+zoneZ, dns.TypeSRV); m.Rcode != want {
			t.Errorf("%s: got %s, want %s", name, dns.RcodeToString[m.Rcode], dns.RcodeToString[want])
		}
	}
}

// TestReadmePoolOptions: the manual has the options that only pools have.
func TestReadmePoolOptions(t *testing.T) {
	for _, o := range poolOptionTable {
		if item := "\n* `" + strings.TrimSpace("pool GLOB "+o.name+" "+o.args) + "` "; o.poolsOnly && !strings.Contains(readme(t), item) {
			t.Errorf("no item %q", item)
		}
	}
}

// TestAllAddresses: with addresses all, an answer has the pool as a set, as an SRV answer
// has it: once in each lookup the policy selects the first one, and a part of a large pool
// does not change.
func TestAllAddresses(t *testing.T) {
	f := newFake()
	for id := 1; id <= 60; id++ {
		put(t, f.space, "web", element(rsp.PEID(id), 80, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id)))
		put(t, f.space, "twice", element(rsp.PEID(id), uint16(id), fmt.Sprintf("192.0.2.%d", id%30)))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n pool * addresses all\n pool few addresses all\n}", f)
	query := func(client int, tcp bool, pool string, qtype, size uint16) (addrs []string, tc bool) {
		q := new(dns.Msg).SetQuestion(pool+"."+zoneZ, qtype)
		if size > 0 {
			q.SetEdns0(size, false)
		}
		m := askFrom(t, h, fromClient(client, tcp), q)
		if wire, err := m.Pack(); err != nil || !tcp && len(wire) > int(max(size, 512)) {
			t.Fatalf("got %d octets, %v", len(wire), err)
		}
		for _, rr := range m.Answer {
			addrs = append(addrs, rr.String()[strings.LastIndexByte(rr.String(), '\t')+1:])
		}
		return addrs, m.Truncated
	}
	for i := range 3 {
		v4, tc4 := query(i, true, "web", dns.TypeA, 0)
		v6, tc6 := query(i, true, "web", dns.TypeAAAA, 0)
		if len(v4) != 60 || len(v6) != 60 || tc4 || tc6 || v4[0] != fmt.Sprintf("192.0.2.%d", i+1) || v6[0] != fmt.Sprintf("2001:db8::%d", i+1) {
			t.Errorf("lookup %d: got %d and %d addresses, TC %t %t, first %s and %s; want all 60, and element %d first", i, len(v4), len(v6), tc4, tc6, v4[0], v6[0], i+1)
		}
	}
	first, tc := query(10, false, "web", dns.TypeA, 0)
	again, _ := query(10, false, "web", dns.TypeA, 0)
	if len(first) != 29 || !tc || !slices.Equal(sorted(first), sorted(again)) || slices.Equal(first, again) {
		t.Errorf("by UDP without EDNS: got %d addresses, TC %t, then %d; want the same 29 in another order, and TC", len(first), tc, len(again))
	}
	if got, _ := query(11, true, "twice", dns.TypeA, 0); len(got) != 30 || len(slices.Compact(sorted(got))) != 30 {
		t.Errorf("elements on 30 hosts: got %d addresses, %d different ones", len(got), len(slices.Compact(sorted(got))))
	}
}
