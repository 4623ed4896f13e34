package rserpool

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// transferBatch is the number of records that are handed over at once.
const transferBatch = 256

// zoneCopy makes all records of a zone at one moment, for secondaries: the answers to all
// questions, as far as records that do not change can give them.
type zoneCopy struct {
	*Handler
	zone     *zone
	snapshot *handlespace.Snapshot

	out   chan []dns.RR
	batch []dns.RR
	// addresses and services are room for records, which are made many at a time.
	addresses addressRecords
	services  []dns.SRV
	set       copySet
	timer     *time.Timer
	waited    time.Duration // for the reader
	broken    bool          // the reader has gone
	// instances are the pools that are instances of DNS-SD, by type.
	instances map[serviceType][]rsp.PoolHandle
}

func newZoneCopy(h *Handler, z *zone, s *handlespace.Snapshot) *zoneCopy {
	return &zoneCopy{Handler: h, zone: z, snapshot: s, out: make(chan []dns.RR), batch: make([]dns.RR, 0, transferBatch), addresses: addressRecords{n: transferBatch}, timer: time.NewTimer(transferPatience)}
}

// poolCopy is a pool in a zoneCopy.
type poolCopy struct {
	*handlespace.PoolSnapshot
	*poolOptions
	// name is the only name of the pool in the copy, fully qualified. It stands for no other
	// pool, element or service.
	name string
}

// addPool adds all records of a pool. Records of other types go here, or into
// addConfigured.
func (x *zoneCopy) addPool(p *poolCopy) {
	any := x.addPoolAddresses(p, handlespace.IPv4)
	any = x.addPoolAddresses(p, handlespace.IPv6) || any
	if !any {
		x.addInfo(p.name, p.ttl, poolText(p.Pool, len(p.Elements)))
	}
	x.addConfigured(p)
	if !hasElementNames(p.name) {
		return
	}
	x.addPoolServices(p)
	x.addNAPTR(p)
	for some := range slices.Chunk(p.Elements, transferBatch) {
		names := newElementNames(len(some), func(i int) rsp.PEID { return some[i].ID }, p.name)
		for i, e := range some {
			x.addElement(p, e, names.of(i))
			if x.broken {
				return
			}
		}
	}
}

// addInfo adds information below a name that has no records, so that the name exists. Other
// names do without: it describes this server at this moment. The clients of a secondary are not
// those that may read it.
func (x *zoneCopy) addInfo(name string, ttl uint32, text []string) {
	switch owner := infoLabel + "." + name; {
	case wireLen(owner) > maxName:
	case x.inspect != nil:
		x.add(noText(owner, ttl))
	default:
		x.add(&dns.TXT{Hdr: header(owner, dns.TypeTXT, ttl), Txt: text})
	}
}

// copySet is the set of records to which the latest one belongs.
type copySet struct {
	owner  string
	rrtype uint16
	room   int    // octets
	first  dns.RR // it does not count yet
}

// maxSet is what the records of a set may have, in octets, so that an answer by TCP can have them
// all. BIND refuses a zone that has a longer set.
const maxSet = dns.MaxMsgSize - 12 - maxName - 4

// admits reports whether there is room for another record in its set.
func (c *copySet) admits(rr dns.RR) bool {
	h := rr.Header()
	if h.Rrtype != c.rrtype || h.Name != c.owner {
		*c = copySet{h.Name, h.Rrtype, maxSet, rr}
		return true
	}
	if c.first != nil { // most sets have one record
		c.room, c.first = c.room-setLen(c.first), nil
	}
	c.room -= setLen(rr)
	return c.room >= 0
}

// setLen returns the octets of a record whose owner is a pointer.
func setLen(rr dns.RR) int { return dns.Len(rr) - wireLen(rr.Header().Name) + 2 }

// add adds a record, unless its set would be too long.
func (x *zoneCopy) add(rr dns.RR) {
	if !x.set.admits(rr) {
		return
	}
	x.batch = append(x.batch, rr)
	if len(x.batch) >= transferBatch {
		x.flush()
	}
}

// addService adds an SRV record. These records are made many at a time.
func (x *zoneCopy) addService(owner string, ttl uint32, priority, weight uint16, e *handlespace.Element, target string) {
	if len(x.services) == 0 {
		x.services = make([]dns.SRV, transferBatch)
	}
	r := &x.services[0]
	x.services = x.services[1:]
	setService(r, owner, ttl, priority, weight, e, target)
	x.add(r)
}

