package tlv

import (
	"encoding/binary"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Causes reads the current parameter as an Operation Error, and returns its
// causes behind those in list.
func (c *Cursor) Causes(list []rserpool.Cause) []rserpool.Cause {
	f := c.open()
	if c.pos == c.end {
		c.failBoxf("no error cause inside: there must be at least one")
	}
	// An error cause has the form of a parameter, but a code for the type.
	for c.Next() {
		list = append(list, rserpool.Cause{Code: rserpool.CauseCode(c.cur.typ), Info: clone(c.msg[c.cur.start+headerLen : c.cur.end])})
	}
	c.close(f)
	return list
}

// Causes writes an Operation Error parameter, or nothing if there is no cause.
func (w *Builder) Causes(list []rserpool.Cause) {
	if len(list) == 0 {
		return
	}
	start := w.open(TypeOperationError)
	for _, c := range list {
		at := w.open(Type(c.Code))
		w.bytes(c.Info)
		w.close(at)
	}
	w.close(start)
}

// Transports returns the two transports of an Invalid Values cause in a registration
// response that accepts the element: the transport that the element has offered, and the
// one that the registrar has registered instead, because it sees the element at another
// address. Our registrars send such a cause; RFC 5354, Section 3.12.4, has only the first
// transport. ok is false for all other causes.
func Transports(c rserpool.Cause) (offered, registered rserpool.Transport, ok bool) {
	if c.Code != rserpool.CauseInvalidValues || len(c.Info) > maxLen-headerLen {
		return offered, registered, false
	}
	p := NewCursor(append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(headerLen+len(c.Info))), c.Info...))
	for _, t := range []*rserpool.Transport{&offered, &registered} {
		if !p.Next() || !IsTransport(p.Type()) {
			return offered, registered, false
		}
		*t = p.Transport()
	}
	if p.Next() {
		return offered, registered, false
	}
	_, err := p.Finish()
	return offered, registered, err == nil
}
