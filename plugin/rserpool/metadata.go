package rserpool

import (
	"context"
	"strings"
	"sync/atomic"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// trace has what the labels of a query say after the answer. It is in the query's context,
// which plugins pass on, also to queries that they make of this one; the last answer
// counts. They may do so in goroutines of their own, as cache does.
type trace struct{ answer atomic.Pointer[traced] }

// traced is what is known of an answer.
type traced struct {
	pool     *handlespace.Pool
	elements []rsp.PEID
}

type traceKey struct{}

// noValue is the value of a label without one. The log plugin prints the same for a label
// that is not known.
const noValue = "-"

// Metadata implements metadata.Provider. The labels have their values when they are asked for:
// the pool and its policy at any time, the elements once the query is answered. Names in no zone
// have labels, too: rewrite, or an alias in another zone, can lead to a pool. A query that a plugin
// makes of another one has the trace of that one, whose labels it sets.
func (h *Handler) Metadata(ctx context.Context, state request.Request) context.Context {
	t, _ := ctx.Value(traceKey{}).(*trace)
	if t == nil {
		t = new(trace)
		ctx = context.WithValue(ctx, traceKey{}, t)
	}
	before := t.answer.Load() // of an earlier query on behalf of the same one
	pool := func() *handlespace.Pool {
		if a := t.answer.Load(); a != before {
			return a.pool
		}
		return h.poolOf(state.QName(), state.QType())
	}
	metadata.SetValueFunc(ctx, "rserpool/pool", func() string { return poolLabel(pool()) })
	metadata.SetValueFunc(ctx, "rserpool/policy", func() string { return policyLabel(pool()) })
	metadata.SetValueFunc(ctx, "rserpool/guarded", func() string { return guardedLabel(pool()) })
	metadata.SetValueFunc(ctx, "rserpool/selected", func() string { return t.elements(1) })
	metadata.SetValueFunc(ctx, "rserpool/elements", func() string { return t.elements(maxAnswers) })
	return ctx
}

// poolOf returns the pool that a name is about, nil if there is none.
func (h *Handler) poolOf(qname string, qtype uint16) *handlespace.Pool {
	z := h.zones.match(qname, qtype)
	if z == nil || z.elsewhere {
		return nil
	}
	n := z.resolve(h.registrar.Space(), qname)
	h.zones.nest(&n, z, qname)
	return n.pool
}

// poolLabel returns the handle as a name in DNS is written, so that no pool can put blanks or
// line ends into a log.
func poolLabel(p *handlespace.Pool) string {
	if p == nil {
		return noValue
	}
	var b strings.Builder
	for _, c := range []byte(p.Handle()) {
		switch {
		case c <= ' ' || c > '~':
			b.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
		case strings.IndexByte(`"();@$\`, c) >= 0:
			b.Write([]byte{'\\', c})
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func policyLabel(p *handlespace.Pool) string {
	if p == nil {
		return noValue
	}
	return p.Policy().String()
}

func guardedLabel(p *handlespace.Pool) string {
	if p == nil {
		return noValue
	}
	_, guarded := p.Doubt()
	return yesNo(guarded, "yes", "no")
}

// elements returns the first n elements of the answer.
func (t *trace) elements(n int) string {
	a := t.answer.Load()
	if a == nil || len(a.elements) == 0 {
		return noValue
	}
	var b strings.Builder
	for i, id := range a.elements[:min(n, len(a.elements))] {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(id.String())
	}
	return b.String()
}

// traceOf returns the trace of a query, nil if there is none.
func (h *Handler) traceOf(ctx context.Context) *trace {
	if !h.traces {
		return nil
	}
	t, _ := ctx.Value(traceKey{}).(*trace)
	return t
}

// record stores what the labels say: the elements of the answer, in their order.
func (q *query) record(rep *reply) {
	a := &traced{pool: q.node.pool, elements: q.picked}
	if q.node.kind == nodeElement && len(rep.msg.Answer) > 0 {
		a.elements = []rsp.PEID{q.node.element.ID}
	} else {
		a.elements = q.picked[:rep.whole(len(q.picked))]
	}
	q.trace.answer.Store(a)
}