// addAddrs adds the address records of an owner.
func (x *zoneCopy) addAddrs(owner string, ttl uint32, addrs []netip.Addr, f handlespace.Families) {
	x.batch = x.addresses.append(x.batch, owner, ttl, addrs, f)
	if len(x.batch) >= transferBatch {
		x.flush()
	}
}

func (x *zoneCopy) soa() dns.RR {
	return x.zone.soa(x.zone.name, x.pools.blockOptions.ttl, x.snapshot.Serial)
}

// addZone adds the records of the zone itself, the SOA record first, and the delegations of
// other zones of the Corefile that are below it.
func (x *zoneCopy) addZone() {
	x.add(x.soa())
	x.addServers(x.zone, func(*nameserver) bool { return true })
	for i := range x.zones {
		if child := &x.zones[i]; x.zones.parent(child) == x.zone {
			x.addServers(child, func(s *nameserver) bool { return x.zone.server(s.name) == nil })
		}
	}
}

// addServers adds the name servers of a zone, and the addresses of those in the zone if glue
// is true.
func (x *zoneCopy) addServers(z *zone, glue func(*nameserver) bool) {
	ttl := x.pools.blockOptions.ttl
	for i := range z.servers {
		s := &z.servers[i]
		x.add(&dns.NS{Hdr: header(z.name, dns.TypeNS, ttl), Ns: s.name})
		if s.inZone && glue(s) {
			x.addAddrs(s.name, ttl, unique(s.addrs), bothFamilies)
		}
	}
}

