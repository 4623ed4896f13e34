package rserpool

import (
	"fmt"
	"time"
)

// Dialect says how the other side reads a value that the reference implementation and the
// RFCs read differently.
type Dialect uint8

// The dialects.
const (
	// RSPLIB counts registration lives in milliseconds, as the reference
	// implementation RSPLIB does.
	RSPLIB Dialect = iota
	// RFC5354 counts them in seconds (RFC 5354, Section 3.10).
	RFC5354
)

var dialectNames = [...]string{RSPLIB: "rsplib", RFC5354: "rfc5354"}

// ParseDialect reads rsplib or rfc5354.
func ParseDialect(s string) (Dialect, error) {
	for d, name := range dialectNames {
		if s == name {
			return Dialect(d), nil
		}
	}
	return 0, fmt.Errorf("unknown dialect %q: use rsplib or rfc5354", s)
}

// String returns "rsplib" or "rfc5354".
func (d Dialect) String() string {
	if int(d) < len(dialectNames) {
		return dialectNames[d]
	}
	return fmt.Sprintf("Dialect(%d)", uint8(d))
}

// MarshalText returns what String returns.
func (d Dialect) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what [ParseDialect] reads.
func (d *Dialect) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDialect(string(text))
	return err
}

// Unit is the unit of registration lives in messages.
func (d Dialect) Unit() time.Duration {
	if d == RFC5354 {
		return time.Second
	}
	return time.Millisecond
}
