package registrar

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// onDeregistration: RFC 5352, Section 3.2. Only the element itself may deregister
// (Section 2.2.2). If there is no such element, the deregistration is granted.
//
// Several processes of a host may use one identifier, such as the old and the new one
// during a rolling restart. If the registration of a process was superseded by another
// one, its deregistration is granted and has no effect. A deregistration by any other
// process of the host is granted only if the element does not acknowledge a keep-alive.
func (r *Registrar) onDeregistration(a *client, m *asap.Deregistration) {
	r.forgetHeld(a, m.Handle, m.ID)
	x := r.ledger.Find(m.Handle, m.ID)
	e := r.find(m.Handle, m.ID)
	switch {
	case a.via == rserpool.ViaTCP:
		r.rejectDeregistration(a, m, rserpool.CauseSecurity, "")
	case x == nil:
		r.grantDeregistration(a, m)
	case !r.isOf(a, x):
		r.stats.RightsRefused.Owned++
		r.rejectDeregistration(a, m, rserpool.CauseSecurity, "")
	case e != nil && (e.assoc == a || a.mayActFor(e) && a.isEndpointOf(x.PE())):
		r.removeFor(e, RemovedDeregistered, a)
		r.grantDeregistration(a, m)
	case e == nil && r.atHome(a, x) && a.isEndpointOf(x.PE()):
		r.leave(x, a)
		r.grantDeregistration(a, m)
	case x.Note.dropFormer(a.id):
		r.logf(false, "pool element %v of pool %s stays: the deregistration by %v is of a process that it has superseded", m.ID, quote(m.Handle), a.primary())
		r.grantDeregistration(a, m)
	case e != nil && a.mayActFor(e), e == nil && r.atHome(a, x):
		r.claim(x, a, m)
	default:
		r.rejectDeregistration(a, m, rserpool.CauseSecurity, "")
	}
}

// isEndpointOf reports whether the association comes from the SCTP endpoint that is the
// element's ASAP transport. That is so for a new association of an element whose former
// one broke, because the element has one endpoint for all.
func (a *client) isEndpointOf(pe *handlespace.Element) bool {
	t := &pe.ASAPTransport
	return len(a.peer) > 0 && t.Port == a.peer[0].Port() && pe.EncapPort == a.encap && slices.Contains(t.Addrs, a.primary())
}

func (r *Registrar) grantDeregistration(a *client, m *asap.Deregistration) {
	r.stats.Deregistrations++
	r.reply(a, &asap.DeregistrationResponse{Handle: m.Handle, ID: m.ID})
}

func (r *Registrar) rejectDeregistration(a *client, m *asap.Deregistration, code rserpool.CauseCode, detail string) {
	r.stats.Rejections[causeIndex(code)]++
	why := code.String()
	if detail != "" {
		why += ": " + detail
	}
	r.warnOf(&a.assoc, "deregistration of pool element %v of pool %s by %v is refused: %s", m.ID, quote(m.Handle), a.who(), why)
	r.replyWithCause(a, rserpool.Cause{Code: code}, func(causes []rserpool.Cause) asap.Message {
		return &asap.DeregistrationResponse{Handle: m.Handle, ID: m.ID, Causes: causes}
	})
}

// leave handles a granted deregistration of a foreign element.
func (r *Registrar) leave(f *entry, by *client) {
	f.Note.dropFormer(by.id)
	r.stats.Removed[RemovedDeregistered]++
	r.vacate(f, nil, left)
}

// maxFormerOwners bounds the former owners that are kept for an element.
const maxFormerOwners = 4

// addFormer notes an association whose registration was superseded. If there are too
// many, the oldest is dropped.
func (x *note) addFormer(id AssocID) {
	x.dropFormer(id)
	if x.former == nil {
		x.former = new([maxFormerOwners]AssocID)
	}
	copy(x.former[1:], x.former[:])
	x.former[0] = id
}

// dropFormer drops a former owner, and reports whether it was one.
func (x *note) dropFormer(id AssocID) bool {
	if x.former == nil || id == 0 {
		return false
	}
	i := slices.Index(x.former[:], id)
	if i < 0 {
		return false
	}
	copy(x.former[i:], x.former[i+1:])
	x.former[maxFormerOwners-1] = 0
	return true
}

// tellRemoved tells a process that its element is no longer registered.
func (r *Registrar) tellRemoved(a *client, x *entry) {
	r.reply(a, &asap.DeregistrationResponse{Handle: x.Handle(), ID: x.ID()})
}

// isFormer reports whether an association is a former owner.
func (x *note) isFormer(id AssocID) bool {
	return x.former != nil && slices.Contains(x.former[:], id)
}

// supersedes notes that another association has registered the element.
func (r *Registrar) supersedes(e *element, a *client) {
	if f := e.assoc; f != nil && f != a {
		e.Note.addFormer(f.id)
		if f.up && f.peer[0] != a.peer[0] {
			r.logf(false, "pool element %v of pool %s passes to another process of its host, which registers it from %v; the former one registers from %v",
				e.ID(), quote(e.Handle()), a.peer[0], f.peer[0])
		}
	}
	e.Note.dropFormer(a.id)
}
