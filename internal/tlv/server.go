package tlv

import (
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ServerInformation reads the current parameter into s.
func (c *Cursor) ServerInformation(s *rserpool.ServerInformation) {
	*s = rserpool.ServerInformation{}
	f := c.open()
	s.ID = rserpool.ServerID(c.Uint32())
	for c.Next() {
		switch c.Type() {
		case TypeSCTPTransport:
			c.Once()
			s.Transport = c.Transport()
		default:
			s.Unknown = c.Unknown(s.Unknown)
		}
	}
	c.Require(TypeSCTPTransport)
	c.close(f)
}

// ServerInformation writes a Server Information parameter.
func (w *Builder) ServerInformation(s *rserpool.ServerInformation) {
	if s.Transport.Type != rserpool.SCTP {
		w.fail("server transport of %v is not SCTP: %v", s.ID, s.Transport)
		return
	}
	start := w.open(TypeServerInformation)
	w.Uint32(uint32(s.ID))
	w.Transport(&s.Transport)
	w.Unknown(s.Unknown)
	w.close(start)
}
