package rserpool

import (
	"bytes"
	"encoding/base32"
	"strings"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// nodeKind is the kind of thing that a name of a zone stands for.
type nodeKind uint8

const (
	nodeNone     nodeKind = iota // nothing: NXDOMAIN
	nodeEmpty                    // an empty non-terminal (RFC 4592, Section 2.2.2)
	nodeChild                    // another zone of the Corefile, asked for its DS records
	nodeApex                     // the zone itself
	nodeServer                   // a name server of the zone
	nodePool                     // <pool>
	nodeElement                  // pe-XXXXXXXX.<pool>
	nodeService                  // _svc._proto.<pool>
	nodeInfo                     // _rserpool, _rserpool.<pool>, _rserpool.pe-XXXXXXXX.<pool>
	nodeBinding                  // _scheme.<pool>, _PORT._scheme.<pool>
	nodeDomain                   // b._dns-sd._udp
	nodeTypes                    // _services._dns-sd._udp
	nodeType                     // _svc._proto
	nodeInstance                 // <instance>._svc._proto
	nodeAddress                  // an address in a reverse zone
)

// nodeKinds is the number of kinds.
const nodeKinds = int(nodeAddress) + 1

// node is the thing that a query's name stands for.
type node struct {
	kind    nodeKind
	server  *nameserver
	pool    *handlespace.Pool // nil, too, for a declared pool without elements
	element *handlespace.Element
	// options are those of the pool, or of the block if it is about none.
	options *poolOptions
	// poolName is the end of the query's name that denotes the pool, zone
	// included, as the query spells it; empty if it is about no pool.
	poolName string
	binding  *binding    // of a nodeBinding
	service  serviceType // of a nodeType
}

// hasRecords reports whether the name has any.
func (n *node) hasRecords() bool {
	switch {
	case n.kind == nodeNone, n.kind == nodeEmpty, n.kind == nodeChild:
		return false
	case n.isEmptyPool():
		return n.kind == nodePool && len(n.options.txt) > 0
	default:
		return true
	}
}

// isEmptyPool reports whether the name is one of a declared pool that has no elements.
func (n *node) isEmptyPool() bool {
	switch n.kind {
	case nodePool, nodeService, nodeBinding, nodeInstance:
		return n.pool == nil
	default:
		return false
	}
}

const (
	elementPrefix = "pe-"
	elementLen    = len(elementPrefix) + 8
	encodedPrefix = "_ph-"
	infoLabel     = "_rserpool"
	// encodedPart is the longest piece of an encoded handle in one label. With the
	// prefix, a label has its maximum of 63 octets.
	encodedPart = 59
	maxLabel    = 63
	maxName     = 255
)

// handleEncoding encodes the handles that cannot be DNS names. Base32hex does not need
// the case of letters, which DNS ignores.
var handleEncoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// resolve finds the node of qname, a name in z.
//
// The target of an SRV record must not depend on the handles of other pools. So
// pe-XXXXXXXX.<pool> is the element and _svc._proto.<pool> the service, if they exist,
// _rserpool.<name> is about the pool or the element of that name, and _ph-... is the pool
// with the encoded handle. Configured names, such as _scheme.<pool>, come before handles,
// too. Otherwise the name is the pool with that handle. Every pool has a name in the encoded
// form.
func (z *zone) resolve(s *handlespace.Space, qname string) node {
	n := z.find(s, qname)
	if n.options == nil {
		n.options = z.pools.blockOptions
	}
	return n
}

func (z *zone) find(s *handlespace.Space, qname string) (n node) {
	if z.reverse != nil {
		return z.findReverse(qname)
	}
	rel := z.relative(qname)
	if rel == "" {
		return node{kind: nodeApex}
	}
	if ns := z.server(qname); ns != nil {
		return node{kind: nodeServer, server: ns}
	}
	if z.pools.browser != nil {
		if n = z.findBrowse(s, rel); n.kind != nodeNone {
			return n
		}
	}
	var buf [maxName]byte
	l, ok := decodeLabels(buf[:0], rel)
	if !ok {
		return n
	}
	if n = z.findStructured(s, &l, qname); n.kind != nodeNone {
		return n
	}
	p, below := s.Lookup(l.name)
	if n.options = z.optionsAt(p, l.name); n.options != nil {
		if z.isService(s, &l) { // that does not exist
			n.kind = nodeEmpty
			return n
		}
		n.kind, n.pool, n.poolName = nodePool, p, qname
		return n
	}
	return z.findEmpty(s, &l, qname, below)
}

// findEmpty finds the node of a name that has no records. below: some pool lies below it.
func (z *zone) findEmpty(s *handlespace.Space, l *labels, qname string, below bool) node {
	n := node{options: z.optionsNear(s, l.name)}
	if below || z.pools.aboveDeclared(l.name) || z.isProtocol(s, l) || z.aboveServer(qname) {
		n.kind = nodeEmpty
	}
	return n
}

// findStructured finds the node of a name that has one of the forms above and is not
// only a handle. Its kind is nodeNone if there is none. l are the labels of qname before
// the zone's.
func (z *zone) findStructured(s *handlespace.Space, l *labels, qname string) (n node) {
	if c := l.name[0]; c != '_' && c|0x20 != elementPrefix[0] { // most names have none of the forms
		return n
	}
	if n.pool, n.options = z.findEncoded(s, l.name); n.options != nil {
		n.kind, n.poolName = nodePool, qname
		return n
	}
	if ascii.EqualFold(l.label(0), infoLabel) {
		if n = z.findInfo(s, l, qname); n.kind != nodeNone {
			return n
		}
	}
	if proto := protocol(l.label(1)); proto != 0 && l.n > 2 && l.label(0)[0] == '_' {
		if p, o := z.findPool(s, l.after(2)); o != nil && o.hasProtocol(p, proto) && o.hasService(l.label(0)) {
			n.kind, n.pool, n.options, n.poolName = nodeService, p, o, qname[l.offset[1]:]
			return n
		}
	}
	if n = z.findBinding(s, l, qname); n.kind != nodeNone {
		return n
	}
	if id, ok := elementID(l.label(0)); ok && l.n > 1 {
		if p, o := z.findPool(s, l.after(1)); p != nil {
			if e := p.Element(id); e != nil {
				n.kind, n.pool, n.element, n.options, n.poolName = nodeElement, p, e, o, qname[l.offset[0]:]
			}
		}
	}
	return n
}

// findInfo finds what the information below _rserpool is about.
func (z *zone) findInfo(s *handlespace.Space, l *labels, qname string) node {
	if l.n == 1 {
		return node{kind: nodeInfo}
	}
	if id, ok := elementID(l.label(1)); ok && l.n > 2 {
		if p, o := z.findPool(s, l.after(2)); p != nil {
			if e := p.Element(id); e != nil {
				return node{kind: nodeInfo, pool: p, element: e, options: o, poolName: qname[l.offset[1]:]}
			}
		}
	}
	if p, o := z.findPool(s, l.after(1)); o != nil {
		return node{kind: nodeInfo, pool: p, options: o, poolName: qname[l.offset[0]:]}
	}
	return node{}
}

// findPool finds the pool of a name in either form, and its options. There are only options
// if it is a declared pool without elements, and neither if it is no pool.
func (z *zone) findPool(s *handlespace.Space, name []byte) (*handlespace.Pool, *poolOptions) {
	if p, o := z.findEncoded(s, name); o != nil {
		return p, o
	}
	p, _ := s.Lookup(name)
	return p, z.optionsAt(p, name)
}

// findEncoded is findPool for names in the form _ph-<base32hex>.
func (z *zone) findEncoded(s *handlespace.Space, name []byte) (*handlespace.Pool, *poolOptions) {
	if !hasPrefixFold(name, encodedPrefix) {
		return nil, nil
	}
	h, ok := decodeHandle(name)
	if !ok {
		return nil, nil
	}
	p := s.Pool(h)
	return p, z.optionsAt(p, []byte(h))
}

// optionsAt returns the options of a pool, or of the declared pool with this handle if p is
// nil; nil if there is none.
func (z *zone) optionsAt(p *handlespace.Pool, handle []byte) *poolOptions {
	if p == nil {
		return z.pools.declared(handle)
	}
	return z.pools.of(p.Handle())
}

// optionsNear returns the options for a negative answer about a name that is no pool: those
// of the pool above it, or else those that a pool of that name would have.
func (z *zone) optionsNear(s *handlespace.Space, name []byte) *poolOptions {
	if !z.pools.ruled {
		return z.pools.blockOptions
	}
	for rest, more := name, true; more; {
		if _, rest, more = bytes.Cut(rest, dot); more {
			if _, o := z.findPool(s, rest); o != nil {
				return o
			}
		}
	}
	return z.pools.of(rsp.PoolHandle(name))
}

var dot = []byte{'.'}

// isProtocol reports whether l is _proto.<pool>, which has names below it.
func (z *zone) isProtocol(s *handlespace.Space, l *labels) bool {
	proto := protocol(l.label(0))
	if proto == 0 || l.n < 2 {
		return false
	}
	p, o := z.findPool(s, l.after(1))
	return o != nil && o.hasProtocol(p, proto)
}

// isService reports whether l is _svc._proto.<pool>. No other pool can be a service that the
// options or the pool's transport leave out.
func (z *zone) isService(s *handlespace.Space, l *labels) bool {
	if protocol(l.label(1)) == 0 || l.n < 3 || l.label(0)[0] != '_' {
		return false
	}
	_, o := z.findPool(s, l.after(2))
	return o != nil
}

func transportOf(p *handlespace.Pool) rsp.TransportType {
	t, _ := p.Transport()
	return t
}

// protocol returns the transport that a _proto label names, 0 if none.
func protocol(label []byte) rsp.TransportType {
	if len(label) == 0 || label[0] != '_' {
		return 0
	}
	for _, p := range protocols {
		if ascii.EqualFold(label[1:], p.String()) {
			return p
		}
	}
	return 0
}

// protocols are the transports that a _proto label can name.
var protocols = [...]rsp.TransportType{rsp.TCP, rsp.UDP, rsp.SCTP, rsp.DCCP, rsp.UDPLite}

// transportName returns the name of a transport, as in a _proto label.
func transportName(t rsp.TransportType) string {
	if !t.Known() {
		return rsp.Opaque.String()
	}
	return t.String()
}

// elementID reads the label pe-XXXXXXXX.
func elementID(label []byte) (rsp.PEID, bool) {
	if len(label) != elementLen || !hasPrefixFold(label, elementPrefix) {
		return 0, false
	}
	var id uint32
	for _, c := range label[len(elementPrefix):] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		id = id<<4 | uint32(c)
	}
	return rsp.PEID(id), true
}

