package handlespace

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Families is a set of address families; the zero set stands for any family.
type Families uint8

// The address families.
const (
	IPv4 Families = 1 << iota
	IPv6
)

// classes is the number of sets of address families that an element can have.
const classes = 4

// admits reports whether an element with the families of class is a candidate
// for a selection that asks for f.
func (f Families) admits(class Families) bool { return f == 0 || f&class != 0 }

// Element is a registered pool element. Elements are immutable after they are put into
// a Space: a change puts another Element with the same ID.
type Element struct {
	rserpool.PoolElement
	// Expires is when the registration life ends; zero for never.
	Expires time.Time
}

// Families returns the address families of the user transport.
func (e *Element) Families() Families {
	var f Families
	for _, a := range e.UserTransport.Addrs {
		switch {
		case a.Is4():
			f |= IPv4
		case a.Is6():
			f |= IPv6
		}
	}
	return f
}

// same reports whether two registrations differ only in the time at which they end.
func (e *Element) same(o *Element) bool {
	return e.ID == o.ID && e.Home == o.Home && e.EncapPort == o.EncapPort && e.Identity == o.Identity && e.SameToUsers(o) && e.ASAPTransport.Equal(o.ASAPTransport)
}

// SameToUsers reports whether pool users see no difference between two registrations
// of an element.
func (e *Element) SameToUsers(o *Element) bool {
	return e.Policy == o.Policy && e.Life == o.Life && e.UserTransport.Equal(o.UserTransport) && e.UserEncapPort == o.UserEncapPort &&
		slices.EqualFunc(e.Unknown, o.Unknown, func(a, b rserpool.Parameter) bool {
			return a.Type == b.Type && slices.Equal(a.Value, b.Value)
		})
}

// Selected is an element that a policy has picked.
type Selected struct {
	*Element
	// Value is what the policy compared or weighed at the time of selection: the
	// weight, the priority or the load with all additions; 0 for policies without one.
	// Loads with additions may exceed 100 %.
	Value uint64
}

// InconsistentError says why an element does not fit into its pool (RFC 5352,
// Section 3.1, rules 2 and 3).
type InconsistentError struct {
	// Cause is CauseInconsistentPolicy, CauseInconsistentTransportType or
	// CauseInconsistentDataControl.
	Cause rserpool.CauseCode
	// Policy, Transport and Use are the pool's, from its first element.
	Policy    rserpool.PolicyType
	Transport rserpool.TransportType
	Use       rserpool.TransportUse
	// Element is the kind that the element has.
	Element rserpool.PoolKind
}

// Error says what the element has, what the pool has, and what to do.
func (e *InconsistentError) Error() string {
	return rserpool.Conflict(e.Cause, e.Element, rserpool.PoolKind{Policy: e.Policy, Transport: e.Transport, Use: e.Use})
}

// use is the transport use that counts for a pool's consistency. Only SCTP transports
// have it in messages (RFC 5354, Section 3.4).
func use(t *rserpool.Transport) rserpool.TransportUse {
	if t.Type != rserpool.SCTP {
		return rserpool.DataOnly
	}
	return t.Use
}
