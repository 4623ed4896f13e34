package registrar

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// onRegistration: RFC 5352, Section 3.1. An identifier that is in use passes to the
// sender at once if the message comes over the element's association or from its host,
// as rule 4 requires. Another host gets it only if the present element does not live,
// whether that is an own or a foreign one: see claim.
func (r *Registrar) onRegistration(a *client, m *asap.Registration) {
	r.dropShared(a, m)
	r.forgetHeld(a, m.Handle, m.Element.ID)
	if c := r.admit(a, m); c != nil {
		r.rejectRegistration(a, m, *c)
		return
	}
	if limit := r.tooLarge(m); limit != "" {
		r.rejectFull(a, m, limit)
		return
	}
	x := r.ledger.Find(m.Handle, m.Element.ID)
	switch {
	case x != nil && !r.isOf(a, x) && !r.isVoid(x):
		r.stats.RightsRefused.Owned++
		r.warnOf(&a.assoc, "pool element %v of pool %s belongs to another identity: %s has registered it", x.ID(), quote(x.Handle()), holder(x.PE().Identity))
		r.rejectRegistration(a, m, rserpool.Cause{Code: rserpool.CauseNonUniquePEIdentifier})
	case a.unproved(m) != nil:
		r.hold(a, m)
	case x != nil && r.standsBy(a, x):
		r.grantStandBy(a, m, x)
	case x != nil && !r.mayRegister(a, x):
		r.claim(x, a, m)
	default:
		r.warnTakenBack(a, x)
		r.register(a, m, x)
	}
}

// warnTakenBack warns if a process takes its element back from one that has registered it with
// another registrar: whether that one lives, only its home knows.
func (r *Registrar) warnTakenBack(a *client, x *entry) {
	if x != nil && x.Note.own == nil && x.Note.isFormer(a.id) && !a.isEndpointOf(x.PE()) {
		r.warnOf(&a.assoc, "pool element %v of pool %s is taken back from registrar %v, with which another process of its host has registered it, by that at %v: use another identifier, or end one of the two",
			x.ID(), quote(x.Handle()), x.Roster().Home(), a.peer[0])
	}
}

// standsBy reports whether another process has superseded the sender, and holds the element
// now. Each re-registration would take the identifier back otherwise: two processes would
// take turns for ever, and in a rolling restart the former one would remove the element when
// it deregisters. An element that has a new association from the same endpoint is no other process.
func (r *Registrar) standsBy(a *client, x *entry) bool {
	e := x.Note.own
	return e != nil && e.assoc != nil && e.assoc != a && e.assoc.up && a.mayActFor(e) && !e.isSuspect() && e.contested == nil && !e.standsIn() &&
		x.Note.isFormer(a.id) && !a.isEndpointOf(x.PE()) && !r.isVoid(x)
}

// grantStandBy grants a registration without effect, as the deregistration of such a process
// is. The warning says so, and where the element is. When the element is removed, or is a
// suspect, the process is told, and registers again: see vacate.
func (r *Registrar) grantStandBy(a *client, m *asap.Registration, x *entry) {
	r.warnOf(&a.assoc, "two processes register pool element %v of pool %s: that at %v has it, and that at %v gets it only when the other one ends: use another identifier, or end one of them",
		x.ID(), quote(x.Handle()), x.Note.own.assoc.peer[0], a.peer[0])
	r.stats.Reregistrations++
	r.grantRegistration(a, m, append([]rserpool.Cause{{Code: rserpool.CauseNonUniquePEIdentifier}}, changes(&m.Element, &x.PE().PoolElement)...))
}

// mayRegister reports whether an association may register an identifier that is in use.
func (r *Registrar) mayRegister(a *client, x *entry) bool {
	if r.isVoid(x) {
		return true
	}
	if e := x.Note.own; e != nil {
		return a.mayActFor(e)
	}
	return r.atHome(a, x)
}

