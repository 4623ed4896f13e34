package param

import (
	"encoding/binary"
	"fmt"
)

// CauseCode is the code of an error cause (RFC 5354, Section 3.12, Table 2).
type CauseCode uint16

// The error causes of RFC 5354, Table 2.
const (
	CauseUnspecified               CauseCode = 0x0
	CauseUnrecognizedParameter     CauseCode = 0x1
	CauseUnrecognizedMessage       CauseCode = 0x2
	CauseInvalidValues             CauseCode = 0x3
	CauseNonUniquePEIdentifier     CauseCode = 0x4
	CauseInconsistentPolicy        CauseCode = 0x5
	CauseLackOfResources           CauseCode = 0x6
	CauseInconsistentTransportType CauseCode = 0x7
	CauseInconsistentDataControl   CauseCode = 0x8
	CauseUnknownPoolHandle         CauseCode = 0x9
	CauseSecurity                  CauseCode = 0xa
)

var causeNames = [...]string{
	CauseUnspecified:               "unspecified error",
	CauseUnrecognizedParameter:     "unrecognized parameter",
	CauseUnrecognizedMessage:       "unrecognized message",
	CauseInvalidValues:             "invalid values",
	CauseNonUniquePEIdentifier:     "pool element identifier is in use by another element",
	CauseInconsistentPolicy:        "policy differs from the pool's",
	CauseLackOfResources:           "lack of resources",
	CauseInconsistentTransportType: "user transport differs from the pool's",
	CauseInconsistentDataControl:   "transport use (data, control) differs from the pool's",
	CauseUnknownPoolHandle:         "unknown pool handle",
	CauseSecurity:                  "rejected for security reasons",
}

// String returns the cause in words, or its number if it is not one of RFC
// 5354 (RSPLIB has some of its own, such as 0xf008 for a registration without
// a usable address).
func (c CauseCode) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return fmt.Sprintf("error cause 0x%04x", uint16(c))
}

// Cause is one error cause of an Operation Error parameter (RFC 5354, Section
// 3.12). Info is the cause-specific information without padding.
type Cause struct {
	Code CauseCode
	Info []byte
}

// String returns the cause in words, and the type of the parameter at fault if
// the cause names one.
func (c Cause) String() string {
	switch c.Code {
	case CauseUnrecognizedParameter, CauseInvalidValues:
		// An info may be a whole message, too, whose header looks like an
		// unknown type's.
		if len(c.Info) >= headerLen {
			t := Type(binary.BigEndian.Uint16(c.Info))
			if offered, registered, ok := c.Transports(); ok {
				return fmt.Sprintf("%v (%v parameter: %v, registered is %v)", c.Code, t, offered, registered)
			}
			if t.Known() || c.Code == CauseUnrecognizedParameter {
				return fmt.Sprintf("%v (%v parameter)", c.Code, t)
			}
		}
	case CauseUnrecognizedMessage:
		if len(c.Info) > 0 {
			return fmt.Sprintf("%v (type 0x%02x)", c.Code, c.Info[0])
		}
	}
	return c.Code.String()
}

// Transports are the two transports of an Invalid Values cause in a registration
// response that grants: the one that the element has offered, and the one that the
// registrar has registered in its place, since it sees the element at another
// address. Our registrars send such a cause; RFC 5354, Section 3.12.4, has the first
// of the two. ok is false for all other causes.
func (c Cause) Transports() (offered, registered Transport, ok bool) {
	if c.Code != CauseInvalidValues || len(c.Info) > 0xffff-headerLen {
		return offered, registered, false
	}
	p := NewCursor(append(binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(headerLen+len(c.Info))), c.Info...))
	for _, t := range []*Transport{&offered, &registered} {
		if !p.Next() || !p.Type().IsTransport() {
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

// Causes reads the current parameter as an Operation Error, and returns its
// causes behind those in list.
func (c *Cursor) Causes(list []Cause) []Cause {
	f := c.open()
	if c.pos == c.end {
		c.failBoxf("no error cause inside: at least one is wanted")
	}
	// An error cause has the form of a parameter, but a code for the type.
	for c.Next() {
		list = append(list, Cause{CauseCode(c.cur.typ), clone(c.msg[c.cur.start+headerLen : c.cur.end])})
	}
	c.close(f)
	return list
}

// Causes writes an Operation Error parameter, or nothing if there is no cause.
func (w *Builder) Causes(list []Cause) {
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

// AppendCauses adds an Operation Error parameter with these causes to b, or
// nothing if there is none; on error it returns b as it was.
func AppendCauses(b []byte, list []Cause) ([]byte, error) {
	w := begin(b)
	w.Causes(list)
	return w.Finish()
}
