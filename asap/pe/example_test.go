package pe_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os/signal"
	"syscall"

	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A TCP server on port 8080 joins the pool web, until SIGTERM.
func Example() {
	e, err := pe.New(pe.Config{
		Pool:       "web",
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 8080},
		Policy:     rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: 3},
		Registrars: []endpoint.Registrar{{Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3863")}}},
		Notify:     func(ev pe.Event) { fmt.Println(ev) },
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := e.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
