package param

// ServerInformation tells where a registrar is reached by ENRP (RFC 5354,
// Section 3.11).
type ServerInformation struct {
	ID ServerID
	// Transport is of type SCTP.
	Transport Transport
	Unknown   []Raw
}

// Present reports whether there is any information: what comes off the wire
// has a transport.
func (s *ServerInformation) Present() bool { return s.Transport.Present() }

// ServerInformation reads the current parameter into s.
func (c *Cursor) ServerInformation(s *ServerInformation) {
	*s = ServerInformation{}
	f := c.open()
	s.ID = ServerID(c.Uint32())
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
func (w *Builder) ServerInformation(s *ServerInformation) {
	if s.Transport.Type != TypeSCTPTransport {
		w.fail("server transport of %v is not SCTP: %v", s.ID, s.Transport)
		return
	}
	start := w.open(TypeServerInformation)
	w.Uint32(uint32(s.ID))
	w.Transport(&s.Transport)
	w.Unknown(s.Unknown)
	w.close(start)
}
