package rserpool

import (
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// selections are rooms for sets, used again because they are not part of the answers.
var selections = sync.Pool{New: func() any { return new([]handlespace.Selected) }}

// pick appends to dst the elements of the client's lookup of the node's pool, at most
// q.selected(). The policy selects, and its state moves, once in each lookup.
func (q *query) pick(dst []*handlespace.Element, k lookup.Kind, f handlespace.Families) []*handlespace.Element {
	c := originOf(q.w)
	if strings.HasPrefix(q.count.server, transport.QUIC) {
		c.Request = nil // all questions of a connection have the same address
	}
	dst, reused := q.lookups.Pick(dst, &c, q.node.pool, k, f, q.selected(), q.now)
	q.count.selection(reused)
	if q.trace != nil {
		for _, e := range dst {
			q.picked = append(q.picked, e.ID)
		}
	}
	return dst
}

// pickSet returns at most n elements of the node's pool, for a question about the set, of which
// a response without a limit of its length has most. The first one is that of the client's
// lookup.
func (q *query) pickSet(k lookup.Kind, n, most int) (set []handlespace.Selected, more bool) {
	c := originOf(q.w)
	want := lookup.Wanted{Pool: q.node.pool, Families: k.Families(), N: uint16(n), View: viewOf(c.Addr)}
	if !c.TCP && n < most && n < want.Pool.Len() {
		want.Whole = uint16(most)
	}
	q.room = selections.Get().(*[]handlespace.Selected)
	want.Room = (*q.room)[:0]
	set, more, reused := q.lookups.PickSet(&c, k, &want, q.now)
	*q.room = set
	q.count.selection(reused)
	if q.trace != nil {
		for _, s := range set {
			q.picked = append(q.picked, s.ID)
		}
	}
	return set, more
}

// elementsOf returns the elements of a set.
func elementsOf(set []handlespace.Selected) []*handlespace.Element {
	elements := make([]*handlespace.Element, 0, len(set))
	for _, s := range set {
		elements = append(elements, s.Element)
	}
	return elements
}

// originOf returns where a question comes from.
func originOf(w dns.ResponseWriter) (c lookup.Origin) {
	addr, wrapped := unwrap(w.RemoteAddr())
	switch a := addr.(type) {
	case *net.UDPAddr:
		c.Addr, c.Port = ipOf(a.IP, a.Zone), uint16(a.Port)
		if !wrapped { // the datagrams of a proxy may share an address
			c.Request = a
		}
	case *net.TCPAddr:
		c.Addr, c.Port, c.TCP = ipOf(a.IP, a.Zone), uint16(a.Port), true
	case nil:
	default:
		ap, _ := netip.ParseAddrPort(a.String())
		c.Addr, c.Port = ap.Addr().Unmap(), ap.Port()
	}
	return c
}

// unwrap returns the address in one of the PROXY protocol, as request.Proto reads it.
func unwrap(a net.Addr) (_ net.Addr, wrapped bool) {
	if w, ok := a.(interface{ Unwrap() net.Addr }); ok {
		if inner := w.Unwrap(); inner != nil {
			return inner, true
		}
	}
	return a, false
}

func ipOf(ip net.IP, zone string) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if zone != "" {
		a = a.WithZone(zone)
	}
	return a
}
