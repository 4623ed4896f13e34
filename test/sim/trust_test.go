package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// anyRegistrar and anyUser let everybody be a registrar, or resolve.
type (
	anyRegistrar struct{ *identity.Rights }
	anyUser      struct{ *identity.Rights }
)

func (anyRegistrar) Registrar(string) bool { return true }

func (anyUser) Resolves(string) bool { return true }

// TestWithdrawal: see withdrawal.
func TestWithdrawal(t *testing.T) {
	each(t, 4, func(seed uint64, trace tracer) error {
		s := New(Config{Seed: seed, Registrars: 2 + int(seed%4), Elements: 30, Trust: true})
		s.Trace = trace
		return s.withdrawal()
	})
}

// TestUsers: users that may resolve get answers, and others are refused.
func TestUsers(t *testing.T) {
	s := New(Config{Seed: 1, Registrars: 3, Elements: 30, Trust: true})
	s.begin()
	for i := range 2 {
		s.changeResolvers()
		before := []user{*s.trust.users[0], *s.trust.users[1]}
		for range 30 {
			s.elements[s.net.rand.IntN(len(s.elements))].change(s.net.rand.Uint32()) // news for subscribers
			s.net.run(time.Second)
		}
		for j, u := range s.trust.users {
			may := i > 0 || j == 0
			if got := u.answered > before[j].answered+5; got != may {
				t.Errorf("change %d: user %d has had %d answers before, and %d now; it may resolve: %v", i, j, before[j].answered, u.answered, may)
			}
			if got := u.refused > before[j].refused; got == may {
				t.Errorf("change %d: user %d was refused: %v, may resolve: %v", i, j, got, may)
			}
		}
	}
	if err := s.err(); err != nil {
		t.Error(err)
	}
}

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
		{"everybody may be a registrar", func(s *Sim) {
			s.misled = func(r *identity.Rights) registrar.Rights { return anyRegistrar{r} }
		}, "may not be a registrar"},
		{"everybody may resolve", func(s *Sim) {
			s.misled = func(r *identity.Rights) registrar.Rights { return anyUser{r} }
		}, "which may not resolve"},
		{"squatters have the element's certificate", func(s *Sim) { s.posing = true }, "is dead, and still among"},
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

// TestSquatters: home registrars notice squatters, in the seeds of a trusted scope.
func TestSquatters(t *testing.T) {
	displaced := uint64(0)
	each(t, 4, func(seed uint64, trace tracer) error {
		cfg := config(seed)
		cfg.Trust, cfg.Disks = true, 0
		s := New(cfg)
		s.Trace = trace
		s.net.run(cfg.Start + 20*time.Second)
		for _, e := range s.elements {
			if s.net.chance(4) {
				s.squat(e, s.net.upTo(longFault))
			}
		}
		s.net.run(2 * longFault)
		for _, n := range s.nodes {
			st := n.r.Stats()
			displaced += st.Suspected[registrar.SilentDisplaced]
		}
		s.net.run(cfg.Rest)
		s.checkRest()
		return s.err()
	})
	if displaced == 0 {
		t.Error("no squatter was noticed")
	}
	t.Logf("%d squatters noticed", displaced)
}
