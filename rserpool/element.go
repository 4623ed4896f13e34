package rserpool

import (
	"slices"
)

// PoolElement describes a pool element (RFC 5354, Section 3.10).
type PoolElement struct {
	ID PEID
	// Home is the registrar that owns the element, 0 if undetermined.
	Home ServerID
	// Life is the registration life as on the wire: in seconds after RFC
	// 5354 (RSPLIB counts milliseconds), negative for an infinite one.
	Life int32
	// EncapPort is the UDP port at which the element accepts ASAP associations over SCTP
	// in UDP (RFC 6951), 0 if it does not use SCTP in UDP. The home registrar sets it,
	// only for other registrars.
	EncapPort uint16
	// UserEncapPort is the UDP port of UserTransport if users reach it over SCTP in UDP
	// (RFC 6951), 0 if they do not. The element sets it, and registrars pass it on.
	UserEncapPort uint16
	UserTransport Transport
	// Policy has type 0 if the message has none.
	Policy Policy
	// ASAPTransport is where the element accepts ASAP associations. The home registrar
	// sets it (RFC 5352, Section 3.1); otherwise it is not Present.
	ASAPTransport Transport
	// Identity is the name of the certificate with which the element has registered, "" in a
	// scope without TLS. The home registrar sets it, only for other registrars.
	Identity string
	// Unknown has the unknown parameters in their order, so that a registrar passes them
	// on.
	Unknown []Parameter
}

// Clone returns an element that shares no memory with e.
func (e *PoolElement) Clone() PoolElement {
	d := *e
	d.UserTransport = e.UserTransport.Clone()
	d.ASAPTransport = e.ASAPTransport.Clone()
	d.Unknown = slices.Clone(e.Unknown)
	for i := range d.Unknown {
		d.Unknown[i].Value = slices.Clone(d.Unknown[i].Value)
	}
	return d
}
