package host

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestElementAndUser: a program that registers, and also resolves handles and
// reports elements, does the latter over an association of its own.
func TestElementAndUser(t *testing.T) {
	h := loopbackHost(t)
	registrars := []string{fmt.Sprintf("%v/%d", h.LocalAddrs()[0], h.cfg.EncapPort)}
	var closing atomic.Bool
	e, err := pe.Open(pe.Config{
		Pool:       "p",
		ID:         7,
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: registrars,
		Via:        rserpool.ViaUDP,
		Notify: func(ev pe.Event) {
			if ev.Type != pe.Registered && !closing.Load() {
				t.Errorf("event of the element: %v", ev)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}

	u, err := pu.Open(pu.Config{Registrars: registrars, Via: rserpool.ViaUDP})
	if err != nil {
		t.Fatal(err)
	}
	got, err := u.Resolve(t.Context(), "p", 1)
	if err != nil || len(got.Elements) != 1 || got.Elements[0].ID != 7 {
		t.Errorf("got %+v, %v, want element 7", got, err)
	}
	if err := u.ReportUnreachable(t.Context(), "p", 7); err != nil {
		t.Error(err)
	}
	stats := func(what string, ok func(Stats) bool) {
		t.Helper()
		for began := time.Now(); !ok(h.Stats()); time.Sleep(time.Millisecond) {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("no %s within 20 s", what)
			}
		}
	}
	stats("report and second association", func(s Stats) bool {
		return s.Unreachable == 1 && s.Associations[rserpool.ViaUDP] == 2
	})
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	stats("end of the user's association", func(s Stats) bool { return s.Associations[rserpool.ViaUDP] == 1 })
	if h.Space().Pool("p") == nil {
		t.Error("the element was removed with the user's association")
	}
	closing.Store(true)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}
