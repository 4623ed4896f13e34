package rserpool

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	coreparse "github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"
)

// The zones of a Corefile's other blocks are delegations in the zones above them. CoreDNS sends
// queries for the DS records of such a zone to the block above. Without the delegation, a signed
// zone would prove that the lower zone does not exist, and a secondary of the upper zone would
// deny its names.

// block is a directive as the other blocks of the Corefile see it.
type block struct {
	zones  zones
	config *dnsserver.Config
	keys   []string // the zones of the server block
	ports  []string // those of plain DNS
}

// blocks are the directives of one Corefile. They are complete when CoreDNS starts to serve it.
type blocks []*block

// blocksKey is where a CoreDNS instance stores its *blocks.
type blocksKey struct{}

func blocksOf(c *caddy.Controller) *blocks {
	if all, ok := c.Get(blocksKey{}).(*blocks); ok {
		return all
	}
	all := new(blocks)
	c.Set(blocksKey{}, all)
	return all
}

// newBlock describes the directive that c reads.
func newBlock(c *caddy.Controller, zs zones) *block {
	b := &block{zones: zs, config: dnsserver.GetConfig(c)}
	for _, o := range plugin.OriginsFromArgsOrServerBlock(nil, c.ServerBlockKeys) {
		b.keys = append(b.keys, strings.ToLower(o))
	}
	for _, k := range c.ServerBlockKeys {
		if protocol, rest := coreparse.Transport(k); protocol == transport.DNS {
			_, port, _ := plugin.SplitHostPort(rest)
			b.ports = append(b.ports, cmp.Or(port, dnsserver.Port))
		}
	}
	return b
}

// leadsTo reports whether clients of b that follow the name server records of other come to it. These
// have no port: it is that of DNS, or the one at which the client asks b. A view answers only some
// clients; the others would come back to b.
func (b *block) leadsTo(other *block) bool {
	if v := other.config.ViewName; v != "" && v != b.config.ViewName {
		return false
	}
	return slices.ContainsFunc(other.ports, func(p string) bool { return p == transport.Port || slices.Contains(b.ports, p) })
}

// serves reports whether queries for the name of the zone reach the block.
func (b *block) serves(z *zone) bool {
	return slices.ContainsFunc(b.keys, func(key string) bool { return hasSuffixName(z.name, key) })
}

// listensWith reports whether both blocks serve at one address, whatever the ports.
func (b *block) listensWith(other *block) bool {
	everywhere := func(h string) bool {
		addr, err := netip.ParseAddr(h)
		return h == "" || err == nil && addr.IsUnspecified()
	}
	return slices.ContainsFunc(b.config.ListenHosts, func(h string) bool {
		return slices.ContainsFunc(other.config.ListenHosts, func(o string) bool { return h == o || everywhere(h) || everywhere(o) })
	})
}

// below returns the zones of other blocks that lie below one of b, and that b does not have. If several
// blocks have one, clients are led to those at the addresses of b, or else to all.
func (bs blocks) below(b *block) (found zones) {
	for _, near := range [...]bool{true, false} {
		had := found
		for _, other := range bs {
			if other == b || !b.leadsTo(other) || other.listensWith(b) != near {
				continue
			}
			for i := range other.zones {
				z := &other.zones[i]
				if other.serves(z) && b.zones.match(z.name, dns.TypeNone) != nil && b.zones.named(z.name) == nil && had.named(z.name) == nil {
					found = found.delegate(z)
				}
			}
		}
	}
	return found
}

// delegate adds the delegation of a zone, or further name servers of it.
func (zs zones) delegate(z *zone) zones {
	d := zs.named(z.name)
	if d == nil {
		zs = append(slices.Clip(zs), zone{name: z.name, elsewhere: true})
		d = &zs[len(zs)-1]
	}
	for _, s := range z.servers {
		at := slices.IndexFunc(d.servers, func(o nameserver) bool { return o.name == s.name })
		if at < 0 {
			at = len(d.servers)
			d.servers = append(d.servers, nameserver{name: s.name, inZone: s.inZone})
		}
		d.servers[at].addrs = unique(slices.Concat(d.servers[at].addrs, s.addrs))
	}
	return zs
}

// own returns the zones that are no delegations. They are the first ones.
func (zs zones) own() zones {
	if at := slices.IndexFunc(zs, func(z zone) bool { return z.elsewhere }); at >= 0 {
		return zs[:at]
	}
	return zs
}

// setZones sets the zones of the block, the own ones first. To be called before the first query comes.
func (h *Handler) setZones(zs zones) {
	h.zones = zs
	for i := range zs {
		if r := zs[i].reverse; r != nil {
			r.forward = &zs[0] // where it stays
		}
	}
}

// refer answers a question for a name in a zone of another block: the name servers of that zone know.
func (h *Handler) refer(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, z *zone, count *serverCounters) (int, error) {
	qname := r.Question[0].Name
	if h.Fall.Through(qname) {
		count.answer(answerFallthrough)
		return plugin.NextOrFailure(h.Name(), h.Next, ctx, w, r)
	}
	var rep reply
	rep.start(r)
	rep.msg.Authoritative = false
	owner, ttl := z.apexOf(qname), h.pools.blockOptions.ttl
	for i := range z.servers {
		s := &z.servers[i]
		rep.msg.Ns = append(rep.msg.Ns, &dns.NS{Hdr: header(owner, dns.TypeNS, ttl), Ns: s.name})
		if s.inZone { // otherwise the zone of the name has them
			rep.glue(s.name, ttl, s.addrs)
		}
	}
	count.answer(answerReferral)
	if err := w.WriteMsg(&rep.msg); err != nil { // the server sets TC if addresses do not fit (RFC 9471)
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil
}
