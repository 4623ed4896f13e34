package rserpool

import (
	"fmt"
	"strconv"
	"strings"
)

// PoolHandle names a pool (RFC 5354, Section 3.9): any sequence of bytes, at
// least one, held in a string so that it can be a map key. It need not be
// valid UTF-8.
type PoolHandle string

// PEID identifies a pool element within its pool (RFC 5354, Section 3.14). Zero
// stands for no element; an element that is given this identifier draws one.
type PEID uint32

// ParsePEID reads up to 8 hexadecimal digits, with or without 0x or pe- before
// them.
func ParsePEID(s string) (PEID, error) {
	n, err := parseID(strings.TrimPrefix(strings.ToLower(s), "pe-"))
	if err != nil {
		return 0, fmt.Errorf("%q is not an element identifier: up to 8 hexadecimal digits, such as 0d000001", s)
	}
	return PEID(n), nil
}

// MustParsePEID is [ParsePEID] for constants in programs and tests; it panics on
// an error.
func MustParsePEID(s string) PEID { return must(ParsePEID(s)) }

// String returns the identifier as 8 lower-case hexadecimal digits.
func (id PEID) String() string { return fmt.Sprintf("%08x", uint32(id)) }

// MarshalText returns what String returns.
func (id PEID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what [ParsePEID] reads.
func (id *PEID) UnmarshalText(text []byte) (err error) {
	*id, err = ParsePEID(string(text))
	return err
}

// ServerID identifies a registrar within its operational scope (RFC 5353,
// Section 2.1). Zero means "undetermined".
type ServerID uint32

// ParseServerID reads up to 8 hexadecimal digits, with or without 0x before them.
func ParseServerID(s string) (ServerID, error) {
	n, err := parseID(strings.ToLower(s))
	if err != nil {
		return 0, fmt.Errorf("%q is not a registrar's identifier: up to 8 hexadecimal digits, such as 10000001", s)
	}
	return ServerID(n), nil
}

// MustParseServerID is [ParseServerID] for constants in programs and tests; it
// panics on an error.
func MustParseServerID(s string) ServerID { return must(ParseServerID(s)) }

// String returns the identifier as 8 lower-case hexadecimal digits.
func (id ServerID) String() string { return fmt.Sprintf("%08x", uint32(id)) }

// MarshalText returns what String returns.
func (id ServerID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what [ParseServerID] reads.
func (id *ServerID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseServerID(string(text))
	return err
}

func parseID(s string) (uint64, error) {
	return strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 32)
}

// must panics on an error.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
