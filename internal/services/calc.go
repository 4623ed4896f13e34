package services

import (
	"encoding/binary"
	"fmt"
)

// CalcType is the type of a message of CalcApp.
type CalcType uint8

// The types of CalcApp's messages. The user sends requests, the element accepts or refuses
// them, and completes them. Both send keep-alives.
const (
	CalcRequest      CalcType = 1
	CalcAccept       CalcType = 2
	CalcReject       CalcType = 3
	CalcComplete     CalcType = 5
	CalcKeepAlive    CalcType = 6
	CalcKeepAliveAck CalcType = 7
)

// CalcMessage is a message of CalcApp; all have the same layout.
type CalcMessage struct {
	Type CalcType
	Job  uint32 // the user's number of the job
	// Size is how many calculations the job needs, in a request and when it is complete.
	Size uint64
	// Completed is how many of them are done, when the job is complete.
	Completed uint64
}

const calcBody = 20

// Append appends the message to b.
func (m *CalcMessage) Append(b []byte) []byte {
	b = appendHead(b, uint8(m.Type), 0, calcBody)
	return appendCalcState(b, m.Job, m.Size, m.Completed)
}

// ParseCalc reads a message of CalcApp, of any type.
func ParseCalc(b []byte) (CalcMessage, error) {
	h, body, err := parseHead(b)
	switch {
	case err != nil:
		return CalcMessage{}, fmt.Errorf("calc: %w", err)
	case len(body) != calcBody:
		return CalcMessage{}, fmt.Errorf("calc: %d bytes after the head, want %d", len(body), calcBody)
	}
	c := parseCalcState(body)
	return CalcMessage{Type: CalcType(h.typ), Job: c.Job, Size: c.Size, Completed: c.Completed}, nil
}

// CalcCookie is the state of a job that runs.
type CalcCookie struct {
	Job             uint32
	Size, Completed uint64
}

// Append appends the cookie to b.
func (c *CalcCookie) Append(b []byte) []byte {
	return appendCalcState(b, c.Job, c.Size, c.Completed)
}

// ParseCalcCookie reads a cookie of CalcApp.
func ParseCalcCookie(b []byte) (CalcCookie, error) {
	if len(b) != calcBody {
		return CalcCookie{}, fmt.Errorf("%d bytes that are not a cookie of CalcApp", len(b))
	}
	c := parseCalcState(b)
	if c.Completed > c.Size {
		return CalcCookie{}, fmt.Errorf("cookie of CalcApp: %d of %d calculations are done", c.Completed, c.Size)
	}
	return c, nil
}

func appendCalcState(b []byte, job uint32, size, completed uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, job)
	b = binary.BigEndian.AppendUint64(b, size)
	return binary.BigEndian.AppendUint64(b, completed)
}

func parseCalcState(b []byte) CalcCookie {
	return CalcCookie{Job: binary.BigEndian.Uint32(b), Size: binary.BigEndian.Uint64(b[4:]), Completed: binary.BigEndian.Uint64(b[12:])}
}
