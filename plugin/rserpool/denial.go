package rserpool

import (
	"fmt"
	"slices"
	"strings"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// The dnssec plugin signs the answers. To deny a type, it makes an NSEC record from a fixed
// list of types, which lacks HTTPS, SVCB, PTR and NAPTR and, for the type DS, claims a
// delegation. A validator that uses its cached NSEC records (RFC 8198) would then deny
// records that exist. So the NSEC record is made here, in the way of RFC 9824 (compact denial
// of existence), and the plugin only signs it.

// signer is what the handler needs of the dnssec plugin.
type signer interface {
	// Sign adds the signatures to the message in state.
	Sign(state request.Request, now time.Time, server string) *dns.Msg
}

// signatureSize returns the octets that the signatures of an RRset of z have in a compressed
// message, 0 if z is not signed.
func (h *Handler) signatureSize(z *zone, server string) int {
	if h.signer == nil {
		return 0
	}
	h.measureSignatures(server)
	return z.signature
}

// measureSignatures finds out, once, which zones are signed, and by whom. server is the server's name
// in metrics.
func (h *Handler) measureSignatures(server string) {
	h.measure.Do(func() {
		for i := range h.zones {
			z := &h.zones[i]
			z.signature, z.signedBy = measureSignature(h.signer, z.name, server)
		}
	})
}

// checkSigners finds a zone that dnssec signs with another name than the zone above, if that is one of
// this block and signed, too. The plugin signs all records with the closest of its names, so also the
// proof that the zone has no DS records. Validators take this proof only from the zone above (RFC 4035,
// Section 5.2). So the names of the lower zone are good only for those that trust its own keys, or do
// not trust those of the upper one.
func (h *Handler) checkSigners(server string) error {
	if h.signer == nil {
		return nil
	}
	h.measureSignatures(server)
	var upper []string // that sign all zones below them
	var wrong *zone
	for i := range h.zones {
		z := &h.zones[i]
		switch p := h.zones.parent(z); {
		case z.signature == 0:
		case p != nil && p.signature > 0 && !p.elsewhere:
			if wrong == nil && z.signedBy != p.signedBy {
				wrong = z
			}
		case !z.elsewhere && !slices.Contains(upper, z.signedBy):
			upper = append(upper, z.signedBy)
		}
	}
	if wrong == nil {
		return nil
	}
	advice := "Let the keys of the upper zone sign the names of both"
	if wrong.elsewhere {
		advice = wrong.name + " is a zone of another server block"
	}
	p := h.zones.parent(wrong)
	return fmt.Errorf("dnssec signs %s in the name of %s, and %s above it in the name of %s, but no DS records link the two: resolvers that validate with the key of the upper zone, and have no trust anchor for the lower one, refuse all its answers. "+
		"%s: name only upper zones in dnssec, and only their keys: dnssec %s",
		wrong.name, wrong.signedBy, p.name, p.signedBy, advice, strings.Join(upper, " "))
}

// warnDenials warns if the next plugin answers for a signed zone: the NSEC records there are those of
// the dnssec plugin. server is the server's name in metrics.
func (h *Handler) warnDenials(where, server string) {
	if h.Next == nil || len(h.Fall.Zones) == 0 {
		return
	}
	for i := range h.zones.own() {
		if z := &h.zones[i]; h.signatureSize(z, server) > 0 {
			clog.NewWithPlugin(pluginName).Warningf("%s: dnssec signs %s, and fallthrough hands unknown names of it to the next plugin: "+
				"there dnssec denies records of types such as HTTPS, SVCB and PTR, although they may exist, and resolvers that validate believe that. "+
				"Remove fallthrough, and put those names into a zone of their own, which the plugin sign signs, in a server block without dnssec", where, z.name)
			return
		}
	}
}

// measureSignature returns the octets of the signatures of an RRset, and the name that they have.
func measureSignature(s signer, zone, server string) (n int, by string) {
	const pointer = 2
	m := new(dns.Msg).SetQuestion(zone, dns.TypeNSEC)
	m.Answer = []dns.RR{nsec(zone, zone, 0, nil)}
	for _, rr := range s.Sign(request.Request{Req: m}, time.Now(), server).Answer {
		if sig, ok := rr.(*dns.RRSIG); ok {
			n += dns.Len(rr) - wireLen(zone) + pointer
			by = sig.SignerName
		}
	}
	return n, by
}

// sign prepares a response for the dnssec plugin, if that signs the zone. The plugin caches
// signatures by the text of the records, so their owners are in lower case: it would sign
// anew for a resolver that draws the case of each question.
func (q *query) sign(rep *reply) {
	octets := q.signatureSize(q.zone, q.count.server)
	if octets == 0 {
		return
	}
	rep.sign(octets, q.size)
	q.name = strings.ToLower(q.name)
}

// deny adds to a negative answer the proof that the name does not have the type. A name that
// does not exist is shown as one that has no types, so that the answer is not NXDOMAIN.
func (q *query) deny(rep *reply, qtype uint16) {
	m := &rep.msg
	// With a record in its answer section, the plugin signs this message as it is.
	proof := &dns.Msg{Question: m.Question, Answer: []dns.RR{q.nsec(qtype)}, Ns: m.Ns}
	proof = q.signer.Sign(request.Request{W: q.w, Req: proof}, q.now, q.count.server)
	m.Ns = append(proof.Ns, proof.Answer...)
	m.Rcode = dns.RcodeSuccess
}

// nsec returns the NSEC record of the query's name, without the type that was asked for.
func (q *query) nsec(qtype uint16) dns.RR {
	types := q.node.types()
	if qtype != dns.TypeNSEC {
		types = slices.DeleteFunc(types, func(t uint16) bool { return t == qtype })
	}
	return nsec(q.name, q.zone.name, q.ttl, types)
}

func nsec(name, zone string, ttl uint32, types []uint16) dns.RR {
	types = append(types, dns.TypeRRSIG, dns.TypeNSEC)
	slices.Sort(types)
	return &dns.NSEC{Hdr: header(name, dns.TypeNSEC, ttl), NextDomain: nextName(name, zone), TypeBitMap: types}
}

// types returns the types that there may be at a node, in addition to those of DNSSEC itself.
// More types than there are do no harm: a validator asks for them.
func (n *node) types() []uint16 {
	switch n.kind {
	case nodeNone:
		return []uint16{dns.TypeNXNAME}
	case nodeEmpty:
		return nil
	case nodeChild:
		return []uint16{dns.TypeNS}
	default:
		return append(n.ownTypes(), dns.TypeHINFO) // which is the answer to ANY
	}
}

// ownTypes is types for names that have records.
func (n *node) ownTypes() []uint16 {
	switch n.kind {
	case nodeNone, nodeEmpty, nodeChild:
	case nodeApex:
		return []uint16{dns.TypeNS, dns.TypeSOA, dns.TypeDNSKEY}
	case nodeServer:
		return []uint16{dns.TypeA, dns.TypeAAAA}
	case nodePool:
		types := []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeNAPTR}
		if n.options.https != nil {
			types = append(types, dns.TypeHTTPS)
		}
		if len(n.options.txt) > 0 {
			types = append(types, dns.TypeTXT)
		}
		return types
	case nodeElement:
		return []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV}
	case nodeService:
		return []uint16{dns.TypeSRV}
	case nodeBinding:
		return []uint16{n.binding.rrtype()}
	case nodeDomain, nodeTypes, nodeType, nodeAddress:
		return []uint16{dns.TypePTR}
	case nodeInstance:
		return []uint16{dns.TypeSRV, dns.TypeTXT}
	case nodeInfo:
		return []uint16{dns.TypeTXT}
	}
	return nil
}

