package pe

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/param"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// maxRedraws is how often a random identifier that is in use is drawn anew.
const maxRedraws = 3

// received takes a message of ASAP from an association.
func (k *core) received(now time.Time, a sctp.AssocID, data []byte) {
	m, causes, err := asap.Parse(data)
	if err != nil {
		if reply, ok := asap.ErrorReply(err); ok {
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
	case *asap.EndpointKeepAlive:
		k.onKeepAlive(now, a, m)
	case *asap.Error:
		k.onError(now, a, m)
	}
}

// announced takes a datagram of the announce group.
func (k *core) announced(now time.Time, from netip.AddrPort, data []byte) {
	_ = k.hunt.Announced(now, from, data)
}

// onRegistrationResponse: RFC 5352, Section 3.1.
func (k *core) onRegistrationResponse(now time.Time, a sctp.AssocID, m *asap.RegistrationResponse) {
	if a != k.home || k.phase != registering || m.Handle != k.pool || m.ID != k.element.ID {
		return
	}
	if m.Reject {
		k.rejected(now, m.Causes)
		return
	}
	if len(m.Causes) > 0 {
		k.warn(now, "registrar %v has changed values of the registration: %s", k.homeAt, causes(m.Causes))
	}
	ev := Event{Type: Registered}
	if k.standing {
		ev.Type = Reregistered
	}
	k.phase, k.accepted, k.standing = registered, true, true
	k.attempts = 0
	k.answerBy = time.Time{}
	k.renewAt = now.Add(k.timers.Reregistration)
	k.hunt.Settled()
	k.scheduleUpdate(now)
	for _, f := range k.former {
		k.closeAssoc(f)
	}
	k.former = nil
	k.tell(ev)
}

// rejected ends the element: a registration must not be repeated without a
// correction (RFC 5352, Section 3.1). The one that the element can make by
// itself is another identifier. Where the registrar has no resources there is
// nothing to be corrected here: that is its trouble, which passes, as when it
// has just begun, and which others need not have.
func (k *core) rejected(now time.Time, list []param.Cause) {
	err := &RejectedError{Pool: k.pool, ID: k.element.ID, Registrar: k.homeAt.String(), Causes: list}
	if err.Has(param.CauseLackOfResources) {
		k.mayBeKnown = k.accepted
		k.dropHome(now, fmt.Errorf("it refuses element %v: %s", k.element.ID, causes(list)))
		k.tellRounds()
		return
	}
	if k.drawID != nil && k.redraws < maxRedraws && !k.accepted && err.Has(param.CauseNonUniquePEIdentifier) {
		k.redraws++
		k.warn(now, "%w; trying another identifier", err)
		k.element.ID = k.drawID()
		k.attempts = 0
		k.sendRegistration(now)
		return
	}
	// A first registration that was refused leaves nothing behind.
	k.mayBeKnown = k.accepted
	k.fail(now, err)
}

// onDeregistrationResponse: RFC 5352, Section 3.2.
func (k *core) onDeregistrationResponse(now time.Time, a sctp.AssocID, m *asap.DeregistrationResponse) {
	if a != k.home || m.Handle != k.pool || m.ID != k.element.ID {
		return
	}
	switch k.phase {
	case leaving:
		if k.answerBy.IsZero() {
			return
		}
		if len(m.Causes) > 0 {
			k.warn(now, "registrar %v refuses the deregistration: %s", k.homeAt, causes(m.Causes))
		}
		k.tell(Event{Type: Deregistered})
		k.left(now)
	case registered, registering:
		// The registration life is over; a registration on its way will
		// be answered still.
		k.tell(Event{Type: Expired})
		k.standing = false
		if k.phase == registered {
			k.dirty = true
			k.scheduleUpdate(now)
		}
	}
}

// onKeepAlive: RFC 5352, Section 3.4.
func (k *core) onKeepAlive(now time.Time, a sctp.AssocID, m *asap.EndpointKeepAlive) {
	// KA1. An element that was never registered, or is no longer, has no
	// handle that could match; to acknowledge would keep it alive.
	if !k.mayBeKnown || a == k.outmoded || m.Handle != k.pool || m.HasID && m.ID != k.element.ID {
		return
	}
	k.send(a, &asap.EndpointKeepAliveAck{Handle: k.pool, ID: k.element.ID}) // KA2
	switch {
	case m.Home && (a != k.home || m.Server != k.element.Home):
		k.adopt(now, a, m.Server) // KA2.4
	case a == k.home:
		k.element.Home = m.Server
	}
}

// adopt makes the registrar at the other end of an association the home
// registrar (RFC 5352, Section 3.4, KA2.4).
//
// The element registers with it at once. That renews what the new home knows
// of it, and tells a former home that is still alive that the element is no
// longer its own before the association with that one ends: a registrar takes
// the end of the association for the end of its element.
func (k *core) adopt(now time.Time, a sctp.AssocID, server param.ServerID) {
	k.element.Home = server
	if a == k.home {
		return
	}
	k.former = slices.DeleteFunc(k.former, func(f sctp.AssocID) bool { return f == a })
	if k.home != 0 {
		k.former = append(k.former, k.home)
	}
	k.home, k.homeAt = a, k.peers[a]
	k.hunt.Stop()
	k.attempts = 0
	k.tell(Event{Type: HomeChanged})
	switch k.phase {
	case hunting, registering, registered:
		k.sendRegistration(now)
	case leaving:
		k.leave(now)
	}
}

// onError: a registrar that cannot make sense of a registration answers with
// ASAP_ERROR in place of a response, which is as good as a rejection.
// Likewise for a deregistration: to wait for T3-deregistration is of no use.
func (k *core) onError(now time.Time, a sctp.AssocID, m *asap.Error) {
	k.warn(now, "registrar %v reports an error: %s", k.peers[a], causes(m.Causes))
	switch {
	case a != k.home || k.answerBy.IsZero():
	case k.phase == registering:
		k.rejected(now, m.Causes)
	case k.phase == leaving:
		k.left(now)
	}
}
