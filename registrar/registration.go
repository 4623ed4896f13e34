package registrar

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// onRegistration: RFC 5352, Section 3.1. An identifier that is taken passes to
// the sender at once if that is the element itself, that is if it comes over
// the element's association or from its host; the RFC's rule 4 wants that. A
// stranger gets it only if the element turns out to be dead, whichever registrar its home is:
// see claim.
func (r *Registrar) onRegistration(a *assoc, m *asap.Registration) {
	r.dropShared(a, m)
	r.forgetHeld(a, m.Handle, m.Element.ID)
	if c := r.admit(a, m); c != nil {
		r.rejectRegistration(a, m, *c)
		return
	}
	e, f := r.find(m.Handle, m.Element.ID), r.findForeign(m.Handle, m.Element.ID)
	switch {
	case a.unproved(m) != nil:
		r.hold(a, m)
	case e != nil && !a.mayActFor(e):
		r.claim(&e.entry, a, m)
	case f != nil && !r.atHome(a, f):
		r.claim(f, a, m)
	default:
		r.register(a, m)
	}
}

// admit checks what can be said without a look at the pool. It returns why the
// registration is refused, nil if it is not. It puts the addresses into plain
// form.
func (r *Registrar) admit(a *assoc, m *asap.Registration) *rserpool.Cause {
	e := &m.Element
	t := &e.UserTransport
	switch {
	case !r.Ready():
		return &rserpool.Cause{Code: rserpool.CauseLackOfResources}
	case a.via == ViaTCP:
		// It must be SCTP (RFC 5352, Section 3.1): a TCP connection does not
		// show that the element has the addresses that it names.
		return &rserpool.Cause{Code: rserpool.CauseSecurity}
	case e.ID == 0, // in the reference implementation, too, 0 is no identifier
		e.Life == 0, // over before it begins
		!t.Present(),
		e.Policy.Type == 0:
		return invalidElement(e)
	case e.Policy.Type == reservedAdaptive:
		return invalidPolicy(e.Policy)
	case len(a.peer) == 0,
		t.Type != rserpool.Opaque && (t.Port == 0 || !ownAddrs(a, t) && !a.translated(t)):
		return invalidTransport(t)
	case e.ASAPTransport.Present() && (e.ASAPTransport.Port == 0 || !ownAddrs(a, &e.ASAPTransport) && !a.translated(&e.ASAPTransport)):
		return invalidTransport(&e.ASAPTransport)
	case len(m.Handle) > maxHandle || r.oversize(e):
		return &rserpool.Cause{Code: rserpool.CauseLackOfResources}
	}
	return nil
}

// reservedAdaptive is the policy type that means nothing but "adaptive" (RFC
// 5356, Section 3.1).
const reservedAdaptive rserpool.PolicyType = 0x40000000

// ownAddrs reports whether the transport's addresses are usable and all belong
// to the association (RFC 5352, Section 2.2.1), be they confirmed or not, each
// named once, and puts them into plain form.
func ownAddrs(a *assoc, t *rserpool.Transport) bool {
	if len(t.Addrs) == 0 || len(t.Addrs) > len(a.peer)+len(a.claimed) {
		return false
	}
	for i, addr := range t.Addrs {
		addr = plainAddr(addr)
		if !usable(addr, a.primary()) || !a.lists(addr) || slices.Contains(t.Addrs[:i], addr) {
			return false
		}
		t.Addrs[i] = addr
	}
	return true
}

// usable reports whether an element can be reached at addr, seen from a peer
// at primary. Only who has come over the loopback may name it.
func usable(addr, primary netip.Addr) bool {
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast(),
		addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return false
	case addr.IsLoopback():
		return primary.IsLoopback()
	}
	return true
}

// oversize reports whether the Pool Element parameter is longer than
// Limits.ElementSize, or cannot be written at all. It is written only to be
// measured if it may be.
func (r *Registrar) oversize(e *rserpool.PoolElement) bool {
	limit := r.cfg.Limits.ElementSize
	if wireSize(e) <= limit {
		return false
	}
	b, err := tlv.AppendPoolElement(r.buf[:0], e)
	if err != nil {
		return true
	}
	r.buf = b
	return len(b) > limit
}

func invalidElement(e *rserpool.PoolElement) *rserpool.Cause {
	info, err := tlv.AppendPoolElement(nil, e)
	return invalid(info, err)
}

