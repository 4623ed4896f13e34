package rserpool

import (
	"sort"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"
)

// reply is a response under construction.
type reply struct {
	*response
	// Each answer record is one of an element of its own, unless they are marked: then ends is
	// where those of each element end, if there are several elements.
	marked bool
	ends   []int
	// signature is the octets that the dnssec plugin will add for each set of records.
	signature int
	addresses addressRecords
}

// response is what lasts of a reply. It includes space for the parts of a usual response, so
// that all of them need one allocation.
type response struct {
	msg      dns.Msg
	question [1]dns.Question
	answer   [2]dns.RR
	extra    [1]dns.RR // the server's OPT record
}

// start starts the authoritative response to r.
func (rep *reply) start(r *dns.Msg) {
	rep.response = new(response)
	rep.question[0] = r.Question[0]
	m := &rep.msg // field by field: a literal would be copied
	m.Id, m.Response, m.Opcode, m.Authoritative = r.Id, true, r.Opcode, true
	m.RecursionDesired, m.CheckingDisabled = r.RecursionDesired, r.CheckingDisabled
	m.Question, m.Answer, m.Extra = rep.question[:], rep.answer[:0], rep.extra[:0]
}

// grow makes room for services of n elements with an address of each family.
func (rep *reply) grow(n int) {
	if n > cap(rep.msg.Answer) {
		rep.msg.Answer = make([]dns.RR, 0, n)
	}
	rep.msg.Extra = make([]dns.RR, 0, 2*n+1)
	rep.addresses.n = n
}

// sign says that the dnssec plugin will add so many octets for each set of records. In a long
// response the names of the signatures may not be compressed.
func (rep *reply) sign(octets, size int) {
	rep.signature = octets
	if octets > 0 && size >= maxPointer {
		rep.signature += wireLen(rep.question[0].Name) + 1 + elementLen
	}
}

// mark says that n elements may have several answer records each. Their ends are marked by
// element.
func (rep *reply) mark(n int) {
	rep.marked = true
	if n > 1 {
		rep.ends = make([]int, 0, n)
	}
}

// element marks the end of one element's answer records.
func (rep *reply) element() {
	if cap(rep.ends) > 0 {
		rep.ends = append(rep.ends, len(rep.msg.Answer))
	}
}

// elements returns the number of elements in the answer.
func (rep *reply) elements() int {
	if rep.marked {
		return len(rep.ends)
	}
	return len(rep.msg.Answer)
}

// end returns where the first n elements end.
func (rep *reply) end(n int) int {
	if rep.marked {
		return endOf(rep.ends, n)
	}
	return n
}

// whole returns how many of the n elements of the lookup are in the answer after fit.
func (rep *reply) whole(n int) int {
	if !rep.marked {
		return min(n, len(rep.msg.Answer))
	}
	if len(rep.ends) != n {
		return n // one, or records that are about all
	}
	for n > 0 && rep.ends[n-1] > len(rep.msg.Answer) {
		n--
	}
	return n
}

// fit shortens the response to size octets. First it removes whole sets of additional
// records from the end. If that is not enough, it removes whole elements from the end of the
// answer, except the first, and sets TC: a set of records is incomplete without it (RFC
// 2181, Sections 5 and 9). If the response is still too long, the server truncates it. fit
// reports whether elements are missing, also those that were never added.
func (rep *reply) fit(size int) (shortened bool) {
	m := &rep.msg
	if roughLen(m)+rep.signatures() <= size {
		return m.Truncated
	}
	m.Compress = true // the server does it as well, but not if the tsig plugin signs
	if size < maxPointer && rep.roughCompressedLen()+rep.signatures() <= size {
		return m.Truncated
	}
	if rep.len() <= size {
		return m.Truncated
	}

	extra, sets := m.Extra, setsOf(m.Extra)
	drop := sort.Search(len(sets), func(drop int) bool {
		m.Extra = extra[:endOf(sets, len(sets)-drop)]
		return rep.len() <= size
	})
	m.Extra = extra[:endOf(sets, len(sets)-drop)]
	n := rep.elements()
	if rep.len() <= size || n < 2 {
		return m.Truncated
	}
	answer := m.Answer
	drop = sort.Search(n-1, func(drop int) bool {
		m.Answer = answer[:rep.end(n-drop)]
		return rep.len() <= size
	})
	m.Answer = answer[:rep.end(n-drop)]
	m.Truncated = m.Truncated || drop > 0
	return m.Truncated
}

