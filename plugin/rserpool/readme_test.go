package rserpool

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	"github.com/rserpool/coredns-rserpool/test/here"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestReadmeHeadings(t *testing.T) {
	var got []string
	for line := range strings.Lines(readme(t)) {
		if h, ok := strings.CutPrefix(line, "## "); ok {
			got = append(got, strings.TrimSpace(h))
		}
	}
	at := -1
	for _, want := range []string{"Name", "Description", "Syntax", "Metrics", "Ready", "Examples", "Bugs", "See Also"} {
		i := slices.Index(got, want)
		if i <= at {
			t.Errorf("heading %q is missing or out of order in %q", want, got)
		}
		at = i
	}
	if !strings.Contains(readme(t), "\n*rserpool* - ") {
		t.Error("no line of the form *rserpool* - what it does")
	}
}

// TestReadmeOptions: the manual has exactly the options that the parser has.
func TestReadmeOptions(t *testing.T) {
	text := readme(t)
	_, syntax, _ := strings.Cut(text, "## Syntax")
	_, syntax, _ = strings.Cut(syntax, "{\n")
	syntax, _, _ = strings.Cut(syntax, "}\n")
	var want []string
	for _, p := range properties() {
		want = append(want, strings.TrimSpace(p.name+" "+p.args))
		if !strings.Contains(text, "\n* `"+p.name+"` ") {
			t.Errorf("option %s has no item", p.name)
		}
	}
	var got []string
	for line := range strings.Lines(syntax) {
		got = append(got, strings.TrimSpace(line))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("section Syntax (-parser +README):\n%s", diff)
	}
}

// describe returns the help texts of all metrics by how the manual writes the name.
func describe(t *testing.T) map[string]string {
	t.Helper()
	ch := make(chan *prometheus.Desc, 1000)
	for _, c := range []prometheus.Collector{answersCount, selectionsCount, shortenedCount, cutNoEDNSCount, registrars.Collector{Set: process}} {
		c.Describe(ch)
	}
	close(ch)
	all := map[string]string{}
	form := regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`)
	for d := range ch {
		m := form.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		all[m[1]+"{"+strings.ReplaceAll(m[3], ",", ", ")+"}"] = m[2]
	}
	return all
}

// TestReadmeMetrics: the manual has exactly the metrics that are registered, with
// their help texts.
func TestReadmeMetrics(t *testing.T) {
	text := readme(t)
	folded := strings.ReplaceAll(text, "\n  ", " ")
	described := describe(t)
	for name, help := range described {
		if item := "\n* `" + name + "` - " + help; !strings.Contains(folded, item) {
			t.Errorf("no item %q", item)
		}
	}
	if got := strings.Count(text, "\n* `coredns_rserpool_"); got != len(described) {
		t.Errorf("the manual has %d metrics, want %d", got, len(described))
	}
	rules := regexp.MustCompile("(?ms)^~~~ yaml\n(.*?)^~~~$").FindString(text)
	used := regexp.MustCompile(`coredns_rserpool_\w+`).FindAllString(rules, -1)
	if len(used) == 0 {
		t.Error("the manual has no rules for alerts")
	}
	for _, name := range used {
		if !strings.Contains(text, "\n* `"+name+"{") {
			t.Errorf("a rule for alerts has %s, which is no metric", name)
		}
	}
	for k := range answerKinds {
		if !strings.Contains(text, "`"+k.String()+"`") {
			t.Errorf("kind %s is not in the manual", k)
		}
	}
}

// TestMetricNames: what Prometheus's own linter says, and no name that
// OpenMetrics would have twice.
func TestMetricNames(t *testing.T) {
	const addr = "127.0.0.1:3863"
	_, rs := newFakes()
	inst := rs.NewInstance()
	o := registrars.DefaultOptions()
	o.ASAP = addrPorts(addr)
	if err := inst.Add(registrars.Block{Options: o, Serve: func(registrars.Registrar) {}}); err != nil {
		t.Fatal(err)
	}
	if err := inst.Startup(); err != nil {
		t.Fatal(err)
	}
	defer inst.FinalShutdown()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(registrars.Collector{Set: rs}, answersCount, selectionsCount, shortenedCount, cutNoEDNSCount)
	newServerCounters("dns://:53")
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) < 30 {
		t.Errorf("got %d metrics, want those of the registrar, too", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	seen := map[string]bool{}
	for _, f := range families {
		base := strings.TrimSuffix(f.GetName(), "_total")
		if seen[base] {
			t.Errorf("%s is there with and without _total", base)
		}
		seen[base] = true
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "registrar" && l.GetValue() != addr {
					t.Errorf("%s: registrar is %q, want %q", f.GetName(), l.GetValue(), addr)
				}
			}
		}
	}
}

