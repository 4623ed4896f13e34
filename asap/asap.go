package asap

import "github.com/rserpool/coredns-rserpool/asap/param"

// Well-known numbers of ASAP (RFC 5352, Section 8).
const (
	// Port is the port of ASAP over SCTP and TCP.
	Port = 3863
	// PPID is the SCTP payload protocol identifier.
	PPID = 11
)

// MessageType is the type of an ASAP message (RFC 5352, Section 2.2).
type MessageType uint8

// The message types of RFC 5352, Figure 1.
const (
	TypeRegistration             MessageType = 0x01
	TypeDeregistration           MessageType = 0x02
	TypeRegistrationResponse     MessageType = 0x03
	TypeDeregistrationResponse   MessageType = 0x04
	TypeHandleResolution         MessageType = 0x05
	TypeHandleResolutionResponse MessageType = 0x06
	TypeEndpointKeepAlive        MessageType = 0x07
	TypeEndpointKeepAliveAck     MessageType = 0x08
	TypeEndpointUnreachable      MessageType = 0x09
	TypeServerAnnounce           MessageType = 0x0a
	TypeCookie                   MessageType = 0x0b
	TypeCookieEcho               MessageType = 0x0c
	TypeBusinessCard             MessageType = 0x0d
	TypeError                    MessageType = 0x0e
)

// Message is an ASAP message: one of the pointer types of this package.
type Message interface {
	// Type is the message's type on the wire.
	Type() MessageType
	// Append adds the message's wire form to b and returns the extended
	// slice; on error it returns b as it was.
	Append(b []byte) ([]byte, error)
}

// Registration asks to register or re-register a pool element (RFC 5352,
// Section 2.2.1).
type Registration struct {
	Handle  param.PoolHandle
	Element param.PoolElement
	Unknown []param.Raw
}

// Deregistration asks to remove a pool element (RFC 5352, Section 2.2.2).
type Deregistration struct {
	Handle  param.PoolHandle
	ID      param.PEID
	Unknown []param.Raw
}

// RegistrationResponse answers a Registration (RFC 5352, Section 2.2.3).
type RegistrationResponse struct {
	// Reject is the R flag.
	Reject bool
	Handle param.PoolHandle
	ID     param.PEID
	// Causes say why, where Reject is set; warnings where it is not.
	Causes  []param.Cause
	Unknown []param.Raw
}

// DeregistrationResponse answers a Deregistration, or tells the element that
// its registration life is over (RFC 5352, Section 2.2.4).
type DeregistrationResponse struct {
	Handle  param.PoolHandle
	ID      param.PEID
	Causes  []param.Cause
	Unknown []param.Raw
}

// HandleResolution asks for elements of a pool (RFC 5352, Section 2.2.5).
type HandleResolution struct {
	// Subscribe is the S bit: send updates while the association lasts.
	Subscribe bool
	Handle    param.PoolHandle
	// Items is the number of elements wanted, by RSPLIB's parameter; it is
	// on the wire where HasItems is set, and 0 asks for the server's default.
	Items    uint32
	HasItems bool
	Unknown  []param.Raw
}

// HandleResolutionResponse answers a HandleResolution, or is an automatic
// update (RFC 5352, Section 2.2.6).
type HandleResolutionResponse struct {
	// Accept is the A bit: updates will follow.
	Accept bool
	Handle param.PoolHandle
	// Policy is the pool's overall policy; Type 0 stands for none, which
	// means round robin.
	Policy   param.Policy
	Elements []param.PoolElement
	// Causes is not empty in a negative response.
	Causes  []param.Cause
	Unknown []param.Raw
}

// EndpointKeepAlive asks an element for a sign of life (RFC 5352, Section
// 2.2.7).
type EndpointKeepAlive struct {
	// Home is the H flag: the sender wants to be the element's home.
	Home   bool
	Server param.ServerID
	Handle param.PoolHandle
	// ID names the element. The RFC has no such parameter, the reference
	// implementation sends it; it is on the wire where HasID is set.
	ID      param.PEID
	HasID   bool
	Unknown []param.Raw
}

// EndpointKeepAliveAck is the sign of life (RFC 5352, Section 2.2.8).
type EndpointKeepAliveAck struct {
	Handle  param.PoolHandle
	ID      param.PEID
	Unknown []param.Raw
}

// EndpointUnreachable reports an element that cannot be reached (RFC 5352,
// Section 2.2.9).
type EndpointUnreachable struct {
	Handle  param.PoolHandle
	ID      param.PEID
	Unknown []param.Raw
}

// ServerAnnounce tells elements and users, by multicast, where a registrar is
// (RFC 5352, Section 2.2.10). Without transports the registrar is at the
// datagram's source address.
type ServerAnnounce struct {
	Server     param.ServerID
	Transports []param.Transport
	Unknown    []param.Raw
}

// Cookie hands a state cookie to a pool user (RFC 5352, Section 2.2.11).
type Cookie struct {
	Cookie  []byte
	Unknown []param.Raw
}

// CookieEcho hands the last cookie to the next element (RFC 5352, Section
// 2.2.12).
type CookieEcho struct {
	Cookie  []byte
	Unknown []param.Raw
}

// BusinessCard names the sender's pool and the order of failover (RFC 5352,
// Section 2.2.13).
type BusinessCard struct {
	Handle   param.PoolHandle
	Elements []param.PoolElement
	Unknown  []param.Raw
}

// Error reports what was wrong with a message (RFC 5352, Section 2.2.14).
type Error struct {
	Causes  []param.Cause
	Unknown []param.Raw
}
