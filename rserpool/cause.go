package rserpool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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

// Error returns what String returns. A cause is an error, so that errors of this
// module can be tested for it: errors.Is(err, rserpool.CauseInconsistentPolicy).
func (c CauseCode) Error() string { return c.String() }

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
		if len(c.Info) >= parameterHeader {
			t := ParameterType(binary.BigEndian.Uint16(c.Info))
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

// HasCause reports whether err is the [CauseCode] of one of the causes. The errors
// of this module that have causes call it for [errors.Is].
func HasCause(causes []Cause, err error) bool {
	var code CauseCode
	return errors.As(err, &code) && slices.ContainsFunc(causes, func(c Cause) bool { return c.Code == code })
}
