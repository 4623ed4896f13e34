package asap

import (
	"net/netip"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Registration asks to register or re-register a pool element (RFC 5352,
// Section 2.2.1).
type Registration struct {
	Handle rserpool.PoolHandle
	// Element has a user transport and a policy.
	Element rserpool.PoolElement
	Unknown []rserpool.Parameter
}

// Type returns TypeRegistration.
func (*Registration) Type() MessageType { return TypeRegistration }

// Append adds the message's wire form to b.
func (m *Registration) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeRegistration, 0)
	if why := unregistrable(&m.Element); why != "" {
		w.Refuse(why)
	}
	w.PoolHandle(m.Handle)
	w.PoolElement(&m.Element)
	w.Unknown(m.Unknown)
	return w.Finish()
}

// received is a message in one object with the usual address. Beside saving an allocation, that
// makes it larger than what a registrar keeps of an element, so that Go's allocator has other pages
// of memory for it: in pages that are shared with what becomes garbage at once, very many elements
// would lie far apart, which garbage collections take longer for.
type received struct {
	Registration
	addr [1]netip.Addr
}

func parseRegistration(c *tlv.Cursor) *Registration {
	r := new(received)
	m := &r.Registration
	c.LoneAddr(&r.addr)
	for c.Next() {
		switch c.Type() {
		case tlv.TypePoolHandle:
			c.Once()
			m.Handle = c.PoolHandle()
		case tlv.TypePoolElement:
			c.Once()
			c.PoolElement(&m.Element)
			if why := unregistrable(&m.Element); why != "" {
				c.Refuse(why)
			}
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(tlv.TypePoolHandle, tlv.TypePoolElement)
	return m
}

// unregistrable returns what is missing in an element of a registration (RFC 5354,
// Section 3.10), "" if nothing is.
func unregistrable(e *rserpool.PoolElement) string {
	switch {
	case !e.UserTransport.Present():
		return "pool element without a user transport"
	case e.Policy.Type == 0:
		return "pool element without a policy"
	}
	return ""
}

// Deregistration asks to remove a pool element (RFC 5352, Section 2.2.2).
type Deregistration struct {
	Handle  rserpool.PoolHandle
	ID      rserpool.PEID
	Unknown []rserpool.Parameter
}

// Type returns TypeDeregistration.
func (*Deregistration) Type() MessageType { return TypeDeregistration }

// Append adds the message's wire form to b.
func (m *Deregistration) Append(b []byte) ([]byte, error) {
	return (*aboutElement)(m).append(b, TypeDeregistration)
}

// RegistrationResponse answers a Registration (RFC 5352, Section 2.2.3).
type RegistrationResponse struct {
	// Reject is the R flag.
	Reject bool
	Handle rserpool.PoolHandle
	ID     rserpool.PEID
	// Causes are the reasons if Reject is set, and warnings otherwise.
	Causes  []rserpool.Cause
	Unknown []rserpool.Parameter
}

// Type returns TypeRegistrationResponse.
func (*RegistrationResponse) Type() MessageType { return TypeRegistrationResponse }

// Append adds the message's wire form to b.
func (m *RegistrationResponse) Append(b []byte) ([]byte, error) {
	return appendNames(b, TypeRegistrationResponse, flags(m.Reject), m.Handle, m.ID, m.Causes, m.Unknown)
}

func parseRegistrationResponse(c *tlv.Cursor) *RegistrationResponse {
	m := &RegistrationResponse{Reject: c.Flags()&flag0 != 0}
	m.Handle, m.ID, m.Unknown = parseNames(c, &m.Causes)
	return m
}

// DeregistrationResponse answers a Deregistration. Without one, it tells the element that
// its registration life has ended (RFC 5352, Section 2.2.4).
type DeregistrationResponse struct {
	Handle  rserpool.PoolHandle
	ID      rserpool.PEID
	Causes  []rserpool.Cause
	Unknown []rserpool.Parameter
}

// Type returns TypeDeregistrationResponse.
func (*DeregistrationResponse) Type() MessageType { return TypeDeregistrationResponse }

// Append adds the message's wire form to b.
func (m *DeregistrationResponse) Append(b []byte) ([]byte, error) {
	return appendNames(b, TypeDeregistrationResponse, 0, m.Handle, m.ID, m.Causes, m.Unknown)
}

func parseDeregistrationResponse(c *tlv.Cursor) *DeregistrationResponse {
	m := new(DeregistrationResponse)
	m.Handle, m.ID, m.Unknown = parseNames(c, &m.Causes)
	return m
}

// aboutElement is a message that only names a pool element. Several types of messages have
// its fields.
type aboutElement struct {
	Handle  rserpool.PoolHandle
	ID      rserpool.PEID
	Unknown []rserpool.Parameter
}

func (m *aboutElement) append(b []byte, t MessageType) ([]byte, error) {
	return appendNames(b, t, 0, m.Handle, m.ID, nil, m.Unknown)
}

func parseAboutElement(c *tlv.Cursor) *aboutElement {
	m := new(aboutElement)
	m.Handle, m.ID, m.Unknown = parseNames(c, nil)
	return m
}

// appendNames writes a message that names a pool element by its handle and identifier.
func appendNames(b []byte, t MessageType, flags uint8, h rserpool.PoolHandle, id rserpool.PEID,
	causes []rserpool.Cause, unknown []rserpool.Parameter,
) ([]byte, error) {
	w := begin(b, t, flags)
	w.PoolHandle(h)
	w.PEID(id)
	w.Causes(causes)
	w.Unknown(unknown)
	return w.Finish()
}

// parseNames reads such a message. If causes is nil, the message must not have error causes.
func parseNames(c *tlv.Cursor, causes *[]rserpool.Cause) (h rserpool.PoolHandle, id rserpool.PEID, unknown []rserpool.Parameter) {
	for c.Next() {
		switch t := c.Type(); {
		case t == tlv.TypePoolHandle:
			c.Once()
			h = c.PoolHandle()
		case t == tlv.TypePEIdentifier:
			c.Once()
			id = c.PEID()
		case t == tlv.TypeOperationError && causes != nil:
			*causes = c.Causes(*causes)
		default:
			unknown = c.Unknown(unknown)
		}
	}
	c.Require(tlv.TypePoolHandle, tlv.TypePEIdentifier)
	return h, id, unknown
}
