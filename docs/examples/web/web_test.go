package main

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/docs/examples/internal/exampletest"
	"github.com/rserpool/coredns-rserpool/test/here"
)

func TestMain(m *testing.M) {
	if exampletest.Is() {
		main()
		return
	}
	os.Exit(m.Run())
}

// Of four servers, two are killed and started again while both kinds of clients ask. No
// native request fails: the next server is tried, and the dead one is reported.
func TestKilledServers(t *testing.T) {
	s := exampletest.CoreDNS(t)
	o := options{
		pool: "site", registrars: []string{s.Registrar}, port: int(here.FreePort(t)),
		address: netip.MustParseAddr("127.0.0.1"), dns: s.DNS, zone: exampletest.Zone,
	}
	server := func(n int) *exampletest.Process {
		p := exampletest.Self(t, "server", "-registrar", s.Registrar, "-address", fmt.Sprintf("127.0.55.%d", n), "-port", fmt.Sprint(o.port))
		p.Await("registered as")
		return p
	}
	var servers []*exampletest.Process
	for n := range 4 {
		servers = append(servers, server(n+1))
	}
	u, err := pu.Open(pu.Config{Registrars: o.registrars, Local: []netip.AddrPort{netip.AddrPortFrom(o.address, 0)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	clients := []*client{dnsClient(o), nativeClient(o, u)}
	const rounds, together = 250, 8
	for i := range rounds {
		var wg sync.WaitGroup
		for range together {
			for _, c := range clients {
				wg.Go(func() { c.get(t.Context()) })
			}
		}
		switch i {
		case 60, 120:
			wg.Go(servers[i/60].Kill)
		case 90, 150:
			servers[i/60] = server(i/60 + 1)
		}
		wg.Wait()
	}
	var table strings.Builder
	if err := report(&table, clients); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
	if n := len(clients[1].errs); n > 0 {
		t.Errorf("%d of %d native requests fail, want none", n, rounds*together)
	}
	// A killed server loses what it was working on, and stays in the answers until the
	// registrar has noticed. Twice, one of four is down for 30 rounds; how many of these that
	// takes is up to the machine.
	if n, most := len(clients[0].errs), 2*30*together/2; n > most {
		t.Errorf("%d of %d requests by DNS fail, want at most %d", n, rounds*together, most)
	}
}
