package sim

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
)

func config(seed uint64) Config {
	c := Config{
		Seed: seed, Registrars: 2 + int(seed%6), Elements: 30 + int(seed%50), Multicast: seed%4 == 3,
		Faults: 90 * time.Second, Rest: 80 * time.Second,
	}
	if seed%3 > 0 {
		c.Disks = 1 + int(seed%3)*4 // 5 or 9
	}
	c.Trust = seed%4 == 1
	if seed%10 == 9 {
		c.Registrars, c.Elements = 8+int(seed/10%9), 150
	}
	return c
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

type tracer = func(at time.Duration, text string)

// each runs many seeds, half of them in a short run: SIM_SEEDS of them if that is set. Where SIM_SEED is set it
// runs only that one, and tells what happens.
func each(t *testing.T, seeds uint64, run func(seed uint64, trace tracer) error) {
	t.Helper()
	if testing.Short() {
		seeds = (seeds + 1) / 2
	}
	from, seeds := uint64(0), setting(t, "SIM_SEEDS", seeds)
	var trace tracer
	if os.Getenv("SIM_SEED") != "" {
		from, seeds = setting(t, "SIM_SEED", 0), 1
		trace = func(at time.Duration, text string) { t.Logf("%12v %s", at, text) }
	}
	for seed := from; seed < from+seeds; seed++ {
		if err := run(seed, trace); err != nil {
			t.Errorf("%v\nagain: SIM_SEED=%d go test ./test/sim -run %s -v", err, seed, t.Name())
		}
	}
}

// TestSeeds: whatever goes wrong, the invariants hold all the time, and in the
// end.
func TestSeeds(t *testing.T) {
	each(t, 20, func(seed uint64, trace tracer) error {
		s := New(config(seed))
		s.Trace = trace
		return s.Run()
	})
}

// TestTogether: registrars that start at the same instant, and know nothing of
// one another, find one another by multicast. None waits for the handlespace of
// another for ever, and all come to have the same.
func TestTogether(t *testing.T) {
	for seed := range uint64(20) {
		cfg := config(seed)
		cfg.Multicast = true
		s := New(cfg)
		for _, n := range s.nodes {
			n.boot()
		}
		s.net.run(8 * time.Second) // mentor discovery, and an answer
		for _, n := range s.nodes {
			if !n.r.Ready() {
				t.Errorf("seed %d: registrar %v is not ready after 8 s", seed, n.r.ID())
			}
			if got := n.r.Stats().Peers[registrar.PeerActive]; got != uint64(len(s.nodes)-1) {
				t.Errorf("seed %d: registrar %v has %d peers of %d", seed, n.r.ID(), got, len(s.nodes)-1)
			}
		}
		s.net.run(cfg.Rest)
		s.checkRest()
		if err := s.err(); err != nil {
			t.Error(err)
		}
	}
}

// TestReplay: a seed does the same each time.
func TestReplay(t *testing.T) {
	for seed := range uint64(3) {
		for _, c := range []Config{config(seed), mixed(seed)} {
			a, b := New(c), New(c)
			_, _ = a.Run(), b.Run()
			if a.net.sum != b.net.sum {
				t.Errorf("seed %d: two runs differ", seed)
			}
		}
	}
}
