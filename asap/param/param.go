package param

import (
	"fmt"
	"net/netip"
)

// Type is a parameter type code (RFC 5354, Section 3, Table 1). Its two
// highest bits say what a receiver that does not know the type has to do.
type Type uint16

// The parameter types of RFC 5354, Table 1, and the one private parameter of
// the reference implementation.
const (
	TypeIPv4Address       Type = 0x1
	TypeIPv6Address       Type = 0x2
	TypeDCCPTransport     Type = 0x3
	TypeSCTPTransport     Type = 0x4
	TypeTCPTransport      Type = 0x5
	TypeUDPTransport      Type = 0x6
	TypeUDPLiteTransport  Type = 0x7
	TypePolicy            Type = 0x8
	TypePoolHandle        Type = 0x9
	TypePoolElement       Type = 0xa
	TypeServerInformation Type = 0xb
	TypeOperationError    Type = 0xc
	TypeCookie            Type = 0xd
	TypePEIdentifier      Type = 0xe
	TypePEChecksum        Type = 0xf
	TypeOpaqueTransport   Type = 0x10
	// TypeHandleResolutionItems is RSPLIB's request for a number of pool
	// elements in a handle resolution response. Its high bits are 10, so
	// that a receiver without it skips it.
	TypeHandleResolutionItems Type = 0x803f
)

// PoolHandle names a pool (RFC 5354, Section 3.9): any sequence of bytes, at
// least one, held in a string so that it can be a map key. It need not be
// valid UTF-8.
type PoolHandle string

// PEID identifies a pool element within its pool (RFC 5354, Section 3.14).
type PEID uint32

// String returns the identifier as 8 lower-case hexadecimal digits.
func (id PEID) String() string { return fmt.Sprintf("%08x", uint32(id)) }

// ServerID identifies a registrar within its operational scope (RFC 5353,
// Section 2.1). Zero means "undetermined".
type ServerID uint32

// String returns the identifier as 8 lower-case hexadecimal digits.
func (id ServerID) String() string { return fmt.Sprintf("%08x", uint32(id)) }

// Raw is a parameter kept as it came: one whose type this package does not
// know, and whose high bits allow to skip it. Value holds the bytes after the
// parameter header, without padding.
type Raw struct {
	Type  Type
	Value []byte
}

// TransportUse says what a transport address carries (RFC 5354, Section 3.4).
type TransportUse uint16

// The transport uses of RFC 5354, Section 3.4.
const (
	DataOnly        TransportUse = 0
	DataPlusControl TransportUse = 1
)

// Transport is a user transport, an ASAP transport or a server transport (RFC
// 5354, Sections 3.3 to 3.7 and 3.16). The zero value, with Type 0, is no
// transport at all.
type Transport struct {
	// Type tells the transport protocol: one of TypeDCCPTransport,
	// TypeSCTPTransport, TypeTCPTransport, TypeUDPTransport,
	// TypeUDPLiteTransport and TypeOpaqueTransport.
	Type Type
	Port uint16
	// Use is on the wire for SCTP alone; the other protocols are DataOnly.
	Use TransportUse
	// ServiceCode is DCCP's (RFC 5354, Section 3.3).
	ServiceCode uint32
	// Addrs holds at least one address for SCTP, exactly one for the other
	// protocols with addresses; IPv4 addresses are in 4-byte form.
	Addrs []netip.Addr
	// Opaque is the value of an opaque transport.
	Opaque []byte
}

// Present reports whether there is a transport at all.
func (t Transport) Present() bool { return t.Type != 0 }

// PoolElement describes a pool element (RFC 5354, Section 3.10).
type PoolElement struct {
	ID PEID
	// Home is the registrar that owns the element, 0 if undetermined.
	Home ServerID
	// Life is the registration life as on the wire: in seconds after RFC
	// 5354 (RSPLIB counts milliseconds), negative for an infinite one.
	Life          int32
	UserTransport Transport
	// Policy has type 0 where the element came without one.
	Policy Policy
	// ASAPTransport is where the element takes ASAP associations, filled in
	// by its home registrar (RFC 5352, Section 3.1); not Present otherwise.
	ASAPTransport Transport
	// Unknown holds the unknown parameters found inside, in their order, so
	// that they survive the way through a registrar.
	Unknown []Raw
}

// ServerInformation tells where a registrar is reached by ENRP (RFC 5354,
// Section 3.11).
type ServerInformation struct {
	ID        ServerID
	Transport Transport
	Unknown   []Raw
}
