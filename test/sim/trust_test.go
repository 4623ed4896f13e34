package sim

import (
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// TestTrustMutations: what is wrong with the rights on purpose is found.
func TestTrustMutations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mutate func(*Sim)
		want   string
	}{
		{"everybody may register", func(s *Sim) {
			s.misled = func(*identity.Rights) registrar.Rights { return lax{new(identity.Rights)} }
		}, "may not register there"},
		{"rights do not change", func(s *Sim) {
			first := s.trust.rights
			s.misled = func(*identity.Rights) registrar.Rights { return first }
		}, "may not register there"},
		{"thieves have the element's certificate", func(s *Sim) { s.forged = true }, "a thief gets the identifier"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(100) { // ends with the first that finds it
				cfg := config(seed)
				cfg.Trust = true
				s := New(cfg)
				tt.mutate(s)
				if err := s.Run(); err != nil && strings.Contains(err.Error(), tt.want) {
					t.Logf("found in seed %d: %.300v", seed, err)
					return
				}
			}
			t.Error("not found in 100 seeds")
		})
	}
}
