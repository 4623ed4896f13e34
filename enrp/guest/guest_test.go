package guest_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/enrp/guest"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

func TestConfig(t *testing.T) {
	for want, cfg := range map[string]guest.Config{
		"no registrar: set Registrars":                     {},
		"not TCP":                                          {Registrars: []string{"192.0.2.1"}, Via: rserpool.ViaTCP},
		"Via is 9: use rserpool.ViaAuto":                   {Registrars: []string{"192.0.2.1"}, Via: 9},
		"Timeout is -1s: it must not be negative":          {Registrars: []string{"192.0.2.1"}, Timeout: -time.Second},
		`"192.0.2.300" is not ADDRESS, ADDRESS:PORT, NAME`: {Registrars: []string{"192.0.2.300"}},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate gives %v, want %q", err, want)
		}
	}
}

// TestPools: each use of Pools gives all pools, whatever happened to the uses before.
func TestPools(t *testing.T) {
	const pools = 40 // with these long handles, more than one response
	loopback := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	encap := here.FreePort(t)
	h, err := host.Open(host.Config{ASAP: loopback, ENRP: loopback, Via: rserpool.ViaUDP, EncapPort: encap})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for i := range pools {
		e, err := pe.Open(pe.Config{
			Pool:       rserpool.PoolHandle(fmt.Sprint(i, strings.Repeat("x", 1000))),
			Transport:  rserpool.MustParseTransport("tcp:127.0.0.1:80"),
			Policy:     rserpool.MustParsePolicy("RoundRobin"),
			Registrars: []string{fmt.Sprintf("%v/%d", h.LocalAddrs()[0], encap)},
			Via:        rserpool.ViaUDP,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := e.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	g, err := guest.Open(guest.Config{Registrars: []string{fmt.Sprintf("%v/%d", h.ENRPAddrs()[0], encap)}, Via: rserpool.ViaUDP})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	all := func(after string) {
		t.Helper()
		n := 0
		for p, err := range g.Pools(t.Context(), false) {
			if err != nil {
				t.Fatal(err)
			}
			n += len(p.Elements)
		}
		if n != pools {
			t.Errorf("%d elements after %s, want %d", n, after, pools)
		}
	}
	all("Open")
	all("another use")
	for range g.Pools(t.Context(), false) {
		break
	}
	all("a use that ended early")

	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, _, err = g.Peers(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Peers with an expired context returns %v, want DeadlineExceeded", err)
	}
	all("an expired context")

	if err := errors.Join(g.Close(), g.Close()); err != nil {
		t.Error(err)
	}
	if _, _, err = g.Peers(t.Context()); !errors.Is(err, rserpool.ErrClosed) {
		t.Errorf("Peers after Close returns %v, want ErrClosed", err)
	}
}

// TestAttemptsOfTheCaller: a program may change the registrars in an error. The guest asks those of
// its configuration all the same.
func TestAttemptsOfTheCaller(t *testing.T) {
	port := here.FreePort(t)
	g, err := guest.Open(guest.Config{Registrars: []string{fmt.Sprintf("127.0.0.1:%d/%d", port, port)}, Via: rserpool.ViaUDP})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var last string
	for range 2 {
		_, _, err := g.Peers(t.Context())
		var u *rserpool.UnreachableError
		if !errors.As(err, &u) || len(u.Attempts) != 1 {
			t.Fatalf("Peers returns %v, want an UnreachableError", err)
		}
		if r := &u.Attempts[0].Registrar; last != "" && r.String() != last {
			t.Errorf("the guest asks %v, before %s", r, last)
		} else {
			last = r.String()
			r.Addrs[0] = netip.MustParseAddr("127.0.0.9")
		}
	}
}
