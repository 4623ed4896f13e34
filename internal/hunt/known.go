package hunt

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// maxAnnounced bounds the transport addresses learnt by multicast: announces
// are not authenticated.
const maxAnnounced = 64

// announced is a transport address learnt from an ASAP_SERVER_ANNOUNCE.
type announced struct {
	server  rserpool.ServerID
	addr    netip.AddrPort
	tcp     bool
	source  bool      // the announce came from there, so it is the server's own
	expires time.Time // T7-ENRPoutdate
}

// known is the managed list of registrars of RFC 5352, Section 3.6: those
// that are configured, and those that announce themselves.
type known struct {
	configured []rserpool.Registrar
	announced  []announced
	// found are the addresses of configured names, as looked up last.
	found map[string][]rserpool.Registrar
}

// announce handles an ASAP_SERVER_ANNOUNCE that came from an address, and reports whether
// the list has a new registrar. Several registrars may announce one address, such as that
// of docker0. It belongs to the registrar that announces itself from there, or else to
// each of them.
func (k *known) announce(now time.Time, outdate time.Duration, from netip.AddrPort, m *asap.ServerAnnounce) bool {
	k.expire(now)
	grown := false
	note := func(addr netip.AddrPort, tcp bool) {
		a := announced{server: m.Server, addr: addr, tcp: tcp, source: addr.Addr() == from.Addr().Unmap(), expires: now.Add(outdate)}
		other := func(o announced) bool { return o.addr == addr && o.tcp == tcp && o.server != m.Server }
		if a.source {
			k.announced = slices.DeleteFunc(k.announced, other)
		}
		i := slices.IndexFunc(k.announced, func(o announced) bool { return o.addr == addr && o.tcp == tcp && o.server == m.Server })
		switch {
		case slices.ContainsFunc(k.announced, func(o announced) bool { return other(o) && o.source }):
		case i >= 0:
			k.announced[i] = a
		case len(k.announced) < maxAnnounced || a.source && k.makeRoom():
			k.announced = append(k.announced, a)
			grown = true
		}
	}
	for _, t := range m.Transports {
		if t.Type != rserpool.SCTP && t.Type != rserpool.TCP || t.Port == 0 {
			continue
		}
		for _, addr := range t.Addrs {
			if addr.IsUnspecified() {
				addr = from.Addr()
			}
			note(netip.AddrPortFrom(addr.Unmap(), t.Port), t.Type == rserpool.TCP)
		}
	}
	if len(m.Transports) == 0 {
		// RFC 5352, Section 3.6: the source address with the registered
		// port. RSPLIB sends from the port where it takes ASAP, which need
		// not be the registered one.
		note(netip.AddrPortFrom(from.Addr().Unmap(), asap.Port), false)
		if from.Port() != asap.Port {
			note(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), false)
		}
	}
	return grown
}

// makeRoom drops an address from which its registrar has not announced itself, for one
// that does: a sender can announce any number of addresses of others.
func (k *known) makeRoom() bool {
	i := slices.IndexFunc(k.announced, func(a announced) bool { return !a.source })
	if i >= 0 {
		k.announced = slices.Delete(k.announced, i, i+1)
	}
	return i >= 0
}

func (k *known) expire(now time.Time) {
	k.announced = slices.DeleteFunc(k.announced, func(a announced) bool { return !now.Before(a.expires) })
}

// list returns the registrars to try: the configured ones in their order, then the
// announced ones in the order in which they were first heard. Announced addresses of one
// server and port are one registrar; the address from which it announces itself comes
// first.
func (k *known) list(now time.Time) []rserpool.Registrar {
	k.expire(now)
	all := slices.Clone(k.configured)
	index := make(map[string]int)
	for _, a := range k.announced {
		if slices.ContainsFunc(k.configured, func(r rserpool.Registrar) bool {
			return r.TCP == a.tcp && r.Port == a.addr.Port() && slices.Contains(r.Addrs, a.addr.Addr())
		}) {
			continue
		}
		key := fmt.Sprint(a.server, a.addr.Port(), a.tcp)
		i, ok := index[key]
		if !ok || a.server == 0 {
			index[key] = len(all)
			all = append(all, rserpool.Registrar{Addrs: []netip.Addr{a.addr.Addr()}, Port: a.addr.Port(), TCP: a.tcp})
			continue
		}
		if a.source {
			all[i].Addrs = slices.Insert(all[i].Addrs, 0, a.addr.Addr())
		} else {
			all[i].Addrs = append(all[i].Addrs, a.addr.Addr())
		}
	}
	return all
}
