package rserpool

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/edns"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// Handler answers queries for its zones from a registrar's handlespace.
type Handler struct {
	Next plugin.Handler
	Fall fall.F

	zones zones
	pools *poolTable

	// registrar is set before the first query comes.
	registrar registrar
	// signer is the dnssec plugin of the server block, nil if there is none.
	signer   signer
	measure  sync.Once // the signatures of the zones
	traces   bool      // the server block has the metadata plugin
	lookups  *lookup.Memory
	counters counters
	cutOnce  sync.Once
	now      func() time.Time

	transfers transfers
}

// registrar is what the handler needs of a registrar.
type registrar interface {
	// Ready reports whether the handlespace is known.
	Ready() bool
	Space() *handlespace.Space
}

// Name implements plugin.Handler.
func (h *Handler) Name() string { return pluginName }

// ServeDNS implements plugin.Handler.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	z := h.zones.of(r)
	if z == nil {
		return plugin.NextOrFailure(h.Name(), h.Next, ctx, w, r)
	}
	question := &r.Question[0]
	count := h.counters.of(ctx)

	switch {
	case r.Opcode != dns.OpcodeQuery:
		return dns.RcodeNotImplemented, nil
	case question.Qclass != dns.ClassINET, question.Qtype == dns.TypeAXFR, question.Qtype == dns.TypeIXFR:
		count.answer(answerRefused)
		return dns.RcodeRefused, nil
	case question.Qtype == dns.TypeNXNAME: // stands only in NSEC records (RFC 9824, Section 3.5)
		count.answer(answerRefused)
		return dns.RcodeFormatError, nil
	case !h.registrar.Ready():
		// A pool that is not known yet may exist all the same: no NXDOMAIN.
		count.answer(answerNotReady)
		return notReady(w, r)
	}

	m := h.respond(ctx, w, r, z, count)
	if m == nil {
		count.answer(answerFallthrough)
		return plugin.NextOrFailure(h.Name(), h.Next, ctx, w, r)
	}
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return m.Rcode, nil
}

// respond makes the response to a question in a zone, nil if another plugin is to answer it.
//
// The goroutine of a query begins with little stack, and it takes a fifth of the whole query to
// move to a larger one; see TestStack. That is why respond is apart from ServeDNS, and has
// its parts in functions of their own.
func (h *Handler) respond(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, z *zone, count *serverCounters) *dns.Msg {
	question := &r.Question[0]
	var q query // field by field: a literal would be copied
	q.Handler, q.count, q.w, q.zone, q.space, q.name, q.trace = h, count, w, z, h.registrar.Space(), question.Name, h.traceOf(ctx)
	if !q.find() {
		return nil
	}
	q.now = h.now()
	size, do := replySize(w, r)
	q.size = size
	var rep reply
	rep.start(r)
	if do {
		q.sign(&rep)
	}
	q.answer(&rep, question.Qtype)
	q.complete(&rep, question.Qtype)
	if rep.fit(q.size) {
		count.shortened()
		q.reportCut(&rep, r)
	}
	if q.trace != nil {
		q.record(&rep)
	}
	q.release()
	return &rep.msg
}

// find finds what the name stands for. It returns false if another plugin is to answer.
func (q *query) find() bool {
	q.node = q.zone.resolve(q.space, q.name)
	if q.node.kind == nodeNone && q.zones.delegates(q.zone, q.name) {
		q.node.kind = nodeChild // asked for the DS records of a child
	}
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

// notReady answers that the handlespace is not known yet, with the extended DNS error Not
// Ready (RFC 8914, Section 4.15) for clients with EDNS.
func notReady(w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if r.IsEdns0() == nil {
		return dns.RcodeServerFailure, nil // the server answers
	}
	m := new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
	m.SetEdns0(dns.MinMsgSize, false) // the server fills it in
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeNotReady, ExtraText: "the registrar does not know its handlespace yet"})
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil // it is answered
}

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

// selections are rooms for sets, used again because they are not part of the answers.
var selections = sync.Pool{New: func() any { return new([]handlespace.Selected) }}

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
	if q.node.isEmptyPool() {
		if q.node.kind == nodePool && qtype == dns.TypeTXT {
			q.addTexts(rep)
		}
		return
	}
	if (qtype == dns.TypeANY || qtype == dns.TypeHINFO) && q.node.hasRecords() {
		rep.msg.Answer = append(rep.msg.Answer, q.hinfo())
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
	const header, question, record = 12, 4, 2 + 10
	address := 4
	if f == handlespace.IPv6 {
		address = 16
	}
	room := max(1, (q.size-rep.signature-header-wireLen(q.name)-question)/(record+address))
	set, more := q.pickSet(k, min(q.answers, room), q.answers)
	rep.msg.Truncated = more && room < q.answers
	return elementsOf(set)
}

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

func (q *query) lifeLeft(e *handlespace.Element) uint32 {
	if e.Expires.IsZero() {
		return q.ttl
	}
	left := e.Expires.Sub(q.now) / time.Second
	return uint32(max(0, min(left, time.Duration(q.ttl))))
}

// originOf returns where a question comes from.
func originOf(w dns.ResponseWriter) (c lookup.Origin) {
	switch a := w.RemoteAddr().(type) {
	case *net.UDPAddr:
		c.Addr, c.Port, c.Request = ipOf(a.IP, a.Zone), uint16(a.Port), a
	case *net.TCPAddr:
		c.Addr, c.Port, c.TCP = ipOf(a.IP, a.Zone), uint16(a.Port), true
	case nil:
	default:
		ap, _ := netip.ParseAddrPort(a.String())
		c.Addr, c.Port = ap.Addr().Unmap(), ap.Port()
	}
	return c
}

func ipOf(ip net.IP, zone string) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if zone != "" {
		a = a.WithZone(zone)
	}
	return a
}

// replySize returns how many octets the client accepts, less those of the OPT record
// that the server adds to the response. do is the client's flag DO: it wants signatures.
func replySize(w dns.ResponseWriter, r *dns.Msg) (size int, do bool) {
	state := request.Request{W: w}
	opt := r.IsEdns0()
	if opt == nil {
		return int(edns.Size(state.Proto(), 0)), false
	}
	return int(edns.Size(state.Proto(), opt.UDPSize())) - dns.Len(opt), opt.Do()
}
