package tlv

import (
	"encoding/binary"
	"fmt"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Builder writes a message or a parameter. The first error is kept: check it once, with
// Finish. A Builder allocates only what the buffer needs to grow, so that a message with
// many parameters can be written without copies:
//
//	w := tlv.BeginMessage(buf, uint8(asap.TypeBusinessCard), 0)
//	w.PoolHandle(handle)
//	for _, e := range elements {
//		w.PoolElement(e)
//	}
//	buf, err := w.Finish()
type Builder struct {
	b       []byte
	base    int    // where the message or parameter begins
	padding int    // how many bytes of padding the last closed parameter has
	padEnd  int    // where they end
	message bool   // a message header is to be completed
	named   string // the identity that was written last
	err     error
}

// BeginMessage begins a message at the end of b.
func BeginMessage(b []byte, typ, flags uint8) Builder {
	return Builder{b: append(b, typ, flags, 0, 0), base: len(b), message: true}
}

// Len is the length in bytes of what has been written so far.
func (w *Builder) Len() int { return len(w.b) - w.base }

// Finish completes the message or parameter and returns the buffer; on error, it returns
// the buffer as it was.
//
// The length of a message covers the padding of its last parameter, as in the reference
// implementation. If that does not fit into the length field, the padding is left out, as
// RFC 5354, Section 4, requires.
func (w *Builder) Finish() ([]byte, error) {
	n := w.Len()
	if n > maxLen {
		n -= w.lastPadding()
	}
	if w.err == nil && n > maxLen {
		w.fail("message of %d bytes is longer than its length field can say: at most %d", n, maxLen)
	}
	if w.err != nil {
		return w.b[:w.base], w.err
	}
	if w.message {
		binary.BigEndian.PutUint16(w.b[w.base+2:], uint16(n))
	}
	return w.b, nil
}

// begin begins a single parameter at the end of b.
func begin(b []byte) Builder { return Builder{b: b, base: len(b)} }

// open begins a parameter and returns its offset.
func (w *Builder) open(t Type) int {
	start := len(w.b)
	w.Uint16(uint16(t))
	w.Uint16(0)
	return start
}

// close completes the parameter that was opened at start. Its length counts
// the padding between nested parameters, but not the last one's (RFC 5354,
// Section 2).
func (w *Builder) close(start int) {
	n := len(w.b) - w.lastPadding() - start
	if n > maxLen {
		w.fail("%v parameter of %d bytes is longer than its length field can say: at most %d",
			Type(binary.BigEndian.Uint16(w.b[start:])), n, maxLen)
		return
	}
	binary.BigEndian.PutUint16(w.b[start+2:], uint16(n))
	w.padding, w.padEnd = padded(n)-n, start+padded(n)
	w.b = append(w.b[:start+n], 0, 0, 0)[:w.padEnd]
}

// lastPadding is how many bytes of padding the buffer ends in.
func (w *Builder) lastPadding() int {
	if w.padEnd == len(w.b) {
		return w.padding
	}
	return 0
}

// Uint32 writes a 32-bit field.
func (w *Builder) Uint32(v uint32) {
	w.b = binary.BigEndian.AppendUint32(w.b, v)
}

// Uint16 writes a 16-bit field.
func (w *Builder) Uint16(v uint16) {
	w.b = binary.BigEndian.AppendUint16(w.b, v)
}

// Unknown writes parameters that this package does not know.
func (w *Builder) Unknown(list []rserpool.Parameter) {
	for _, r := range list {
		if !skippable(r.Type) {
			w.fail("%v cannot be written as an unknown parameter: a receiver could not skip it", r.Type)
			return
		}
		start := w.open(r.Type)
		w.bytes(r.Value)
		w.close(start)
	}
}

// Refuse makes Finish fail with a reason. Only the first one counts.
func (w *Builder) Refuse(why string) { w.fail("%s", why) }

func (w *Builder) bytes(v []byte) { w.b = append(w.b, v...) }

func (w *Builder) str(v string) { w.b = append(w.b, v...) }

func (w *Builder) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}
