package sim

import (
	"testing"
	"time"
)

// mixed is a scope with registrars of ours and of the reference's make.
func mixed(seed uint64) Config {
	return Config{
		Seed: seed, Registrars: 1 + int(seed%3), References: 1 + int(seed/3%2), Elements: 40,
		Faults: 90 * time.Second, Rest: 80 * time.Second,
	}
}

// TestMixed: with registrars of both makes no element is an orphan when the faults
// are over: ours have each living one, with a home that lives, and agree.
func TestMixed(t *testing.T) {
	each(t, 20, func(seed uint64, trace tracer) error {
		s := New(mixed(seed))
		s.Trace = trace
		return s.Run()
	})
}

// TestOrphans: nor is one where elements wait to be taken over, however the two
// makes arbitrate; see orphans. A registrar that insists for ever, or that gives
// way for ever, fails here.
func TestOrphans(t *testing.T) {
	each(t, 40, func(seed uint64, trace tracer) error {
		cfg := mixed(seed)
		cfg.Refresh = never
		s := New(cfg)
		s.Trace = trace
		return s.orphans()
	})
}
