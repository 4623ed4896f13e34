package pe

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// EventType says what has happened to an Element.
type EventType uint8

// The types of event.
const (
	// Registered: the element is registered, for the first time or again
	// after it was not, or was refused.
	Registered EventType = iota + 1
	// Reregistered: the registration is renewed, perhaps with new values.
	Reregistered
	// Deregistered: the element is deregistered, as requested.
	Deregistered
	// Expired: the registrar has removed the element; the element registers again.
	Expired
	// HomeLost: the association with the home registrar is lost, or the
	// registrar does not answer. The element looks for another registrar.
	HomeLost
	// HomeChanged: another registrar has taken the element over, and has
	// accepted its registration.
	HomeChanged
	// NoRegistrar: no known registrar could be reached; Err has the reason for each.
	// The hunt continues; Err says when, if that is in more than 5 s. Of a long hunt, the
	// first eight rounds are events, the first one with such a pause, and then one in ten
	// minutes. A round in which a registrar was connecting to the element is an event only
	// if the round before was such a one, too.
	NoRegistrar
	// Rejected: a registrar has refused the first registration; the element ends with
	// Err, a *RejectedError.
	Rejected
	// Warning: something unexpected that does not stop the element.
	Warning
	// Readdressed: the machine's addresses have changed, or no registrar answers
	// at the present one (then Err says so); the element registers again, with
	// Addrs.
	Readdressed
	// Refused: a registrar refuses the registration, and the element goes on:
	// it was registered before, Config.MistakeTime is over, its identifier is in use and may
	// become free, or the registrar lacks resources and no other one is known. Err wraps a *RejectedError. The element tries other registrars, and
	// the same one after pauses of up to a minute. If the home registrar
	// refuses, the registration that it has accepted before still stands. The
	// first eight refusals in a row are events, and then one in ten minutes with
	// their number.
	Refused
	// AdoptionFailed: a registrar asked to become the home, and then did not accept the
	// element. The home is as before.
	AdoptionFailed
	// DeregistrationRefused: the registrar refuses the deregistration; Err is
	// a *DeregistrationError. The element stops acknowledging keep-alives, so that the
	// registrar removes it.
	DeregistrationRefused
	// Resumed: the association with the home registrar was lost, and the registrar has
	// connected to the element and sent a keep-alive. The registration stands there.
	Resumed
)

// Event tells what has happened to an Element.
type Event struct {
	Type EventType
	// ID is the element's identifier. A random identifier changes if another element
	// has it already.
	ID rserpool.PEID
	// Home is the home registrar's identifier where it is known, Registrar
	// its addresses.
	Home      rserpool.ServerID
	Registrar string
	// Err is set for the types of trouble: HomeLost, NoRegistrar,
	// Rejected, Warning, Refused, AdoptionFailed and DeregistrationRefused.
	Err error
	// Unserved is set for HomeLost if the registrar had taken the association, but had not
	// accepted the registration.
	Unserved bool
	// Pause is set for NoRegistrar if the next try is more than 5 s away: how long that is.
	// Err says so, too.
	Pause time.Duration
	// Addrs is set for Readdressed.
	Addrs []netip.Addr
}

// String describes the event in one line for an operator.
func (e Event) String() string {
	switch e.Type {
	case Registered:
		return fmt.Sprintf("registered as %v at %s", e.ID, e.registrar())
	case Reregistered:
		return fmt.Sprintf("re-registered as %v at %s", e.ID, e.registrar())
	case Deregistered:
		return fmt.Sprintf("deregistered %v", e.ID)
	case Expired:
		return fmt.Sprintf("%s has dropped the registration; registering again", e.registrar())
	case HomeLost:
		if client.RefusesUs(e.Err) { // at the end of a handshake, or later
			return fmt.Sprintf("%s does not let us in: %v; looking for a registrar", e.registrar(), e.Err)
		}
		if e.Unserved {
			return fmt.Sprintf("%s has not accepted the registration: %v; looking for a registrar", e.registrar(), e.Err)
		}
		return fmt.Sprintf("lost %s: %v; looking for a registrar", e.registrar(), e.Err)
	case Readdressed:
		if e.Err != nil {
			return fmt.Sprintf("%v; registering %v", e.Err, e.Addrs)
		}
		return fmt.Sprintf("the addresses of this machine have changed; registering %v", e.Addrs)
	case HomeChanged:
		return fmt.Sprintf("%s has taken over as home registrar", e.registrar())
	case Refused:
		return fmt.Sprintf("%v; trying again", e.Err)
	case AdoptionFailed:
		if e.Registrar == "" {
			return fmt.Sprintf("%v; looking for a registrar", e.Err)
		}
		return fmt.Sprintf("%v; staying with %s", e.Err, e.registrar())
	case Resumed:
		return fmt.Sprintf("%s has called %v back; the registration stands", e.registrar(), e.ID)
	case NoRegistrar, Rejected, Warning, DeregistrationRefused:
	}
	return fmt.Sprint(e.Err)
}

