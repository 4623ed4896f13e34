package registrar

import (
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// onHandleResolution: RFC 5352, Section 3.3, with the number of elements that clients
// of the reference implementation may ask for.
func (r *Registrar) onHandleResolution(a *client, m *asap.HandleResolution) {
	if !r.mayAsk(a) {
		r.barResolution(a, m.Handle)
		return
	}
	items := r.cfg.Limits.DefaultItems
	if m.HasItems && m.Items > 0 {
		items = int(min(m.Items, uint32(r.cfg.Limits.ResolutionItems)))
	}
	if code, ok := r.selectFrom(m.Handle, items, nil); !ok {
		r.stats.ResolutionsFailed[causeIndex(code)]++
		r.endSubscription(a, m.Handle) // a negative response ends it (RFC 5352, Section 2.2.5)
		r.refuseResolution(a, m.Handle, code)
		return
	}
	r.stats.Resolutions++
	r.answer(a, m.Handle, m.Subscribe && r.subscribe(a, m.Handle, items))
}

// barResolution refuses a handle resolution, or ends a subscription, of an identity that may
// not resolve.
func (r *Registrar) barResolution(a *client, h rserpool.PoolHandle) {
	r.stats.RightsRefused.Resolutions++
	r.stats.ResolutionsFailed[causeIndex(rserpool.CauseSecurity)]++
	r.warnOf(&a.assoc, "the resolution of pool %s by %v is refused: %s may not resolve pool handles (resolvers)", quote(h), a.primary(), holder(a.identity))
	r.endSubscription(a, h)
	r.refuseResolution(a, h, rserpool.CauseSecurity)
}

// selectFrom puts the elements that the pool's policy picks into r.selected, or returns
// why there are none. For an update of s nothing is selected: only requests move the
// policy's state (RFC 5356, Section 4.1.2).
func (r *Registrar) selectFrom(h rserpool.PoolHandle, items int, s *subscription) (rserpool.CauseCode, bool) {
	r.selected = r.selected[:0]
	if !r.Ready() {
		return rserpool.CauseLackOfResources, false
	}
	p := r.space.Pool(h)
	if p == nil {
		return rserpool.CauseUnknownPoolHandle, false
	}
	if s == nil {
		r.selected = p.Select(r.selected, items, 0)
	} else {
		r.selected = p.Preview(r.selected, items, s.view())
	}
	if len(r.selected) == 0 {
		// All elements have weight 0. A positive response has at least one
		// element (RFC 5352, Section 2.2.6), so it must be a negative one.
		return rserpool.CauseLackOfResources, false
	}
	return 0, true
}

// answer sends the elements in r.selected. The policy is that of the first element, as
// in the reference implementation, and is sent for round robin, too. ASAP transports,
// UDP ports and identities are for registrars only. Elements that do not fit into the message are
// left out.
func (r *Registrar) answer(a *client, h rserpool.PoolHandle, accept bool) {
	var w tlv.Builder
	w.BeginHandleResolutionResponse(r.buf[:0], accept, h, r.selected[0].Policy)
	for i, s := range r.selected {
		if i > 0 && w.Len()+maxElementSize > maxMessage {
			break
		}
		r.element = s.PoolElement
		r.element.ASAPTransport, r.element.EncapPort, r.element.Identity = rserpool.Transport{}, 0, ""
		w.PoolElement(&r.element)
	}
	b, err := w.Finish()
	r.buf = b
	if err != nil {
		r.refuseResolution(a, h, rserpool.CauseLackOfResources)
		return
	}
	r.send(&a.assoc, b)
}

// maxMessage is the greatest length of a message.
const maxMessage = 0xffff

func (r *Registrar) refuseResolution(a *client, h rserpool.PoolHandle, code rserpool.CauseCode) {
	r.replyWithCause(a, rserpool.Cause{Code: code}, func(causes []rserpool.Cause) asap.Message {
		return &asap.HandleResolutionResponse{Handle: h, Causes: causes}
	})
}
