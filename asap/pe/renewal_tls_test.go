package pe

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestRenewalOfKeys: an element has many requests for its registrar, so that the keys of its
// association are used up again and again. Each request is answered, and nobody notices.
func TestRenewalOfKeys(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ca := trusttest.New(t, "example.org", time.Now())
	issue := func(name string) rserpool.TLSFiles {
		now := time.Now()
		return rserpool.TLSFiles(ca.Issue(t, t.TempDir(), "spiffe://example.org/rserpool/"+name, now, now.Add(time.Hour)))
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	at := []netip.AddrPort{netip.AddrPortFrom(loopback, 0)}
	hc := host.Config{Via: rserpool.ViaUDP, EncapPort: here.FreePort(t), ASAP: at}
	hc.Trust.TLSFiles = issue("registrar/ns1")
	h, err := host.Open(hc)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	var mu sync.Mutex
	events := map[EventType]int{}
	e, err := Open(Config{
		Pool: "web", Policy: rserpool.Policy{Type: rserpool.RoundRobin}, TLS: issue("pool/web/h1"), records: 40,
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{loopback}},
		Registrars: []string{fmt.Sprintf("%v/%d", h.LocalAddrs()[0], hc.EncapPort)}, Via: rserpool.ViaUDP,
		Notify: func(ev Event) {
			mu.Lock()
			defer mu.Unlock()
			events[ev.Type]++
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if list, err := e.Resolve(ctx, "web", 1); err != nil || len(list) != 1 {
			t.Fatalf("request %d: %d elements, %v", i, len(list), err)
		}
	}
	if err := e.Close(); err != nil {
		t.Errorf("deregistration: %v", err)
	}
	if err := h.Close(); err != nil { // then the counters are complete
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	// 200 requests have at least 200/35 renewals.
	if n := events[Reregistered]; n < 5 || events[Registered] != 1 || events[HomeLost]+events[Resumed]+events[NoRegistrar]+events[Warning] > 0 {
		t.Errorf("events by type: %v; want at least 5 re-registrations (%d), one registration (%d), and nothing lost", events, Reregistered, Registered)
	}
	if n := h.Stats().Registrations; n != 1 {
		t.Errorf("%d registrations of new elements, want 1", n)
	}
}
