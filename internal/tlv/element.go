package tlv

import (
	"math"
	"time"
	"unicode/utf8"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// PoolElement reads the current parameter into e. The first transport inside
// is the user transport, the second one the ASAP transport, also if the policy is
// between them. Parameters inside may be missing: each message checks which ones it
// requires. What only registrars may say of an element is left out: see
// [Cursor.SuspectElement].
func (c *Cursor) PoolElement(e *rserpool.PoolElement) {
	c.SuspectElement(e)
	e.Identity = ""
}

// SuspectElement is PoolElement for messages of registrars: the element has its identity. It
// says also whether the element is suspect, and for how long it has been.
func (c *Cursor) SuspectElement(e *rserpool.PoolElement) (silent time.Duration, suspect bool) {
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
		case c.Type() == TypeSuspect:
			c.Once()
			silent, suspect = time.Duration(c.one32())*time.Second, true
		case isIdentity(c.Type()) && e.Identity == "":
			e.Identity = c.identity()
		case isIdentity(c.Type()):
			c.Refuse("second identity of a pool element")
		case IsTransport(c.Type()) && e.ASAPTransport.Present():
			c.Refuse("third transport: a pool element has a user transport and an ASAP transport")
		case IsTransport(c.Type()):
			c.Refuse("second transport, the ASAP transport, is not SCTP")
		default:
			e.Unknown = c.Unknown(e.Unknown)
		}
	}
	c.close(f)
	return silent, suspect
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

// MaxIdentity is the most bytes of an identity.
const MaxIdentity = 256

func isIdentity(t Type) bool { return t == TypeIdentity || t == TypeIdentityTail }

// identity reads the current parameter as an identity, in either form. Elements of one identity
// that follow each other share its memory.
func (c *Cursor) identity() string {
	tail := c.Type() == TypeIdentityTail
	f := c.open()
	shared := 0
	if tail {
		shared = int(c.byte())
	}
	rest := c.rest()
	c.close(f)
	if shared > len(c.named) {
		c.failf("identity shares %d bytes with the one before it, which has %d", shared, len(c.named))
		return ""
	}
	if id := c.named[:shared]; len(id) < len(c.named) || len(rest) > 0 {
		c.named = id + string(rest)
	}
	if len(c.named) == 0 || len(c.named) > MaxIdentity || !utf8.ValidString(c.named) {
		c.Refuse("identity is not 1 to 256 bytes of UTF-8")
	}
	return c.named
}

// PoolElement writes a Pool Element parameter. The user transport and the
// policy are left out if e has none.
func (w *Builder) PoolElement(e *rserpool.PoolElement) {
	start := w.beginElement(e)
	w.close(start)
}

// SuspectElement is PoolElement for an element that has been suspect for some time. It writes
// whole seconds.
func (w *Builder) SuspectElement(e *rserpool.PoolElement, silent time.Duration) {
	start := w.beginElement(e)
	inner := w.open(TypeSuspect)
	w.Uint32(uint32(min(max(silent/time.Second, 0), math.MaxUint32)))
	w.close(inner)
	w.close(start)
}

// beginElement writes a Pool Element parameter up to its end.
func (w *Builder) beginElement(e *rserpool.PoolElement) (start int) {
	start = w.open(TypePoolElement)
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
	w.identity(e)
	w.Unknown(e.Unknown)
	return start
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

// identity writes the identity of an element, unless that has none.
func (w *Builder) identity(e *rserpool.PoolElement) {
	if e.Identity == "" {
		return
	}
	if len(e.Identity) > MaxIdentity {
		w.fail("identity of pool element %v has %d bytes: at most %d", e.ID, len(e.Identity), MaxIdentity)
	}
	shared := SharedIdentity(w.named, e.Identity)
	var start int
	if shared > 0 {
		start = w.open(TypeIdentityTail)
		w.b = append(w.b, uint8(shared))
	} else {
		start = w.open(TypeIdentity)
	}
	w.str(e.Identity[shared:])
	w.close(start)
	w.named = e.Identity
}

// SharedIdentity is how many bytes of an identity are not written because the one before it in
// the message has them as well.
func SharedIdentity(before, id string) int {
	most := min(len(before), len(id), math.MaxUint8)
	if before[:most] == id[:most] {
		return most
	}
	n := 0
	for before[n] == id[n] {
		n++
	}
	return n
}

// AppendPoolElement adds a Pool Element parameter to b; on error it returns b
// as it was.
func AppendPoolElement(b []byte, e *rserpool.PoolElement) ([]byte, error) {
	w := begin(b)
	w.PoolElement(e)
	return w.Finish()
}
