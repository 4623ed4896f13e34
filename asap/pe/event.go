package pe

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/rserpool/coredns-rserpool/asap/param"
)

// EventType says what has happened to an Element.
type EventType uint8

// The types of event.
const (
	// Registered: the element is registered, for the first time or again
	// after it was not.
	Registered EventType = iota + 1
	// Reregistered: the registration is renewed, perhaps with new values.
	Reregistered
	// Deregistered: the element is registered no more, as was asked for.
	Deregistered
	// Expired: the registrar has dropped the element; it registers again.
	Expired
	// HomeLost: the association with the home registrar is lost, or the
	// registrar does not answer. Another one is sought.
	HomeLost
	// HomeChanged: another registrar has taken the element over.
	HomeChanged
	// NoRegistrar: all known registrars were tried in vain; Err tells of
	// each. The hunt goes on.
	NoRegistrar
	// Rejected: the registrar refuses the registration; Run ends with Err.
	Rejected
	// Warning: something odd that does not stop the element.
	Warning
	// Readdressed: the machine's addresses have changed; the element registers
	// again, with Addrs.
	Readdressed
)

// Event tells what has happened to an Element.
type Event struct {
	Type EventType
	// ID is the element's identifier, which a random one can lose to another
	// element that has it already.
	ID param.PEID
	// Home is the home registrar's identifier where it is known, Registrar
	// its addresses.
	Home      param.ServerID
	Registrar string
	// Err is set for HomeLost, NoRegistrar, Rejected and Warning.
	Err error
	// Addrs is set for Readdressed.
	Addrs []netip.Addr
}

// String tells the event in one line, such as an operator reads.
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
		return fmt.Sprintf("lost %s: %v; looking for a registrar", e.registrar(), e.Err)
	case Readdressed:
		return fmt.Sprintf("the addresses of this machine have changed; registering %v", e.Addrs)
	case HomeChanged:
		return fmt.Sprintf("%s has taken over as home registrar", e.registrar())
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
	Pool      param.PoolHandle
	ID        param.PEID
	Registrar string
	// Causes are the registrar's; it may give none.
	Causes []param.Cause
}

// Error gives the causes in words.
func (e *RejectedError) Error() string {
	return fmt.Sprintf("registrar %s refuses element %v in pool %q: %s", e.Registrar, e.ID, string(e.Pool), causes(e.Causes))
}

// Has reports whether a cause is among those given.
func (e *RejectedError) Has(code param.CauseCode) bool {
	for _, c := range e.Causes {
		if c.Code == code {
			return true
		}
	}
	return false
}

func causes(list []param.Cause) string {
	if len(list) == 0 {
		return "it gives no cause"
	}
	words := make([]string, len(list))
	for i, c := range list {
		words[i] = c.String()
	}
	return strings.Join(words, "; ")
}