// admit checks a registration without looking at the pool. It returns why the
// registration is refused, nil if it is not. It puts the addresses into plain form.
func (r *Registrar) admit(a *client, m *asap.Registration) *rserpool.Cause {
	e := &m.Element
	t := &e.UserTransport
	switch {
	case !r.Ready():
		return &rserpool.Cause{Code: rserpool.CauseLackOfResources}
	case a.via == rserpool.ViaTCP:
		// It must be SCTP (RFC 5352, Section 3.1). A TCP connection does not
		// show that the element has the addresses that it names.
		return &rserpool.Cause{Code: rserpool.CauseSecurity}
	case r.unauthorized(a.identity, m.Handle) != nil:
		return &rserpool.Cause{Code: rserpool.CauseSecurity}
	case e.ID == 0, // for the reference implementation 0 is no identifier
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
	}
	return nil
}

// tooLarge says which limit a registration exceeds by itself, "" if none.
func (r *Registrar) tooLarge(m *asap.Registration) string {
	switch {
	case len(m.Handle) > maxHandle:
		return fmt.Sprintf("the pool handle has %d bytes, and the most are %d", len(m.Handle), maxHandle)
	case r.oversize(&m.Element):
		return fmt.Sprintf("the Pool Element parameter has more than %d bytes", r.cfg.Limits.ElementSize)
	}
	return ""
}

// full says which limit has no room for the element of an association, described by pe, in place of
// x, which is nil for a new element; "" if none.
func (r *Registrar) full(a *client, m *asap.Registration, x *entry, pe *handlespace.Element) string {
	more := x == nil || x.Note.own == nil || x.Note.own.assoc != a
	if limit := r.cfg.Limits.ElementsPerAssoc; more && a.elements.Len() >= limit {
		return limitText("elements_per_association", limit)
	}
	l := &r.ledger.Limits
	switch r.ledger.Full(x, m.Handle, &pe.PoolElement) {
	case ledger.HasRoom:
		return ""
	case ledger.FullPools:
		return limitText("pools", l.Pools)
	case ledger.FullElements:
		return limitText("elements", l.Elements)
	case ledger.FullHandleBytes:
		return limitText("handle_bytes", l.HandleBytes)
	case ledger.FullElementBytes:
		return limitText("element_bytes", l.ElementBytes)
	case ledger.FullAlike:
		return fmt.Sprintf("%d pools have handles that differ from this one in ASCII case only, and more are not possible", l.Alike)
	}
	return ""
}

// limitText says that a limit that operators can set is reached.
func limitText(name string, n int) string { return fmt.Sprintf("limit %s (%d) is reached", name, n) }

// reservedAdaptive is the bit that all adaptive policy types have (RFC 5356, Section
// 3.1). It is no policy by itself.
const reservedAdaptive rserpool.PolicyType = 0x40000000