func invalidTransport(t *rserpool.Transport) *rserpool.Cause {
	info, err := tlv.AppendTransport(nil, t)
	return invalid(info, err)
}

func invalidPolicy(p rserpool.Policy) *rserpool.Cause {
	info, err := tlv.AppendPolicy(nil, p)
	return invalid(info, err)
}

// maxCauseInfo bounds what an error cause repeats of a message.
const maxCauseInfo = 4096

// invalid is the error cause Invalid Values with the offending TLV (RFC 5354,
// Section 3.12.4), without it if it is out of proportion.
func invalid(raw []byte, err error) *rserpool.Cause {
	if err != nil || len(raw) > maxCauseInfo {
		raw = nil
	}
	return &rserpool.Cause{Code: rserpool.CauseInvalidValues, Info: raw}
}

// register registers the element and answers. The sender is entitled to it.
func (r *Registrar) register(a *assoc, m *asap.Registration) {
	warnings, refused := r.enter(a, m, r.owned(a, &m.Element), r.space.Put)
	if refused != nil {
		r.rejectRegistration(a, m, *refused)
		return
	}
	r.grantRegistration(a, m, warnings)
}

func (r *Registrar) grantRegistration(a *assoc, m *asap.Registration, warnings []rserpool.Cause) {
	r.reply(a, &asap.RegistrationResponse{Handle: m.Handle, ID: m.Element.ID, Causes: warnings})
}

// enter puts the element into the handlespace as pe, with put, new or in place of its
// former self, and tells the peers. It returns what the response has to warn of, or why
// the registration is refused.
func (r *Registrar) enter(a *assoc, m *asap.Registration, pe *handlespace.Element, put putFunc) (warnings []rserpool.Cause, refused *rserpool.Cause) {
	e := r.find(m.Handle, m.Element.ID)
	if c := r.room(a, e, m.Handle, m.Element.ID); c != nil {
		return nil, c
	}
	if !r.fits(r.entry(m.Handle, pe.ID), &pe.PoolElement) {
		return nil, &rserpool.Cause{Code: rserpool.CauseLackOfResources}
	}
	warnings = changes(&m.Element, &pe.PoolElement)
	awaits := r.confine(a, m.Handle, pe)
	if _, err := put(m.Handle, pe); err != nil {
		c := inconsistent(err)
		return nil, &c
	}
	p := r.makePool(m.Handle)
	f := p.foreign[pe.ID]
	r.forgetForeign(p, pe.ID)
	if e == nil {
		e = r.newElement(p, pe)
		r.stats.Registrations++
		r.logf(false, "pool element %v of pool %s is registered at %v, policy %v", e.id, quote(p.handle), pe.UserTransport, pe.Policy)
		if len(warnings) > 0 {
			r.logf(false, "pool element %v of pool %s has the address that it is seen at: %s", e.id, quote(p.handle), a.disparity(m))
		}
		if awaits != nil {
			r.logf(false, "pool element %v of pool %s offers %s: those that are not confirmed are added when they answer a HEARTBEAT", e.id, quote(p.handle), addrsText(awaits.user.Addrs))
		}
		r.poolChanged(p)
		if f != nil {
			r.pass(f, &e.entry)
		}
	} else {
		r.stats.Reregistrations++
		if !alike(&e.pe.PoolElement, &pe.PoolElement) {
			r.poolChanged(p)
		}
	}
	e.ownASAP = m.Element.ASAPTransport.Present()
	e.adopt = m.Element.Home != 0 && m.Element.Home != r.id
	r.replace(&e.entry, pe)
	r.await(e, awaits)
	r.setMisfit(&e.entry, false)
	e.contested = nil
	r.supersedes(e, a)
	r.forgetMissed(a, p.handle, e.id)
	r.own(e, a)
	r.dropOwnClaim(&e.entry, a)
	r.refuseClaims(&e.entry) // the element has shown that it lives
	r.alive(e)
	if pe.Expires.IsZero() {
		r.timers.stop(&e.life)
	} else {
		r.timers.arm(&e.life, e, pe.Expires)
	}
	r.announceUpdate(enrp.AddPE, &e.entry) // before the response, as the reference implementation does
	return warnings, nil
}

// newElement notes an element of our own that is in the handlespace.
func (r *Registrar) newElement(p *pool, pe *handlespace.Element) *element {
	e := &element{entry: entry{pool: p, pe: pe}, id: pe.ID}
	p.elements[pe.ID] = e
	r.elements++
	r.enlist(&r.roster, &e.entry)
	return e
}

