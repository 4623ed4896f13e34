package sim

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

func config(seed uint64) Config {
	return Config{
		Seed: seed, Registrars: 2 + int(seed%6), Elements: 30 + int(seed%50), Multicast: seed%4 == 3,
		Faults: 90 * time.Second, Rest: 80 * time.Second,
	}
}

// setting is a number from the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestSeeds runs many simulations. One alone is run with SIM_SEED, so many with
// SIM_SEEDS.
func TestSeeds(t *testing.T) {
	from, seeds := uint64(0), setting(t, "SIM_SEEDS", 30)
	if os.Getenv("SIM_SEED") != "" {
		from, seeds = setting(t, "SIM_SEED", 0), 1
	}
	for seed := from; seed < from+seeds; seed++ {
		s := New(config(seed))
		if seeds == 1 {
			s.Trace = func(at time.Duration, text string) { t.Logf("%12v %s", at, text) }
		}
		if err := s.Run(); err != nil {
			t.Errorf("%v\nagain: SIM_SEED=%d go test ./test/sim -run TestSeeds -v", err, seed)
		}
	}
}

// TestTogether: registrars that start at the same instant, and know nothing of
// one another, find one another by multicast. None waits for the handlespace of
// another for ever, and all come to have the same.
func TestTogether(t *testing.T) {
	for seed := range uint64(20) {
		cfg := config(seed)
		cfg.Multicast = true
		s := New(cfg)
		for _, n := range s.registrars {
			n.boot()
		}
		s.net.run(8 * time.Second) // mentor discovery, and an answer
		for _, n := range s.registrars {
			if !n.r.Ready() {
				t.Errorf("seed %d: registrar %v is not ready after 8 s", seed, n.r.ID())
			}
			if got := n.r.Stats().Peers[registrar.PeerActive]; got != uint64(len(s.registrars)-1) {
				t.Errorf("seed %d: registrar %v has %d peers of %d", seed, n.r.ID(), got, len(s.registrars)-1)
			}
		}
		s.net.run(cfg.Rest)
		clear(s.net.sent)
		s.net.run(10 * time.Second)
		if s.check(); len(s.bad) > 0 {
			t.Errorf("seed %d: %q", seed, s.bad)
		}
	}
}

// TestReplay: a seed does the same each time.
func TestReplay(t *testing.T) {
	for seed := range uint64(3) {
		a, b := New(config(seed)), New(config(seed))
		_, _ = a.Run(), b.Run()
		if a.net.sum != b.net.sum {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
}

// TestMutations: what is broken on purpose is found.
func TestMutations(t *testing.T) {
	for _, tt := range []struct {
		name   string
		mutate func(m enrp.Message) enrp.Message // nil to drop it
	}{
		{"no checksums", func(m enrp.Message) enrp.Message {
			if m, ok := m.(*enrp.Presence); ok {
				m.HasChecksum = false
			}
			return m
		}},
		{"tables miss a pool", func(m enrp.Message) enrp.Message {
			if m, ok := m.(*enrp.HandleTableResponse); ok && len(m.Pools) > 0 {
				m.Pools = m.Pools[1:]
			}
			return m
		}},
		{"no updates", func(m enrp.Message) enrp.Message {
			if m.Type() == enrp.TypeHandleUpdate {
				return nil
			}
			return m
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(20) {
				s := New(config(seed))
				s.net.mutate = func(ppid uint32, data []byte) []byte {
					if ppid != enrpPPID {
						return data
					}
					m, _, err := enrp.Parse(data)
					if err != nil {
						return data
					}
					if m = tt.mutate(m); m == nil {
						return nil
					}
					b, err := m.Append(nil)
					if err != nil {
						return data
					}
					return b
				}
				if s.Run() != nil {
					return
				}
			}
			t.Error("not found in 20 seeds")
		})
	}
}
