// Package pe is a pool element's side of ASAP (RFC 5352): it finds a registrar,
// registers with it, stays registered, and leaves in good order. It also serves the sessions
// of pool users.
//
// An [Element] does this for one pool element:
//
//	e, err := pe.Open(pe.Config{
//		Pool:       "web",
//		Transport:  rserpool.MustParseTransport("tcp:8080"),
//		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
//		Registrars: []string{"192.0.2.53"},
//	})
//	...
//	defer e.Close()
//
// Close deregisters the element. Before that, the element ends only if a registrar
// refuses the first registration; Config.MistakeTime says until when. The element handles all
// other events: registrars that fail, return, take over, or refuse an element that was registered before.
//
// # Sessions
//
// A [Listener] is an element that serves sessions of pool users (package asap/pu) over
// SCTP: messages in both directions, state cookies with which the next element continues if
// this one fails, and business cards (RFC 5352, Sections 3.8 and 3.9).
//
//	err := pe.ListenAndServe(ctx, pe.ListenConfig{
//		Config: pe.Config{Pool: "echo", Registrars: []string{"192.0.2.53"}},
//	}, func(ctx context.Context, s *pe.Session) { ... })
//
// Anyone who can reach the port can have sessions. What users can make a Listener hold is
// bounded: the number of sessions in all and of one address, those that wait for Accept, and
// the messages of each session. Cookies that are not sealed ([ListenConfig] Cookies) are
// data that a user may have made up.
//
// # Registrars
//
// The element accepts associations on the address and port from which it registered: a
// registrar that takes over connects to it there (RFC 5352, Section 3.4). The element
// changes its home only after the new home has accepted its registration. ASAP has no
// authentication: a host that can reach that port and behaves like a registrar can become
// the element's home. The element changes its home in this way at most four times a
// minute. After a minute or later it returns to a registrar that is configured or
// announces itself, if one is alive.
package pe
