package rserpool

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/rserpool/coredns-rserpool/registrar/host"
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

// TestReadmeSettings: the tables have exactly the timers and limits that can be set, in
// their order, with their defaults and bounds.
func TestReadmeSettings(t *testing.T) {
	_, tables, _ := strings.Cut(readme(t), "## Timers")
	tables, _, _ = strings.Cut(tables, "\n## Addresses")
	var got, want []string
	for line := range strings.Lines(tables) {
		if strings.HasPrefix(line, "| `") {
			got = append(got, strings.Join(strings.SplitAfterN(line, "|", 5)[:4], ""))
		}
	}
	o := defaultOptions()
	for _, s := range o.settings() {
		if s.Name != "" {
			want = append(want, fmt.Sprintf("| `%s` | %s | %s to %s |", s.Name, s.Default, s.Min, s.Max))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sections Timers and Limits (-parser +README):\n%s", diff)
	}
}

// describe returns the help texts of all metrics by how the manual writes the name.
func describe(t *testing.T) map[string]string {
	t.Helper()
	ch := make(chan *prometheus.Desc, 1000)
	for _, c := range []prometheus.Collector{answersCount, selectionsCount, shortenedCount, collector{process}} {
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
	// The values of labels are from closed sets, all of them listed or hinted
	// at.
	for k := range answerKinds {
		if !strings.Contains(text, "`"+k.String()+"`") {
			t.Errorf("kind %s is not in the manual", k)
		}
	}
	for _, m := range registrarMetrics(&host.Stats{}) {
		for _, v := range m.of {
			if m.label != "cause" && !strings.Contains(text, "`"+v+"`") {
				t.Errorf("%s %s of %s is not in the manual", m.label, v, m.name)
			}
		}
	}
}

// TestRegistrarMetrics: each number in the registrar's statistics is published once.
func TestRegistrarMetrics(t *testing.T) {
	var s host.Stats
	n := number(reflect.ValueOf(&s).Elem(), 0)
	seen := map[uint64]bool{}
	names := map[string]bool{}
	value := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, m := range registrarMetrics(&s) {
		if names[m.name] || !strings.HasSuffix(m.help, ".") {
			t.Errorf("%s is listed twice, or its help %q is no sentence", m.name, m.help)
		}
		names[m.name] = true
		if m.label == "" && len(m.values) != 1 || m.label != "" && len(m.values) != len(m.of) {
			t.Errorf("%s has %d values for the labels %q", m.name, len(m.values), m.of)
		}
		for i, v := range m.values {
			if v == 0 || v > n || seen[v] {
				t.Errorf("%s publishes value %d of %d, or publishes it again", m.name, v, n)
			}
			seen[v] = true
			if m.label != "" && (slices.Index(m.of, m.of[i]) != i || !value.MatchString(m.of[i])) {
				t.Errorf("%s has a bad label value %q", m.name, m.of[i])
			}
		}
	}
	if len(seen) != int(n) {
		t.Errorf("%d of %d values are published", len(seen), n)
	}
}

// number gives each number in v another value from n+1 on, and returns the last.
func number(v reflect.Value, n uint64) uint64 {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			n = number(v.Field(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			n = number(v.Index(i), n)
		}
	default:
		n++
		v.SetUint(n)
	}
	return n
}

// TestMetricNames: what Prometheus's own linter says, and no name that
// OpenMetrics would have twice.
func TestMetricNames(t *testing.T) {
	fakes, rs := newFakes()
	inst := startInstance(t, rs, at(addr1))
	defer inst.finalShutdown()
	fakes.only(t, addr1)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(collector{rs}, answersCount, selectionsCount, shortenedCount)
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
				if l.GetName() == "registrar" && l.GetValue() != addr1 {
					t.Errorf("%s: registrar is %q, want %q", f.GetName(), l.GetValue(), addr1)
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
	defer func(p *registrars, port string) { process, dnsserver.Port = p, port }(process, dnsserver.Port)
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
	if len(fakes.made) < 4 {
		t.Errorf("got registrars at %d places, want more", len(fakes.made))
	}
}
