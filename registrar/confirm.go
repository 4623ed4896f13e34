package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A peer can list any address in its INIT. An element that offers an address of another
// host would lead clients there. So the registrar registers only those addresses of an
// element that are confirmed (RFC 9260, Section 5.4): the one that its association
// comes from, and those that have acknowledged a HEARTBEAT. It adds the others when
// they are confirmed, usually after one round trip. Clients, peers and subscribers
// learn of them by an update. The element gets no warning, since it will soon be as it
// wants.
//
// If none of the addresses is confirmed, the registration waits for one.

// confirmTime is how long a registration waits for a confirmed address, and how long an
// element that registers over a new association keeps its former addresses.
const confirmTime = 2 * time.Second

const (
	// maxHeldPerAssoc and maxHeld bound the registrations that wait for an address, of
	// one association and of all.
	maxHeldPerAssoc = 8
	maxHeld         = 256
)

// awaits is what an own element will be when all its addresses are confirmed.
type awaits struct {
	on         *element
	user, asap rserpool.Transport
	// kept are addresses that the element had before, and that its new association has
	// not confirmed. They stay until timer.
	kept  []netip.Addr
	timer timer
}

// size is how many bytes of Limits.ElementBytes it takes.
func (w *awaits) size() int { return ledger.Size(w.user, w.asap) }

// held is a registration without a confirmed address.
type held struct {
	assoc *client
	msg   *asap.Registration
	timer timer
}

// hasAddrs reports whether a transport has addresses.
func hasAddrs(t *rserpool.Transport) bool { return t.Present() && t.Type != rserpool.Opaque }

// unproved returns the transport of a registration that has no confirmed address; nil
// if there is none.
func (a *client) unproved(m *asap.Registration) *rserpool.Transport {
	for _, t := range []*rserpool.Transport{&m.Element.UserTransport, &m.Element.ASAPTransport} {
		if hasAddrs(t) && !slices.ContainsFunc(t.Addrs, a.has) && !a.translated(t) {
			return t
		}
	}
	return nil
}

// admits reports whether a registration can be granted now, without looking at the
// pool.
func (r *Registrar) admits(a *client, m *asap.Registration) bool {
	return r.admit(a, m) == nil && r.tooLarge(m) == "" && a.unproved(m) == nil
}

// confine takes the addresses that are not confirmed out of an element. It returns what
// the element will be later; nil if that is the same.
func (r *Registrar) confine(a *client, x *entry, pe *handlespace.Element) *awaits {
	w := &awaits{user: pe.UserTransport, asap: pe.ASAPTransport}
	var had *rserpool.PoolElement
	if x != nil && slices.Contains(x.PE().ASAPTransport.Addrs, a.primary()) {
		had = &x.PE().PoolElement // the element itself, over a new association
	}
	missing := false
	confine := func(t *rserpool.Transport, had []netip.Addr) {
		if !hasAddrs(t) || !slices.ContainsFunc(t.Addrs, func(addr netip.Addr) bool { return !a.has(addr) }) {
			return
		}
		var left []netip.Addr
		for _, addr := range t.Addrs {
			switch {
			case a.has(addr):
			case slices.Contains(had, addr):
				w.kept, missing = append(w.kept, addr), true
			default:
				missing = true
				continue
			}
			left = append(left, addr)
		}
		t.Addrs = left
	}
	if had == nil {
		had = &rserpool.PoolElement{}
	}
	confine(&pe.UserTransport, had.UserTransport.Addrs)
	confine(&pe.ASAPTransport, had.ASAPTransport.Addrs)
	if !missing {
		return nil
	}
	return w
}

// await sets what an element will be when its addresses are confirmed. Kept addresses
// stay no longer because the element registers again.
func (r *Registrar) await(e *element, w *awaits) {
	old := e.awaits
	e.awaits = w
	until := r.now.Add(confirmTime)
	if old != nil {
		if old.timer.Armed() {
			until = r.timers.At(&old.timer)
		}
		r.timers.Stop(&old.timer)
		r.ledger.Reserve(-old.size())
	}
	if w == nil {
		return
	}
	w.on = e
	r.ledger.Reserve(w.size())
	if len(w.kept) > 0 {
		r.timers.Arm(&w.timer, w, until)
	}
}

// confirmed handles new confirmed addresses of an association.
func (r *Registrar) confirmed(a *client) {
	for e := a.elements.First(); e != nil; e = e.place.Next() {
		r.extend(e)
	}
	for _, h := range slices.Clone(a.held) {
		if a.unproved(h.msg) == nil && r.unhold(h) {
			r.onRegistration(a, h.msg)
		}
	}
}

