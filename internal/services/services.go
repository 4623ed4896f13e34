// Package services has the messages of the example services that the reference
// implementation RSPLIB serves and uses: echo, discard, daytime, chargen, PingPong, CalcApp
// and Scripting. The layouts are those seen on the wire (testdata), in network byte order.
//
// All messages of PingPong, CalcApp and Scripting begin with a type, flags, and the length
// of the whole message. Each travels as one SCTP message on stream 0, with the payload
// protocol identifier (PPID) of its service.
//
// The package has no state, except [Calculator], which does what it is told. Parse
// functions keep nothing of their argument, except where they say so.
package services

import (
	"encoding/binary"
	"fmt"
)

// The payload protocol identifiers of the services. Echo, discard, daytime and chargen
// have none.
const (
	PPIDText      uint32 = 0
	PPIDPingPong  uint32 = 0x21
	PPIDCalc      uint32 = 0x22
	PPIDScripting uint32 = 0x23
)

// The pool handles that RSPLIB's users and elements use if they are told none.
const (
	EchoPool      = "EchoPool"
	DiscardPool   = "DiscardPool"
	DaytimePool   = "DaytimePool"
	ChargenPool   = "CharGenPool"
	PingPongPool  = "PingPongPool"
	CalcPool      = "CalcAppPool"
	ScriptingPool = "ScriptingPool"
)

// headSize is the length of a head: type, flags, length.
const headSize = 4

// head is what all messages begin with.
type head struct {
	typ, flags uint8
}

// parseHead splits a message. Its length must be what its head says.
func parseHead(b []byte) (head, []byte, error) {
	if len(b) < headSize {
		return head{}, nil, fmt.Errorf("message of %d bytes: the head alone has %d", len(b), headSize)
	}
	if n := binary.BigEndian.Uint16(b[2:]); int(n) != len(b) {
		return head{}, nil, fmt.Errorf("message of %d bytes says that it has %d", len(b), n)
	}
	return head{b[0], b[1]}, b[headSize:], nil
}

// appendHead appends the head of a message with a body of n bytes. The caller bounds n.
func appendHead(b []byte, typ, flags uint8, n int) []byte {
	b = append(b, typ, flags)
	return binary.BigEndian.AppendUint16(b, uint16(headSize+n))
}

// maxBody is the most that fits into a message behind its head, in bytes.
const maxBody = 0xffff - headSize
