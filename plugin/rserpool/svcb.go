package rserpool

import (
	"net"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// httpsScheme is the label of HTTPS records for ports other than 443.
const httpsScheme = "_https"

// binding is a scheme with what its SVCB or HTTPS records have from the Corefile (RFC
// 9460).
type binding struct {
	scheme string // its label, such as _https, in lower case
	// params are sorted by key, and shared by all records. Port and hints are not among them.
	params []dns.SVCBKeyValue
	length int // of params, in octets of a message
	// quic: all protocols are HTTP/3, so that the servers need not serve TCP.
	quic bool
}

func (b *binding) isHTTPS() bool { return b.scheme == httpsScheme }

func (b *binding) rrtype() uint16 {
	if b.isHTTPS() {
		return dns.TypeHTTPS
	}
	return dns.TypeSVCB
}

// suits reports whether a pool of this transport can have the scheme. HTTP is over TCP, or
// over UDP if the client is told to use nothing but HTTP/3.
func (b *binding) suits(t rsp.TransportType) bool {
	return !b.isHTTPS() || t == rsp.TCP || t == rsp.UDP && b.quic
}

// bindingOf returns the binding of a pool for a scheme, nil if it has none. The pool is nil if
// it is a declared one without elements.
func (o *poolOptions) bindingOf(label []byte, p *handlespace.Pool) *binding {
	if o.https != nil && ascii.EqualFold(label, httpsScheme) {
		if p == nil || o.https.suits(transportOf(p)) {
			return o.https
		}
		return nil
	}
	for _, b := range o.svcb {
		if ascii.EqualFold(label, b.scheme) {
			return b
		}
	}
	return nil
}

// findBinding finds the node of _scheme.<pool> or _PORT._scheme.<pool>. There are no
// records at _https.<pool>: the pool's name has those of the port 443.
func (z *zone) findBinding(s *handlespace.Space, l *labels, qname string) node {
	at := 0
	if isPort(l.label(0)) {
		at = 1
	}
	scheme := l.label(at)
	if l.n < at+2 || scheme[0] != '_' {
		return node{}
	}
	p, o := z.findPool(s, l.after(at+1))
	if o == nil {
		return node{}
	}
	b := o.bindingOf(scheme, p)
	switch {
	case b == nil:
		return node{}
	case b.isHTTPS() && at == 0:
		return node{kind: nodeEmpty, options: o}
	case b.isHTTPS() && string(l.label(0)) == "_443":
		return node{}
	}
	return node{kind: nodeBinding, pool: p, options: o, poolName: qname[l.offset[at]:], binding: b}
}

// isPort reports whether a label is _PORT for the port of a URL. It need not be the port of
// an element: the record has that.
func isPort(label []byte) bool {
	if len(label) < 2 || len(label) > 6 || label[0] != '_' || label[1] == '0' {
		return false
	}
	port := 0
	for _, c := range label[1:] {
		if !ascii.IsDigit(c) {
			return false
		}
		port = 10*port + int(c-'0')
	}
	return port <= 65535
}

// addBindings adds the SVCB or HTTPS records of the elements that the pool's policy selects,
// and their addresses. Each has the name of its element as target, because the elements may
// have different ports and the pool's name has the addresses of the next selection.
func (q *query) addBindings(rep *reply, b *binding) {
	pool := q.poolName()
	if !hasElementNames(pool) {
		return
	}
	k := lookup.SVCB
	if b.isHTTPS() {
		k = lookup.HTTPS
	}
	var buf [maxAddresses]*handlespace.Element
	var elements []*handlespace.Element
	if q.addresses == allAddresses {
		elements = q.pickBindings(rep, k, b, pool)
	} else {
		elements = q.pick(buf[:0], k, bothFamilies)
	}
	ttl := q.lifetime(elements...)
	rep.grow(len(elements))
	records := make([]bindingRecord, len(elements))
	names := newElementNames(len(elements), func(i int) rsp.PEID { return elements[i].ID }, pool)
	for i, e := range elements {
		target := names.of(i)
		rep.msg.Answer = append(rep.msg.Answer, b.record(&records[i], q.name, ttl, uint16(i+1), e, target))
		rep.glue(target, ttl, e.UserTransport.Addrs)
	}
}

// pickBindings returns the elements of the pool called pool as a set, as far as the answer has
// room for records without hints.
func (q *query) pickBindings(rep *reply, k lookup.Kind, b *binding, pool string) []*handlespace.Element {
	const record, port = 2 + 10 + 2, 4 + 2
	room := q.roomFor(rep, record+1+elementLen+wireLen(pool)+port+b.length)
	set, more := q.pickSet(k, min(q.answers, room), q.answers)
	rep.msg.Truncated = more && room < q.answers
	return elementsOf(set)
}

// bindingRecord includes the parts of a usual record, which saves allocations.
type bindingRecord struct {
	dns.HTTPS
	values [8]dns.SVCBKeyValue
	port   dns.SVCBPort
	v4     dns.SVCBIPv4Hint
	v6     dns.SVCBIPv6Hint
	hint4  [1]net.IP
	hint6  [1]net.IP
	addr4  [4]byte
	addr6  [16]byte
}

// record makes r the record of an element.
func (b *binding) record(r *bindingRecord, owner string, ttl uint32, priority uint16, e *handlespace.Element, target string) dns.RR {
	r.Priority, r.Target = priority, target
	r.port.Port = e.UserTransport.Port
	r.hints(e.UserTransport.Addrs)

	values, params := r.values[:0], b.params // in the order of their keys
	for len(params) > 0 && params[0].Key() < dns.SVCB_PORT {
		values, params = append(values, params[0]), params[1:]
	}
	values = append(values, &r.port)
	if len(r.v4.Hint) > 0 {
		values = append(values, &r.v4)
	}
	for len(params) > 0 && params[0].Key() < dns.SVCB_IPV6HINT {
		values, params = append(values, params[0]), params[1:]
	}
	if len(r.v6.Hint) > 0 {
		values = append(values, &r.v6)
	}
	r.Value = append(values, params...)

	r.Hdr = header(owner, b.rrtype(), ttl)
	if b.isHTTPS() {
		return &r.HTTPS
	}
	return &r.SVCB
}

// hints sets the address hints. IPv4-mapped IPv6 addresses cannot be hints.
func (r *bindingRecord) hints(addrs []netip.Addr) {
	r.v4.Hint, r.v6.Hint = r.hint4[:0], r.hint6[:0]
	for i, a := range addrs {
		switch {
		case i > 0 && slices.Contains(addrs[:i], a):
		case a.Is4():
			ip := r.addr4[:]
			if len(r.v4.Hint) > 0 {
				ip = make([]byte, len(r.addr4))
			}
			b := a.As4()
			copy(ip, b[:])
			r.v4.Hint = append(r.v4.Hint, ip)
		case !a.Is4In6():
			ip := r.addr6[:]
			if len(r.v6.Hint) > 0 {
				ip = make([]byte, len(r.addr6))
			}
			b := a.As16()
			copy(ip, b[:])
			r.v6.Hint = append(r.v6.Hint, ip)
		}
	}
}
