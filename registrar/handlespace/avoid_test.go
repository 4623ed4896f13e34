package handlespace

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestAvoid: no policy picks an element that is to be avoided, unless nothing else
// is left, and each continues as before when it is taken in again.
func TestAvoid(t *testing.T) {
	for _, r := range rules {
		t.Run(r.policy.String(), func(t *testing.T) {
			s := newSpace()
			policy := rserpool.Policy{Type: r.policy, Weight: 3, Priority: 5, Load: full / 10, LoadDegradation: full / 100, DPF: 1}
			const n = 5
			for id := range rserpool.PEID(n) {
				mustPut(t, s, "p", newElement(id+1, Families(1+id%3), policy))
			}
			p, changes := s.Pool("p"), s.Changes()
			count := func() (picked [n + 2]int) {
				for i := range 400 {
					for _, e := range p.Select(nil, 1+i%3, 0) {
						picked[e.ID]++
					}
				}
				return picked
			}
			s.Avoid("p", 2, true)
			s.Avoid("p", 2, true)
			s.Avoid("p", 9, true) // there is none
			s.Avoid("q", 1, true)
			for id, got := range count() {
				if want := id != 0 && id != 2 && id <= n; got > 0 != want {
					t.Errorf("element %d was picked %d times", id, got)
				}
			}
			s.Remove("p", 1) // others get its slot
			mustPut(t, s, "p", newElement(6, IPv4, policy))
			if got := count(); got[2] > 0 || got[6] == 0 {
				t.Errorf("picked %v, want none of 2", got)
			}
			s.Avoid("p", 2, false)
			if got := count(); got[2] == 0 || got[2] > 2*got[6]+50 {
				t.Errorf("picked %v, want about as many of 2 as of the others", got)
			}
			s.Avoid("p", 3, true)
			e := newElement(3, IPv4|IPv6, policy)
			e.Life++
			mustPut(t, s, "p", e) // its home says something of it
			if got := count(); got[3] == 0 {
				t.Errorf("picked %v, want some of 3", got)
			}
			for id := range rserpool.PEID(n + 2) {
				s.Avoid("p", id, true)
			}
			if got := count(); got[2] == 0 || got[6] == 0 {
				t.Errorf("picked %v, want all, since nothing is left", got)
			}
			for id := range rserpool.PEID(n + 2) {
				s.Avoid("p", id, true)
				s.Remove("p", id)
			}
			if s.Pool("p") != nil || s.Changes() != changes+2+1+n {
				t.Errorf("pool %v, %d changes", s.Pool("p"), s.Changes()-changes)
			}
		})
	}
}

// TestAvoidFamilies: a selection that finds no element of its families includes no avoided
// elements again but those that it could pick.
func TestAvoidFamilies(t *testing.T) {
	ways := map[string]func(p *Pool, f Families) []Selected{
		"Select": func(p *Pool, f Families) []Selected { return p.Select(nil, 1, f) },
		"SelectSet": func(p *Pool, f Families) []Selected {
			set, _ := p.SelectSet(nil, 100, f, 7)
			return set
		},
		"SelectSet of a part": func(p *Pool, f Families) []Selected {
			set, _ := p.SelectSet(nil, 2, f, 7)
			return set
		},
	}
	for _, r := range rules {
		for name, selects := range ways {
			t.Run(r.policy.String()+"/"+name, func(t *testing.T) {
				s := newSpace()
				policy := rserpool.Policy{Type: r.policy, Weight: 3, Load: full / 10, LoadDegradation: full / 100, DPF: 1}
				for id := range rserpool.PEID(6) {
					mustPut(t, s, "p", newElement(id, IPv4, policy))
				}
				p := s.Pool("p")
				s.Avoid("p", 0, true)
				if got := selects(p, IPv6); len(got) > 0 || len(p.avoided()) != 1 {
					t.Fatalf("got %v of IPv6, %d elements are avoided; want none, and 1", brief(got), len(p.avoided()))
				}
				mustPut(t, s, "p", newElement(7, IPv6, policy))
				s.Avoid("p", 7, true)
				if got := selects(p, IPv6); len(got) != 1 || got[0].ID != 7 || len(p.avoided()) != 1 {
					t.Errorf("got %v of IPv6, %d elements are avoided; want the only one, and 1", brief(got), len(p.avoided()))
				}
				if err := p.sound(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestAvoidWeightless: avoided elements that the policy never selects stay avoided.
func TestAvoidWeightless(t *testing.T) {
	for _, typ := range []rserpool.PolicyType{rserpool.WeightedRoundRobin, rserpool.WeightedRandom, rserpool.WeightedRandomDPF} {
		s := newSpace()
		for id := range rserpool.PEID(3) {
			mustPut(t, s, "p", newElement(id, IPv4, rserpool.Policy{Type: typ}))
		}
		p := s.Pool("p")
		s.Avoid("p", 0, true)
		if got := p.Select(nil, 1, 0); len(got) > 0 || len(p.avoided()) != 1 {
			t.Errorf("%v: got %v, %d elements are avoided; want none, and 1", typ, brief(got), len(p.avoided()))
		}
	}
}
