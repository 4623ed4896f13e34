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
	// EncapPort is the UDP port where the element takes ASAP associations over
	// SCTP in UDP (RFC 6951), 0 if it has come by other means. Its home
	// registrar fills it in, for other registrars alone.
	EncapPort     uint16
	UserTransport Transport
	// Policy has type 0 where the element came without one.
	Policy Policy
	// ASAPTransport is where the element takes ASAP associations, filled in
	// by its home registrar (RFC 5352, Section 3.1); not Present otherwise.
	ASAPTransport Transport
	// Unknown holds the unknown parameters found inside, in their order, so
	// that they survive the way through a registrar.
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
