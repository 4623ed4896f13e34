package pe

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Received handles an ASAP message from an association.
func (k *core) Received(now time.Time, a sctp.AssocID, data []byte) {
	m, causes, err := asap.Parse(data)
	if err != nil {
		if reply, ok := asap.ErrorReport(err); ok {
			k.send(a, reply)
		}
		k.warn(now, "unfit message from a registrar: %w", err)
		return
	}
	if len(causes) > 0 {
		k.send(a, &asap.Error{Causes: causes})
	}
	switch m := m.(type) {
	case *asap.RegistrationResponse:
		k.onRegistrationResponse(now, a, m)
	case *asap.DeregistrationResponse:
		k.onDeregistrationResponse(now, a, m)
	case *asap.HandleResolutionResponse:
		k.onResolution(a, m)
	case *asap.EndpointKeepAlive:
		k.onKeepAlive(now, a, m)
	case *asap.Error:
		k.onError(now, a, m)
	}
}

// Announced handles a datagram of the announce group.
func (k *core) Announced(now time.Time, from netip.AddrPort, data []byte) {
	_ = k.hunt.Announced(now, from, data)
}

// onRegistrationResponse: RFC 5352, Section 3.1.
func (k *core) onRegistrationResponse(now time.Time, a sctp.AssocID, m *asap.RegistrationResponse) {
	switch {
	case m.Handle != k.pool || m.ID != k.element.ID:
	case a == k.trial.assoc:
		k.onTrialResponse(now, m)
	case a != k.home:
		k.lateAnswer(now, a, m)
	case k.phase == leaving: // it was on its way
		if !m.Reject {
			k.accepted, k.proven = true, true
		}
	case k.phase != registering || k.answerBy.IsZero():
	case m.Reject:
		k.rejected(now, m.Causes)
	default:
		k.granted(now, m.Causes)
	}
}

// granted handles the acceptance of the home registrar.
func (k *core) granted(now time.Time, changed []rserpool.Cause) {
	k.tellChanged(now, changed)
	ev := Event{Type: Registered}
	if k.standing && k.refusals.n == 0 {
		ev.Type = Reregistered
	}
	k.phase, k.renewing = registered, false
	k.proven, k.accepted, k.served, k.standing = true, true, true, true
	k.acceptedAt = now
	k.attempts, k.redraws = 0, 0
	k.refusals, k.inVain = refusals{}, vain{}
	k.answerBy, k.claimBy, k.updateAt = time.Time{}, time.Time{}, time.Time{}
	k.renewAt = now.Add(k.timers.Reregistration)
	k.trust(now)
	k.former = former{}
	k.quiet.begin(now)
	if !k.moving {
		k.hunt.Stop()
	}
	k.scheduleUpdate(now)
	k.tell(ev)
}

// onKeepAlive: RFC 5352, Section 3.4.
func (k *core) onKeepAlive(now time.Time, a sctp.AssocID, m *asap.EndpointKeepAlive) {
	active := k.phase == hunting || k.phase == registering || k.phase == registered
	switch _, up := k.peers[a]; {
	case !up || m.Handle != k.pool: // KA1
		return
	case !active || m.HasID && m.ID != k.element.ID:
		k.disown(a, m)
		return
	case !k.mayBeKnown: // the registration follows
		return
	}
	if k.trial.moved && a == k.home {
		k.leaveFormer(now)
		return
	}
	k.send(a, &asap.EndpointKeepAliveAck{Handle: k.pool, ID: k.element.ID, Unordered: true}) // KA2
	if k.mayResume(a, m) {
		k.resume(now, a, m.Server)
	} else if a == k.home {
		k.quiet.heard(now)
	}
	switch {
	case a == k.home:
		k.element.Home = m.Server
		if m.Home && k.trial.adopter {
			// The home wants to remain the home, and has said so after the other one.
			k.trial = trial{}
			k.renewSoon(now)
		}
	case m.Home:
		k.tryAdopter(now, a, m.Server) // KA2.4
	}
}

// disown answers a keep-alive for an element that is not registered any more, or for
// another one that was at this address before. Without an answer the registrar could not
// tell it from an element that is cut off, and an acknowledgement would keep it registered.
// A deregistration that waits for its response, or that was refused, is not repeated.
func (k *core) disown(a sctp.AssocID, m *asap.EndpointKeepAlive) {
	id := k.element.ID
	if m.HasID {
		id = m.ID
	}
	refused := k.phase == idle && k.mayBeKnown
	if k.phase >= closing || id == k.element.ID && (refused || a == k.home && !k.answerBy.IsZero()) {
		return
	}
	k.send(a, &asap.Deregistration{Handle: k.pool, ID: id})
}

// onError: a registrar that cannot process a registration or a deregistration answers
// with ASAP_ERROR in place of a response. The element handles it as a rejection, and does
// not wait for T2 or T3. An error that only reports something changes nothing: the
// response follows.
func (k *core) onError(now time.Time, a sctp.AssocID, m *asap.Error) {
	k.warn(now, "registrar %v reports an error: %s", k.peers[a], causes(m.Causes, rserpool.PoolKind{}))
	if a == k.home && m.Refuses(asap.TypeHandleResolution) && !m.Refuses(asap.TypeRegistration) {
		k.resolutionRefused(m.Causes)
	}
	switch {
	case a == k.trial.assoc:
		if m.Refuses(asap.TypeRegistration) {
			k.onTrialResponse(now, &asap.RegistrationResponse{Reject: true, Causes: m.Causes})
		}
	case a != k.home || k.answerBy.IsZero():
	case k.phase == registering && m.Refuses(asap.TypeRegistration):
		k.rejected(now, m.Causes)
	case k.phase == leaving && m.Refuses(asap.TypeDeregistration):
		k.mayNotLeave(now, m.Causes)
	}
}
