// Package clients has tests with the DNS clients of others: proxies, monitoring systems
// and resolvers, as Debian packages them. `go test ./test/clients` runs the short form,
// -long the form that looks at each client for ten minutes.
//
// A [Site] is a LAN with a registrar, pools of elements that really serve, resolvers and
// hosts for clients. It has the addresses of docs/clients.md, so that the tests run the
// configurations of that page as they are:
//
//	s := clients.New(t, corefile)             // CoreDNS at clients.Server, port 53
//	e := s.Elements("web", clients.Element{ID: 1}, clients.Element{ID: 2, Policy: "wrr:weight=2"})
//	u := s.Unbound(clients.UnboundConf)       // a resolver at clients.Unbound
//	c := s.Client("haproxy")                  // a host of its own
//	e.Kill()                                  // no goodbye
//
// It needs what package test/network needs.
package clients
