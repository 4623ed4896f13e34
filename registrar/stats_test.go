package registrar

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// Each field of Stats is published once for each of its values, and names are
// fit for Prometheus.
func TestStatsAll(t *testing.T) {
	var s Stats
	v := reflect.ValueOf(&s).Elem()
	n := uint64(0)
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Kind() == reflect.Uint64 {
			n++
			f.SetUint(n)
			continue
		}
		if f.Type() == reflect.TypeFor[[]HomeStats]() {
			n += 2
			f.Set(reflect.ValueOf([]HomeStats{{1, n - 1}, {2, n}}))
			continue
		}
		for j := range f.Len() {
			n++
			f.Index(j).SetUint(n)
		}
	}
	seen := make(map[uint64]bool)
	names := make(map[string]bool)
	last := ""
	word := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	value := regexp.MustCompile(`^[a-z0-9_]+$`)
	for m, v := range s.All() {
		if seen[v] {
			t.Errorf("value %d is published twice, now as %+v", v, m)
		}
		seen[v] = true
		if m.Name != last && names[m.Name] {
			t.Errorf("values of %s are not in a row", m.Name)
		}
		names[m.Name], last = true, m.Name
		if !word.MatchString(m.Name) || m.Help == "" || !strings.HasSuffix(m.Help, ".") {
			t.Errorf("bad metric %+v", m)
		}
		if (m.Label == "") != (m.Value == "") || m.Label != "" && (!word.MatchString(m.Label) || !value.MatchString(m.Value)) {
			t.Errorf("bad label in %+v", m)
		}
		if m.Gauge == strings.HasSuffix(m.Name, "_total") {
			t.Errorf("%s: gauge is %v", m.Name, m.Gauge)
		}
	}
	if uint64(len(seen)) != n {
		t.Errorf("%d values are published, want %d", len(seen), n)
	}
	for range s.All() { // may be left early
		break
	}
}

func TestReasonsHaveWords(t *testing.T) {
	seen := make(map[string]bool)
	for w := range removeReasons {
		if s := w.String(); s == "" || s == "unknown reason" || seen[s] {
			t.Errorf("reason %d is called %q", w, s)
		}
		seen[w.String()] = true
	}
}
