package enrp

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// To add a message:
//
//  1. its type: a constant and a row in typeNames;
//  2. its struct in the file of its family, with the methods Type, IDs, Append
//     and parse;
//  3. its case in [Parse];
//  4. a row in the table of the tests, and real bytes in testdata/golden.

// Well-known numbers of ENRP (RFC 5353, Section 5).
const (
	// Port is the port of ENRP over SCTP, and of its announcements by UDP.
	Port = 9901
	// TLSPort is the port of ENRP in TLS over SCTP.
	TLSPort = 9902
	// PPID is the SCTP payload protocol identifier.
	PPID = 12
)

// MessageType is the type of an ENRP message (RFC 5353, Section 2).
type MessageType uint8

// The message types of RFC 5353, Figure 1.
const (
	TypePresence            MessageType = 0x01
	TypeHandleTableRequest  MessageType = 0x02
	TypeHandleTableResponse MessageType = 0x03
	TypeHandleUpdate        MessageType = 0x04
	TypeListRequest         MessageType = 0x05
	TypeListResponse        MessageType = 0x06
	TypeInitTakeover        MessageType = 0x07
	TypeInitTakeoverAck     MessageType = 0x08
	TypeTakeoverServer      MessageType = 0x09
	TypeError               MessageType = 0x0a
)

var typeNames = [...]string{
	TypePresence:            "ENRP_PRESENCE",
	TypeHandleTableRequest:  "ENRP_HANDLE_TABLE_REQUEST",
	TypeHandleTableResponse: "ENRP_HANDLE_TABLE_RESPONSE",
	TypeHandleUpdate:        "ENRP_HANDLE_UPDATE",
	TypeListRequest:         "ENRP_LIST_REQUEST",
	TypeListResponse:        "ENRP_LIST_RESPONSE",
	TypeInitTakeover:        "ENRP_INIT_TAKEOVER",
	TypeInitTakeoverAck:     "ENRP_INIT_TAKEOVER_ACK",
	TypeTakeoverServer:      "ENRP_TAKEOVER_SERVER",
	TypeError:               "ENRP_ERROR",
}

// String returns the message's name in RFC 5353, or its number if it has none.
func (t MessageType) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("ENRP message 0x%02x", uint8(t))
}

// Message is an ENRP message: one of the pointer types of this package.
type Message interface {
	// Type is the message's type on the wire.
	Type() MessageType
	// IDs are the identifiers of the sending and of the receiving registrar. The
	// receiver is 0 if the message is for every registrar that receives it (RFC
	// 5353, Section 2.1).
	IDs() (sender, receiver rserpool.ServerID)
	// Append adds the message's wire form to b and returns the extended
	// slice; on error it returns b as it was. It refuses every message that
	// Parse would refuse.
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
	return nil, nil, fmt.Errorf("%v: %w", t, err)
}

// read reads the rest of a message of type t; nil if the type is unknown. The message is
// valid only if the cursor has no error.
func read(c *tlv.Cursor, t MessageType) Message {
	switch t {
	case TypePresence:
		return parsePresence(c)
	case TypeHandleTableRequest:
		return parseHandleTableRequest(c)
	case TypeHandleTableResponse:
		return parseHandleTableResponse(c)
	case TypeHandleUpdate:
		return parseHandleUpdate(c)
	case TypeListRequest:
		return parseListRequest(c)
	case TypeListResponse:
		return parseListResponse(c)
	case TypeInitTakeover:
		return (*InitTakeover)(parseAboutTarget(c))
	case TypeInitTakeoverAck:
		return (*InitTakeoverAck)(parseAboutTarget(c))
	case TypeTakeoverServer:
		return (*TakeoverServer)(parseAboutTarget(c))
	case TypeError:
		return parseError(c)
	}
	c.UnknownMessage()
	return nil
}

// IDs reads the identifiers of the sending and of the receiving registrar from a message,
// even if Parse refuses it. They have the same place in every message of RFC 5353. If the
// message is too short for one of them, that identifier is 0.
func IDs(b []byte) (sender, receiver rserpool.ServerID) {
	if len(b) >= 8 {
		sender = rserpool.ServerID(binary.BigEndian.Uint32(b[4:]))
	}
	if len(b) >= 12 {
		receiver = rserpool.ServerID(binary.BigEndian.Uint32(b[8:]))
	}
	return sender, receiver
}

// ErrorReply returns the response of the registrar self to the message b, which Parse has
// refused with err, and whether there is one: some errors must not be reported.
func ErrorReply(err error, self rserpool.ServerID, b []byte) (*Error, bool) {
	var pe *rserpool.ParseError
	if !errors.As(err, &pe) {
		return nil, false
	}
	causes := pe.Causes()
	if len(causes) == 0 {
		return nil, false
	}
	peer, _ := IDs(b)
	return &Error{Sender: self, Receiver: peer, Causes: causes}, true
}

// begin begins a message of type t at the end of b.
func begin(b []byte, t MessageType, flags uint8, sender, receiver rserpool.ServerID) tlv.Builder {
	w := tlv.BeginMessage(b, uint8(t), flags)
	w.Uint32(uint32(sender))
	w.Uint32(uint32(receiver))
	return w
}

// parseIDs reads the identifiers that follow the header of every message.
func parseIDs(c *tlv.Cursor) (sender, receiver rserpool.ServerID) {
	sender = rserpool.ServerID(c.Uint32())
	receiver = rserpool.ServerID(c.Uint32())
	return sender, receiver
}

// parseUnknown reads the parameters of a message all of whose parameters are unknown.
func parseUnknown(c *tlv.Cursor) (unknown []rserpool.Parameter) {
	for c.Next() {
		unknown = c.Unknown(unknown)
	}
	return unknown
}

func flag(set bool, value uint8) uint8 {
	if set {
		return value
	}
	return 0
}