// nextName returns a name between name, which is in lower case, and all other names of the zone in
// DNSSEC order (RFC 4034, Section 6.1): the first one below it, or if there is no room for that,
// one beside it.
func nextName(name, zone string) string {
	switch l := wireLen(name); {
	case name == ".":
		return `\000.`
	case l+2 <= maxName:
		return `\000.` + name
	}
	var buf [maxName + 1]byte
	n, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	if err != nil {
		return name // not reached: name is from a message
	}
	wire := buf[:n]
	if n == maxName || wire[0] == maxLabel {
		wire = nextLabel(wire, wireLen(zone))
	} else {
		wire = growLabel(wire)
	}
	next, _, err := dns.UnpackDomainName(wire, 0)
	if err != nil {
		return name
	}
	return next
}

// growLabel appends the least octet to the first label of a name.
func growLabel(wire []byte) []byte {
	wire = slices.Insert(wire, 1+int(wire[0]), 0)
	wire[0]++
	return wire
}

// nextLabel returns the name behind one whose first label cannot grow, nor have others below it:
// its last octet grows, or if it cannot either, the label ends before it. If no octet can grow,
// the next name is that behind the name above. The zone, which has so many octets, is behind its
// last name.
func nextLabel(wire []byte, zone int) []byte {
	for len(wire) > zone {
		first := int(wire[0])
		for ; first > 0; first-- {
			if c := nextOctet(wire[first]); c != 0 {
				wire[first] = c
				wire[0] = byte(first)
				return wire
			}
			wire = slices.Delete(wire, first, first+1)
		}
		if wire = wire[1:]; len(wire) > zone && wire[0] < maxLabel {
			return growLabel(wire)
		}
	}
	return wire
}

// nextOctet returns the octet behind c in DNSSEC order, in which there are no capital letters;
// 0 if there is none.
func nextOctet(c byte) byte {
	if c == 'A'-1 {
		return 'Z' + 1
	}
	return c + 1
}