// ownAddrs reports whether the transport's addresses are usable, belong to the
// association (RFC 5352, Section 2.2.1), confirmed or not, and are listed once each. It
// puts them into plain form.
func ownAddrs(a *client, t *rserpool.Transport) bool {
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

// maxCauseInfo bounds how many bytes of a message an error cause repeats.
const maxCauseInfo = 4096

// invalid returns the error cause Invalid Values with the offending TLV (RFC 5354,
// Section 3.12.4), without it if it is too long.
func invalid(raw []byte, err error) *rserpool.Cause {
	if err != nil || len(raw) > maxCauseInfo {
		raw = nil
	}
	return &rserpool.Cause{Code: rserpool.CauseInvalidValues, Info: raw}
}

// register registers the element in place of x and responds. The sender is entitled to
// the identifier.
func (r *Registrar) register(a *client, m *asap.Registration, x *entry) {
	pe := r.owned(a, &m.Element)
	if limit := r.full(a, m, x, pe); limit != "" {
		r.rejectFull(a, m, limit)
		return
	}
	warnings, refused := r.enter(a, m, x, pe, ledger.Refuse)
	if refused != nil {
		r.rejectRegistration(a, m, *refused)
		return
	}
	r.grantRegistration(a, m, warnings)
}

func (r *Registrar) grantRegistration(a *client, m *asap.Registration, warnings []rserpool.Cause) {
	r.reply(a, &asap.RegistrationResponse{Handle: m.Handle, ID: m.Element.ID, Causes: warnings})
}

// enter makes the element, described by pe, an own one in place of x, which is nil for a
// new element, and tells the peers. The limits have room for it, see full. It returns the warnings
// for the response, or why the registration is refused.
func (r *Registrar) enter(a *client, m *asap.Registration, x *entry, pe *handlespace.Element, fit ledger.Fit) (warnings []rserpool.Cause, refused *rserpool.Cause) {
	warnings = changes(&m.Element, &pe.PoolElement)
	awaits := r.confine(a, x, pe)
	c, err := r.ledger.Put(x, r.roster, m.Handle, pe, fit)
	if err != nil {
		c := causeOf(err)
		return nil, &c
	}
	x = c.Entry
	if c.From != r.roster {
		r.newElement(x)
		c.Visible = true
		r.stats.Registrations++
		r.logRegistered(a, m, x, warnings, awaits)
	} else {
		r.stats.Reregistrations++
	}
	r.registered(a, m, x.Note.own, awaits)
	r.publish(c, byElement) // before the response, as in the reference implementation
	return warnings, nil
}

func (r *Registrar) logRegistered(a *client, m *asap.Registration, x *entry, warnings []rserpool.Cause, w *awaits) {
	h := quote(x.Handle())
	by := ""
	if name := x.PE().Identity; name != "" {
		by = ", " + holder(name)
	}
	r.logf(false, "pool element %v of pool %s is registered at %v, policy %v%s", x.ID(), h, x.PE().UserTransport, x.PE().Policy, by)
	if len(warnings) > 0 {
		r.logf(false, "pool element %v of pool %s is registered at the address that its packets come from: %s", x.ID(), h, a.disparity(m))
	}
	if w != nil {
		r.logf(false, "pool element %v of pool %s offers %s: those that are not confirmed are added when they answer a HEARTBEAT", x.ID(), h, addrsText(w.user.Addrs))
	}
}

// registered has an own element supervised over the association that it has registered
// over, and settles what its registration settles.
func (r *Registrar) registered(a *client, m *asap.Registration, e *element, w *awaits) {
	r.endSilence(e)
	e.ownASAP = m.Element.ASAPTransport.Present()
	e.adopt = m.Element.Home != 0 && m.Element.Home != r.id
	r.await(e, w)
	e.contested = nil
	r.supersedes(e, a)
	e.standIn, a.isHome = 0, true
	r.supervise(e, a)
	r.dropOwnClaim(e.entry, a)
	r.refuseClaims(e.entry) // the element has shown that it is alive
	r.alive(e)
	r.beginLife(e)
}

// owned returns the description of an element as its home keeps it (RFC 5352, Section
// 3.1, rule 4), including addresses that are not confirmed.
func (r *Registrar) owned(a *client, e *rserpool.PoolElement) *handlespace.Element {
	own := &ownElement{Element: handlespace.Element{PoolElement: *e}}
	pe := &own.Element
	pe.EncapPort, pe.Identity = a.encap, a.identity
	pe.UserTransport, pe.ASAPTransport = a.translate(pe.UserTransport), a.translate(pe.ASAPTransport)
	if !pe.ASAPTransport.Present() {
		pe.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: a.peer[0].Port(), Addrs: addrsIn(slices.Concat(a.peer, a.claimed))}
	}
	if e.Life > 0 {
		pe.Expires = r.now.Add(time.Duration(e.Life) * time.Second)
	}
	own.compact()
	return pe
}

// ownElement includes the usual address. With one object for an element instead of three, a
// garbage collection takes less time.
type ownElement struct {
	handlespace.Element
	addr [1]netip.Addr
}

