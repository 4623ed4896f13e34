package registrar

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// An element behind an address translation (NAT), such as in a container, offers
// addresses that mean nothing outside, or something else (RFC 6951, Section 5.7).
// SCTP in UDP passes such a translation, and shows from where: the address that the
// element's packets come from. If none of the addresses that it offers belongs to
// the association, that address is registered in their place, with the element's
// ports: the operator of the element forwards them. The association has proved it, so
// that nobody can have another one's address registered.
//
// SCTP without UDP is not treated so: where it passes a translation at all, no call
// of the registrar would come back through it.

// translated reports whether a transport's addresses are such that the one that the
// association is seen at takes their place.
func (a *client) translated(t *rserpool.Transport) bool {
	seen := a.primary()
	if !a.inUDP() || !seen.IsValid() || seen.IsLoopback() || seen.IsLinkLocalUnicast() {
		return false
	}
	family := false // a server that has no address of the family does not listen there
	for _, addr := range t.Addrs {
		addr = plainAddr(addr)
		if !usable(addr, seen) || a.lists(addr) {
			return false
		}
		family = family || addr.Is4() == seen.Is4()
	}
	return family && len(t.Addrs) <= maxPeerAddrs
}

// translate is a transport as it is registered.
func (a *client) translate(t rserpool.Transport) rserpool.Transport {
	if t.Type != rserpool.Opaque && t.Present() && a.translated(&t) {
		t.Addrs = []netip.Addr{a.primary()}
	}
	return t
}

// dropShared leaves those addresses out of a registration that this machine has as
// well, unless there is no other. Elements of the reference implementation name all
// addresses of their host, docker0's among them. They are not told: what is left is
// what they want, and the reference's registrar leaves out silently, too.
func (r *Registrar) dropShared(a *client, m *asap.Registration) {
	for _, t := range []*rserpool.Transport{&m.Element.UserTransport, &m.Element.ASAPTransport} {
		left := slices.DeleteFunc(slices.Clone(t.Addrs), func(addr netip.Addr) bool { return r.isShared(addr, a.primary()) })
		if len(left) > 0 {
			t.Addrs = left
		}
	}
}

// changes tells an element that its user transport is registered with another
// address than it has asked for. RFC 5352, Section 2.2.3, calls the cause in a
// response that grants a warning. It carries what was asked for, as RFC 5354,
// Section 3.12.4, has it, and after it, of our own accord, what is registered, so
// that the element's log can have both.
func changes(asked, registered *rserpool.PoolElement) []rserpool.Cause {
	if asked.UserTransport.Equal(registered.UserTransport) {
		return nil
	}
	c := *invalidTransport(&asked.UserTransport)
	if len(c.Info) > 0 {
		if b, err := tlv.AppendTransport(c.Info, &registered.UserTransport); err == nil && len(b) <= maxCauseInfo {
			c.Info = b
		}
	}
	return []rserpool.Cause{c}
}

// disparity says where an element wants to be and where it is, for the log; ""
// if that is the same.
func (a *client) disparity(m *asap.Registration) string {
	for _, t := range []*rserpool.Transport{&m.Element.UserTransport, &m.Element.ASAPTransport} {
		for _, addr := range t.Addrs {
			if !a.has(plainAddr(addr)) {
				return fmt.Sprintf("it offers %s, and is seen at %s", addrsText(t.Addrs), addrsText(addrsIn(a.peer)))
			}
		}
	}
	return ""
}
