package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// onENRP is a mutation of ENRP messages: change returns what is sent instead.
func onENRP(change func(m enrp.Message) []enrp.Message) func(*end, uint32, []byte) [][]byte {
	return func(_ *end, ppid uint32, data []byte) [][]byte {
		same := [][]byte{data}
		if ppid != enrp.PPID {
			return same
		}
		m, _, err := enrp.Parse(data)
		if err != nil {
			return same
		}
		var list [][]byte
		for _, m := range change(m) {
			b, err := m.Append(nil)
			if err != nil {
				return same
			}
			list = append(list, b)
		}
		return list
	}
}

// without drops messages of a type.
func without(types ...enrp.MessageType) func(*end, uint32, []byte) [][]byte {
	return onENRP(func(m enrp.Message) []enrp.Message {
		for _, t := range types {
			if m.Type() == t {
				return nil
			}
		}
		return []enrp.Message{m}
	})
}

// noSweep has audits name all that the sender ever had, so that nothing is
// swept.
func noSweep() func(*end, uint32, []byte) [][]byte {
	type key struct {
		pool rserpool.PoolHandle
		id   rserpool.PEID
	}
	had := make(map[rserpool.ServerID]map[key]rserpool.PoolElement)
	return onENRP(func(m enrp.Message) []enrp.Message {
		sender, _ := m.IDs()
		all := had[sender]
		if all == nil {
			all = make(map[key]rserpool.PoolElement)
			had[sender] = all
		}
		switch m := m.(type) {
		case *enrp.HandleUpdate:
			if m.Action == enrp.AddPE && m.Element.Home == sender {
				all[key{m.Handle, m.Element.ID}] = m.Element
			}
		case *enrp.HandleTableResponse:
			if !m.Reject && !m.More {
				named := make(map[key]bool)
				for _, p := range m.Pools {
					for _, e := range p.Elements {
						named[key{p.Handle, e.ID}] = true
					}
				}
				for id := range rserpool.PEID(1000) { // in some order that is the same each time
					for k, e := range all {
						if k.id == id && !named[k] {
							m.Pools = append(m.Pools, enrp.PoolEntry{Handle: k.pool, Elements: []rserpool.PoolElement{e}})
						}
					}
				}
			}
		}
		return []enrp.Message{m}
	})
}

// noHome clears the H flag of keep-alives.
func noHome(_ *end, ppid uint32, data []byte) [][]byte {
	if m, _, err := asap.Parse(data); ppid == asap.PPID && err == nil {
		if m, ok := m.(*asap.EndpointKeepAlive); ok {
			m.Home = false
			if b, err := m.Append(nil); err == nil {
				return [][]byte{b}
			}
		}
	}
	return [][]byte{data}
}

// forgetSuspects leaves the suspects out of a table.
func forgetSuspects(m *enrp.HandleTableResponse) {
	for i := range m.Pools {
		p := &m.Pools[i]
		var members []rserpool.PoolElement
		for j, e := range p.Elements {
			if _, suspect := p.Suspects[j]; !suspect {
				members = append(members, e)
			}
		}
		p.Elements, p.Suspects = members, nil
	}
	m.Pools = slices.DeleteFunc(m.Pools, func(p enrp.PoolEntry) bool { return len(p.Elements) == 0 })
}

// misruled has registrars do without any guard.
func misruled(s *Sim) *Sim {
	s.misruled = true
	return s
}

// reasoned has all associations end for the same reason.
func reasoned(s *Sim, why ending) *Sim {
	s.net.reason = func(ending) ending { return why }
	return s
}

// lostUpdate is a scenario: nobody gets the update of an element that leaves.
func (s *Sim) lostUpdate() error {
	s.begin()
	e, mutate := s.elements[0], s.net.mutate
	s.net.mutate = func(from *end, ppid uint32, data []byte) [][]byte {
		if m, _, err := enrp.Parse(data); ppid == enrp.PPID && err == nil {
			if m, ok := m.(*enrp.HandleUpdate); ok && m.Element.ID == e.id {
				return nil
			}
		}
		return mutate(from, ppid, data)
	}
	e.leave()
	s.net.run(10 * time.Second)
	s.checkAgreed()
	return s.err()
}

