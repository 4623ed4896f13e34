package asap

import "github.com/rserpool/coredns-rserpool/asap/param"

// Error reports what was wrong with a message (RFC 5352, Section 2.2.14). It
// is never answered.
type Error struct {
	// Causes holds at least one.
	Causes  []param.Cause
	Unknown []param.Raw
}

// Type returns TypeError.
func (*Error) Type() MessageType { return TypeError }

// Append adds the message's wire form to b.
func (m *Error) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeError, 0)
	if len(m.Causes) == 0 {
		w.Refuse("error message without a cause: at least one is wanted")
	}
	w.Causes(m.Causes)
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseError(c *param.Cursor) *Error {
	m := new(Error)
	c.Silence()
	for c.Next() {
		switch c.Type() {
		case param.TypeOperationError:
			c.Once()
			m.Causes = c.Causes(m.Causes)
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(param.TypeOperationError)
	return m
}
