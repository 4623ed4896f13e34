package registrars

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/registrar/host"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
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
	o := DefaultOptions()
	for _, s := range o.settings() {
		if s.Name != "" {
			want = append(want, fmt.Sprintf("| `%s` | %s | %s to %s |", s.Name, s.Default, s.Min, s.Max))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sections Timers and Limits (-parser +README):\n%s", diff)
	}
}

// TestRegistrarMetrics: each number in the registrar's statistics is published once, and
// the values of labels are in the manual.
func TestRegistrarMetrics(t *testing.T) {
	text := readme(t)
	var s host.Stats
	n := number(reflect.ValueOf(&s).Elem(), 0)
	seen := map[uint64]bool{}
	names := map[string]bool{}
	value := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	for _, m := range metrics(&s) {
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
			if m.label != "" && m.label != "cause" && !strings.Contains(text, "`"+m.of[i]+"`") {
				t.Errorf("%s %s of %s is not in the manual", m.label, m.of[i], m.name)
			}
		}
	}
	if len(seen) != int(n) {
		t.Errorf("%d of %d values are published", len(seen), n)
	}
	// A label whose values came from the network would make ever more series.
	for i, m := range metrics(&host.Stats{}) {
		if filled := metrics(&s)[i]; !slices.Equal(m.of, filled.of) {
			t.Errorf("%s: label %s has the values %q or %q, want them fixed", m.name, m.label, m.of, filled.of)
		}
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