// owned is the element as its home registrar keeps it (RFC 5352, Section 3.1,
// rule 4), with addresses that are not confirmed.
func (r *Registrar) owned(a *assoc, e *rserpool.PoolElement) *handlespace.Element {
	pe := &handlespace.Element{PoolElement: *e}
	pe.Home, pe.EncapPort = r.id, a.encap
	pe.UserTransport, pe.ASAPTransport = a.translate(pe.UserTransport), a.translate(pe.ASAPTransport)
	if !pe.ASAPTransport.Present() {
		pe.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: a.peer[0].Port(), Addrs: addrsIn(slices.Concat(a.peer, a.claimed))}
	}
	if e.Life > 0 {
		pe.Expires = r.now.Add(time.Duration(e.Life) * time.Second)
	}
	return pe
}

// room checks the limits. e is the element that is there, if it is.
func (r *Registrar) room(a *assoc, e *element, h rserpool.PoolHandle, id rserpool.PEID) *rserpool.Cause {
	l := &r.cfg.Limits
	_, elements := r.space.Len()
	lack := e == nil && elements+r.misfits >= l.Elements && r.findForeign(h, id) == nil ||
		(e == nil || e.assoc != a) && a.elements.n >= l.ElementsPerAssoc ||
		r.pools[h] == nil && (len(r.pools) >= l.Pools || r.handleSize+handlespace.HandleSize(h) > l.HandleBytes) ||
		r.space.Pool(h) == nil && r.space.Alike(h) >= maxAlike
	if lack {
		return &rserpool.Cause{Code: rserpool.CauseLackOfResources}
	}
	return nil
}

// maxAlike bounds the pools whose handles differ in case only, of which there
// could be very many. DNS can tell them apart only by exact case, so that
// nobody has use for more than a few.
const maxAlike = 64

// variableSize is about how many bytes an element takes beside those that each
// one does.
func variableSize(e *rserpool.PoolElement) int {
	const addr, raw = 24, 48 // in a slice, a raw parameter with its own memory
	n := addr*(len(e.UserTransport.Addrs)+len(e.ASAPTransport.Addrs)) + len(e.UserTransport.Opaque)
	for _, u := range e.Unknown {
		n += raw + len(u.Value)
	}
	return n
}

// inconsistent is the error cause for an element that does not fit into its
// pool (RFC 5354, Sections 3.12.6, 3.12.8 and 3.12.9).
func inconsistent(err error) rserpool.Cause {
	var ie *handlespace.InconsistentError
	if !errors.As(err, &ie) {
		return rserpool.Cause{Code: rserpool.CauseUnspecified}
	}
	c := rserpool.Cause{Code: ie.Cause}
	switch ie.Cause {
	case rserpool.CauseInconsistentPolicy:
		c.Info, _ = tlv.AppendPolicy(nil, rserpool.Policy{Type: ie.Policy})
	case rserpool.CauseInconsistentTransportType:
		t := rserpool.Transport{Type: ie.Transport, Use: ie.Use}
		if t.Type != rserpool.Opaque {
			t.Addrs = []netip.Addr{netip.IPv4Unspecified()} // it stands for a type
		}
		c.Info, _ = tlv.AppendTransport(nil, &t)
	}
	return c
}

// alike reports whether pool users see no difference between two elements.
func alike(a, b *rserpool.PoolElement) bool {
	return a.Policy == b.Policy && a.Life == b.Life && a.UserTransport.Equal(b.UserTransport) &&
		slices.EqualFunc(a.Unknown, b.Unknown, func(a, b rserpool.Parameter) bool {
			return a.Type == b.Type && slices.Equal(a.Value, b.Value)
		})
}

func (r *Registrar) rejectRegistration(a *assoc, m *asap.Registration, c rserpool.Cause) {
	r.stats.Rejections[causeIndex(c.Code)]++
	why := c.Conflict(m.Element.Kind())
	if c.Code == rserpool.CauseInvalidValues {
		if where := a.disparity(m); where != "" {
			why += ": " + where
		}
	}
	r.logf(true, "registration of pool element %v in pool %s by %v is refused: %s", m.Element.ID, quote(m.Handle), a.primary(), why)
	r.replyWithCause(a, c, func(causes []rserpool.Cause) asap.Message {
		return &asap.RegistrationResponse{Reject: true, Handle: m.Handle, ID: m.Element.ID, Causes: causes}
	})
}