func (e Event) registrar() string {
	s := "registrar " + e.Registrar
	if e.Home != 0 {
		s += fmt.Sprintf(" (%v)", e.Home)
	}
	return s
}

// RejectedError says why a registrar refused a registration.
type RejectedError struct {
	Pool      rserpool.PoolHandle
	ID        rserpool.PEID
	Registrar string
	// Addrs are the addresses that were offered.
	Addrs []netip.Addr
	// Offered has the policy and the transport that were offered.
	Offered rserpool.PoolKind
	// Causes are the registrar's; it may give none.
	Causes []rserpool.Cause
}

// Error gives the causes in words, and what the element offers where that is the
// cause.
func (e *RejectedError) Error() string {
	return fmt.Sprintf("registrar %s refuses element %v in pool %q: %s", e.Registrar, e.ID, string(e.Pool), e.reason())
}

// reason gives the causes in words.
func (e *RejectedError) reason() string {
	text := causes(e.Causes, e.Offered)
	if rserpool.HasCause(e.Causes, rserpool.CauseInvalidValues) && len(e.Addrs) > 0 {
		text += fmt.Sprintf("; the element offers the addresses %v, and the registrar's log says at which one it sees the element", e.Addrs)
	}
	if rserpool.HasCause(e.Causes, rserpool.CauseLackOfResources) {
		text += " (or it is not ready yet, because it has just started)"
	}
	return text
}

// refusal is a RejectedError in a list that names the registrar.
type refusal struct{ *RejectedError }

func (e refusal) Error() string { return fmt.Sprintf("it refuses element %v: %s", e.ID, e.reason()) }

func (e refusal) Unwrap() error { return e.RejectedError }

// Refused tells the list that the registrar was reached.
func (e refusal) Refused() bool { return true }

// Is reports whether target is a [rserpool.CauseCode] among the causes.
func (e *RejectedError) Is(target error) bool { return rserpool.HasCause(e.Causes, target) }

// DeregistrationError says why a registrar refused a deregistration. The element
// stays in the pool until its registration life ends or the registrar misses
// its keep-alive acknowledgements.
type DeregistrationError struct {
	Pool      rserpool.PoolHandle
	ID        rserpool.PEID
	Registrar string
	// Causes are the registrar's; at least one.
	Causes []rserpool.Cause
}

// Error gives the causes in words.
func (e *DeregistrationError) Error() string {
	return fmt.Sprintf("registrar %s refuses the deregistration of element %v from pool %q: %s; the element stays there until its registration life ends or its registrar misses it",
		e.Registrar, e.ID, string(e.Pool), causes(e.Causes, rserpool.PoolKind{}))
}

// Is reports whether target is a [rserpool.CauseCode] among the causes.
func (e *DeregistrationError) Is(target error) bool { return rserpool.HasCause(e.Causes, target) }

// causes gives causes in words; offered is what an element has offered, if any.
func causes(list []rserpool.Cause, offered rserpool.PoolKind) string {
	if len(list) == 0 {
		return "it gives no cause"
	}
	words := make([]string, len(list))
	for i, c := range list {
		words[i] = c.String()
		switch c.Code {
		case rserpool.CauseInconsistentPolicy, rserpool.CauseInconsistentTransportType, rserpool.CauseInconsistentDataControl:
			if offered != (rserpool.PoolKind{}) {
				words[i] = c.Conflict(offered)
			}
		}
	}
	return strings.Join(words, "; ")
}