// extend adds the addresses to an element that its association has confirmed by now.
func (r *Registrar) extend(e *element) {
	w := e.awaits
	if w == nil {
		return
	}
	if w.kept = slices.DeleteFunc(w.kept, e.assoc.has); len(w.kept) == 0 {
		r.timers.Stop(&w.timer)
	}
	grown := func(t, now rserpool.Transport) rserpool.Transport {
		if hasAddrs(&t) {
			t.Addrs = slices.DeleteFunc(slices.Clone(t.Addrs), func(addr netip.Addr) bool {
				return !slices.Contains(now.Addrs, addr) && !e.assoc.has(addr)
			})
		}
		return t
	}
	user, asap := grown(w.user, e.PE().UserTransport), grown(w.asap, e.PE().ASAPTransport)
	r.readdress(e, user, asap)
	if len(w.kept) == 0 && w.user.Equal(user) && w.asap.Equal(asap) {
		r.await(e, nil)
	}
}

// Due removes the kept addresses that are still not confirmed.
func (w *awaits) Due(r *Registrar, _ *timer) {
	e := w.on
	left := func(t rserpool.Transport) rserpool.Transport {
		t.Addrs = slices.DeleteFunc(slices.Clone(t.Addrs), func(addr netip.Addr) bool { return slices.Contains(w.kept, addr) })
		return t
	}
	r.readdress(e, left(e.PE().UserTransport), left(e.PE().ASAPTransport))
	w.kept = nil
}

// readdress gives an own element other addresses, and tells the peers.
func (r *Registrar) readdress(e *element, user, asap rserpool.Transport) {
	pe := *e.PE()
	pe.UserTransport, pe.ASAPTransport = user, asap
	if user.Equal(e.PE().UserTransport) && asap.Equal(e.PE().ASAPTransport) {
		return
	}
	c, err := r.ledger.PutAs(e.entry, r.roster, e.Handle(), &pe, ledger.SetAside, e.State(), e.Since())
	if err != nil {
		return
	}
	if e.State() == ledger.Member {
		r.publish(c, byElement)
	} else {
		r.publish(c, unclaimed)
	}
	if c.Visible {
		r.logf(false, "pool element %v of pool %s is now at %s: these addresses are confirmed", e.ID(), quote(e.Handle()), addrsText(user.Addrs))
	}
}

// hold has a registration wait for a confirmed address.
func (r *Registrar) hold(a *client, m *asap.Registration) {
	if len(a.held) >= maxHeldPerAssoc || r.held >= maxHeld {
		r.rejectFull(a, m, fmt.Sprintf("%d registrations of this association, and %d in all, wait until an address is confirmed", len(a.held), r.held))
		return
	}
	if x := r.ledger.Find(m.Handle, m.Element.ID); x != nil {
		r.dropOwnClaim(x, a) // an earlier registration, which has no response of its own
	}
	h := &held{assoc: a, msg: m}
	a.held = append(a.held, h)
	r.held++
	r.timers.Arm(&h.timer, h, r.now.Add(confirmTime))
	r.leaveIdle(a)
}

// Due refuses a registration without a confirmed address.
func (h *held) Due(r *Registrar, _ *timer) {
	a := h.assoc
	r.unhold(h)
	r.rejectRegistration(a, h.msg, *invalidTransport(a.unproved(h.msg)))
}

// unhold ends the wait of a registration, and reports whether it was waiting.
func (r *Registrar) unhold(h *held) bool {
	a := h.assoc
	i := slices.Index(a.held, h)
	if i < 0 {
		return false
	}
	a.held = slices.Delete(a.held, i, i+1)
	r.held--
	r.timers.Stop(&h.timer)
	if a.up {
		r.leaveIdle(a)
	}
	return true
}

// forgetHeld drops a waiting registration, because a later message about the same
// element takes its place and gets the response.
func (r *Registrar) forgetHeld(a *client, handle rserpool.PoolHandle, id rserpool.PEID) {
	for _, h := range a.held {
		if h.msg.Handle == handle && h.msg.Element.ID == id {
			r.unhold(h)
			return
		}
	}
}

// dropHeld drops the waiting registrations of an association that has ended.
func (r *Registrar) dropHeld(a *client) {
	for len(a.held) > 0 {
		r.unhold(a.held[0])
	}
}
