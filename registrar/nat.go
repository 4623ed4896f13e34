package registrar

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// An element behind an address translation (NAT), for instance in a container, offers
// addresses that mean nothing outside, or another host (RFC 6951, Section 5.7). SCTP in
// UDP passes such a translation, and shows the address that the packets come from. If
// none of the addresses that the element offers belongs to the association, the
// registrar registers that address instead, with the element's ports. The operator of
// the element has to forward them. The association has proved the address, so no one
// can register an address of another host.
//
// SCTP without UDP gets no such treatment: if it passes a translation at all, no
// association of the registrar could pass it in the other direction.

// translated reports whether the address that the association comes from replaces the
// transport's addresses.
func (a *client) translated(t *rserpool.Transport) bool {
	seen := a.primary()
	if !a.inUDP() || !seen.IsValid() || seen.IsLoopback() || seen.IsLinkLocalUnicast() {
		return false
	}
	family := false // a server without an address of the family does not listen there
	for _, addr := range t.Addrs {
		addr = plainAddr(addr)
		if !usable(addr, seen) || a.lists(addr) {
			return false
		}
		family = family || addr.Is4() == seen.Is4()
	}
	return family && len(t.Addrs) <= maxPeerAddrs
}

// translate returns a transport as it is registered.
func (a *client) translate(t rserpool.Transport) rserpool.Transport {
	if t.Type != rserpool.Opaque && t.Present() && a.translated(&t) {
		t.Addrs = []netip.Addr{a.primary()}
	}
	return t
}

// dropShared takes the addresses that this machine has as well out of a registration,
// unless there are no others. Elements of the reference implementation name all
// addresses of their host, including that of docker0. They get no warning: the other
// addresses are what they want, and the registrar of the reference implementation drops
// addresses silently, too.
func (r *Registrar) dropShared(a *client, m *asap.Registration) {
	for _, t := range []*rserpool.Transport{&m.Element.UserTransport, &m.Element.ASAPTransport} {
		left := slices.DeleteFunc(slices.Clone(t.Addrs), func(addr netip.Addr) bool { return r.isShared(addr, a.primary()) })
		if len(left) > 0 {
			t.Addrs = left
		}
	}
}

// changes returns the warning for an element whose user transport is registered with
// another address than it has asked for. RFC 5352, Section 2.2.3, calls a cause in a
// response that grants a warning. The cause carries the requested transport (RFC 5354,
// Section 3.12.4) and then, beyond the RFC, the registered one, so that the element can
// log both.
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

// disparity describes for the log where an element wants to be and where it is; "" if
// that is the same.
func (a *client) disparity(m *asap.Registration) string {
	for _, t := range []*rserpool.Transport{&m.Element.UserTransport, &m.Element.ASAPTransport} {
		for _, addr := range t.Addrs {
			if !a.has(plainAddr(addr)) {
				return fmt.Sprintf("it offers %s, and its packets come from %s", addrsText(t.Addrs), addrsText(addrsIn(a.peer)))
			}
		}
	}
	return ""
}