// addPoolAddresses adds the addresses of one family at a pool's name: those of all elements
// that the policy may select, of the highest priority if it is about priorities. There are
// at most as many records as an SRV answer has, because BIND keeps no more by default.
func (x *zoneCopy) addPoolAddresses(p *poolCopy, f handlespace.Families) (any bool) {
	set := p.Set(p.answers, f)
	var addrs []netip.Addr
	for i, s := range set {
		if handlespace.ValuesOf(p.Pool.Policy()) == handlespace.Priorities && s.Value != set[0].Value {
			break
		}
		had := len(addrs)
		for _, a := range s.UserTransport.Addrs {
			if a.Is4() == (f == handlespace.IPv4) && !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
		if len(addrs) > p.answers && i > 0 {
			addrs = addrs[:had] // whole elements only
			break
		}
		addrs = p.limit(addrs)
	}
	x.addAddrs(p.name, p.ttl, addrs, f)
	return len(addrs) > 0
}

// limit returns no more addresses of one element than a secondary takes. No SCTP has so many, but
// a peer could tell of such an element.
func (p *poolCopy) limit(addrs []netip.Addr) []netip.Addr {
	return addrs[:min(len(addrs), max(p.answers, defaultAnswers))]
}

// addPoolServices adds the SRV records at a pool's name and at those of its services.
func (x *zoneCopy) addPoolServices(p *poolCopy) {
	set := p.Set(p.answers, bothFamilies)
	if len(set) == 0 {
		return
	}
	targets := newElementNames(len(set), func(i int) rsp.PEID { return set[i].ID }, p.name)
	for _, owner := range x.serviceOwners(p) {
		owner = serviceOwner(owner)
		ranks := newRanking(p.srv, p.Pool.Policy(), set)
		for i, s := range set {
			priority, weight := ranks.of(i)
			x.addService(owner, p.ttl, priority, weight, s.Element, targets.of(i))
		}
	}
}

// addNAPTR adds the NAPTR records at a pool's name.
func (x *zoneCopy) addNAPTR(p *poolCopy) {
	n := naptrSet{owner: p.name, ttl: p.ttl, services: p.naptr, pool: p.name, transport: transportOf(p.Pool)}
	size := n.size()
	if size == (naptrSize{}) || !n.fits() {
		return
	}
	set := p.Set(size.elements(p.answers), bothFamilies)
	if len(set) == 0 {
		return
	}
	rrs := n.ofPool(nil)
	ranks := newRanking(p.srv, p.Pool.Policy(), set)
	for i, s := range set {
		rrs = n.ofElement(rrs, s.ID, &ranks, i)
	}
	for _, rr := range rrs {
		x.add(rr)
	}
}

// addElement adds the records of an element.
func (x *zoneCopy) addElement(p *poolCopy, e *handlespace.Element, name string) {
	switch {
	case x.zone.server(name) != nil:
		return
	case e.Families() == 0:
		x.addInfo(name, p.ttl, elementText(e))
		return
	}
	x.addAddrs(name, p.ttl, p.limit(unique(e.UserTransport.Addrs)), bothFamilies)
	x.addService(serviceOwner(name), p.ttl, 0, 0, e, name)
}

// serviceOwner is a name as the owner of SRV records. It is in lower case, unlike those of other
// records: CoreDNS as a secondary makes all others so itself, and finds the wildcards among these
// only if they are.
func serviceOwner(name string) string { return strings.ToLower(name) }

// unique returns addresses without repetitions: there are none in a set of records (RFC
// 2181, Section 5).
func unique(addrs []netip.Addr) []netip.Addr {
	for i, a := range addrs {
		if slices.Contains(addrs[:i], a) {
			return withoutRepetitions(addrs)
		}
	}
	return addrs
}

func withoutRepetitions(addrs []netip.Addr) (all []netip.Addr) {
	for _, a := range addrs {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}

// copyOf returns a pool with its name, nil if it has none because its handle is too long.
func (x *zoneCopy) copyOf(p *handlespace.PoolSnapshot) *poolCopy {
	h := p.Pool.Handle()
	name, ok := plainName(string(h), x.zone.name)
	if !ok || !x.owns(p, name) {
		if name = below(encodeHandle(h), x.zone.name); wireLen(name) > maxName {
			return nil
		}
	}
	return &poolCopy{PoolSnapshot: p, poolOptions: x.optionsOf(p.Pool), name: name}
}

// owns reports whether name, which has the labels of the pool's handle, is the pool's and
// does no harm in the zone. It is not the pool's if it is also the name of something else
// (see resolve), or lies in another zone. It does harm if other names change their meaning
// because it exists: that is so with a label "*", which begins a wildcard, and with a name
// below a service that a wildcard stands for.
func (x *zoneCopy) owns(p *handlespace.PoolSnapshot, name string) bool {
	h := string(p.Pool.Handle())
	if ascii.HasUpper(h) && x.snapshot.Lookup(h) != p || x.zone.server(name) != nil || x.zones.match(name, dns.TypeA) != x.zone {
		return false
	}
	if !strings.ContainsAny(h, "_*") && !hasPrefixFold([]byte(h), elementPrefix) {
		return true // the usual handle
	}
	labels := strings.Split(h, ".")
	switch {
	case slices.Contains(labels, "*"), ascii.EqualFold(labels[0], infoLabel):
		return false
	case hasPrefixFold([]byte(h), encodedPrefix) && x.encodedPool(h) != nil:
		return false
	}
	if id, ok := elementID([]byte(labels[0])); ok && len(labels) > 1 {
		if other := x.find(strings.Join(labels[1:], ".")); other != nil && other.Element(id) != nil {
			return false
		}
	}
	return !x.belowService(labels) && !x.configured(labels)
}

// belowService reports whether the labels have the form _svc._proto.<pool>, or one below that with
// a pool of that transport.
func (x *zoneCopy) belowService(labels []string) bool {
	for i := 1; i < len(labels)-1; i++ {
		if t := protocol([]byte(labels[i])); t != 0 && strings.HasPrefix(labels[i-1], "_") {
			if p := x.find(strings.Join(labels[i+1:], ".")); p != nil && (transportOf(p.Pool) == t || i == 1) {
				return true
			}
		}
	}
	return false
}

// find finds the pool of a name in either form.
func (x *zoneCopy) find(name string) *handlespace.PoolSnapshot {
	if hasPrefixFold([]byte(name), encodedPrefix) {
		if p := x.encodedPool(name); p != nil {
			return p
		}
	}
	return x.snapshot.Lookup(name)
}

func (x *zoneCopy) encodedPool(name string) *handlespace.PoolSnapshot {
	h, ok := decodeHandle([]byte(name))
	if !ok {
		return nil
	}
	return x.snapshot.Pool(rsp.PoolHandle(h))
}