// len returns the octets of the response, with the signatures that will be added.
func (rep *reply) len() int { return rep.msg.Len() + rep.signatures() }

// signatures returns the octets of the signatures that will be added.
func (rep *reply) signatures() int {
	if rep.signature == 0 {
		return 0
	}
	n := 0
	for _, section := range [...][]dns.RR{rep.msg.Answer, rep.msg.Extra} {
		for i := range section {
			if endsSet(section, i) {
				n++
			}
		}
	}
	return n * rep.signature
}

// setsOf returns where each set of records ends: those of one name and type, one behind the
// other.
func setsOf(rrs []dns.RR) (ends []int) {
	for i := range rrs {
		if endsSet(rrs, i) {
			ends = append(ends, i+1)
		}
	}
	return ends
}

func endsSet(rrs []dns.RR, i int) bool {
	if i+1 == len(rrs) {
		return true
	}
	a, b := rrs[i].Header(), rrs[i+1].Header()
	return a.Rrtype != b.Rrtype || a.Name != b.Name
}

// reportCut counts an SRV answer with too few elements if that is so because the client does
// without EDNS, such as HAProxy by default, and logs the first one.
func (q *query) reportCut(rep *reply, r *dns.Msg) {
	if rep.question[0].Qtype != dns.TypeSRV || r.IsEdns0() != nil || q.size > dns.MinMsgSize {
		return
	}
	q.count.cutNoEDNS.Inc()
	q.cutOnce.Do(func() {
		clog.NewWithPlugin(pluginName).Warningf("%s: the SRV answer to %s has %d of %d elements. More do not fit into 512 octets, and the client announces no larger buffer (EDNS). "+
			"For HAProxy, set accepted_payload_size to 8192 in the resolvers section. This line is logged once; srv_shortened_no_edns_total counts all such answers",
			q.name, originOf(q.w).Addr, len(rep.msg.Answer), q.node.pool.Len())
	})
}

// endOf returns where the first n parts end.
func endOf(ends []int, n int) int {
	if n == 0 {
		return 0
	}
	return ends[n-1]
}

// maxPointer is the offset up to which names can be pointed to.
const maxPointer = 1 << 14

// roughCompressedLen is roughLen for a compressed message of less than maxPointer octets.
// Only names that are there as a whole are taken for pointers: the question's, and the
// targets of SRV, HTTPS and SVCB records as owners of the additional records, which have the same order.
func (rep *reply) roughCompressedLen() int {
	const pointer = 2
	m := &rep.msg
	n := roughLen(m)
	for _, rr := range m.Answer {
		if name := rr.Header().Name; name == m.Question[0].Name {
			n -= max(0, len(name)+1-pointer)
		}
	}
	i := 0
	for _, rr := range m.Extra {
		name := rr.Header().Name
		for i < len(m.Answer) && !hasTarget(m.Answer[i], name) {
			i++
		}
		if i == len(m.Answer) {
			break
		}
		n -= len(name) + 1 - pointer
	}
	return n
}

func hasTarget(rr dns.RR, name string) bool {
	switch rr := rr.(type) {
	case *dns.SRV:
		return rr.Target == name
	case *dns.HTTPS:
		return rr.Target == name
	case *dns.SVCB:
		return rr.Target == name
	}
	return false
}

// roughLen returns an upper bound for the length of m without compression. It is faster
// than m.Len.
func roughLen(m *dns.Msg) int {
	const header, fixed = 12, 10
	n := header + len(m.Question[0].Name) + 1 + 4
	for _, section := range [...][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			switch rr := rr.(type) {
			case *dns.A:
				n += len(rr.Hdr.Name) + 1 + fixed + 4
			case *dns.AAAA:
				n += len(rr.Hdr.Name) + 1 + fixed + 16
			case *dns.SRV:
				n += len(rr.Hdr.Name) + 1 + fixed + 6 + len(rr.Target) + 1
			default: // with the owner counted as for the others
				name := rr.Header().Name
				n += dns.Len(rr) - wireLen(name) + len(name) + 1
			}
		}
	}
	return n
}
