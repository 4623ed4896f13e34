package rserpool

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// Each answer has new records: plugins before this one change and keep them.

// aRecord and aaaaRecord include the address, which saves an allocation.
type aRecord struct {
	dns.A
	ip [4]byte
}

type aaaaRecord struct {
	dns.AAAA
	ip [16]byte
}

// addressRecords makes address records, n of a family at once. The zero value makes each one
// alone.
type addressRecords struct {
	n    int
	a    []aRecord
	aaaa []aaaaRecord
}

// append adds a record for each address of the family to rrs, once for each.
func (m *addressRecords) append(rrs []dns.RR, owner string, ttl uint32, addrs []netip.Addr, f handlespace.Families) []dns.RR {
	for i := range addrs {
		switch a := &addrs[i]; {
		case i > 0 && slices.Contains(addrs[:i], *a): // a peer could tell of such an element
		case a.Is4() && f&handlespace.IPv4 != 0:
			r := m.newA()
			r.ip = a.As4()
			r.Hdr = header(owner, dns.TypeA, ttl)
			r.A.A = r.ip[:]
			rrs = append(rrs, &r.A)
		case !a.Is4() && f&handlespace.IPv6 != 0:
			r := m.newAAAA()
			r.ip = a.As16()
			r.Hdr = header(owner, dns.TypeAAAA, ttl)
			r.AAAA.AAAA = r.ip[:]
			rrs = append(rrs, &r.AAAA)
		}
	}
	return rrs
}

func (m *addressRecords) newA() *aRecord {
	if len(m.a) == 0 {
		m.a = make([]aRecord, max(1, m.n))
	}
	r := &m.a[0]
	m.a = m.a[1:]
	return r
}

func (m *addressRecords) newAAAA() *aaaaRecord {
	if len(m.aaaa) == 0 {
		m.aaaa = make([]aaaaRecord, max(1, m.n))
	}
	r := &m.aaaa[0]
	m.aaaa = m.aaaa[1:]
	return r
}

