package tlv

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// An error reply repeats at most maxExcerpt bytes of the parameter or message
// at fault, and reports at most maxReports skipped parameters, so that it always fits
// into a message.
const (
	maxExcerpt = 4096
	maxReports = 8
)

const (
	headerLen = 4      // of messages, parameters and error causes alike
	maxLen    = 0xffff // what their length fields can say
)

// padded rounds a length up to the next multiple of 4 (RFC 5354, Section 3).
func padded(n int) int { return (n + 3) &^ 3 }

// tlv is where a parameter lies in its message. end leaves out the padding.
type tlv struct {
	typ        Type
	start, end int
}

// Cursor reads a message from its first to its last byte. It checks lengths, padding and
// nesting, and treats unknown parameters as RFC 5354 requires; the code for a message or
// a parameter only names what it expects. The first error is kept: from then on Next
// returns false, all values are zero, and [Cursor.Finish] returns the error.
//
// The loop over the parameters of a message is always
//
//	for c.Next() {
//		switch c.Type() {
//		case tlv.TypePoolHandle:
//			c.Once()
//			m.Handle = c.PoolHandle()
//		default:
//			m.Unknown = c.Unknown(m.Unknown)
//		}
//	}
//	c.Require(tlv.TypePoolHandle)
//
// A Cursor does not write to the message, and what it returns shares no memory
// with it.
type Cursor struct {
	msg     []byte // the message without the padding that may follow it
	pos     int    // the next unread byte
	end     int    // where the innermost open container ends
	box     tlv    // the innermost open container; type 0 for the message
	cur     tlv    // the parameter that Next has found
	seen    uint32 // the types that Once has met in the container, see bit
	quiet   bool   // nothing is ever reported about this message
	err     *rserpool.ParseError
	reports []rserpool.Cause
	// room returns memory for n addresses; nil stands for make.
	room func(n int) []netip.Addr
	// lone is memory for the addresses of the first transport that has only one; may be nil.
	lone *[1]netip.Addr
	// named is the identity that was read last, of which the next one may share the beginning.
	named string
}

// NewCursor returns a cursor after the header of the message b, with an error if b is not
// a message. Up to 3 bytes of padding may follow the message (RFC 5354, Section 4),
// whether or not they are counted in its length.
func NewCursor(b []byte) Cursor {
	c := Cursor{msg: b, end: len(b), box: tlv{end: len(b)}}
	c.cur = c.box
	if len(b) < headerLen {
		c.failf("%d bytes are not a message: the header has %d bytes", len(b), headerLen)
		return c
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case n < headerLen || n > len(b):
		c.failf("length field says %d, but the message has %d bytes", n, len(b))
		return c
	case len(b)-n > 3:
		c.failf("%d bytes follow the message of length %d: at most 3 bytes of padding are allowed", len(b)-n, n)
		return c
	}
	c.msg, c.pos, c.end = b[:n], headerLen, n
	c.box.end = n
	c.cur = c.box
	return c
}

// MessageType is the type in the message's header, 0 where there is none.
func (c *Cursor) MessageType() uint8 {
	if len(c.msg) == 0 {
		return 0
	}
	return c.msg[0]
}

// Flags are the flags in the message's header, 0 where there are none.
func (c *Cursor) Flags() uint8 {
	if len(c.msg) < 2 {
		return 0
	}
	return c.msg[1]
}

// AddrsFrom has the addresses of transports be in memory that room returns, for n of them.
func (c *Cursor) AddrsFrom(room func(n int) []netip.Addr) { c.room = room }

// LoneAddr has the address of the first transport with only one be in room.
func (c *Cursor) LoneAddr(room *[1]netip.Addr) { c.lone = room }

// Silence suppresses all reports about this message: an error message is never answered
// by an error message.
func (c *Cursor) Silence() { c.quiet = true }

