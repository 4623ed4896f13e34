package rserpool

import (
	"context"
	"sync"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/edns"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"github.com/coredns/coredns/plugin/tsig"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/host"
)

// Handler answers queries for its zones from a registrar's handlespace.
type Handler struct {
	Next plugin.Handler
	Fall fall.F

	zones   zones
	pools   *poolTable
	inspect *inspectors // nil: everybody

	// registrar is set before the first query comes.
	registrar registrar
	// signer is the dnssec plugin of the server block, nil if there is none.
	signer   signer
	measure  sync.Once // the signatures of the zones
	traces   bool      // the server block has the metadata plugin
	nsid     int       // octets of the identifier that the nsid plugin adds, 0 if there is none
	tsig     bool      // the server block has the tsig plugin
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
	// Answers reports whether what is in the handlespace may be answered. Before Ready there
	// may be more.
	Answers() bool
	Space() *handlespace.Space
	// Stats are up to a tenth of a second old.
	Stats() host.Stats
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
	case z.elsewhere:
		return h.refer(ctx, w, r, z, count)
	case !h.registrar.Answers():
		// A pool that is not known yet may exist all the same: no NXDOMAIN.
		count.answer(answerNotReady)
		return notReady(w, r)
	}

	m, without := h.respond(ctx, w, r, z, count)
	if m == nil {
		count.answer(without)
		switch without {
		case answerNotReady:
			return notReady(w, r)
		case answerRefused:
			return refuse(w, r)
		default:
			return plugin.NextOrFailure(h.Name(), h.Next, ctx, w, r)
		}
	}
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return m.Rcode, nil
}

// respond makes the response to a question in a zone. If there is none, without says why: another
// plugin is to answer it, it is not known yet whether there is such a pool, or the client may not
// ask this.
//
// The goroutine of a query begins with little stack, and it takes a fifth of the whole query to
// move to a larger one; see TestStack. That is why respond is apart from ServeDNS, and has
// its parts in functions of their own.
func (h *Handler) respond(ctx context.Context, w dns.ResponseWriter, r *dns.Msg, z *zone, count *serverCounters) (m *dns.Msg, without answerKind) {
	question := &r.Question[0]
	var q query // field by field: a literal would be copied
	q.Handler, q.count, q.w, q.zone, q.space, q.name, q.trace = h, count, w, z, h.registrar.Space(), question.Name, h.traceOf(ctx)
	found := q.find()
	if (q.node.kind == nodeNone || q.node.isEmptyPool()) && !h.registrar.Ready() {
		return nil, answerNotReady
	}
	if !found {
		return nil, answerFallthrough
	}
	if q.bars() {
		return nil, answerRefused
	}
	q.now = h.now()
	do := q.measure(ctx, r)
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
		rep.msg.Truncated = !overTCP(w)
	}
	if q.trace != nil {
		q.record(&rep)
	}
	q.release()
	return &rep.msg, answerData
}

// notReady answers that the handlespace is not known yet, with the extended DNS error Not
// Ready (RFC 8914, Section 4.15) for clients with EDNS.
func notReady(w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return answerError(w, r, dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady, "the registrar does not know its handlespace yet")
}

// answerError answers an error, which clients with EDNS get with its reason (RFC 8914).
func answerError(w dns.ResponseWriter, r *dns.Msg, rcode int, code uint16, text string) (int, error) {
	if r.IsEdns0() == nil {
		return rcode, nil // the server answers
	}
	m := new(dns.Msg).SetRcode(r, rcode)
	m.SetEdns0(dns.MinMsgSize, false) // the server fills it in
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
	if err := w.WriteMsg(m); err != nil {
		return dns.RcodeServerFailure, err
	}
	return dns.RcodeSuccess, nil // it is answered
}

// overTCP reports whether the client asks over TCP, or a transport that CoreDNS takes for it. No
// transport has longer answers. So there the flag TC would help nobody, and BIND and unbound answer
// SERVFAIL instead of what they got.
func overTCP(w dns.ResponseWriter) bool {
	state := request.Request{W: w}
	return state.Proto() == "tcp"
}

// measure sets the octets that the answer may have: what the client accepts, less what others add
// later: the server the OPT record, the plugin nsid the server's identifier, and the plugin tsig the
// signature of the answer. do is the client's flag DO: it wants signatures of records.
func (q *query) measure(ctx context.Context, r *dns.Msg) (do bool) {
	state := request.Request{W: q.w}
	if opt := r.IsEdns0(); opt != nil {
		q.size, do = int(edns.Size(state.Proto(), opt.UDPSize()))-dns.Len(opt), opt.Do()
		if q.nsid > 0 && asksNSID(opt) {
			q.size -= q.nsid
		}
	} else {
		q.size = int(edns.Size(state.Proto(), 0))
	}
	if q.tsig {
		if key, signed := tsig.ValidatedKeyName(ctx); signed {
			q.size -= wireLen(key) + maxTSIG
		}
	}
	return do
}

// asksNSID reports whether the client asks for the server's identifier (RFC 5001).
func asksNSID(opt *dns.OPT) bool {
	for _, o := range opt.Option {
		if o.Option() == dns.EDNS0NSID {
			return true
		}
	}
	return false
}

// maxTSIG is the most octets of a TSIG record without the name of its key: those of the algorithm
// hmac-sha512 (RFC 8945, Section 4.2).
const maxTSIG = 10 + len("\vhmac-sha512\x00") + 16 + 512/8
