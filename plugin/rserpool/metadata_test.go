package rserpool

import (
	"context"
	"fmt"
	stdlog "log"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	_ "github.com/coredns/coredns/plugin/dns64"
	_ "github.com/coredns/coredns/plugin/dnstap"
	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	_ "github.com/coredns/coredns/plugin/rewrite"
	_ "github.com/coredns/coredns/plugin/template"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	dnstap "github.com/dnstap/golang-dnstap"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"google.golang.org/protobuf/proto"

	rsp "github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// labelNames are in the order in which tests write their values.
var labelNames = []string{"rserpool/pool", "rserpool/policy", "rserpool/guarded", "rserpool/selected", "rserpool/elements"}

// TestMetadata asks a handler, and looks at the labels before and after.
func TestMetadata(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"), element(0xabcdef03, 80, "2001:db8::3"))
	put(t, f.space, "a b\n\"", element(4, 80, "192.0.2.4", policy(rsp.Policy{Type: rsp.Random})))
	h := newTestHandler(t, "rserpool pool.example.org {\n addresses 2\n pool empty\n naptr x-test a\n}", f)
	h.traces = true
	tests := []struct {
		qname         string
		qtype, size   uint16
		before, after string
	}{
		{"web." + zoneZ, dns.TypeA, 0, "web RoundRobin no - -", "web RoundRobin no 00000001 00000001,00000002"},
		{"WEB." + zoneZ, dns.TypeAAAA, 0, "web RoundRobin no - -", "web RoundRobin no abcdef03 abcdef03"},
		{"_http._tcp.web." + zoneZ, dns.TypeSRV, 0, "web RoundRobin no - -", "web RoundRobin no 00000001 00000001,00000002,abcdef03"},
		{"web." + zoneZ, dns.TypeNAPTR, 0, "web RoundRobin no - -", "web RoundRobin no 00000001 00000001,00000002,abcdef03"}, // of the same lookup
		{"web." + zoneZ, dns.TypeMX, 0, "web RoundRobin no - -", "web RoundRobin no - -"},
		{"pe-00000002.web." + zoneZ, dns.TypeA, 0, "web RoundRobin no - -", "web RoundRobin no 00000002 00000002"},
		{"pe-00000002.web." + zoneZ, dns.TypeAAAA, 0, "web RoundRobin no - -", "web RoundRobin no - -"},
		{`a\032b\010\".` + zoneZ, dns.TypeA, 0, `a\032b\010\" Random no - -`, `a\032b\010\" Random no 00000004 00000004`},
		{"_rserpool.web." + zoneZ, dns.TypeTXT, 0, "web RoundRobin no - -", "web RoundRobin no - -"},
		{"empty." + zoneZ, dns.TypeA, 0, "- - - - -", "- - - - -"},
		{"nowhere." + zoneZ, dns.TypeA, 0, "- - - - -", "- - - - -"},
		{zoneZ, dns.TypeSOA, 0, "- - - - -", "- - - - -"},
	}
	for _, test := range tests {
		q := new(dns.Msg).SetQuestion(test.qname, test.qtype)
		if before, after, _ := labelsOf(t, h, q); before != test.before || after != test.after {
			t.Errorf("%s %s: got %q and then %q, want %q and %q", test.qname, dns.TypeToString[test.qtype], before, after, test.before, test.after)
		}
	}
	for id := range rsp.PEID(40) {
		put(t, f.space, "many", element(id, 80, fmt.Sprintf("192.0.2.%d", int(id))))
	}
	_, after, m := labelsOf(t, h, new(dns.Msg).SetQuestion("many."+zoneZ, dns.TypeSRV))
	if got := strings.Count(after, ",") + 1; !m.Truncated || got != len(m.Answer) {
		t.Errorf("a cut answer: got %d elements in %q, want those %d of the answer", got, after, len(m.Answer))
	}
	h.Next = test.NextHandler(dns.RcodeSuccess, nil)
	if before, after, _ := labelsOf(t, h, new(dns.Msg).SetQuestion("web.example.net.", dns.TypeA)); before != "- - - - -" || after != before {
		t.Errorf("a name in another zone: got %q and then %q, want no values", before, after)
	}
}

// TestMetadataAllocs: the labels of a query cost a fixed number of allocations.
func TestMetadataAllocs(t *testing.T) {
	if here.Race() {
		t.Skip("the race detector allocates too")
	}
	h := benchHandler(t, "web", 3)
	h.traces = true
	ctx := metadata.ContextWithMetadata(context.Background())
	for _, name := range []string{"web." + zoneZ, "web.example.net."} {
		state := request.Request{W: newSink(), Req: new(dns.Msg).SetQuestion(name, dns.TypeA)}
		if got := testing.AllocsPerRun(200, func() { h.Metadata(ctx, state) }); got > 9 {
			t.Errorf("%s: got %v allocations, want at most 9", name, got)
		}
	}
}

// labelsOf asks a handler, and returns the values of the labels before and after.
func labelsOf(t *testing.T, h *Handler, q *dns.Msg) (before, after string, m *dns.Msg) {
	t.Helper()
	w := dnstest.NewRecorder(&test.ResponseWriter{})
	ctx := h.Metadata(metadata.ContextWithMetadata(context.Background()), request.Request{W: w, Req: q})
	values := func() string {
		var list []string
		for _, l := range labelNames {
			f := metadata.ValueFunc(ctx, l)
			if f == nil {
				t.Fatalf("there is no label %s", l)
			}
			list = append(list, f())
		}
		return strings.Join(list, " ")
	}
	before = values()
	if _, err := h.ServeDNS(ctx, w, q); err != nil {
		t.Fatal(err)
	}
	return before, values(), w.Msg
}

// TestMetadataInLogs: the log and dnstap plugins print the labels, also behind the
// cache: then nothing is selected.
func TestMetadataInLogs(t *testing.T) {
	if testing.Short() {
		t.Skip("the dnstap plugin sends after a second")
	}
	logged := make(lineWriter, 100)
	stdlog.SetOutput(logged)
	t.Cleanup(clog.Discard)
	socket := filepath.Join(t.TempDir(), "tap")
	in, err := dnstap.NewFrameStreamSockInputFromPath(socket)
	if err != nil {
		t.Fatal(err)
	}
	taps := make(chan []byte, 8)
	go in.ReadInto(taps)

	fakes := withFakes(t)
	const format = "{/rserpool/pool} {/rserpool/policy} {/rserpool/selected} {/rserpool/elements}"
	s := startServer(t, fmt.Sprintf("pool.example.org:0 {\n bind 127.0.0.1\n metadata\n log . \"<"+format+">\"\n dnstap \"%s\" {\n extra \""+format+"\"\n }\n cache\n rserpool\n}", socket))
	for _, f := range fakes {
		put(t, f.space, "web", element(1, 80, "192.0.2.1"), element(2, 80, "192.0.2.2"))
	}
	s.query("web."+zoneZ, dns.TypeSRV)
	s.query("web."+zoneZ, dns.TypeSRV)
	s.query("nowhere."+zoneZ, dns.TypeA)
	// The server answers before it logs, so that the order is not certain.
	var extras []string
	for range 6 {
		m := new(dnstap.Dnstap)
		if err := proto.Unmarshal(await(t, "the dnstap plugin sends a question and an answer of each query", taps), m); err != nil {
			t.Fatal(err)
		}
		extras = append(extras, m.GetMessage().GetType().String()+" "+string(m.GetExtra()))
	}
	slices.Sort(extras)
	want := []string{
		"CLIENT_QUERY - - - -",
		"CLIENT_QUERY web RoundRobin - -",
		"CLIENT_QUERY web RoundRobin - -",
		"CLIENT_RESPONSE - - - -",
		"CLIENT_RESPONSE web RoundRobin - -",
		"CLIENT_RESPONSE web RoundRobin 00000001 00000001,00000002",
	}
	if diff := cmp.Diff(want, extras); diff != "" {
		t.Errorf("dnstap (-want +got):\n%s", diff)
	}
	var lines []string
	for len(lines) < 3 {
		if line := regexp.MustCompile("<.*>").FindString(await(t, "each query is logged", logged)); line != "" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	if diff := cmp.Diff([]string{"<- - - ->", "<web RoundRobin - ->", "<web RoundRobin 00000001 00000001,00000002>"}, lines); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// TestMetadataOfAliases: the labels of a query are those of its answer, also if another plugin
// brings its name into the zone, or asks on its behalf.
func TestMetadataOfAliases(t *testing.T) {
	logged := make(lineWriter, 100)
	stdlog.SetOutput(logged)
	t.Cleanup(clog.Discard)
	tests := []struct {
		name, lines string
		qname       string
		qtype       uint16
		queries     int // with that of the plugin
		want        string
	}{
		{"rewrite", "rewrite name suffix .alias.test .pool.example.org answer auto", "web.alias.test.", dns.TypeA, 1, "web RoundRobin 00000001"},
		{"rewrite and cache", "rewrite name suffix .alias.test .pool.example.org answer auto\ncache", "web.alias.test.", dns.TypeA, 1, "web RoundRobin 00000001"},
		{"rewrite out of the zone", "rewrite name web.pool.example.org web.alias.test", "web.pool.example.org.", dns.TypeA, 1, "- - -"},
		{"dns64", "dns64 {\n allow_ipv4\n }", "web.pool.example.org.", dns.TypeAAAA, 2, "web RoundRobin 00000001"},
		{"a CNAME", "template IN A alias.test {\n answer \"{{ .Name }} 60 IN CNAME web.pool.example.org.\"\n }", "web.alias.test.", dns.TypeA, 2, "web RoundRobin 00000001"},
		{"nothing", "", "web.alias.test.", dns.TypeA, 1, "- - -"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fakes := withFakes(t)
			s := startServer(t, "pool.example.org:0 alias.test:0 {\n bind 127.0.0.1\n metadata\n log . \"<{/rserpool/pool} {/rserpool/policy} {/rserpool/elements}>\"\n rserpool pool.example.org\n "+tt.lines+"\n}")
			for _, f := range fakes {
				put(t, f.space, "web", element(1, 80, "192.0.2.1"))
			}
			s.query(tt.qname, tt.qtype)
			var got string
			for n := tt.queries; n > 0; {
				if line := regexp.MustCompile("<(.*)>").FindStringSubmatch(await(t, "each query is logged", logged)); line != nil {
					got = line[1] // the client's is the last one
					n--
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// lineWriter gets the lines of a log.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	select {
	case w <- string(b):
	default: // nobody reads that many
	}
	return len(b), nil
}
