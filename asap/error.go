package asap

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Error reports what is wrong with a message (RFC 5352, Section 2.2.14). There is no
// response to it.
type Error struct {
	// Causes has at least one cause.
	Causes  []rserpool.Cause
	Unknown []rserpool.Parameter
}

// Type returns TypeError.
func (*Error) Type() MessageType { return TypeError }

// Append adds the message's wire form to b.
func (m *Error) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeError, 0)
	if len(m.Causes) == 0 {
		w.Refuse("error message without a cause: there must be at least one")
	}
	w.Causes(m.Causes)
	w.Unknown(m.Unknown)
	return w.Finish()
}

// Refuses reports whether the error replaces the response to a message of type t, because
// the error's sender cannot process that message. Otherwise the error only informs, and the
// response still comes. Two causes only inform:
//
//   - Unrecognized Parameter, unless the high bits of the parameter's type are 01, which
//     require the receiver to discard the message (RFC 5354, Section 3)
//   - Unrecognized Message, if the message in it has another type
func (m *Error) Refuses(t MessageType) bool {
	return slices.ContainsFunc(m.Causes, func(c rserpool.Cause) bool {
		switch c.Code {
		case rserpool.CauseUnrecognizedParameter:
			return len(c.Info) > 0 && c.Info[0]>>6 == 1
		case rserpool.CauseUnrecognizedMessage:
			return len(c.Info) == 0 || MessageType(c.Info[0]) == t
		}
		return true
	})
}

func parseError(c *tlv.Cursor) *Error {
	m := new(Error)
	c.Silence()
	for c.Next() {
		switch c.Type() {
		case tlv.TypeOperationError:
			c.Once()
			m.Causes = c.Causes(m.Causes)
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(tlv.TypeOperationError)
	return m
}
