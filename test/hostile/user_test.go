package hostile

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestUnreachableReports has one user, and many together, report all honest
// elements as unreachable, again and again.
func TestUnreachableReports(t *testing.T) {
	users, each := 300, 10
	if *long {
		users, each = 5000, 200
	}
	c := ceiling{heap: 4<<20 + users*5<<10, goroutines: 2*users + 8, files: users + 2, cpu: 60 * time.Microsecond}
	g := beginSiege(t)
	report := func(conn interface{ Write([]byte) (int, error) }, n int) {
		for range n {
			for id := range rserpool.PEID(honestElements) {
				if _, err := conn.Write(wire(t, &asap.EndpointUnreachable{Handle: honestPool, ID: id + 1})); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	one := g.tcp(loopback)
	report(one, users)
	n := users
	for i := range users {
		conn := g.tcp(netip.AddrFrom4([4]byte{127, 6, byte(i >> 8), byte(i)}))
		defer conn.Close()
		report(conn, each)
		n += each
	}
	wait(t, "reports", func() bool { return g.stat("unreachable_reports_total", "") == n*honestElements })
	g.check(n*honestElements, c)
	for _, why := range []string{"reported", "no_ack", "send_failed", "unreachable"} {
		if n := g.stat("elements_removed_total", `reason="`+why+`"`); n > 0 {
			t.Errorf("%d living elements were removed: %s", n, why)
		}
	}
	_ = one.Close()
	t.Cleanup(func() { g.end(c) })
}

// TestResolutionStorm has users ask for the largest answers as fast as they
// get them.
func TestResolutionStorm(t *testing.T) {
	users, each := 8, 250
	if *long {
		users, each = 64, 20_000
	}
	c := ceiling{heap: 20 << 20, goroutines: 2*users + 16, files: users + 2, cpu: 1000 * time.Microsecond}
	g := beginSiege(t)
	g.crowd().makeBig()
	g.before = g.rest()
	ask := wire(t, askBig)
	var wg sync.WaitGroup
	for i := range users {
		conn := g.tcp(netip.AddrFrom4([4]byte{127, 7, 0, byte(i + 1)}))
		wg.Go(func() {
			defer conn.Close()
			for range each {
				if _, err := conn.Write(ask); err != nil {
					t.Error(err)
					return
				}
				b, err := readMessage(conn)
				if err != nil || len(b) < bigAnswer {
					t.Errorf("answer of %d bytes: %v", len(b), err)
					return
				}
			}
		})
	}
	wg.Wait()
	g.check(users*each, c)
	g.end(c)
}
