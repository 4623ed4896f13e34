package pe

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/asap/param"
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
	registrar, err := endpoint.ParseRegistrar("10.1.0.1")
	if err != nil {
		t.Fatal(err)
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
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{
				Pool:       testPool,
				Transport:  param.Transport{Type: param.TypeSCTPTransport, Port: 8080, Addrs: addrs(1)},
				Policy:     param.Policy{Type: param.RoundRobin},
				Registrars: []endpoint.Registrar{registrar},
			}
			c.change(&cfg)
			_, err := New(cfg)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got error %v, want one with %q", err, c.want)
			}
		})
	}
}
