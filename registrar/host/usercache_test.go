package host

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestUserCache: two users with one cache select from a pool that changes. The registrar
// gets one request, and its updates tell of all changes.
func TestUserCache(t *testing.T) {
	h := loopbackHost(t)
	registrars := []string{fmt.Sprintf("%v/%d", h.LocalAddrs()[0], h.cfg.EncapPort)}
	register := func(id rserpool.PEID) *pe.Element {
		t.Helper()
		e, err := pe.Open(pe.Config{
			Pool: "p", ID: id, Registrars: registrars, Via: rserpool.ViaUDP,
			Transport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
			Policy:    rserpool.Policy{Type: rserpool.RoundRobin},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		if err := e.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		return e
	}
	first := register(1)
	register(2)
	cache := pu.NewCache(pu.CacheConfig{})
	var users []*pu.User
	for range 2 {
		u, err := pu.Open(pu.Config{Registrars: registrars, Via: rserpool.ViaUDP, Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = u.Close() })
		users = append(users, u)
	}
	// until selects until the users have seen just those elements in six selections.
	until := func(want ...rserpool.PEID) {
		t.Helper()
		for began := time.Now(); ; time.Sleep(time.Millisecond) {
			var seen []rserpool.PEID
			for i := range 6 {
				e, err := users[i%2].Select(t.Context(), "p")
				if err != nil {
					t.Fatal(err)
				}
				seen = append(seen, e.ID)
			}
			slices.Sort(seen)
			if seen = slices.Compact(seen); slices.Equal(seen, want) {
				return
			}
			if time.Since(began) > 20*time.Second {
				t.Fatalf("users select %v, want %v", seen, want)
			}
		}
	}
	until(1, 2)
	register(3)
	until(1, 2, 3)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	until(2, 3)
	s := h.Stats()
	for began := time.Now(); s.Updates < 2 && time.Since(began) < 20*time.Second; s = h.Stats() {
		time.Sleep(time.Millisecond) // the host publishes them now and then
	}
	if s.Resolutions != 1 || s.Updates < 2 {
		t.Errorf("%d resolutions and %d updates, want one and at least two", s.Resolutions, s.Updates)
	}
}
