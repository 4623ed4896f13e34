package rserpool

import (
	"maps"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// The records of a copy that only configured pools have.

// addConfigured adds the records that the options of a pool ask for.
func (x *zoneCopy) addConfigured(p *poolCopy) {
	x.addTexts(p.name, p.poolOptions)
	if t, ok := x.instanceOf(p); ok {
		name, _ := instanceName(p.Pool.Handle(), t, x.zone.name)
		if x.addTexts(name, p.poolOptions); len(p.txt) == 0 {
			x.add(noText(name, p.ttl))
		}
		if x.instances == nil {
			x.instances = make(map[serviceType][]rsp.PoolHandle)
		}
		x.instances[t] = append(x.instances[t], p.Pool.Handle())
	}
	if hasElementNames(p.name) {
		x.addBindings(p)
	}
}

func (x *zoneCopy) addTexts(owner string, o *poolOptions) {
	for _, text := range o.txt {
		x.add(&dns.TXT{Hdr: header(owner, dns.TypeTXT, o.ttl), Txt: text})
	}
}

// instanceOf returns the service type of which a pool is an instance of DNS-SD. Of pools whose
// handles differ in case only, it is the one that has the name. The instance * would be a wildcard.
func (x *zoneCopy) instanceOf(p *poolCopy) (t serviceType, ok bool) {
	h := p.Pool.Handle()
	if t = p.typeOf(p.Pool); t.service == "" || h == "*" || ascii.HasUpper(string(h)) && x.snapshot.Lookup(string(h)) != p.PoolSnapshot {
		return t, false
	}
	_, ok = instanceName(h, t, x.zone.name)
	return t, ok
}

// serviceOwners returns the names of a pool's SRV records. If its services are not named, they
// are a wildcard (RFC 4592).
func (x *zoneCopy) serviceOwners(p *poolCopy) []string {
	owners := []string{p.name}
	if t, ok := x.instanceOf(p); ok {
		name, _ := instanceName(p.Pool.Handle(), t, x.zone.name)
		owners = append(owners, name)
	}
	t := transportOf(p.Pool)
	if !slices.Contains(protocols[:], t) {
		return owners
	}
	labels := p.serviceLabels()
	if len(labels) == 0 {
		labels = []string{"*"}
	}
	for _, label := range labels {
		owners = appendName(owners, label+"._"+t.String()+"."+p.name)
	}
	return owners
}

// appendName appends a name, if it is short enough for DNS.
func appendName(names []string, name string) []string {
	if wireLen(name) > maxName {
		return names
	}
	return append(names, name)
}

// addBindings adds the SVCB and HTTPS records of a pool. Names with the port of a URL are
// wildcards.
func (x *zoneCopy) addBindings(p *poolCopy) {
	t := transportOf(p.Pool)
	if b := p.https; b != nil && b.suits(t) {
		x.addBinding(p, b, appendName([]string{p.name}, "*."+b.scheme+"."+p.name))
	}
	for _, b := range p.svcb {
		if b.suits(t) {
			name := b.scheme + "." + p.name
			x.addBinding(p, b, appendName(appendName(nil, name), "*."+name))
		}
	}
}

// addBinding adds the records of a binding. Elements of the same rank have the same SvcPriority,
// of which clients choose at random (RFC 9460, Section 2.4.1).
func (x *zoneCopy) addBinding(p *poolCopy, b *binding, owners []string) {
	set := p.Set(p.answers, bothFamilies)
	for _, owner := range owners {
		ranks := newRanking(p.srv, p.Pool.Policy(), set)
		for i, s := range set {
			rank, _ := ranks.of(i)
			x.add(b.record(new(bindingRecord), owner, p.ttl, rank+1, s.Element, elementName(s.ID, p.name)))
		}
	}
}

// addBrowsing adds the names for browsing (RFC 6763), after all pools.
func (x *zoneCopy) addBrowsing() {
	if x.zone.pools.browser == nil {
		return
	}
	o, domain := x.pools.blockOptions, below(browseLabel+"._udp", x.zone.name)
	for _, label := range [...]string{"b", "db", "lb"} {
		x.add(pointer(below(label, domain), o.ttl, x.zone.name))
	}
	types := slices.SortedFunc(maps.Keys(x.instances), compareTypes)
	for _, t := range types {
		owner := below(t.labels(), x.zone.name)
		x.add(pointer(below("_services", domain), o.ttl, owner))
		slices.Sort(x.instances[t])
		for _, h := range x.instances[t][:min(len(x.instances[t]), o.answers)] {
			name, _ := instanceName(h, t, x.zone.name)
			x.add(pointer(owner, o.ttl, name))
		}
	}
}

// addDeclared adds the declared pools that have no elements: their TXT records, and a name below
// them, so that they exist.
func (x *zoneCopy) addDeclared() {
	for _, handle := range slices.Sorted(maps.Keys(x.zone.pools.empty)) {
		o := x.zone.pools.empty[handle]
		name, ok := plainName(handle, x.zone.name)
		if !ok || x.find(handle) != nil || x.zone.server(name) != nil || x.zones.match(name, dns.TypeA) != x.zone || hasLabel(handle, "*") {
			continue
		}
		x.addTexts(name, o)
		x.addInfo(name, o.ttl, declaredText(o))
	}
}

func hasLabel(handle, label string) bool { return slices.Contains(strings.Split(handle, "."), label) }

// configured reports whether the labels have the form of a name at or below one that the options
// give a meaning: _scheme.<pool>, or a name for browsing.
func (x *zoneCopy) configured(labels []string) bool {
	if b := x.zone.pools.browser; b != nil {
		proto, rest := labels[len(labels)-1], labels[:len(labels)-1]
		if t := protocol([]byte(proto)); t == rsp.TCP || t == rsp.UDP {
			if len(rest) == 0 || ascii.EqualFold(rest[len(rest)-1], browseLabel) || slices.Contains(b.services, ascii.Fold(rest[len(rest)-1])) {
				return true
			}
		}
	}
	for i := range len(labels) - 1 {
		if !strings.HasPrefix(labels[i], "_") {
			continue
		}
		if p := x.find(strings.Join(labels[i+1:], ".")); p != nil && x.optionsOf(p.Pool).bindingOf([]byte(labels[i]), p.Pool) != nil {
			return true
		}
	}
	return false
}
