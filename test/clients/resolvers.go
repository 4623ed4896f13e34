package clients

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/network"
)

// Resolver is a caching resolver at an address of its own.
type Resolver struct {
	*network.Host
	*network.Process
	Address string
}

// Unbound starts unbound at the address [Unbound], with what the text adds to its
// configuration: server options first, then zones.
func (s *Site) Unbound(text string) *Resolver {
	s.t.Helper()
	Need(s.t, "unbound", "unbound")
	h := s.Host("unbound", Unbound)
	conf := h.NewFile("unbound.conf", `server:
	chroot: ""
	pidfile: ""
	username: ""
	use-syslog: no
	interface: `+Unbound+`
	access-control: 0.0.0.0/0 allow
	module-config: "iterator"
	root-hints: ""
`+text)
	return s.serving(&Resolver{h, h.Start("unbound", "-d", "-c", conf), Unbound})
}

// BIND starts BIND at the address [BIND], with what the text adds to named.conf, and the
// options to its options.
func (s *Site) BIND(options, text string) *Resolver {
	s.t.Helper()
	Need(s.t, "named", "bind9")
	h := s.Host("bind", BIND)
	if !strings.Contains(options, "dnssec-validation") {
		options += "\n\tdnssec-validation no;"
	}
	conf := h.NewFile("named.conf", `options {
	listen-on { `+BIND+`; };
	listen-on-v6 { none; };
	allow-query { any; };
	allow-recursion { any; };
	pid-file none;
	session-keyfile none;
`+options+`
};
controls { };
`+text)
	return s.serving(&Resolver{h, h.Start("named", "-g", "-4", "-c", conf), BIND})
}

// serving waits until the resolver has the zone's data.
func (s *Site) serving(r *Resolver) *Resolver {
	s.t.Helper()
	network.Eventually(s.t, r.Name+" resolves", func() error {
		m, err := r.Query(r.Address, Zone+".", dns.TypeSOA)
		if err == nil && (m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0) {
			err = fmt.Errorf("%s", dns.RcodeToString[m.Rcode])
		}
		return err
	})
	return r
}
