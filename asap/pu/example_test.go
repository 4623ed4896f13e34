package pu_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"

	"github.com/rserpool/coredns-rserpool/asap/endpoint"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Ask for one element of the pool web, by TCP.
func Example() {
	u, err := pu.Open(pu.Config{
		Registrars: []endpoint.Registrar{{Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3863")}}},
		Via:        rserpool.ViaTCP,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	r, err := u.Resolve(context.Background(), "web", 1)
	switch {
	case errors.Is(err, pu.ErrUnknownPool):
		fmt.Println("no element is registered")
	case err != nil:
		log.Print(err)
	default:
		fmt.Println(r.Elements[0].UserTransport)
	}
}
