package asap

import (
	"errors"
	"fmt"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// To add a message:
//
//  1. its type: a constant and a row in typeNames;
//  2. its struct in the file of its family, with the methods Type, Append and
//     parse;
//  3. its case in [Parse];
//  4. a row in the table of the tests, and real bytes in testdata/golden.

// Well-known numbers of ASAP (RFC 5352, Section 8).
const (
	// Port is the port of ASAP over SCTP and TCP.
	Port = 3863
	// TLSPort is the port of ASAP in TLS over SCTP and TCP.
	TLSPort = 3864
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

var typeNames = [...]string{
	TypeRegistration:             "ASAP_REGISTRATION",
	TypeDeregistration:           "ASAP_DEREGISTRATION",
	TypeRegistrationResponse:     "ASAP_REGISTRATION_RESPONSE",
	TypeDeregistrationResponse:   "ASAP_DEREGISTRATION_RESPONSE",
	TypeHandleResolution:         "ASAP_HANDLE_RESOLUTION",
	TypeHandleResolutionResponse: "ASAP_HANDLE_RESOLUTION_RESPONSE",
	TypeEndpointKeepAlive:        "ASAP_ENDPOINT_KEEP_ALIVE",
	TypeEndpointKeepAliveAck:     "ASAP_ENDPOINT_KEEP_ALIVE_ACK",
	TypeEndpointUnreachable:      "ASAP_ENDPOINT_UNREACHABLE",
	TypeServerAnnounce:           "ASAP_SERVER_ANNOUNCE",
	TypeCookie:                   "ASAP_COOKIE",
	TypeCookieEcho:               "ASAP_COOKIE_ECHO",
	TypeBusinessCard:             "ASAP_BUSINESS_CARD",
	TypeError:                    "ASAP_ERROR",
}

// String returns the message's name in RFC 5352, or its number if it has none.
func (t MessageType) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("ASAP message 0x%02x", uint8(t))
}

// Message is an ASAP message: one of the pointer types of this package.
type Message interface {
	// Type is the message's type on the wire.
	Type() MessageType
	// Append adds the message's wire form to b and returns the extended
	// slice; on error it returns b as it was. It refuses every message that
	// Parse would refuse. It can write every message that Parse has read, with
	// one exception: a message of 65533 to 65535 bytes whose parameters were
	// in another order may become too long.
	Append(b []byte) ([]byte, error)
}

// Parse reads one message from b. Up to 3 bytes of padding may follow the message. Parse
// does not keep b.
//
// The causes report unknown parameters whose type requires a report (RFC 5354, Section
// 3). If there are causes, the receiver sends them to the sender in an [Error], and
// processes the message.
//
// Every error wraps a *[rserpool.ParseError]; [ErrorReply] makes the response to it.
func Parse(b []byte) (Message, []rserpool.Cause, error) {
	c := tlv.NewCursor(b)
	t := MessageType(c.MessageType())
	m := read(&c, t)
	causes, err := c.Finish()
	switch {
	case err == nil:
		return m, causes, nil
	case m == nil:
		return nil, nil, err // the text names the type
	}
	err = fmt.Errorf("%v: %w", t, err)
	return nil, nil, named(err, t, b)
}

// named adds to the error of a registration or deregistration whose it is, if that can be
// read. The order of parameters does not matter (RFC 5354, Section 3).
func named(err error, t MessageType, b []byte) error {
	var identifier tlv.Type
	switch t {
	case TypeRegistration:
		identifier = tlv.TypePoolElement
	case TypeDeregistration:
		identifier = tlv.TypePEIdentifier
	default:
		return err
	}
	if h, id, ok := tlv.Names(b, identifier); ok {
		return &RequestError{Type: t, Handle: h, ID: id, Err: err}
	}
	return err
}

// read reads the rest of a message of type t; nil if the type is unknown. The message is
// valid only if the cursor has no error.
func read(c *tlv.Cursor, t MessageType) Message {
	switch t {
	case TypeRegistration:
		return parseRegistration(c)
	case TypeDeregistration:
		return (*Deregistration)(parseAboutElement(c))
	case TypeRegistrationResponse:
		return parseRegistrationResponse(c)
	case TypeDeregistrationResponse:
		return parseDeregistrationResponse(c)
	case TypeHandleResolution:
		m := new(HandleResolution)
		m.parse(c, nil)
		return m
	case TypeHandleResolutionResponse:
		return parseHandleResolutionResponse(c)
	case TypeEndpointKeepAlive:
		return parseEndpointKeepAlive(c)
	case TypeEndpointKeepAliveAck:
		return parseEndpointKeepAliveAck(c)
	case TypeEndpointUnreachable:
		return (*EndpointUnreachable)(parseAboutElement(c))
	case TypeServerAnnounce:
		return parseServerAnnounce(c)
	case TypeCookie:
		return parseCookie(c)
	case TypeCookieEcho:
		return (*CookieEcho)(parseCookie(c))
	case TypeBusinessCard:
		return parseBusinessCard(c)
	case TypeError:
		return parseError(c)
	}
	c.UnknownMessage()
	return nil
}

// RequestError is the error of a REGISTRATION or DEREGISTRATION whose pool handle and PE
// identifier could be read, so that its own response can refuse it.
type RequestError struct {
	Type   MessageType
	Handle rserpool.PoolHandle
	ID     rserpool.PEID
	Err    error
}

// Error gives the text of Err.
func (e *RequestError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *RequestError) Unwrap() error { return e.Err }

// ErrorReply returns a registrar's response to a message that Parse has refused with err,
// and whether there is one: some errors must not be reported. The response is a
// RegistrationResponse for a registration with invalid values (RFC 5352, Section 3.1,
// rule 1), a DeregistrationResponse for such a deregistration (Section 3.2), and otherwise
// an Error.
func ErrorReply(err error) (Message, bool) {
	report, ok := ErrorReport(err)
	if !ok {
		return nil, false
	}
	var req *RequestError
	var pe *rserpool.ParseError
	switch {
	case !errors.As(err, &req) || !errors.As(err, &pe) || pe.Cause != rserpool.CauseInvalidValues:
		return report, true
	case req.Type == TypeDeregistration:
		return &DeregistrationResponse{Handle: req.Handle, ID: req.ID, Causes: report.Causes}, true
	}
	return &RegistrationResponse{Reject: true, Handle: req.Handle, ID: req.ID, Causes: report.Causes}, true
}

// ErrorReport is ErrorReply for pool elements and pool users. They do not respond to
// registrations, so the response is always an Error.
func ErrorReport(err error) (*Error, bool) {
	var pe *rserpool.ParseError
	if !errors.As(err, &pe) {
		return nil, false
	}
	causes := pe.Causes()
	return &Error{Causes: causes}, len(causes) > 0
}

// begin begins a message of type t at the end of b.
func begin(b []byte, t MessageType, flags uint8) tlv.Builder {
	return tlv.BeginMessage(b, uint8(t), flags)
}

// flag0 is the only flag of ASAP's messages: R, S, A or H.
const flag0 = 0x01

func flags(set bool) uint8 {
	if set {
		return flag0
	}
	return 0
}
