package param

import "slices"

// PoolElement describes a pool element (RFC 5354, Section 3.10).
type PoolElement struct {
	ID PEID
	// Home is the registrar that owns the element, 0 if undetermined.
	Home ServerID
	// Life is the registration life as on the wire: in seconds after RFC
	// 5354 (RSPLIB counts milliseconds), negative for an infinite one.
	Life int32
	// EncapPort is the UDP port where the element takes ASAP associations over
	// SCTP in UDP (RFC 6951), 0 if it has come by other means. Its home
	// registrar fills it in, for other registrars alone; see TypeEncapPort.
	EncapPort     uint16
	UserTransport Transport
	// Policy has type 0 where the element came without one.
	Policy Policy
	// ASAPTransport is where the element takes ASAP associations, filled in
	// by its home registrar (RFC 5352, Section 3.1); not Present otherwise.
	ASAPTransport Transport
	// Unknown holds the unknown parameters found inside, in their order, so
	// that they survive the way through a registrar.
	Unknown []Raw
}

// Clone returns an element that shares no memory with e.
func (e *PoolElement) Clone() PoolElement {
	d := *e
	d.UserTransport = e.UserTransport.Clone()
	d.ASAPTransport = e.ASAPTransport.Clone()
	d.Unknown = slices.Clone(e.Unknown)
	for i := range d.Unknown {
		d.Unknown[i].Value = slices.Clone(d.Unknown[i].Value)
	}
	return d
}

// PoolElement reads the current parameter into e. The first transport inside
// is the user transport, the second one the ASAP transport, wherever the
// policy stands. The parameters inside may be missing here: what a message
// must have is for the message to refuse.
func (c *Cursor) PoolElement(e *PoolElement) {
	*e = PoolElement{}
	f := c.open()
	e.ID = PEID(c.Uint32())
	e.Home = ServerID(c.Uint32())
	e.Life = int32(c.Uint32())
	for c.Next() {
		switch {
		case c.Type().IsTransport() && !e.UserTransport.Present():
			e.UserTransport = c.Transport()
		case c.Type() == TypeSCTPTransport && !e.ASAPTransport.Present():
			e.ASAPTransport = c.Transport()
		case c.Type() == TypePolicy:
			c.Once()
			e.Policy = c.Policy()
		case c.Type() == TypeEncapPort:
			c.Once()
			f := c.open()
			e.EncapPort = c.Uint16()
			c.Uint16()
			c.close(f)
		case c.Type().IsTransport() && e.ASAPTransport.Present():
			c.Refuse("third transport: a pool element has a user transport and an ASAP transport")
		case c.Type().IsTransport():
			c.Refuse("second transport, the ASAP transport, is not SCTP")
		default:
			e.Unknown = c.Unknown(e.Unknown)
		}
	}
	c.close(f)
}

// PoolElement writes a Pool Element parameter. The user transport and the
// policy are left out if e has none.
func (w *Builder) PoolElement(e *PoolElement) {
	start := w.open(TypePoolElement)
	w.Uint32(uint32(e.ID))
	w.Uint32(uint32(e.Home))
	w.Uint32(uint32(e.Life))
	if e.UserTransport.Present() {
		w.Transport(&e.UserTransport)
	}
	if e.Policy.Type != 0 {
		w.Policy(e.Policy)
	}
	if e.ASAPTransport.Present() {
		switch {
		case !e.UserTransport.Present():
			w.fail("pool element %v has an ASAP transport but no user transport", e.ID)
		case e.ASAPTransport.Type != TypeSCTPTransport:
			w.fail("pool element %v has an ASAP transport that is not SCTP", e.ID)
		}
		w.Transport(&e.ASAPTransport)
	}
	if e.EncapPort != 0 {
		inner := w.open(TypeEncapPort)
		w.Uint16(e.EncapPort)
		w.Uint16(0)
		w.close(inner)
	}
	w.Unknown(e.Unknown)
	w.close(start)
}

// AppendPoolElement adds a Pool Element parameter to b; on error it returns b
// as it was.
func AppendPoolElement(b []byte, e *PoolElement) ([]byte, error) {
	w := begin(b)
	w.PoolElement(e)
	return w.Finish()
}
