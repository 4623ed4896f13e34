package pe

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// requestID names a request within a core.
type requestID uint64

// answer is what has become of a request.
type answer struct {
	id       requestID
	elements []rserpool.PoolElement
	err      error
}

// request is a handle resolution of the element (RFC 5352, Section 3.3), or its report of
// an unreachable element (Section 3.5), which has no answer. It is sent over the
// association with the home registrar, as NR3 says, when there is one.
type request struct {
	id     requestID
	handle rserpool.PoolHandle
	msg    asap.Message
	sent   int       // to the present home registrar
	by     time.Time // T1-ENRPrequest; zero: not sent
}

// requests are those that have not ended, the oldest first. A response names its request
// by the pool handle alone: it is that of the oldest one for its handle.
type requests struct {
	list    []*request
	last    requestID
	answers []answer
	reports hunt.Reports
}

// maxRequests is how many requests may wait at a time.
const maxRequests = 1024

// resolve asks the home registrar for n elements of a pool; 0 is as many as it likes.
func (k *core) resolve(now time.Time, h rserpool.PoolHandle, n uint32) requestID {
	return k.request(now, &request{handle: h, msg: &asap.HandleResolution{Handle: h, Items: n, HasItems: n > 0}})
}

// report tells the home registrar of an element that cannot be reached.
func (k *core) report(now time.Time, h rserpool.PoolHandle, id rserpool.PEID) requestID {
	return k.request(now, &request{handle: h, msg: &asap.EndpointUnreachable{Handle: h, ID: id}})
}

func (k *core) request(now time.Time, r *request) requestID {
	k.req.last++
	r.id = k.req.last
	_, err := r.msg.Append(nil)
	switch {
	case err != nil:
		k.answer(r, nil, fmt.Errorf("such a request cannot be sent: %w", err))
		return r.id
	case k.stopping:
		k.answer(r, nil, rserpool.ErrClosed)
		return r.id
	case len(k.req.list) >= maxRequests:
		k.answer(r, nil, fmt.Errorf("%d requests of this element wait for an answer already", maxRequests))
		return r.id
	}
	k.req.list = append(k.req.list, r)
	if k.home != 0 {
		k.ask(now, r)
	} else {
		k.seekToAsk(now)
	}
	return r.id
}

// seekToAsk looks for a registrar that answers the requests, if the element is not
// registered and does not look for one in any case (NR2).
func (k *core) seekToAsk(now time.Time) {
	if k.phase == idle && k.home == 0 && len(k.req.list) > 0 && !k.hunt.Hunting() {
		k.beginHunt(now, nil)
	}
}

// answer ends a request.
func (k *core) answer(r *request, elements []rserpool.PoolElement, err error) {
	k.req.answers = append(k.req.answers, answer{r.id, elements, err})
	k.req.list = slices.DeleteFunc(k.req.list, func(o *request) bool { return o == r })
}

// ask sends a request to the home registrar.
func (k *core) ask(now time.Time, r *request) {
	if m, ok := r.msg.(*asap.EndpointUnreachable); ok {
		if k.req.reports.May(now, m.Handle, m.ID) {
			k.send(k.home, m)
		}
		k.answer(r, nil, nil)
		return
	}
	k.send(k.home, r.msg)
	r.sent++
	r.by = now.Add(k.timers.Request)
}

// askAll sends the requests to a new home registrar.
func (k *core) askAll(now time.Time) {
	for _, r := range slices.Clone(k.req.list) {
		r.sent = 0
		k.ask(now, r)
	}
}

// unask waits for another home registrar.
func (k *core) unask() {
	for _, r := range k.req.list {
		r.by = time.Time{}
	}
}

// cancelRequest ends a request, because nobody waits for it any more.
func (k *core) cancelRequest(id requestID, why error) {
	i := slices.IndexFunc(k.req.list, func(r *request) bool { return r.id == id })
	if i < 0 {
		return
	}
	r := k.req.list[i]
	if r.by.IsZero() {
		why = &rserpool.UnreachableError{Attempts: k.hunt.Report(), Cause: why}
	} else {
		why = &rserpool.TimeoutError{Registrar: k.homeAt.String(), Requests: r.sent, After: k.timers.Request, Cause: why}
	}
	k.answer(r, nil, why)
	if len(k.req.list) == 0 && k.phase == idle {
		k.hunt.Stop()
	}
}

// takeAnswers returns the answers since the last call.
func (k *core) takeAnswers() []answer {
	answers := k.req.answers
	k.req.answers = nil
	return answers
}

// endRequests ends all requests.
func (k *core) endRequests(why error) {
	for _, r := range slices.Clone(k.req.list) {
		k.answer(r, nil, why)
	}
}

// tickRequests repeats requests that are not answered (RFC 5352, Section 3.7.2).
func (k *core) tickRequests(now time.Time) {
	for _, r := range slices.Clone(k.req.list) {
		switch {
		case r.by.IsZero() || now.Before(r.by):
		case r.sent <= k.timers.MaxRequestRetransmit:
			k.ask(now, r)
		default:
			k.answer(r, nil, &rserpool.TimeoutError{Registrar: k.homeAt.String(), Requests: r.sent, After: k.timers.Request})
		}
	}
}

// onResolution takes the answer to a handle resolution.
func (k *core) onResolution(a sctp.AssocID, m *asap.HandleResolutionResponse) {
	i := slices.IndexFunc(k.req.list, func(r *request) bool { return r.handle == m.Handle && !r.by.IsZero() })
	if a != k.home || i < 0 {
		return
	}
	r := k.req.list[i]
	switch {
	case len(m.Causes) > 0 && len(m.Elements) == 0:
		k.answer(r, nil, &RefusedError{Pool: m.Handle, Registrar: k.homeAt.String(), Causes: m.Causes})
	case len(m.Elements) == 0:
		k.answer(r, nil, &rserpool.NoElementsError{Pool: m.Handle, Registrar: k.homeAt.String()})
	default:
		k.answer(r, m.Elements, nil)
	}
}

// resolutionRefused takes an ASAP_ERROR in place of the answer. It does not say to which
// request; registrars take them in their order.
func (k *core) resolutionRefused(list []rserpool.Cause) {
	i := slices.IndexFunc(k.req.list, func(r *request) bool { return !r.by.IsZero() })
	if i >= 0 {
		r := k.req.list[i]
		k.answer(r, nil, &RefusedError{Pool: r.handle, Registrar: k.homeAt.String(), Causes: list})
	}
}

// RefusedError says that a registrar refuses a request of an element.
type RefusedError struct {
	Pool      rserpool.PoolHandle
	Registrar string
	Causes    []rserpool.Cause
}

// Error gives the causes in words.
func (e *RefusedError) Error() string {
	words := make([]string, len(e.Causes))
	for i, c := range e.Causes {
		words[i] = c.String()
	}
	return fmt.Sprintf("registrar %s refuses the request for pool %q: %s", e.Registrar, string(e.Pool), strings.Join(words, "; "))
}

// Is reports whether target is a [rserpool.CauseCode] among the causes, such as
// [rserpool.CauseUnknownPoolHandle].
func (e *RefusedError) Is(target error) bool { return rserpool.HasCause(e.Causes, target) }
