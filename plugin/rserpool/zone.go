package rserpool

import (
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// zone is a zone that shows the handlespace.
type zone struct {
	name string // fully qualified, in lower case
	// elsewhere: another block of the Corefile has it, so that here it is a delegation. Then it has
	// nothing else but name servers.
	elsewhere bool
	mbox      string
	// servers are its name servers, the primary one first; at least one.
	servers []nameserver
	// pools are the options of its pools.
	pools *poolTable
	// reverse: it names elements by their addresses; nil if it names pools.
	reverse *reverseZone
	// signature is the octets of the signatures of an RRset, 0 if the zone is not signed; signedBy is the
	// name that they have.
	signature int
	signedBy  string
}

// nameserver is a name server of a zone.
type nameserver struct {
	name string // fully qualified
	// inZone: the name lies in the zone, which then has its address records.
	inZone bool
	addrs  []netip.Addr
}

// newZone makes a zone. Without servers its name server is ns.dns.<zone> at the addresses
// own.
func newZone(name string, servers []nameserver, own []netip.Addr, pools *poolTable) zone {
	z := zone{name: name, mbox: below("hostmaster", name), servers: slices.Clone(servers), pools: pools}
	if len(servers) == 0 {
		z.servers = []nameserver{{name: below("ns.dns", name)}}
	}
	for i := range z.servers {
		s := &z.servers[i]
		s.inZone = hasSuffixName(s.name, name)
		if len(s.addrs) == 0 {
			s.addrs = own
		}
	}
	return z
}

func below(labels, zone string) string {
	if zone == "." {
		return labels + "."
	}
	return labels + "." + zone
}

// relative returns the labels of qname, a name in z, before the zone's, each
// with its dot.
func (z *zone) relative(qname string) string {
	if z.name == "." {
		if qname == "." {
			return ""
		}
		return qname
	}
	return qname[:len(qname)-len(z.name)]
}

// apexOf returns the zone's name as qname spells it.
func (z *zone) apexOf(qname string) string { return qname[len(qname)-len(z.name):] }

// server returns the name server called qname if its name lies in the zone, else nil.
func (z *zone) server(qname string) *nameserver {
	for i := range z.servers {
		if s := &z.servers[i]; s.inZone && ascii.EqualFold(qname, s.name) {
			return s
		}
	}
	return nil
}

// aboveServer reports whether a name server of the zone lies below qname.
func (z *zone) aboveServer(qname string) bool {
	return slices.ContainsFunc(z.servers, func(s nameserver) bool {
		return s.inZone && len(s.name) > len(qname) && hasSuffixName(s.name, qname)
	})
}

// zones are the zones of a handler: its own, and then those of other blocks that lie below these.
type zones []zone

// of returns the zone of a query, nil if there is none.
func (zs zones) of(r *dns.Msg) *zone {
	if len(r.Question) == 0 {
		return nil
	}
	return zs.match(r.Question[0].Name, r.Question[0].Qtype)
}

// match returns the most specific zone that has the records of a type at qname, nil if there
// is none. The DS records of a zone are in its parent, if that is one of these zones.
func (zs zones) match(qname string, qtype uint16) *zone {
	var best, child *zone
	for i := range zs {
		z := &zs[i]
		switch {
		case !hasSuffixName(qname, z.name):
		case qtype == dns.TypeDS && len(z.name) == len(qname):
			child = z
		case best == nil || len(z.name) > len(best.name):
			best = z
		}
	}
	if best == nil {
		return child
	}
	return best
}

// named returns the zone of that name, nil if there is none.
func (zs zones) named(name string) *zone {
	for i := range zs {
		if ascii.EqualFold(zs[i].name, name) {
			return &zs[i]
		}
	}
	return nil
}

// parent returns the zone next above another one of these, nil if there is none.
func (zs zones) parent(child *zone) *zone {
	if p := zs.match(child.name, dns.TypeDS); p != child {
		return p
	}
	return nil
}

// nest adapts the node of qname, a name in z, to the zones below z. Their names, and the names above
// those, exist in z (RFC 4592, Section 2.2.2). The name of another zone is nothing but that, even
// if there is a pool with this handle.
func (zs zones) nest(n *node, z *zone, qname string) {
	switch {
	case zs.delegates(z, qname): // asked for the DS records of a child
		*n = node{kind: nodeChild, options: z.pools.blockOptions}
	case n.kind == nodeNone && zs.above(qname):
		n.kind = nodeEmpty
	}
}

// above reports whether another zone of these lies below qname.
func (zs zones) above(qname string) bool {
	return slices.ContainsFunc(zs, func(z zone) bool {
		return len(z.name) > len(qname) && hasSuffixName(z.name, qname)
	})
}

// delegates reports whether qname, a name in z, is another zone of these.
func (zs zones) delegates(z *zone, qname string) bool {
	for i := range zs {
		if o := &zs[i]; o != z && ascii.EqualFold(o.name, qname) {
			return true
		}
	}
	return false
}

// ownAddrs returns the addresses at which clients reach this server: those to which it is
// bound, or else those of the machine that other machines can reach (not those of a bridge
// such as docker0), or else loopback addresses.
func ownAddrs(listenHosts []string) []netip.Addr {
	var all []netip.Addr
	for _, h := range listenHosts {
		if a, err := netip.ParseAddr(h); err == nil && !a.IsUnspecified() {
			all = append(all, a.Unmap().WithZone(""))
		}
	}
	if len(all) == 0 {
		all = localaddr.Reachable()
	}
	if len(all) == 0 {
		ifaddrs, err := net.InterfaceAddrs()
		if err != nil {
			return nil
		}
		for _, a := range ifaddrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				all = append(all, p.Addr().Unmap())
			}
		}
	}
	public := slices.DeleteFunc(slices.Clone(all), func(a netip.Addr) bool { return !a.IsGlobalUnicast() })
	if len(public) > 0 {
		return public
	}
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return !a.IsLoopback() })
}

// canonicalName returns name fully qualified, in lower case, and escaped as names from the
// wire are, so that the two can be compared. ok is false if it is not a domain name.
func canonicalName(name string) (_ string, ok bool) {
	var buf [maxName + 1]byte
	n, err := dns.PackDomainName(dns.Fqdn(name), buf[:], 0, nil, false)
	if err != nil || n > maxName {
		return "", false
	}
	s, _, err := dns.UnpackDomainName(buf[:n], 0)
	return strings.ToLower(s), err == nil
}
