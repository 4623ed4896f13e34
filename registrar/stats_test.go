package registrar

import "testing"

func TestReasonsHaveWords(t *testing.T) {
	seen := make(map[string]bool)
	for w := range RemoveReason(removeReasons) {
		if s := w.String(); s == "" || s == "unknown reason" || seen[s] {
			t.Errorf("reason %d is called %q", w, s)
		}
		seen[w.String()] = true
	}
}
