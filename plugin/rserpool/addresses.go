package rserpool

import (
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// maxAddresses is the most elements in an address answer, unless it has the pool as a set.
const maxAddresses = 16

// addAddresses adds the addresses of one family of the elements that the
// pool's policy selects.
func (q *query) addAddresses(rep *reply, f handlespace.Families) {
	k := lookup.A
	if f == handlespace.IPv6 {
		k = lookup.AAAA
	}
	var buf [maxAddresses]*handlespace.Element
	var elements []*handlespace.Element
	if q.addresses == allAddresses {
		elements = q.pickAddresses(rep, k, f)
	} else {
		elements = q.pick(buf[:0], k, f)
	}
	ttl := q.lifetime(elements...)
	rep.mark(len(elements))
	var seen map[netip.Addr]bool // faster for many
	if len(elements) > maxAddresses {
		seen = make(map[netip.Addr]bool, len(elements))
	}
	for i, e := range elements {
		var addrs []netip.Addr
		if seen == nil {
			addrs = newAddrs(e, elements[:i])
		} else {
			addrs = unseen(seen, e.UserTransport.Addrs)
		}
		rep.msg.Answer = rep.addresses.append(rep.msg.Answer, q.name, ttl, addrs, f)
		rep.element()
	}
}

// unseen returns the addresses that are not in seen, and adds them.
func unseen(seen map[netip.Addr]bool, addrs []netip.Addr) []netip.Addr {
	if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return seen[a] }) {
		addrs = slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return seen[a] })
	}
	for _, a := range addrs {
		seen[a] = true
	}
	return addrs
}

// newAddrs returns the addresses of an element that none of the others has: elements on one
// host have the same, and a set of records has each once (RFC 2181, Section 5).
func newAddrs(e *handlespace.Element, others []*handlespace.Element) []netip.Addr {
	addrs := e.UserTransport.Addrs
	for _, o := range others {
		for _, a := range o.UserTransport.Addrs {
			if slices.Contains(addrs, a) {
				addrs = slices.DeleteFunc(slices.Clone(addrs), func(b netip.Addr) bool { return a == b })
			}
		}
	}
	return addrs
}

// pickAddresses returns the pool as a set, as for a question for SRV records, as far as the
// answer has room for one address of each element.
func (q *query) pickAddresses(rep *reply, k lookup.Kind, f handlespace.Families) []*handlespace.Element {
	const record = 2 + 10
	address := 4
	if f == handlespace.IPv6 {
		address = 16
	}
	room := q.roomFor(rep, record+address)
	set, more := q.pickSet(k, min(q.answers, room), q.answers)
	rep.msg.Truncated = more && room < q.answers
	return elementsOf(set)
}
