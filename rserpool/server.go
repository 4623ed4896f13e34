package rserpool

// ServerInformation tells where a registrar is reached by ENRP (RFC 5354,
// Section 3.11).
type ServerInformation struct {
	ID ServerID
	// Transport is of type [SCTP].
	Transport Transport
	Unknown   []Parameter
}

// Present reports whether there is any information: what comes off the wire
// has a transport.
func (s *ServerInformation) Present() bool { return s.Transport.Present() }
