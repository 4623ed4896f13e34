package enrp

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Error reports what is wrong with a message (RFC 5353, Section 2.10). There is no
// response to it.
type Error struct {
	// Sender and Receiver are those of the Error. RSPLIB repeats those of the
	// refused message.
	Sender, Receiver rserpool.ServerID
	// Causes has at least one cause.
	Causes  []rserpool.Cause
	Unknown []rserpool.Parameter
}

// Type returns TypeError.
func (*Error) Type() MessageType { return TypeError }

// IDs returns the identifiers of the sender and of the receiver.
func (m *Error) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *Error) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeError, 0, m.Sender, m.Receiver)
	if len(m.Causes) == 0 {
		w.Refuse("error message without a cause: there must be at least one")
	}
	w.Causes(m.Causes)
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseError(c *tlv.Cursor) *Error {
	c.Silence()
	m := new(Error)
	m.Sender, m.Receiver = parseIDs(c)
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
