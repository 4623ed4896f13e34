// Package pu is a pool user's side of ASAP (RFC 5352): it finds a
// registrar, resolves pool handles, follows the changes of a pool, and reports
// pool elements that cannot be reached.
//
//	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
//	...
//	defer u.Close()
//	r, err := u.Resolve(ctx, "web", 1)
//
// A [User] keeps its association with the registrar, so that the next request
// need not wait for one, and moves to another registrar when that one fails.
// The protocol is in a deterministic core without clock, goroutine, lock and
// socket; User drives it.
//
// The functions of an enhanced pool user (sessions with failover, cookies,
// business cards, a cache of resolutions; RFC 5352, Sections 3.8, 3.9 and 6.5)
// belong above User, and are not here.
package pu
