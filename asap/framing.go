package asap

import "encoding/binary"

// HeaderLen is the length of a message's header in bytes (RFC 5354, Section 4).
const HeaderLen = 4

// MessageLen returns the length of a message that begins with head, without its padding to
// a multiple of 4 bytes. Over TCP, the next message follows the padding. head has at least
// HeaderLen bytes.
func MessageLen(head []byte) int { return int(binary.BigEndian.Uint16(head[2:])) }