// compact has the addresses in as few objects as possible.
func (e *ownElement) compact() {
	user, asap := &e.UserTransport, &e.ASAPTransport
	if len(user.Addrs) == 1 {
		e.addr[0] = user.Addrs[0]
		user.Addrs = e.addr[:]
	}
	if slices.Equal(user.Addrs, asap.Addrs) {
		asap.Addrs = user.Addrs
	}
}

// maxAlike bounds the pools whose handles differ in ASCII case only. DNS distinguishes
// them only by exact case, so no operator needs more than a few.
const maxAlike = 64

// causeOf returns the error cause for an element that the ledger refuses: the limits
// have no room, or it does not fit its pool (RFC 5354, Sections 3.12.6 to 3.12.9).
func causeOf(err error) rserpool.Cause {
	var ie *handlespace.InconsistentError
	switch {
	case errors.Is(err, ledger.ErrFull):
		return rserpool.Cause{Code: rserpool.CauseLackOfResources}
	case errors.As(err, new(*unauthorizedError)):
		return rserpool.Cause{Code: rserpool.CauseSecurity}
	case !errors.As(err, &ie):
		return rserpool.Cause{Code: rserpool.CauseUnspecified}
	}
	c := rserpool.Cause{Code: ie.Cause}
	switch ie.Cause {
	case rserpool.CauseInconsistentPolicy:
		c.Info, _ = tlv.AppendPolicy(nil, rserpool.Policy{Type: ie.Policy})
	case rserpool.CauseInconsistentTransportType:
		t := rserpool.Transport{Type: ie.Transport, Use: ie.Use}
		if t.Type != rserpool.Opaque {
			t.Addrs = []netip.Addr{netip.IPv4Unspecified()} // any address: the cause is about the type
		}
		c.Info, _ = tlv.AppendTransport(nil, &t)
	}
	return c
}

func (r *Registrar) rejectRegistration(a *client, m *asap.Registration, c rserpool.Cause) {
	r.reject(a, m, c, "")
}

// rejectFull refuses a registration because of a limit.
func (r *Registrar) rejectFull(a *client, m *asap.Registration, limit string) {
	r.reject(a, m, rserpool.Cause{Code: rserpool.CauseLackOfResources}, limit)
}

// reject refuses a registration. detail is what the log says beside the cause; it may be "".
func (r *Registrar) reject(a *client, m *asap.Registration, c rserpool.Cause, detail string) {
	r.stats.Rejections[causeIndex(c.Code)]++
	r.logRejected(a, m, c, detail)
	r.replyWithCause(a, c, func(causes []rserpool.Cause) asap.Message {
		return &asap.RegistrationResponse{Reject: true, Handle: m.Handle, ID: m.Element.ID, Causes: causes}
	})
}

func (r *Registrar) logRejected(a *client, m *asap.Registration, c rserpool.Cause, detail string) {
	why := c.Conflict(m.Element.Kind())
	if detail != "" {
		why += ": " + detail
	}
	if c.Code == rserpool.CauseInvalidValues {
		if where := a.disparity(m); where != "" {
			why += ": " + where
		}
	}
	if c.Code == rserpool.CauseLackOfResources && !r.Ready() {
		if r.start.refused++; r.start.refused > 1 {
			return // endStart says how many there were: each element tries several times
		}
		why += ": this registrar is not ready, because it does not have the handlespace yet: it refuses all registrations until then, and logs how many when it is ready"
	}
	by := a.who()
	if err := r.unauthorized(a.identity, m.Handle); err != nil && c.Code == rserpool.CauseSecurity {
		r.stats.RightsRefused.Registrations++
		by, why = a.primary(), err.Error() // which has the name
	}
	if rule := r.cfg.Rules.of(m.Handle); rule.demands(c.Code, m.Element.Kind()) {
		why += rule.demand(c.Code)
	}
	r.warnOf(&a.assoc, "registration of pool element %v in pool %s by %v is refused: %s", m.Element.ID, quote(m.Handle), by, why)
}
