package registrar

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConfigDefaults(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	got, err := Config{Rand: rng}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	if want.Limits.ElementSize != maxElementSize || want.Timers.KeepAliveInterval != 2*time.Second {
		t.Errorf("got the defaults %+v", want)
	}
	if diff := cmp.Diff(want.Timers, got.Timers); diff != "" {
		t.Errorf("timers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Limits, got.Limits); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	for _, v := range []reflect.Value{reflect.ValueOf(want.Timers), reflect.ValueOf(want.Limits)} {
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; v.Field(i).IsZero() && name != "MaxBadPEReport" { // 0 has a meaning
				t.Errorf("%s has no default", name)
			}
		}
	}
}

// TestConfigOfTheCaller: a caller may change the slice that it has passed.
func TestConfigOfTheCaller(t *testing.T) {
	peers := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:9901")}
	c, err := Config{Rand: rand.New(rand.NewPCG(1, 1)), Peers: peers}.Complete()
	if err != nil {
		t.Fatal(err)
	}
	peers[0] = netip.MustParseAddrPort("192.0.2.1:1")
	if got := c.Peers[0].String(); got != "10.0.0.1:9901" {
		t.Errorf("the registrar has the peer %v after a change of the caller's slice", got)
	}
}

func TestConfigRefused(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Rand = nil }, "Rand is nil"},
		{func(c *Config) { c.Timers.KeepAliveInterval = -1 }, "timer KeepAliveInterval is -1ns, but must be from 1ms to 24h0m0s"},
		{func(c *Config) { c.Timers.ProbeTimeout = 25 * time.Hour }, "timer ProbeTimeout is 25h0m0s"},
		{func(c *Config) { c.Timers.MaxBadPEReport = -1 }, "threshold MaxBadPEReport is -1"},
		{func(c *Config) { c.Timers.PeerHeartbeat = 61 * time.Second }, "MAX-TIME-LAST-HEARD 1m1s must be longer than PEER-HEARTBEAT-CYCLE 1m1s"},
		{func(c *Config) { c.Timers.SuspectLife = 61 * time.Minute }, "SUSPECT-LIFE 1h1m0s must not be longer than GUARD-LIFE 1h0m0s"},
		{func(c *Config) { c.Timers.GuardLife = time.Minute }, "SUSPECT-LIFE 10m0s must not be longer than GUARD-LIFE 1m0s"},
		{func(c *Config) { c.Limits.ElementSize = 5000 }, "limit ElementSize is 5000, but must be from 1 to 4096"},
	} {
		cfg := Config{Rand: rand.New(rand.NewPCG(1, 1))}
		c.change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got error %v, want one with %q", err, c.want)
		}
	}
}

// RFC 5353, Section 2.1: the identifier is random and not 0.
func TestServerID(t *testing.T) {
	seen := make(map[uint32]bool)
	for i := range uint64(100) {
		r, err := New(Config{Rand: rand.New(rand.NewPCG(i, 1))})
		if err != nil {
			t.Fatal(err)
		}
		seen[uint32(r.ID())] = true
	}
	if len(seen) != 100 || seen[0] {
		t.Errorf("100 random identifiers: %d different, 0 is one: %v", len(seen), seen[0])
	}
}
