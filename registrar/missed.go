package registrar

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// missed is an element that was removed because it did not acknowledge a keep-alive in
// time. If the acknowledgement arrives late over the same association, the element is
// registered again, unchanged. Elements of this project that are notified of the removal
// register again on their own. Those of the reference implementation end the
// association and wait for their next re-registration, 30 s by default.
type missed struct {
	handle rserpool.PoolHandle
	pe     *handlespace.Element
	own    bool // the element has named its ASAP transport
}

// maxMissedPerAssoc and maxMissed bound the missed elements of one association and of
// all. Any others are only told.
const (
	maxMissedPerAssoc = 64
	maxMissed         = 4096
)

// miss notes an element that has not acknowledged over an association.
func (r *Registrar) miss(a *client, e *element) {
	r.forgetMissed(a, e.Handle(), e.ID())
	if a.up && len(a.missed) < maxMissedPerAssoc && r.missed < maxMissed {
		a.missed = append(a.missed, missed{e.Handle(), e.offered(), e.ownASAP})
		r.missed++
	}
}

// forgetMissed drops a missed element, and returns it.
func (r *Registrar) forgetMissed(a *client, h rserpool.PoolHandle, id rserpool.PEID) *missed {
	i := slices.IndexFunc(a.missed, func(x missed) bool { return x.pe.ID == id && x.handle == h })
	if i < 0 {
		return nil
	}
	x := a.missed[i]
	a.missed = slices.Delete(a.missed, i, i+1)
	r.missed--
	return &x
}

// onLateAck handles an acknowledgement that belongs to no keep-alive. A missed element
// is registered again. An unknown one was removed before, perhaps by a former registrar
// at this place, and is notified.
func (r *Registrar) onLateAck(a *client, m *asap.EndpointKeepAliveAck) {
	x := r.forgetMissed(a, m.Handle, m.ID)
	if a.via == rserpool.ViaTCP || !r.Ready() || r.ledger.Find(m.Handle, m.ID) != nil {
		return
	}
	if x != nil && r.reinstate(a, x) {
		return
	}
	if a.errors.allow(r.now, r.cfg.Limits.ErrorsPerSecond) {
		r.reply(a, &asap.DeregistrationResponse{Handle: m.Handle, ID: m.ID})
	}
}

// reinstate registers a missed element again for the rest of its life, and reports
// whether it can be.
func (r *Registrar) reinstate(a *client, x *missed) bool {
	m := &asap.Registration{Handle: x.handle, Element: x.pe.PoolElement}
	if !x.own {
		m.Element.ASAPTransport = rserpool.Transport{}
	}
	if !x.pe.Expires.IsZero() && !x.pe.Expires.After(r.now.Add(time.Second)) || !r.admits(a, m) {
		return false
	}
	pe := r.owned(a, &m.Element)
	pe.Expires = x.pe.Expires
	if !pe.UserTransport.Equal(x.pe.UserTransport) { // its address has changed
		return false
	}
	if _, refused := r.enter(a, m, nil, pe, ledger.Refuse); refused != nil {
		return false
	}
	r.logf(false, "pool element %v of pool %s has acknowledged its keep-alive late, and is registered again", pe.ID, quote(x.handle))
	return true
}
