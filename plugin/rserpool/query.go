package rserpool

import (
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// query is a query being answered.
type query struct {
	*Handler
	*poolOptions // of the node
	count        *serverCounters
	w            dns.ResponseWriter
	zone         *zone
	node         node
	space        *handlespace.Space
	name         string // as it was asked, so that answers echo its case
	now          time.Time
	size         int // octets that the response may have
	// trace is where the query's labels are, nil if there are none; picked are the elements for it.
	trace  *trace
	picked []rsp.PEID
	// room is where a set is, nil if there is none.
	room *[]handlespace.Selected
}

// find finds what the name stands for. It returns false if another plugin is to answer.
func (q *query) find() bool {
	q.node = q.zone.resolve(q.space, q.name)
	q.zones.nest(&q.node, q.zone, q.name)
	q.poolOptions = q.node.options
	return q.node.kind != nodeNone || !q.Fall.Through(q.name)
}

// complete sets the response code, and adds what negative answers have.
func (q *query) complete(rep *reply, qtype uint16) {
	switch {
	case qtype == dns.TypeNSEC && rep.signature > 0:
		rep.msg.Answer = append(rep.msg.Answer, q.nsec(qtype))
		q.count.answer(answerData)
	case q.node.kind == nodeNone:
		rep.msg.Rcode = dns.RcodeNameError
		q.count.answer(answerNameError)
	case len(rep.msg.Answer) == 0:
		q.count.answer(answerNoData)
	default:
		q.count.answer(answerData)
	}
	if len(rep.msg.Answer) == 0 {
		rep.msg.Ns = []dns.RR{q.soa()}
		if rep.signature > 0 {
			q.deny(rep, qtype)
		}
	}
}

// release gives the room of the set back. The records do not need it.
func (q *query) release() {
	if q.room != nil {
		clear(*q.room) // elements that go should not be kept from the collector
		selections.Put(q.room)
	}
}

// answer adds the node's records of the queried type.
func (q *query) answer(rep *reply, qtype uint16) {
	switch {
	case q.node.kind == nodePool && q.node.pool != nil:
		q.answerPool(rep, qtype)
	case q.node.kind == nodeService && q.node.pool != nil && qtype == dns.TypeSRV:
		q.addServices(rep)
	default:
		q.answerOther(rep, qtype)
	}
}

// answerPool is answer for the name of a pool.
func (q *query) answerPool(rep *reply, qtype uint16) {
	switch qtype {
	case dns.TypeA, dns.TypeAAAA:
		q.addAddresses(rep, family(qtype))
	case dns.TypeSRV:
		q.addServices(rep)
	case dns.TypeNAPTR:
		q.addNAPTR(rep)
	case dns.TypeHTTPS:
		if b := q.https; b != nil && b.suits(transportOf(q.node.pool)) {
			q.addBindings(rep, b)
		}
	default:
		q.answerOther(rep, qtype)
	}
}

func (q *query) answerOther(rep *reply, qtype uint16) {
	if (qtype == dns.TypeANY || qtype == dns.TypeHINFO) && q.node.hasRecords() {
		rep.msg.Answer = append(rep.msg.Answer, q.hinfo())
		return
	}
	if q.node.isEmptyPool() && q.node.kind != nodePool {
		return
	}
	switch q.node.kind {
	case nodeApex:
		switch qtype {
		case dns.TypeSOA:
			rep.msg.Answer = append(rep.msg.Answer, q.soa())
		case dns.TypeNS:
			q.addNS(rep)
		}
	case nodeNone, nodeEmpty, nodeChild, nodeService:
	case nodePool:
		if qtype == dns.TypeTXT {
			q.addTexts(rep)
		}
	case nodeServer:
		if f := family(qtype); f != 0 {
			rep.msg.Answer = rep.addresses.append(rep.msg.Answer, q.name, q.ttl, q.node.server.addrs, f)
		}
	case nodeBinding:
		if qtype == q.node.binding.rrtype() {
			q.addBindings(rep, q.node.binding)
		}
	case nodeDomain, nodeTypes, nodeType, nodeInstance:
		q.browse(rep, qtype)
	case nodeElement:
		switch qtype {
		case dns.TypeA, dns.TypeAAAA:
			e := q.node.element
			rep.msg.Answer = rep.addresses.append(rep.msg.Answer, q.name, q.lifetime(e), e.UserTransport.Addrs, family(qtype))
		case dns.TypeSRV:
			q.addElementService(rep)
		}
	case nodeAddress:
		if qtype == dns.TypePTR {
			q.addElementNames(rep)
		}
	case nodeInfo:
		if qtype == dns.TypeTXT {
			rep.msg.Answer = append(rep.msg.Answer, q.info())
		}
	}
}

// family returns the address family of a query type, 0 if it has none.
func family(qtype uint16) handlespace.Families {
	switch qtype {
	case dns.TypeA:
		return handlespace.IPv4
	case dns.TypeAAAA:
		return handlespace.IPv6
	}
	return 0
}

// lifetime returns the TTL of an answer with these elements: at most the remaining
// registration life of each.
func (q *query) lifetime(elements ...*handlespace.Element) uint32 {
	ttl := q.ttl
	for _, e := range elements {
		ttl = min(ttl, q.lifeLeft(e))
	}
	return ttl
}

// setLifetime is lifetime for a set.
func (q *query) setLifetime(set []handlespace.Selected) uint32 {
	ttl := q.ttl
	for i := range set {
		ttl = min(ttl, q.lifeLeft(set[i].Element))
	}
	return ttl
}

func (q *query) lifeLeft(e *handlespace.Element) uint32 {
	if e.Expires.IsZero() {
		return q.ttl
	}
	left := e.Expires.Sub(q.now)
	if left < -time.Second { // it is there because of a guard, and its life no longer counts
		return q.ttl
	}
	return uint32(max(0, min(left/time.Second, time.Duration(q.ttl))))
}