// UnknownMessage ends the reading because the message's type is unknown. This error
// replaces all others. The two high bits of the type say whether it is reported (RFC
// 5354, Section 4); reserved values are not reported.
func (c *Cursor) UnknownMessage() {
	if len(c.msg) < headerLen {
		return
	}
	c.err = nil
	c.box = tlv{end: len(c.msg)}
	c.fail(c.box, rserpool.CauseUnrecognizedMessage, c.msg[0]>>6 == 1, fmt.Errorf("unknown message type 0x%02x", c.msg[0]))
}

// Next moves to the next parameter of the message or of the open container,
// and reports whether there is one.
func (c *Cursor) Next() bool {
	if c.err != nil || c.pos == c.end {
		return false
	}
	left := c.end - c.pos
	if left < headerLen {
		c.failBoxf("%d stray bytes after the last parameter", left)
		return false
	}
	typ := Type(binary.BigEndian.Uint16(c.msg[c.pos:]))
	n := int(binary.BigEndian.Uint16(c.msg[c.pos+2:]))
	c.cur = tlv{typ, c.pos, c.pos + min(max(n, headerLen), left)}
	switch {
	case n < headerLen:
		c.failf("length field says %d, less than the header of %d bytes", n, headerLen)
		return false
	case n > left:
		c.failf("length field says %d, but %d bytes are left", n, left)
		return false
	}
	c.skip()
	return true
}

// skip moves behind the current parameter and its padding, which may be
// missing at the end of a container (RFC 5354, Section 2).
func (c *Cursor) skip() {
	c.pos = min(c.cur.start+padded(c.cur.end-c.cur.start), c.end)
}

// Type is the type of the current parameter.
func (c *Cursor) Type() Type { return c.cur.typ }

// Run counts the consecutive parameters of the current type, from the current one on,
// that have at least least bytes. A reader can then allocate room for all of them. A
// shorter or malformed parameter ends the run.
func (c *Cursor) Run(least int) int {
	n, at := 0, c.cur.start
	for c.end-at >= headerLen && Type(binary.BigEndian.Uint16(c.msg[at:])) == c.cur.typ {
		size := int(binary.BigEndian.Uint16(c.msg[at+2:]))
		if size < max(least, headerLen) || size > c.end-at {
			break
		}
		n++
		at += padded(size)
	}
	return n
}

// bit numbers the parameter types for Once and Require. Types above 0x1f get bits that no
// type up to 0x1f has: 0, and 17 to 31.
func bit(t Type) uint32 {
	switch t {
	case TypeHandleResolutionItems:
		return 1 << 0
	case TypeEncapPort:
		return 1 << 17
	case TypeUserEncapPort:
		return 1 << 18
	case TypeSuspect:
		return 1 << 19
	case TypeIdentity:
		return 1 << 20
	case TypeIdentityTail:
		return 1 << 21
	}
	return 1 << (t & 31)
}

// Once refuses the current parameter if one of its type came before in the
// same message or container.
func (c *Cursor) Once() {
	if c.seen&bit(c.cur.typ) != 0 {
		c.failf("second one where one is allowed")
	}
	c.seen |= bit(c.cur.typ)
}

// Require refuses the message or the open container if one of the types, all
// of which were met with Once, is missing.
func (c *Cursor) Require(types ...Type) {
	for _, t := range types {
		if c.seen&bit(t) == 0 {
			c.failBoxf("%v parameter is missing", t)
		}
	}
}

// Unknown treats the current parameter as unexpected, as the two high bits of its type
// say (RFC 5354, Section 3). If it may be skipped, its copy is added to kept. A known type
// in a wrong place is refused, unless it is a private one that others may skip.
func (c *Cursor) Unknown(kept []rserpool.Parameter) []rserpool.Parameter {
	if !c.mayskip() {
		return kept
	}
	return append(kept, rserpool.Parameter{Type: c.cur.typ, Value: clone(c.msg[c.cur.start+headerLen : c.cur.end])})
}