func header(owner string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// bothFamilies selects elements that a client can reach by address.
const bothFamilies = handlespace.IPv4 | handlespace.IPv6

// addServices adds the SRV records of the pool's elements, and their addresses. The first
// one is what the policy selects. There are none if the names of the elements would be too
// long for DNS.
//
// Clients that ask for SRV records read a set. So if the pool has more elements than the answer may
// have, or than fit, the client's address determines which ones it gets, and not the
// selection.
func (q *query) addServices(rep *reply) {
	pool := q.poolName()
	if !hasElementNames(pool) {
		return
	}
	n := min(q.answers, q.roomForServices(rep, pool))
	selected, more := q.pickSet(lookup.SRV, n, q.answers)
	rep.msg.Truncated = more && n < q.answers
	q.addSelected(rep, pool, selected)
}

// addSelected adds the SRV records of elements of the pool called pool, and their addresses.
// All records of an answer are one allocation: a plugin that keeps one record keeps the memory
// of all.
func (q *query) addSelected(rep *reply, pool string, selected []handlespace.Selected) {
	ttl := q.setLifetime(selected)
	rep.grow(len(selected))
	ranks := newRanking(q.srv, q.node.pool.Policy(), selected)
	records := make([]dns.SRV, len(selected))
	names := newElementNames(len(selected), func(i int) rsp.PEID { return selected[i].ID }, pool)
	for i := range selected {
		r, e := &records[i], selected[i].Element
		priority, weight := ranks.of(i)
		setService(r, q.name, ttl, priority, weight, e, names.of(i))
		rep.msg.Answer = append(rep.msg.Answer, r)
		rep.glue(r.Target, ttl, e.UserTransport.Addrs)
	}
}

// roomForServices returns how many SRV records fit into the response, 1 at least. All of
// them have the same length: their owners are pointers, and targets are not compressed.
func (q *query) roomForServices(rep *reply, pool string) int {
	const record = 2 + 10 + 6
	return q.roomFor(rep, record+1+elementLen+wireLen(pool))
}

// roomFor returns how many answer records of so many octets fit into the response, 1 at least.
func (q *query) roomFor(rep *reply, record int) int { return max(1, q.answerRoom(rep)/record) }

// answerRoom returns the octets that the response has for answer records.
func (q *query) answerRoom(rep *reply) int {
	const header, question = 12, 4
	return q.size - rep.signature - header - wireLen(q.name) - question
}

// viewOf returns the hash of a client's address. It is the same in all registrars, and
// after a restart.
func viewOf(client netip.Addr) uint64 {
	b := client.As16()
	x := binary.BigEndian.Uint64(b[:8])*0x9e3779b97f4a7c15 ^ binary.BigEndian.Uint64(b[8:])
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9 // mixed as by SplitMix64
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// addElementService adds the SRV record of one element.
func (q *query) addElementService(rep *reply) {
	e := q.node.element
	if e.Families() == 0 {
		return
	}
	ttl, target := q.lifetime(e), elementName(e.ID, q.poolName())
	rep.msg.Answer = append(rep.msg.Answer, service(q.name, ttl, 0, 0, e, target))
	rep.glue(target, ttl, e.UserTransport.Addrs)
}

// poolName is the name of the node's pool as records spell it.
func (q *query) poolName() string {
	return q.zones.ownName(q.zone, q.space, q.node.pool, q.node.poolName)
}

func service(owner string, ttl uint32, priority, weight uint16, e *handlespace.Element, target string) dns.RR {
	r := new(dns.SRV)
	setService(r, owner, ttl, priority, weight, e, target)
	return r
}

// setService makes r the SRV record of an element.
func setService(r *dns.SRV, owner string, ttl uint32, priority, weight uint16, e *handlespace.Element, target string) {
	r.Hdr = header(owner, dns.TypeSRV, ttl)
	r.Priority, r.Weight, r.Port, r.Target = priority, weight, e.UserTransport.Port, target
}

// glue adds the addresses behind a name that the answer refers to.
func (rep *reply) glue(name string, ttl uint32, addrs []netip.Addr) {
	for _, f := range [...]handlespace.Families{handlespace.IPv4, handlespace.IPv6} {
		rep.msg.Extra = rep.addresses.append(rep.msg.Extra, name, ttl, addrs, f)
	}
}

// Times of the SOA record, in seconds, for secondaries. Usually they learn of changes by
// NOTIFY, and refresh only finds those whose NOTIFY was lost. When every registrar is gone,
// they serve the last zone until it expires.
const (
	soaRefresh = 60
	soaRetry   = 30
	soaExpire  = 86400
)

// soa returns the zone's SOA record.
func (q *query) soa() dns.RR {
	return q.zone.soa(q.zone.apexOf(q.name), q.ttl, q.space.Serial(q.now))
}

// soa returns the zone's SOA record for an owner, which is the zone's name as a question
// spells it. As the handlespace may change at any time, negative answers live as long as
// others (RFC 2308, Section 4).
func (z *zone) soa(owner string, ttl, serial uint32) dns.RR {
	return &dns.SOA{
		Hdr:     header(owner, dns.TypeSOA, ttl),
		Ns:      z.servers[0].name,
		Mbox:    z.mbox,
		Serial:  serial,
		Refresh: soaRefresh,
		Retry:   soaRetry,
		Expire:  soaExpire,
		Minttl:  ttl,
	}
}

// addNS adds the zone's name servers, and the addresses of those in the zone.
func (q *query) addNS(rep *reply) {
	for i := range q.zone.servers {
		s := &q.zone.servers[i]
		rep.msg.Answer = append(rep.msg.Answer, &dns.NS{Hdr: header(q.name, dns.TypeNS, q.ttl), Ns: s.name})
		if s.inZone {
			rep.glue(s.name, q.ttl, s.addrs)
		}
	}
}
