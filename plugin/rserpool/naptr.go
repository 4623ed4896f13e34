package rserpool

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// naptrService is a service of a pool's NAPTR records (RFC 3403, as RFC 3958 uses them).
type naptrService struct {
	name string // the SERVICE field, as configured
	// srv is the first label of the name of the SRV records, in lower case, for the flag s.
	// Without it the flag is a: a record for each element.
	srv string
	// transport is the one that the name tells, 0 if it tells none.
	transport rsp.TransportType
	// weighted: clients take 65535 - PREFERENCE for a weight (3GPP TS 29.303, C.1). Others
	// use the records of the least preference first.
	weighted bool
}

// wellKnown are the names that tell a transport and a label of SRV records, by their ends: of SIP
// (RFC 3263, Section 4.1), Diameter (RFC 6733, Section 5.2, and RFC 6408) and its
// predecessor (RFC 3588).
var wellKnown = []struct {
	name      string // in lower case
	srv       string
	transport rsp.TransportType
}{
	{"sip+d2u", "_sip", rsp.UDP},
	{"sip+d2t", "_sip", rsp.TCP},
	{"sip+d2s", "_sip", rsp.SCTP},
	{"sips+d2t", "_sips", rsp.TCP},
	{"sips+d2s", "_sips", rsp.SCTP},
	{"aaa+d2t", "_diameter", rsp.TCP},
	{"aaa+d2s", "_diameter", rsp.SCTP},
	{":diameter.tcp", "_diameter", rsp.TCP},
	{":diameter.sctp", "_diameter", rsp.SCTP},
	{":diameter.tls.tcp", "_diameters", rsp.TCP},
	{":diameter.dtls.sctp", "_diameters", rsp.SCTP},
}

func (o *poolOptions) parseNAPTR(args []string) error {
	s, err := newNAPTRService(args)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(o.naptr, func(o naptrService) bool { return strings.EqualFold(o.name, s.name) }) {
		return fmt.Errorf("the service %s is given twice", s.name)
	}
	o.naptr = append(o.naptr, s)
	return nil
}

// newNAPTRService reads SERVICE [s|a [LABEL]].
func newNAPTRService(args []string) (naptrService, error) {
	name := args[0]
	if !isServiceField(name) {
		return naptrService{}, fmt.Errorf("%q is not a service, such as x-3gpp-amf:x-n2 or SIP+D2S", name)
	}
	s := naptrService{name: name}
	lower := strings.ToLower(name)
	s.weighted = strings.HasPrefix(lower, "x-3gpp-")
	for _, w := range wellKnown {
		if lower == w.name || w.name[0] == ':' && strings.HasSuffix(lower, w.name) {
			s.srv, s.transport = w.srv, w.transport
		}
	}
	if len(args) == 1 {
		return s, nil
	}
	switch args[1] {
	case "a", "A":
		s.srv = ""
		if len(args) > 2 {
			return s, errors.New("a label belongs to the flag s; with the flag a there are no SRV records")
		}
		return s, nil
	case "s", "S":
	default:
		return s, fmt.Errorf("%q is not a flag; use s (SRV records) or a (addresses)", args[1])
	}
	if len(args) > 2 {
		var err error
		if s.srv, err = serviceLabel(args[2]); err != nil {
			return s, err
		}
	}
	if s.srv == "" {
		return s, fmt.Errorf("the flag s needs the first label of the SRV records, such as: naptr %s s ngap", name)
	}
	return s, nil
}