// mayskip does what Unknown says, and reports whether to continue.
func (c *Cursor) mayskip() bool {
	if c.err != nil {
		return false
	}
	t := c.cur.typ
	if t.Known() && !skippable(t) {
		c.failf("not allowed in this place")
		return false
	}
	if !skippable(t) {
		c.fail(c.cur, rserpool.CauseUnrecognizedParameter, reportable(t), fmt.Errorf("unknown, and its type does not allow to skip it"))
		return false
	}
	if reportable(t) && !c.quiet && len(c.reports) < maxReports {
		c.reports = append(c.reports, rserpool.Cause{Code: rserpool.CauseUnrecognizedParameter, Info: c.excerpt(c.cur)})
	}
	return true
}

// frame is what open saves for close.
type frame struct {
	cur, box tlv
	end      int
	seen     uint32
}

// open begins to read the value of the current parameter.
func (c *Cursor) open() frame {
	f := frame{c.cur, c.box, c.end, c.seen}
	c.box, c.seen = c.cur, 0
	c.pos, c.end = c.cur.start+headerLen, c.cur.end
	return f
}

// close ends what open began. Nothing of the value may be left unread.
func (c *Cursor) close(f frame) {
	if c.pos < c.end {
		c.failBoxf("%d bytes too many", c.end-c.pos)
	}
	c.cur, c.box, c.end, c.seen = f.cur, f.box, f.end, f.seen
	c.skip()
}

// take returns the next n bytes of the message or the open container, nil
// after an error.
func (c *Cursor) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if c.end-c.pos < n {
		c.failBoxf("ends %d bytes too early", n-(c.end-c.pos))
		return nil
	}
	c.pos += n
	return c.msg[c.pos-n : c.pos]
}

// rest returns all bytes that are left in the open container.
func (c *Cursor) rest() []byte { return c.take(c.end - c.pos) }

// Uint32 reads a 32-bit field.
func (c *Cursor) Uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint16 reads a 16-bit field.
func (c *Cursor) Uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *Cursor) byte() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

// Refuse ends the reading because of the current parameter's value, with the
// cause Invalid Values (RFC 5354, Section 3.12.4). why says what is wrong.
func (c *Cursor) Refuse(why string) { c.failf("%s", why) }

// Finish ends the reading of a message. It returns the unknown parameters to
// be reported to the sender, or an error, which is a *[rserpool.ParseError].
func (c *Cursor) Finish() ([]rserpool.Cause, error) {
	if c.err == nil && c.pos < c.end {
		c.failBoxf("%d bytes too many", c.end-c.pos)
	}
	if c.err == nil {
		return c.reports, nil
	}
	c.err.Earlier = c.reports
	if c.quiet {
		c.err.Report = false
	}
	return nil, c.err
}

func (c *Cursor) failf(format string, args ...any) {
	if c.err == nil {
		c.fail(c.cur, rserpool.CauseInvalidValues, true, fmt.Errorf(format, args...))
	}
}

func (c *Cursor) failBoxf(format string, args ...any) {
	if c.err == nil {
		c.fail(c.box, rserpool.CauseInvalidValues, true, fmt.Errorf(format, args...))
	}
}

func (c *Cursor) fail(at tlv, cause rserpool.CauseCode, report bool, err error) {
	if c.err == nil {
		c.err = &rserpool.ParseError{
			Cause: cause, Report: report, Message: c.MessageType(), Param: at.typ,
			Offset: at.start, Bytes: c.excerpt(at), Err: err,
		}
	}
	c.pos = c.end
}

// excerpt copies a parameter with its padding, or its beginning, for an error cause. The
// padding keeps the rest of the reply aligned. Implementations agree on the alignment, but
// not on the lengths that count the padding.
func (c *Cursor) excerpt(t tlv) []byte {
	n := min(padded(t.end-t.start), maxExcerpt)
	return clone(c.msg[t.start:min(t.start+n, len(c.msg))])
}

// clone copies b; nothing becomes nil.
func clone(b []byte) []byte { return append([]byte(nil), b...) }
