package pe

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestLimits: what no registrar could take, or what would flood them, is
// refused with the reason before anything is sent.
func TestLimits(t *testing.T) {
	addrs := func(n int) []netip.Addr {
		list := make([]netip.Addr, n)
		for i := range list {
			list[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		}
		return list
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string // in the error; "" for none
	}{
		{"32 addresses", func(c *Config) { c.Transport.Addrs = addrs(32) }, ""},
		{"33 addresses", func(c *Config) { c.Transport.Addrs = addrs(33) }, "33 addresses: an element can have at most 32"},
		{"33 local addresses", func(c *Config) {
			for _, a := range addrs(33) {
				c.Local = append(c.Local, netip.AddrPortFrom(a, 0))
			}
		}, "33 addresses: an element can have at most 32"},
		{"re-registration every second", func(c *Config) { c.Timers.Reregistration = time.Second }, ""},
		{"re-registration every 1 ms", func(c *Config) { c.Timers.Reregistration = time.Millisecond }, "re-registration every 1ms: the time between two registrations must be at least 1s"},
		{"life of 3 s in seconds", func(c *Config) { c.Life, c.Dialect = 3*time.Second, rserpool.RFC5354 }, ""},
		{"life of 1 s in seconds", func(c *Config) { c.Life, c.Dialect = time.Second, rserpool.RFC5354 }, "registration life of 1s: it must be at least 2s"},
		{"life of 3 ms", func(c *Config) { c.Life = 3 * time.Millisecond }, "registration life of 3ms: it must be at least 2s"},
		{"life of a month", func(c *Config) { c.Life = 30 * 24 * time.Hour }, "registration life of 720h0m0s: it must be at most 596h31m23.647s"},
		{"life of a month in seconds", func(c *Config) { c.Life, c.Dialect = 30*24*time.Hour, rserpool.RFC5354 }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{
				Pool:       testPool,
				Transport:  rserpool.Transport{Type: rserpool.SCTP, Port: 8080, Addrs: addrs(1)},
				Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
				Registrars: []string{"10.1.0.1"},
			}
			c.change(&cfg)
			err := cfg.Validate()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestRenewalFollowsLife: T4-reregistration is a third of the registration life
// at most, in the unit in which the registrars read it.
func TestRenewalFollowsLife(t *testing.T) {
	for _, c := range []struct {
		name     string
		life     time.Duration
		dialect  rserpool.Dialect
		t4, want time.Duration
		wire     int32
	}{
		{"default", 0, rserpool.RSPLIB, 0, 30 * time.Second, 90_000},
		{"short", 10 * time.Second, rserpool.RFC5354, 0, 10 * time.Second / 3, 10},
		{"90 s in seconds", 90 * time.Second, rserpool.RFC5354, 0, 30 * time.Second, 90},
		{"part of a second", 90*time.Second + 900*time.Millisecond, rserpool.RFC5354, 0, 30 * time.Second, 90},
		{"12 s in the reference implementation's milliseconds", 12 * time.Second, rserpool.RSPLIB, 0, 4 * time.Second, 12000},
		{"12000 s", 12000 * time.Second, rserpool.RFC5354, 0, 30 * time.Second, 12000},
		{"the user's, too long", 90 * time.Second, rserpool.RSPLIB, time.Minute, 30 * time.Second, 90_000},
		{"the user's, short enough", 90_000 * time.Second, rserpool.RFC5354, time.Hour, time.Hour, 90_000},
		{"very short", 2 * time.Second, rserpool.RFC5354, 0, time.Second, 2},
		{"infinite", -1, rserpool.RSPLIB, time.Hour, time.Hour, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDriver(t, func(cfg *Config) {
				cfg.Life, cfg.Dialect, cfg.Timers.Reregistration = c.life, c.dialect, c.t4
			})
			d.atHome()
			d.until(c.want - 1)
			d.want()
			d.until(c.want)
			if got := d.regs[0].Element.Life; got != c.wire {
				t.Errorf("life %d on the wire, want %d", got, c.wire)
			}
			if len(d.regs) != 2 {
				t.Errorf("%d registrations after %v, want the second one now", len(d.regs), c.want)
			}
		})
	}
}