// TestReadmeCorefiles starts a server from each example, with registrars that
// need no network.
func TestReadmeCorefiles(t *testing.T) {
	examples := regexp.MustCompile("(?ms)^~~~ corefile\n(.*?)^~~~$").FindAllStringSubmatch(readme(t), -1)
	if len(examples) < 4 {
		t.Fatalf("got %d examples, want some more", len(examples))
	}
	example, err := os.ReadFile("../../Corefile.example")
	if err != nil {
		t.Fatal(err)
	}
	examples = append(examples, []string{"", string(example)})

	fakes, rs := newFakes()
	defer func(p *registrars.Set, port string) { process, dnsserver.Port = p, port }(process, dnsserver.Port)
	process, dnsserver.Port = rs, "0"
	for _, e := range examples {
		// Ports that are taken say nothing about the example.
		text := regexp.MustCompile(`localhost:\d+|:1053`).ReplaceAllStringFunc(e[1], func(s string) string {
			if s == ":1053" {
				return ":0"
			}
			return "localhost:0"
		})
		text = strings.ReplaceAll(text, "    ready\n", "    ready localhost:0\n")
		inst, err := caddy.Start(corefile(text))
		if err != nil {
			t.Errorf("%v from\n%s", err, e[1])
			continue
		}
		for _, err := range inst.ShutdownCallbacks() {
			t.Errorf("shutdown: %v", err)
		}
		inst.Stop()
	}
	if len(fakes) < 4 {
		t.Errorf("got registrars at %d places, want more", len(fakes))
	}
}

// TestExampleState: Corefile.example has a state and a control socket in a home directory that is empty, and its
// comment names the socket.
func TestExampleState(t *testing.T) {
	example, err := os.ReadFile("../../Corefile.example")
	if err != nil {
		t.Fatal(err)
	}
	home := here.ShortDir(t)
	t.Setenv("HOME", home)
	p := freePorts(t)
	text := regexp.MustCompile(`localhost:\d+`).ReplaceAllString(string(example), "localhost:0")
	text = strings.NewReplacer(":1053 {", ":0 {",
		"asap 127.0.0.1\n", p.options(),
		"enrp 127.0.0.1\n", fmt.Sprintf("enrp 127.0.0.1:%d\n", here.FreePort(t)),
		"transport auto\n", "").Replace(text)
	startServer(t, text)
	socket := regexp.MustCompile(`--control ~/(\S+)`).FindStringSubmatch(text)
	if socket == nil {
		t.Fatal("the comment names no socket")
	}
	control := filepath.Join(home, socket[1])
	for _, path := range []string{control, filepath.Join(filepath.Dir(control), "state.db")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

// TestReadmeNameservers: registrars that serve a zone together answer alike about its name
// servers, and each example with a peer names them.
func TestReadmeNameservers(t *testing.T) {
	networks, err := os.ReadFile("../../docs/networks.md")
	if err != nil {
		t.Fatal(err)
	}
	directive := regexp.MustCompile(`(?ms)^    (rserpool \{$.*?^    \})$`)
	answers := map[string]int{}
	for _, text := range []string{readme(t), string(networks)} {
		for _, e := range directive.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(e[1], "  peer ") {
				continue
			}
			h := newTestHandler(t, strings.Replace(e[1], "rserpool", "rserpool pool.example.org", 1), newFake())
			m := ask(t, h, zoneZ, dns.TypeNS)
			if peers := len(strings.Fields(regexp.MustCompile(`(?m) peer (.*)$`).FindString(e[1]))) - 1; len(m.Answer) != peers+1 {
				t.Errorf("got %d name servers of %d registrars from\n%s", len(m.Answer), peers+1, e[1])
			}
			all := lines(m.Answer) + lines(m.Extra)
			for _, ns := range m.Answer {
				all += lines(ask(t, h, ns.(*dns.NS).Ns, dns.TypeA).Answer)
			}
			answers[all]++
		}
	}
	// The pair of the manual, and one of the three of docs/networks.md.
	if got := slices.Sorted(maps.Values(answers)); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("got answers %v, want the same of both registrars of the manual", answers)
	}
}
