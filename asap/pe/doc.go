// Package pe is a pool element's endpoint of ASAP (RFC 5352): it finds a
// registrar, registers with it, stays registered, and leaves in good order.
//
// An [Element] does so for one pool element:
//
//	e, err := pe.New(pe.Config{
//		Pool:       "web",
//		Registrars: []endpoint.Registrar{{Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3863")}}},
//		Transport:  param.Transport{Type: param.TypeTCPTransport, Port: 8080},
//		Policy:     param.Policy{Type: param.RoundRobin},
//	})
//	...
//	err = e.Run(ctx)
//
// Run returns when ctx ends and the element has been deregistered, or when the
// registrar has refused the registration. Everything else (registrars that
// fail, that are away, that come back, that take over) it deals with itself.
//
// The protocol is in a deterministic core without clock, goroutine, lock and
// socket; Element drives it. The element listens for associations too, on the
// address and port it registered from: a registrar that takes over calls it
// there (RFC 5352, Section 3.4). ASAP has no authentication of its own: who can
// reach that port can make the element adopt another home.
package pe
