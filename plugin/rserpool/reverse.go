package rserpool

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// reverseZone is what a zone has that names the elements by their addresses.
type reverseZone struct {
	prefix  netip.Prefix
	forward *zone // of the names: the first one of the block
	// index is set before the first query comes.
	index *handlespace.AddrIndex
}

// The ends of the names of reverse zones, and the bits of a label.
const (
	reverse4, bits4 = "in-addr.arpa.", 8
	reverse6, bits6 = "ip6.arpa.", 4
)

func isReverse(z string) bool { return hasSuffixName(z, reverse4) || hasSuffixName(z, reverse6) }

// reversePrefix returns the network of a name in in-addr.arpa or ip6.arpa, or the address, a
// network of all bits. ok is false if the name is none of these, for example because a label has
// a leading zero, or is no number, as in RFC 2317.
func reversePrefix(name string) (p netip.Prefix, ok bool) {
	switch {
	case hasSuffixName(name, reverse4):
		var a [4]byte
		n, ok := reverseLabels(name[:len(name)-len(reverse4)], len(a), func(i int, label string) bool {
			var octet int
			if len(label) > 1 && label[0] == '0' || parseInt(&octet, label, 0, 255) != nil || !ascii.IsDigit(label[0]) {
				return false
			}
			a[i] = byte(octet)
			return true
		})
		return netip.PrefixFrom(netip.AddrFrom4(a), n*bits4), ok
	case hasSuffixName(name, reverse6):
		var a [16]byte
		n, ok := reverseLabels(name[:len(name)-len(reverse6)], 2*len(a), func(i int, label string) bool {
			digit := strings.IndexByte("0123456789abcdef", lowerByte(label[0]))
			if len(label) != 1 || digit < 0 {
				return false
			}
			a[i/2] |= byte(digit) << (4 * (1 - i%2))
			return true
		})
		return netip.PrefixFrom(netip.AddrFrom16(a), n*bits6), ok
	}
	return p, false
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// reverseLabels has set read labels, each with its dot, from the last one to the first; there
// may be most of them. It returns their number.
func reverseLabels(labels string, most int, set func(i int, label string) bool) (n int, ok bool) {
	for labels != "" {
		labels = labels[:len(labels)-1]
		at := strings.LastIndexByte(labels, '.') + 1
		if label := labels[at:]; n == most || label == "" || !set(n, label) {
			return 0, false
		}
		labels = labels[:at]
		n++
	}
	return n, true
}

// reverseName is the reverse of reversePrefix.
func reverseName(p netip.Prefix) string {
	full, _ := dns.ReverseAddr(p.Addr().String())
	for range (p.Addr().BitLen() - p.Bits()) / labelBits(p) {
		_, full, _ = strings.Cut(full, ".")
	}
	return full
}

// parseReverse reads reverse zones, by name or by network.
func (cfg *config) parseReverse(args []string) error {
	for _, arg := range args {
		z, err := parseReverseZone(arg)
		switch {
		case err != nil:
			return err
		case slices.Contains(cfg.reverse, z):
			return fmt.Errorf("zone %s is listed twice", z)
		}
		cfg.reverse = append(cfg.reverse, z)
	}
	return nil
}

func parseReverseZone(arg string) (string, error) {
	if p, err := netip.ParsePrefix(arg); err == nil {
		switch {
		case p != p.Masked():
			return "", hostBits(p)
		case p.Bits()%labelBits(p) != 0 || p.IsSingleIP():
			return "", fmt.Errorf("%s has no reverse zone of its own, and parts of a zone are not supported; use %s", arg, wholeNetworks(p))
		}
		return reverseName(p), nil
	}
	z, ok := canonicalName(arg)
	if !ok || !isReverseZone(z) {
		return "", fmt.Errorf("%q is not a reverse zone, such as 2.0.192.in-addr.arpa, 8.b.d.0.1.0.0.2.ip6.arpa or 192.0.2.0/24; zones as in RFC 2317 are not supported", arg)
	}
	return z, nil
}

func isReverseZone(z string) bool {
	p, ok := reversePrefix(z)
	return ok && !p.IsSingleIP()
}

// labelBits returns the bits of a label in the names of p's family.
func labelBits(p netip.Prefix) int {
	if p.Addr().Is4() {
		return bits4
	}
	return bits6
}

// wholeNetworks names networks with reverse zones to use for p, which has none: the one that contains p, and
// those in it.
func wholeNetworks(p netip.Prefix) string {
	per := labelBits(p)
	above := netip.PrefixFrom(p.Addr(), (p.Bits()-1)/per*per).Masked()
	below := netip.PrefixFrom(p.Addr(), above.Bits()+per)
	parts := fmt.Sprintf("the networks of %d bits in it, such as %s", below.Bits(), below)
	switch {
	case above.Bits() == 0: // it would be all addresses
		return parts
	case below.IsSingleIP():
		return above.String()
	}
	return above.String() + ", or " + parts
}

// wholeZone returns the network of the reverse zone of which z, a name in in-addr.arpa or ip6.arpa, is a part that
// is not supported. part is false if z is such a zone itself.
func wholeZone(z string) (whole netip.Prefix, part bool) {
	for !isReverseZone(z) {
		part = true
		_, z, _ = strings.Cut(z, ".")
	}
	whole, _ = reversePrefix(z)
	return whole, part
}

// checkReverse refuses reverse zones that never get a query, and those of the server block that are
// not served.
func (cfg *config) checkReverse(keys []string) error {
	origins := plugin.OriginsFromArgsOrServerBlock(nil, keys)
	for _, z := range cfg.reverse {
		if len(keys) > 0 && !slices.ContainsFunc(origins, func(o string) bool { return hasSuffixName(z, strings.ToLower(o)) }) {
			return fmt.Errorf("reverse: no query for %s reaches this server block; add it to the first line of the block: %s", z, keysBeside(keys, z))
		}
	}
	var missing []string
	for _, z := range cfg.reverseKeys {
		if slices.ContainsFunc(cfg.reverse, func(o string) bool { return hasSuffixName(o, z) || hasSuffixName(z, o) }) {
			continue
		}
		if whole, part := wholeZone(z); part {
			return fmt.Errorf("%s is a part of a reverse zone, and parts are not supported; in the first line of the block, write %s in its place, and add the line: reverse %s; or name the zones of the pools: rserpool %s",
				z, keysBeside(keys, whole.String()), whole, strings.Join(cfg.zones, " "))
		}
		missing = append(missing, z)
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s is a reverse zone; add the line: reverse %s; or name the zones of the pools: rserpool %s", missing[0], strings.Join(missing, " "), strings.Join(cfg.zones, " "))
	}
	return nil
}

// newReverseZone makes a reverse zone. Its name servers are those of the zone of the names.
func newReverseZone(name string, forward *zone) zone {
	p, _ := reversePrefix(name)
	z := zone{name: name, mbox: forward.mbox, servers: slices.Clone(forward.servers), pools: forward.pools, reverse: &reverseZone{prefix: p}}
	for i := range z.servers {
		z.servers[i].inZone = hasSuffixName(z.servers[i].name, name)
	}
	return z
}

// indexAddrs has the reverse zones find elements from now on, until end is called.
func (h *Handler) indexAddrs() (end func()) {
	var prefixes []netip.Prefix
	for i := range h.zones {
		if r := h.zones[i].reverse; r != nil {
			prefixes = append(prefixes, r.prefix)
		}
	}
	if len(prefixes) == 0 {
		return func() {}
	}
	index := h.registrar.Space().IndexAddrs(prefixes)
	for i := range h.zones {
		if r := h.zones[i].reverse; r != nil {
			r.index = index
		}
	}
	return index.Close
}

// findReverse finds the node of qname, a name in a reverse zone.
func (z *zone) findReverse(qname string) node {
	if ns := z.server(qname); ns != nil {
		return node{kind: nodeServer, server: ns}
	}
	p, ok := reversePrefix(qname)
	switch {
	case ok && p == z.reverse.prefix:
		return node{kind: nodeApex}
	case ok && p.IsSingleIP() && z.reverse.index.Any(p):
		return node{kind: nodeAddress}
	case ok && !p.IsSingleIP() && z.reverse.index.Any(p), z.aboveServer(qname):
		return node{kind: nodeEmpty}
	}
	return node{}
}

// addElementNames adds the PTR records of an address: the names of the elements that have it, at
// most as many as an SRV answer has.
func (q *query) addElementNames(rep *reply) {
	at, _ := reversePrefix(q.name)
	forward, ttl := q.zone.reverse.forward, q.ttl
	var names []string
	for _, h := range q.zone.reverse.index.Lookup(nil, at.Addr()) {
		if pool := q.zones.ownName(forward, q.space, h.Pool, ""); hasElementNames(pool) {
			names = append(names, elementName(h.Element.ID, pool))
			ttl = min(ttl, q.lifetime(h.Element))
		}
	}
	slices.Sort(names)
	for _, name := range names[:min(len(names), q.answers)] {
		rep.msg.Answer = append(rep.msg.Answer, pointer(q.name, ttl, name))
	}
}

func pointer(owner string, ttl uint32, target string) dns.RR {
	return &dns.PTR{Hdr: header(owner, dns.TypePTR, ttl), Ptr: target}
}

// addReverse adds the records of a reverse zone.
func (x *zoneCopy) addReverse() {
	type named struct {
		addr netip.Addr
		name string
	}
	var all []named
	forward := &zoneCopy{Handler: x.Handler, zone: x.zone.reverse.forward, snapshot: x.snapshot}
	for p := range x.snapshot.Pools() {
		c := forward.copyOf(p)
		if c == nil || !hasElementNames(c.name) {
			continue
		}
		for _, e := range c.Elements {
			for _, a := range unique(e.UserTransport.Addrs) {
				if x.zone.reverse.prefix.Contains(a) && x.zones.match(reverseName(netip.PrefixFrom(a, a.BitLen())), dns.TypePTR) == x.zone {
					all = append(all, named{a, elementName(e.ID, c.name)})
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b named) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.name, b.name))
	})
	ttl, n := x.pools.blockOptions.ttl, 0
	for i, r := range all {
		if n++; i == 0 || r.addr != all[i-1].addr {
			n = 1
		}
		if n <= min(x.pools.blockOptions.answers, maxAnswers) {
			x.add(pointer(reverseName(netip.PrefixFrom(r.addr, r.addr.BitLen())), ttl, r.name))
		}
		if x.broken {
			return
		}
	}
}
