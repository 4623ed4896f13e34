package tlv

import (
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// PoolElement reads the current parameter into e. The first transport inside
// is the user transport, the second one the ASAP transport, also if the policy is
// between them. Parameters inside may be missing: each message checks which ones it
// requires.
func (c *Cursor) PoolElement(e *rserpool.PoolElement) {
	*e = rserpool.PoolElement{}
	f := c.open()
	e.ID = rserpool.PEID(c.Uint32())
	e.Home = rserpool.ServerID(c.Uint32())
	e.Life = int32(c.Uint32())
	for c.Next() {
		switch {
		case IsTransport(c.Type()) && !e.UserTransport.Present():
			e.UserTransport = c.Transport()
		case c.Type() == TypeSCTPTransport && !e.ASAPTransport.Present():
			e.ASAPTransport = c.Transport()
		case c.Type() == TypePolicy:
			c.Once()
			e.Policy = c.Policy()
		case c.Type() == TypeEncapPort:
			e.EncapPort = c.udpPort()
		case c.Type() == TypeUserEncapPort:
			e.UserEncapPort = c.udpPort()
		case IsTransport(c.Type()) && e.ASAPTransport.Present():
			c.Refuse("third transport: a pool element has a user transport and an ASAP transport")
		case IsTransport(c.Type()):
			c.Refuse("second transport, the ASAP transport, is not SCTP")
		default:
			e.Unknown = c.Unknown(e.Unknown)
		}
	}
	c.close(f)
}

// udpPort reads the current parameter as a UDP port.
func (c *Cursor) udpPort() uint16 {
	c.Once()
	f := c.open()
	port := c.Uint16()
	c.Uint16() // reserved
	c.close(f)
	return port
}

// PoolElement writes a Pool Element parameter. The user transport and the
// policy are left out if e has none.
func (w *Builder) PoolElement(e *rserpool.PoolElement) {
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
		case e.ASAPTransport.Type != rserpool.SCTP:
			w.fail("pool element %v has an ASAP transport that is not SCTP", e.ID)
		}
		w.Transport(&e.ASAPTransport)
	}
	w.udpPort(TypeEncapPort, e.EncapPort)
	w.udpPort(TypeUserEncapPort, e.UserEncapPort)
	w.Unknown(e.Unknown)
	w.close(start)
}

// udpPort writes a UDP port, unless it is 0.
func (w *Builder) udpPort(t Type, port uint16) {
	if port == 0 {
		return
	}
	start := w.open(t)
	w.Uint16(port)
	w.Uint16(0)
	w.close(start)
}

// AppendPoolElement adds a Pool Element parameter to b; on error it returns b
// as it was.
func AppendPoolElement(b []byte, e *rserpool.PoolElement) ([]byte, error) {
	w := begin(b)
	w.PoolElement(e)
	return w.Finish()
}