// ownName returns the one spelling of the pool's name in z that records point to: the handle's
// own bytes and the zone as configured, or the encoded form if that name does not stand for
// this pool or lies in another zone. asked is how a query spells it. Clients compare the names
// in records, so that they must not depend on the case of the question, which resolvers choose
// at random.
func (zs zones) ownName(z *zone, s *handlespace.Space, p *handlespace.Pool, asked string) string {
	h := p.Handle()
	if at := len(asked) - len(z.name); at == len(h)+1 && asked[:at-1] == string(h) && asked[at:] == z.name {
		return asked // which saves an allocation
	}
	if other, _ := z.findPool(s, []byte(h)); other == p {
		if name, ok := plainName(string(h), z.name); ok && zs.match(name, dns.TypeA) == z {
			return name
		}
	}
	return below(encodeHandle(h), z.name)
}

// plainName returns the name of a pool whose handle can be read as labels; ok is false if
// it cannot.
func plainName(handle, zone string) (_ string, ok bool) {
	var wire [maxName + 1]byte
	n := 0
	for label := range strings.SplitSeq(handle, ".") {
		if len(label) == 0 || len(label) > maxLabel || n+1+len(label) > maxName {
			return "", false
		}
		wire[n] = byte(len(label))
		n += 1 + copy(wire[n+1:], label)
	}
	name, _, err := dns.UnpackDomainName(wire[:n+1], 0)
	if err != nil {
		return "", false
	}
	name = below(strings.TrimSuffix(name, "."), zone)
	return name, wireLen(name) <= maxName
}

