// Package pe is a pool element's endpoint of ASAP (RFC 5352): it finds a
// registrar, registers with it, stays registered, and leaves in good order.
//
// An [Element] does so for one pool element:
//
//	e, err := pe.New(pe.Config{
//		Pool:       "web",
//		Registrars: []endpoint.Registrar{{Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:3863")}}},
//		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 8080},
//		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
//	})
//	...
//	err = e.Run(ctx)
//
// Run returns when ctx ends and the element has been deregistered, or when a
// registrar refuses the first registration. Everything else (registrars that
// fail, that are away, that come back, that take over, that refuse an element
// that was registered before) it deals with itself.
//
// The protocol is in a deterministic core without clock, goroutine, lock and
// socket; Element drives it. The element listens for associations too, on the
// address and port it registered from: a registrar that takes over calls it
// there (RFC 5352, Section 3.4). The element changes its home only after the new
// one has accepted its registration. ASAP has no authentication of its own:
// anyone who can reach that port and behaves like a registrar can still make the
// element adopt another home, four times a minute at most, and for about a
// minute where a registrar that is configured or announces itself is alive.
package pe
