package pu

import (
	"errors"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Received takes a message of ASAP from an association.
func (k *core) Received(now time.Time, a sctp.AssocID, data []byte) {
	if a != k.home {
		return
	}
	m, causes, err := asap.Parse(data)
	if err != nil {
		if reply, ok := asap.ErrorReport(err); ok {
			k.reply(reply)
		}
		return
	}
	if len(causes) > 0 {
		k.reply(&asap.Error{Causes: causes})
	}
	switch m := m.(type) {
	case *asap.HandleResolutionResponse:
		k.onResponse(now, m)
	case *asap.Error:
		k.onError(now, m)
	}
}

func (k *core) reply(m asap.Message) {
	if data, err := m.Append(nil); err == nil {
		k.actions = append(k.actions, hunt.Send{Assoc: k.home, Data: data})
	}
}

// onResponse: RFC 5352, Section 3.3, and the updates of Section 2.2.6.
func (k *core) onResponse(now time.Time, m *asap.HandleResolutionResponse) {
	if now.Sub(k.since) >= steadyTime {
		k.flaps = 0
	}
	if k.flaps < maxFlaps {
		k.hunt.Settled()
	}
	if k.hunt.Hunting() {
		k.hunt.Stop() // the one that was slow has answered
	}
	res := &Resolution{
		Pool:       m.Handle,
		Policy:     m.Policy,
		Elements:   m.Elements,
		Subscribed: m.Accept,
		Registrar:  k.homeAt.String(),
	}
	if res.Policy.Type == 0 {
		res.Policy.Type = rserpool.RoundRobin // RFC 5352, Section 2.2.6
	}
	var err error
	refused := &RefusedError{Pool: m.Handle, Registrar: k.homeAt.String(), Causes: m.Causes}
	switch {
	case len(m.Causes) > 0:
		res, err = nil, refused
	case len(m.Elements) == 0:
		res, err = nil, &NoElementsError{Pool: m.Handle, Registrar: k.homeAt.String()}
	}
	// A is set for those that asked for updates, and in the updates.
	if m.Accept {
		k.asked = slices.DeleteFunc(k.asked, func(q question) bool { return q.r.watch && q.r.handle == m.Handle })
		k.tellWatches(now, m.Handle, res, err)
		return
	}
	r, ok := k.answered(now, func(r *request) bool { return r.handle == m.Handle })
	switch {
	case !ok && err != nil: // the end of the updates
		k.tellWatches(now, m.Handle, nil, err)
	case !ok: // late
	case r.ended: // late, but as good for one that has asked the same
		i := slices.IndexFunc(k.requests, func(o *request) bool {
			return o.awaited && !o.watch && o.handle == m.Handle && o.n == r.n
		})
		if err == nil && i >= 0 {
			k.end(k.requests[i], res.first(r.n), nil)
		}
	case r.watch:
		k.tellWatch(now, r, res.first(r.n), err)
	case len(m.Causes) > 0 && k.move(now, r, refused):
		return
	default:
		k.end(r, res.first(r.n), err)
	}
	if ok && len(m.Causes) > 0 {
		k.renewWatches(now, m.Handle)
	}
}

// answered removes the oldest question whose request is one of those wanted, because the home has
// answered it, and returns the request; false if there is none.
func (k *core) answered(now time.Time, wanted func(*request) bool) (*request, bool) {
	k.forget(now)
	i := slices.IndexFunc(k.asked, func(q question) bool { return wanted(q.r) })
	if i < 0 {
		return nil, false
	}
	r := k.asked[i].r
	k.asked = slices.Delete(k.asked, i, i+1)
	return r, true
}

// tellWatches tells all that watch a pool of an answer or an update.
func (k *core) tellWatches(now time.Time, h rserpool.PoolHandle, res *Resolution, err error) {
	for _, r := range k.requests {
		if r.handle == h && r.watch {
			k.tellWatch(now, r, res.first(r.n), err)
		}
	}
}

// renewWatches has those that watch a pool ask anew. A negative response to any question ends the
// updates (RFC 5352, Section 2.2.5).
func (k *core) renewWatches(now time.Time, h rserpool.PoolHandle) {
	for _, r := range slices.Clone(k.requests) {
		if r.handle == h && r.live {
			r.live = false
			k.results = append(k.results, result{id: r.id, lost: true})
			k.send(now, r)
		}
	}
}

// move takes a request that a registrar has no resources for to another one, if
// there is one, and reports whether it does. A registrar has none until it has
// its first handlespace, say.
func (k *core) move(now time.Time, r *request, err *RefusedError) bool {
	if !err.has(rserpool.CauseLackOfResources) || r.moves == maxMoves || !k.hunt.Alternatives(now, k.homeAt) {
		return false
	}
	r.moves++
	a := k.home
	k.actions = append(k.actions, hunt.Close{Assoc: a})
	k.Down(now, a, err)
	return true
}

// tellWatch tells a request that watches of an answer or an update. It asks
// again by itself where the registrar does not promise updates.
func (k *core) tellWatch(now time.Time, r *request, res *Resolution, err error) {
	k.results = append(k.results, result{id: r.id, res: res, err: err})
	r.awaited, r.sent, r.askAt = false, 0, time.Time{}
	r.live = res != nil && res.Subscribed
	if !r.live {
		r.askAt = now.Add(k.refreshAfter(r, err))
	}
}

// refreshAfter is how long a watch waits before it asks again. If the registrar
// refuses for another reason than that the pool does not exist, the time doubles up to
// RETRAN-MAX: whatever the registrar lacks, more requests do not bring it about.
func (k *core) refreshAfter(r *request, err error) time.Duration {
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.has(rserpool.CauseUnknownPoolHandle) {
		r.refusals = 0
		return k.timers.Refresh
	}
	r.refusals++
	return min(k.timers.Refresh<<min(r.refusals-1, 8), max(k.timers.RetranMax, k.timers.Refresh))
}

// onError: which request the registrar could not make sense of it does not
// say; it takes them in their order. An error that only reports something ends
// none: the response still comes.
func (k *core) onError(now time.Time, m *asap.Error) {
	if !m.Refuses(asap.TypeHandleResolution) {
		return
	}
	r, ok := k.answered(now, func(*request) bool { return true })
	if !ok || r.ended {
		return
	}
	err := &RefusedError{Pool: r.handle, Registrar: k.homeAt.String(), Causes: m.Causes}
	if r.watch {
		k.tellWatch(now, r, nil, err)
		return
	}
	k.end(r, nil, err)
}