// encodeHandle returns the labels of the encoded form of a handle, without the zone.
func encodeHandle(h rsp.PoolHandle) string {
	text := strings.ToLower(handleEncoding.EncodeToString([]byte(h)))
	var b strings.Builder
	b.WriteString(encodedPrefix)
	for len(text) > encodedPart {
		b.WriteString(text[:encodedPart])
		b.WriteByte('.')
		text = text[encodedPart:]
	}
	b.WriteString(text)
	return b.String()
}

// hasElementNames reports whether the names of the elements of the pool called poolName
// are short enough for DNS.
func hasElementNames(poolName string) bool { return wireLen(poolName)+1+elementLen <= maxName }

// elementName returns the name of an element of the pool called poolName.
func elementName(id rsp.PEID, poolName string) string {
	label := elementLabel(id)
	return string(label[:]) + poolName
}

// elementNames are the names of elements of a pool, made at once. All are as long.
type elementNames struct {
	all string
	len int
}

func newElementNames(n int, id func(i int) rsp.PEID, poolName string) elementNames {
	names := elementNames{len: elementLen + 1 + len(poolName)}
	var b strings.Builder
	b.Grow(n * names.len)
	for i := range n {
		label := elementLabel(id(i))
		b.Write(label[:])
		b.WriteString(poolName)
	}
	names.all = b.String()
	return names
}

func (n *elementNames) of(i int) string { return n.all[i*n.len : (i+1)*n.len] }

// elementLabel returns the first label of an element's name, with its dot.
func elementLabel(id rsp.PEID) (label [elementLen + 1]byte) {
	const digits = "0123456789abcdef"
	copy(label[:], elementPrefix)
	for i := range 8 {
		label[len(elementPrefix)+i] = digits[id>>(28-4*i)&0xf]
	}
	label[elementLen] = '.'
	return label
}

// decodeHandle reads _ph- and a handle in base32hex, cut into labels. Each handle has
// exactly one such name: other cuts, other lengths and stray bits are refused.
func decodeHandle(name []byte) (rsp.PoolHandle, bool) {
	parts := strings.Split(strings.ToUpper(string(name[len(encodedPrefix):])), ".")
	for i, part := range parts {
		if len(part) != encodedPart && (i < len(parts)-1 || len(part) == 0 || len(part) > encodedPart) {
			return "", false
		}
	}
	text := strings.Join(parts, "")
	h, err := handleEncoding.DecodeString(text)
	if err != nil || handleEncoding.EncodeToString(h) != text {
		return "", false
	}
	return rsp.PoolHandle(h), true
}
