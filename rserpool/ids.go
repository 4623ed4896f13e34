package rserpool

import (
	"fmt"
)

// PoolHandle names a pool (RFC 5354, Section 3.9): any sequence of bytes, at
// least one, held in a string so that it can be a map key. It need not be
// valid UTF-8.
type PoolHandle string

// PEID identifies a pool element within its pool (RFC 5354, Section 3.14).
type PEID uint32

// String returns the identifier as 8 lower-case hexadecimal digits.
func (id PEID) String() string { return fmt.Sprintf("%08x", uint32(id)) }

// ServerID identifies a registrar within its operational scope (RFC 5353,
// Section 2.1). Zero means "undetermined".
type ServerID uint32

// String returns the identifier as 8 lower-case hexadecimal digits.
func (id ServerID) String() string { return fmt.Sprintf("%08x", uint32(id)) }
