package rserpool

import (
	"sort"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"
)

// reply is a response under construction.
type reply struct {
	*response
	// ends is where the answer records of each pool element end, unless there is only one,
	// at first. sets is where each set of additional records ends.
	ends, sets []int
	first      int
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
	rep.elements(n)
	rep.msg.Extra = make([]dns.RR, 0, 2*n+1)
	rep.sets = make([]int, 0, 2*n)
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

// elements makes room to mark the ends of n elements.
func (rep *reply) elements(n int) {
	if n > 1 {
		rep.ends = make([]int, 0, n)
	}
}

// element marks the end of one element's answer records.
func (rep *reply) element() {
	end := len(rep.msg.Answer)
	if rep.first == 0 {
		rep.first = end
		return
	}
	if len(rep.ends) == 0 {
		rep.ends = append(rep.ends, rep.first)
	}
	rep.ends = append(rep.ends, end)
}

// set marks the end of a set of additional records.
func (rep *reply) set() {
	if n := len(rep.msg.Extra); n > 0 && (len(rep.sets) == 0 || rep.sets[len(rep.sets)-1] < n) {
		rep.sets = append(rep.sets, n)
	}
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

	extra := m.Extra
	drop := sort.Search(len(rep.sets), func(drop int) bool {
		m.Extra = extra[:endOf(rep.sets, len(rep.sets)-drop)]
		return rep.len() <= size
	})
	m.Extra = extra[:endOf(rep.sets, len(rep.sets)-drop)]
	if rep.len() <= size || len(rep.ends) < 2 {
		return m.Truncated
	}
	answer := m.Answer
	drop = sort.Search(len(rep.ends)-1, func(drop int) bool {
		m.Answer = answer[:rep.ends[len(rep.ends)-1-drop]]
		return rep.len() <= size
	})
	m.Answer = answer[:rep.ends[len(rep.ends)-1-drop]]
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
	for i, rr := range rep.msg.Answer {
		if i == 0 || !sameSet(rr, rep.msg.Answer[i-1]) {
			n++
		}
	}
	for _, end := range rep.sets {
		if end <= len(rep.msg.Extra) {
			n++
		}
	}
	return n * rep.signature
}

func sameSet(a, b dns.RR) bool {
	return a.Header().Rrtype == b.Header().Rrtype && a.Header().Name == b.Header().Name
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
			q.name, originOf(q.w).addr, len(rep.msg.Answer), q.node.pool.Len())
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