// isServiceField reports whether text can be the SERVICE field of a NAPTR record: what RFC 3958,
// Section 6.5, allows, and the dot that names of Diameter have.
func isServiceField(text string) bool {
	return text != "" && len(text) <= math.MaxUint8 && isLetter(text[0]) &&
		strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.:_") == ""
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// suits reports whether elements over a transport can offer the service.
func (s *naptrService) suits(t rsp.TransportType) bool {
	return (s.transport == 0 || s.transport == t) && (s.srv == "" || slices.Contains(protocols[:], t))
}

// naptrSet makes the NAPTR records of a pool.
type naptrSet struct {
	owner     string
	ttl       uint32
	services  []naptrService
	pool      string // its name
	transport rsp.TransportType
}

// ofPool appends the records with the flag s.
func (n *naptrSet) ofPool(rrs []dns.RR) []dns.RR {
	for i := range n.services {
		if s := &n.services[i]; s.srv != "" && s.suits(n.transport) {
			rrs = append(rrs, n.record(s, "s", 0, 0, n.srvName(s)))
		}
	}
	return rrs
}

// ofElement appends the records with the flag a of element i of a selection. They must be made
// in the order of the selection. What is the priority of SRV records is the order here: a
// client goes to the next order only if it finds no server in this one.
func (n *naptrSet) ofElement(rrs []dns.RR, id rsp.PEID, ranks *ranking, i int) []dns.RR {
	order, weight := ranks.of(i)
	if !ranks.weighs() {
		weight = math.MaxUint16
	}
	target := ""
	for i := range n.services {
		s := &n.services[i]
		if s.srv != "" || !s.suits(n.transport) {
			continue
		}
		if target == "" {
			target = elementName(id, n.pool)
		}
		preference := uint16(0)
		if s.weighted {
			preference = math.MaxUint16 - weight
		}
		rrs = append(rrs, n.record(s, "a", order, preference, target))
	}
	return rrs
}

func (n *naptrSet) record(s *naptrService, flag string, order, preference uint16, replacement string) dns.RR {
	return &dns.NAPTR{
		Hdr:         header(n.owner, dns.TypeNAPTR, n.ttl),
		Order:       order,
		Preference:  preference,
		Flags:       flag,
		Service:     s.name,
		Replacement: replacement,
	}
}

// srvName returns the name of the SRV records of a service.
func (n *naptrSet) srvName(s *naptrService) string {
	return s.srv + "._" + n.transport.String() + "." + n.pool
}

// fits reports whether all names are short enough for DNS.
func (n *naptrSet) fits() bool {
	for i := range n.services {
		if s := &n.services[i]; s.srv != "" && s.suits(n.transport) && wireLen(n.srvName(s)) > maxName {
			return false
		}
	}
	return hasElementNames(n.pool)
}

// naptrSize is what the records of a pool need.
type naptrSize struct {
	// pool are the octets of those with the flag s, each of those of an element.
	pool, each               int
	poolRecords, eachRecords int
}

func (n *naptrSet) size() (z naptrSize) {
	const record = 2 + 10 + 4 + 2 + 1 + 1 // the owner is a pointer, the expression empty
	for i := range n.services {
		switch s := &n.services[i]; {
		case !s.suits(n.transport):
		case s.srv != "":
			z.pool += record + len(s.name) + wireLen(n.srvName(s))
			z.poolRecords++
		default:
			z.each += record + len(s.name) + 1 + elementLen + wireLen(n.pool)
			z.eachRecords++
		}
	}
	return z
}

// elements returns how many elements may be in answers of at most so many records.
func (z *naptrSize) elements(answers int) int {
	if z.eachRecords == 0 {
		return answers
	}
	return max(1, (answers-z.poolRecords)/z.eachRecords)
}

// addNAPTR adds the pool's NAPTR records, in the order of selection. Additional data are what they
// lead to, because some clients look nowhere else: SRV records, if the answer has room for
// all of them, and addresses. Records with the flag a are a set as SRV records are.
func (q *query) addNAPTR(rep *reply) {
	n := naptrSet{owner: q.name, services: q.naptr, pool: q.poolName(), transport: transportOf(q.node.pool)}
	size := n.size()
	if size == (naptrSize{}) || !n.fits() {
		return
	}
	room := q.roomForServices(rep, n.pool)
	if size.each > 0 {
		room = max(1, (q.answerRoom(rep)-size.pool)/size.each)
	}
	limit := size.elements(q.answers)
	selected, more := q.pickSet(lookup.NAPTR, min(limit, room), limit)
	if len(selected) == 0 {
		return
	}
	n.ttl = q.setLifetime(selected)
	rep.grow(len(selected))
	rep.mark(1 + len(selected))
	names := newElementNames(len(selected), func(i int) rsp.PEID { return selected[i].ID }, n.pool)
	if size.pool > 0 {
		rep.msg.Answer = n.ofPool(rep.msg.Answer)
		rep.element()
		if !more || len(selected) == q.answers { // as many as a question for them gets
			q.addNAPTRTargets(rep, &n, selected, &names)
		}
	}
	if size.each > 0 {
		rep.msg.Truncated = more && room < limit
		q.addNAPTRElements(rep, &n, selected)
	}
	for i, s := range selected {
		rep.glue(names.of(i), n.ttl, s.Element.UserTransport.Addrs)
	}
}

func (q *query) addNAPTRElements(rep *reply, n *naptrSet, selected []handlespace.Selected) {
	ranks := newRanking(q.srv, q.node.pool.Policy(), selected)
	for i, s := range selected {
		rep.msg.Answer = n.ofElement(rep.msg.Answer, s.ID, &ranks, i)
		rep.element()
	}
}

// addNAPTRTargets adds the SRV records to which the answer refers, a set for each name.
func (q *query) addNAPTRTargets(rep *reply, n *naptrSet, selected []handlespace.Selected, names *elementNames) {
	for i := range n.services {
		s := &n.services[i]
		if s.srv == "" || !s.suits(n.transport) || slices.ContainsFunc(n.services[:i], func(o naptrService) bool {
			return o.srv == s.srv && o.suits(n.transport)
		}) {
			continue
		}
		owner := n.srvName(s)
		ranks := newRanking(q.srv, q.node.pool.Policy(), selected)
		records := make([]dns.SRV, len(selected))
		for i, s := range selected {
			priority, weight := ranks.of(i)
			setService(&records[i], owner, n.ttl, priority, weight, s.Element, names.of(i))
			rep.msg.Extra = append(rep.msg.Extra, &records[i])
		}
	}
}
