package tlv

import (
	"encoding/binary"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// PoolHandle reads the current parameter as a pool handle.
func (c *Cursor) PoolHandle() rserpool.PoolHandle {
	return rserpool.PoolHandle(c.poolHandle())
}

// PoolHandleFrom is PoolHandle without an allocation for handles that the receiver has:
// known, if it is not nil, returns the handle of the given bytes, or "" if the receiver
// does not have it. known must not keep the bytes.
func (c *Cursor) PoolHandleFrom(known func([]byte) rserpool.PoolHandle) rserpool.PoolHandle {
	b := c.poolHandle()
	if known != nil && len(b) > 0 {
		if h := known(b); h != "" {
			return h
		}
	}
	return rserpool.PoolHandle(b)
}

func (c *Cursor) poolHandle() []byte {
	f := c.open()
	b := c.rest()
	c.close(f)
	if len(b) == 0 {
		c.Refuse("a pool handle has at least one byte")
	}
	return b
}

// PEID reads the current parameter as a PE identifier.
func (c *Cursor) PEID() rserpool.PEID { return rserpool.PEID(c.one32()) }

// Names finds the pool handle of a message, and the PE identifier in its first parameter of
// the type, although the message may be refused; false if it lacks one of them.
func Names(msg []byte, identifier Type) (h rserpool.PoolHandle, id rserpool.PEID, ok bool) {
	c, found := NewCursor(msg), false
	for c.Next() {
		switch value := c.msg[c.cur.start+headerLen : c.cur.end]; {
		case c.cur.typ == TypePoolHandle && h == "":
			h = rserpool.PoolHandle(value)
		case c.cur.typ == identifier && !found && (len(value) == 4 || len(value) > 4 && identifier == TypePoolElement):
			id, found = rserpool.PEID(binary.BigEndian.Uint32(value)), true
		}
	}
	return h, id, found && h != ""
}

// Items reads the current parameter as RSPLIB's number of items wanted.
func (c *Cursor) Items() uint32 { return c.one32() }

// one32 reads the current parameter as one 32-bit number.
func (c *Cursor) one32() uint32 {
	f := c.open()
	v := c.Uint32()
	c.close(f)
	return v
}

// PEChecksum reads the current parameter as a PE checksum (RFC 5354, Section
// 3.15).
func (c *Cursor) PEChecksum() uint16 {
	f := c.open()
	v := c.Uint16()
	c.close(f)
	return v
}

// Cookie reads the current parameter as a cookie (RFC 5354, Section 3.13). The
// cookie may be empty.
func (c *Cursor) Cookie() []byte {
	f := c.open()
	v := clone(c.rest())
	c.close(f)
	return v
}

// PoolHandle writes a Pool Handle parameter.
func (w *Builder) PoolHandle(h rserpool.PoolHandle) {
	if h == "" {
		w.fail("empty pool handle: it has at least one byte")
	}
	start := w.open(TypePoolHandle)
	w.str(string(h))
	w.close(start)
}

// PEID writes a PE Identifier parameter.
func (w *Builder) PEID(id rserpool.PEID) { w.one32(TypePEIdentifier, uint32(id)) }

// Items writes RSPLIB's number of items wanted.
func (w *Builder) Items(n uint32) { w.one32(TypeHandleResolutionItems, n) }

func (w *Builder) one32(t Type, v uint32) {
	start := w.open(t)
	w.Uint32(v)
	w.close(start)
}

// PEChecksum writes a PE Checksum parameter.
func (w *Builder) PEChecksum(sum uint16) {
	start := w.open(TypePEChecksum)
	w.Uint16(sum)
	w.close(start)
}

// Cookie writes a Cookie parameter.
func (w *Builder) Cookie(cookie []byte) {
	start := w.open(TypeCookie)
	w.bytes(cookie)
	w.close(start)
}