// TestMutations: what is broken on purpose is found, by random faults or by the
// takeover scenario. Where the protocol heals what is broken, it has to.
func TestMutations(t *testing.T) {
	takeover := func(s *Sim) error { return s.takeover(false) }
	faults := func(seed uint64) *Sim { return New(config(seed)) }
	takeovers := func(seed uint64) *Sim { return New(takeoverConfig(seed + 1)) } // three registrars and more
	refused := func(seed uint64) *Sim {
		return New(Config{Seed: seed, Registrars: 3 + int(seed%3), Elements: 40, Refresh: never})
	}
	hung := func(s *Sim) error {
		_, back, err := s.hung()
		if err == nil && back[len(back)-1] > 3*maxDelay {
			err = fmt.Errorf("an element is back only after %v", back[len(back)-1])
		}
		return err
	}
	blind := func(s *Sim) error { _, err := s.blind(false); return err }
	many := func(seed uint64) *Sim {
		return New(Config{Seed: seed, Registrars: 1 + int(seed%4), Elements: 80, Timers: usual(), Refresh: never})
	}
	few := func(seed uint64) *Sim {
		return New(Config{Seed: seed, Registrars: 2 + int(seed%3), Elements: 20, Timers: usual()})
	}
	for _, tt := range []struct {
		name     string
		scenario func(*Sim) error
		sim      func(seed uint64) *Sim
		mutate   func() func(*end, uint32, []byte) [][]byte
		heals    bool
	}{
		// Silence, evidence, and the guard.
		{"suspects are removed at peers", (*Sim).Run, faults, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.HandleUpdate); ok {
					m.Suspect = false
				}
				return []enrp.Message{m}
			})
		}, false},
		{"tables have no suspects", (*Sim).newcomer, few, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.HandleTableResponse); ok {
					forgetSuspects(m)
				}
				return []enrp.Message{m}
			})
		}, false},
		{"returns are not told", hung, many, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.HandleUpdate); ok && m.Action == enrp.AddPE {
					return nil
				}
				return []enrp.Message{m}
			})
		}, false},
		{"no pool is guarded", (*Sim).Run, func(seed uint64) *Sim { return misruled(faults(seed)) }, nil, false},
		{"no registrar guards itself", blind, func(seed uint64) *Sim { return misruled(many(seed)) }, nil, false},
		{"evidence is silence", (*Sim).Run, func(seed uint64) *Sim { return reasoned(faults(seed), endSilent) }, nil, false},
		{"silence is evidence", (*Sim).Run, func(seed uint64) *Sim { return reasoned(faults(seed), endRefused) }, nil, false},

		{"no checksums", (*Sim).lostUpdate, few, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.Presence); ok {
					m.HasChecksum = false
				}
				return []enrp.Message{m}
			})
		}, false},
		// While things go wrong, registrars stand in for homes that do not name their elements.
		{"tables miss a pool", (*Sim).newcomer, few, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.HandleTableResponse); ok && len(m.Pools) > 0 {
					m.Pools = m.Pools[1:]
				}
				return []enrp.Message{m}
			})
		}, false},
		{"no updates", (*Sim).Run, faults, func() func(*end, uint32, []byte) [][]byte {
			return without(enrp.TypeHandleUpdate)
		}, false},
		{"no sweep", (*Sim).Run, faults, noSweep, false},
		{"no lists", (*Sim).Run, faults, func() func(*end, uint32, []byte) [][]byte {
			return without(enrp.TypeListResponse)
		}, false},
		// Each answer asks for another one.
		{"presences want replies", (*Sim).Run, faults, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.Presence); ok {
					m.ReplyRequired = true
				}
				return []enrp.Message{m}
			})
		}, false},
		{"updates twice", (*Sim).Run, faults, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m.Type() == enrp.TypeHandleUpdate {
					return []enrp.Message{m, m}
				}
				return []enrp.Message{m}
			})
		}, false},
		{"takeover without H", takeover, takeovers, func() func(*end, uint32, []byte) [][]byte {
			return noHome
		}, false},
		// A registrar that took a refusal for an empty handlespace.
		{"refusals say that there is nothing", func(s *Sim) error { return s.refusers(false) }, refused, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.HandleTableResponse); ok {
					m.Reject = false
				}
				return []enrp.Message{m}
			})
		}, false},
		{"tables never end", func(s *Sim) error { _, err := s.mentors(); return err }, refused, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.HandleTableResponse); ok {
					m.More = !m.Reject
				}
				return []enrp.Message{m}
			})
		}, false},
		// Wrong arbitration: the one that begins says that it has won. Each gives way to
		// another one, and none takes over.
		{"all give way", takeover, takeovers, func() func(*end, uint32, []byte) [][]byte {
			return onENRP(func(m enrp.Message) []enrp.Message {
				if m, ok := m.(*enrp.InitTakeover); ok {
					return []enrp.Message{&enrp.TakeoverServer{Sender: m.Sender, Target: m.Target}}
				}
				return []enrp.Message{m}
			})
		}, false},
		// No registrar hears of another one's takeover, so all of them take over, and
		// contest the elements one by one.
		{"all insist", takeover, takeovers, func() func(*end, uint32, []byte) [][]byte {
			return without(enrp.TypeInitTakeover, enrp.TypeInitTakeoverAck, enrp.TypeTakeoverServer)
		}, true},
		{"nobody agrees", takeover, takeovers, func() func(*end, uint32, []byte) [][]byte {
			return without(enrp.TypeInitTakeoverAck)
		}, true},
		{"nobody tells that it has won", takeover, takeovers, func() func(*end, uint32, []byte) [][]byte {
			return without(enrp.TypeTakeoverServer)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seeds := uint64(200) // ends with the first that finds it
			if tt.heals {
				seeds = 6
			}
			for seed := range seeds {
				s := tt.sim(seed)
				if tt.mutate != nil {
					s.net.mutate = tt.mutate()
				}
				err := tt.scenario(s)
				switch {
				case err != nil && tt.heals:
					t.Fatal(err)
				case err != nil:
					t.Logf("found in seed %d: %.200v", seed, err)
					return
				}
			}
			if !tt.heals {
				t.Error("not found in 200 seeds")
			}
		})
	}
}
