package services

import (
	"encoding/binary"
	"fmt"
)

// ScriptingType is the type of a message of Scripting.
type ScriptingType uint8

// The types of Scripting's messages. The element begins with ScriptingReady. The user
// uploads a work package in parts, of which the last one is empty. The element says that
// the work has started, and at its end with which status, by ScriptingStatus, and sends
// the results in parts, of which the last one is empty.
//
// Before the work package, the user may name an environment by its hash; the element
// answers after the work package, with [EnvironmentWanted] if the user must upload the
// environment as well.
//
// An element that has no room for a session says so by ScriptingNotReady and ends it.
const (
	ScriptingNotReady     ScriptingType = 0
	ScriptingReady        ScriptingType = 1
	ScriptingUpload       ScriptingType = 2
	ScriptingDownload     ScriptingType = 3
	ScriptingKeepAlive    ScriptingType = 4
	ScriptingKeepAliveAck ScriptingType = 5 // the element's have a status of 0
	ScriptingStatus       ScriptingType = 6
	ScriptingEnvironment  ScriptingType = 7
)

// EnvironmentWanted is the flag of the element's ScriptingEnvironment for an environment
// that it does not have.
const EnvironmentWanted uint8 = 0x01

// HashSize is the length of an environment's hash, which is SHA-1's.
const HashSize = 20

// MaxPart is the length of the parts that RSPLIB sends, in bytes.
const MaxPart = 16384

// ScriptingMessage is a message of Scripting.
type ScriptingMessage struct {
	Type  ScriptingType
	Flags uint8
	// Data is the part of an upload or a download, the element's name if it is ready, the
	// status or the hash.
	Data []byte
}

// Append appends the message to b.
func (m *ScriptingMessage) Append(b []byte) ([]byte, error) {
	if len(m.Data) > maxBody {
		return b, fmt.Errorf("scripting: %d bytes: at most %d fit", len(m.Data), maxBody)
	}
	b = appendHead(b, uint8(m.Type), m.Flags, len(m.Data))
	return append(b, m.Data...), nil
}

// ParseScripting reads a message of Scripting, of any type. Data is part of b.
func ParseScripting(b []byte) (ScriptingMessage, error) {
	h, body, err := parseHead(b)
	if err != nil {
		return ScriptingMessage{}, fmt.Errorf("scripting: %w", err)
	}
	m := ScriptingMessage{Type: ScriptingType(h.typ), Flags: h.flags, Data: body}
	switch {
	case m.Type == ScriptingStatus && len(body) != 4:
		return ScriptingMessage{}, fmt.Errorf("scripting: status of %d bytes, want 4", len(body))
	case m.Type == ScriptingEnvironment && len(body) != HashSize:
		return ScriptingMessage{}, fmt.Errorf("scripting: hash of %d bytes, want %d", len(body), HashSize)
	}
	return m, nil
}

// notReadyBusy is RSPLIB's reason if all of its threads are busy.
const notReadyBusy = 1

// NewScriptingNotReady makes a message that says that an element is busy, with its name.
func NewScriptingNotReady(name string) ScriptingMessage {
	return ScriptingMessage{Type: ScriptingNotReady, Data: append(binary.BigEndian.AppendUint32(nil, notReadyBusy), name...)}
}

// Status returns the status of a ScriptingStatus.
func (m *ScriptingMessage) Status() uint32 { return binary.BigEndian.Uint32(m.Data) }

// NewScriptingStatus makes a message with a status, of type ScriptingStatus or
// ScriptingKeepAliveAck.
func NewScriptingStatus(t ScriptingType, status uint32) ScriptingMessage {
	return ScriptingMessage{Type: t, Data: binary.BigEndian.AppendUint32(nil, status)}
}
