package registrar

import "net/netip"

// site is where lines come from: an IPv4 address, or an IPv6 network of 64 bits, of which one
// host may have any address.
type site struct {
	at    netip.Prefix
	lines lineCounts
	heard tick // when a message has come last, over any line
}

// sites counts the sites of lines, as guard counts the lines.
type sites struct {
	at      map[netip.Prefix]*site
	missing int // those with a missing line
	heard   int // those that were heard since the guard began
	words   words
}

// minSites is how many sites are many.
const minSites = minLines

// siteOf returns the site of an element's line. It is to be given back with leaveSite.
func (g *guard) siteOf(e *element) *site {
	var addr netip.Addr
	if addrs := e.lineAddrs(); len(addrs) > 0 {
		addr = addrs[0].Addr().Unmap().WithZone("")
	}
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	at, _ := addr.Prefix(bits) // the zero Addr has the zero Prefix
	x := g.sites.at[at]
	if x == nil {
		x = &site{at: at}
		if g.sites.at == nil {
			g.sites.at = make(map[netip.Prefix]*site)
		}
		g.sites.at[at] = x
	}
	return x
}

// leaveSite forgets a site that has no lines any more.
func (g *guard) leaveSite(x *site) {
	if x.lines.all() == 0 {
		delete(g.sites.at, x.at)
	}
}

// lineAddrs returns where the element's line leads to, the primary address first.
func (e *element) lineAddrs() []netip.AddrPort {
	switch {
	case e.assoc != nil:
		return e.assoc.peer
	case len(e.probe.host) > 0:
		return e.probe.host
	}
	return e.probe.to
}

// countAtSite does for the line's site what count does for the line.
func (g *guard) countAtSite(l *line, n int) {
	x := l.site
	g.countSite(x, -1)
	x.lines[l.state] += n
	x.heard = max(x.heard, l.heard)
	g.countSite(x, 1)
}

func (g *guard) countSite(x *site, n int) {
	if x.lines.all() == 0 {
		return
	}
	if g.tick-x.heard < tickWindow {
		g.sites.words[x.heard%tickWindow] += n
	}
	if x.lines[lineMissing] > 0 {
		g.sites.missing += n
	}
	if x.heard > g.began {
		g.sites.heard += n
	}
}

// mostHeard reports whether there are many sites, and more than half of them were heard since
// the guard began.
func (s *sites) mostHeard() bool { return len(s.at) >= minSites && 2*s.heard > len(s.at) }
