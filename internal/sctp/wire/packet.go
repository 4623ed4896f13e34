// Package wire has the bytes of RFC 9260: packets, chunks, their CRC32c, the parameters of
// INIT and INIT ACK, and the State Cookie. Its functions keep no state.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ChunkType is the type of a chunk (RFC 9260, Section 3.2).
type ChunkType uint8

const (
	ChunkData             ChunkType = 0
	ChunkInit             ChunkType = 1
	ChunkInitAck          ChunkType = 2
	ChunkSack             ChunkType = 3
	ChunkHeartbeat        ChunkType = 4
	ChunkHeartbeatAck     ChunkType = 5
	ChunkAbort            ChunkType = 6
	ChunkShutdown         ChunkType = 7
	ChunkShutdownAck      ChunkType = 8
	ChunkError            ChunkType = 9
	ChunkCookieEcho       ChunkType = 10
	ChunkCookieAck        ChunkType = 11
	ChunkShutdownComplete ChunkType = 14
)

// FlagT on ABORT and SHUTDOWN COMPLETE says that the sender has no association: the
// verification tag is that of the packet it answers (RFC 9260, Section 8.5.1).
const FlagT = 1

// FlagImmediate on DATA asks for a SACK without delay (RFC 9260, Section 3.3.1).
const FlagImmediate = 8

// FlagEnd on DATA marks the last fragment of a message.
const FlagEnd = 1

// The error causes that are sent (RFC 9260, Section 3.3.10).
const (
	CauseStaleCookie       = 3
	CauseOutOfResource     = 4
	CauseUnresolvableAddr  = 5
	CauseUnrecognizedChunk = 6
	CauseInvalidParameter  = 7
	CauseNoUserData        = 9
	CauseNewAddresses      = 11
	CauseUserAbort         = 12
	CauseProtocolViolation = 13
	CauseInvalidStream     = 1
)

// IsRefusal reports whether an ABORT in answer to an INIT or a COOKIE ECHO says that nobody serves
// the port (RFC 9260, Section 8.4), by its cause, 0 for none. An endpoint that is out of resources
// (Section 3.3.10.4) serves it, and so does one that refuses new addresses for an association that it
// has (Section 3.3.10.11).
func IsRefusal(cause uint16) bool { return cause != CauseOutOfResource && cause != CauseNewAddresses }

// CauseText returns the name of an error cause (RFC 9260, Section 3.3.10).
func CauseText(cause uint16) string {
	names := [...]string{
		1: "invalid stream identifier", 2: "missing mandatory parameter", 3: "stale cookie",
		4: "out of resource", 5: "unresolvable address", 6: "unrecognized chunk type",
		7: "invalid mandatory parameter", 8: "unrecognized parameters", 9: "no user data",
		10: "cookie received while shutting down", 11: "restart with new addresses",
		12: "user-initiated abort", 13: "protocol violation",
	}
	if int(cause) < len(names) && names[cause] != "" {
		return names[cause]
	}
	return fmt.Sprintf("cause %d", cause)
}

const (
	CommonHeaderLen = 12
	ChunkHeaderLen  = 4
	DataHeaderLen   = 12
	SackHeaderLen   = 12
)

// Header is the common header of an SCTP packet (RFC 9260, Section 3.1).
type Header struct {
	Src, Dst uint16
	Tag      uint32
}

// Chunk is a chunk of a packet. Body does not include the padding.
type Chunk struct {
	Type  ChunkType
	Flags byte
	Body  []byte
}

var (
	ErrChecksum  = errors.New("packet has a wrong CRC32c")
	errMalformed = errors.New("packet is malformed")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the CRC32c of a packet with zeros in its checksum field
// (RFC 9260, Section 6.8).
func checksum(p []byte) uint32 {
	var zero [4]byte
	c := crc32.Update(0, castagnoli, p[:8])
	c = crc32.Update(c, castagnoli, zero[:])
	return crc32.Update(c, castagnoli, p[CommonHeaderLen:])
}

// ParsePacket checks a packet's size, checksum and ports, and returns its
// header and chunks. The chunks alias p.
func ParsePacket(p []byte) (Header, []byte, error) {
	if len(p) < CommonHeaderLen+ChunkHeaderLen {
		return Header{}, nil, errMalformed
	}
	if binary.LittleEndian.Uint32(p[8:]) != checksum(p) {
		return Header{}, nil, ErrChecksum
	}
	h, chunks := ParseHeader(p)
	if h.Src == 0 || h.Dst == 0 {
		return Header{}, nil, errMalformed
	}
	return h, chunks, nil
}

// ParseHeader splits a packet, or the quoted beginning of one, without checks. p is at
// least as long as the common header.
func ParseHeader(p []byte) (Header, []byte) {
	return Header{
		Src: binary.BigEndian.Uint16(p),
		Dst: binary.BigEndian.Uint16(p[2:]),
		Tag: binary.BigEndian.Uint32(p[4:]),
	}, p[CommonHeaderLen:]
}

// NextChunk splits the first chunk off b. It fails if b ends before the chunk does. The
// padding of a packet's last chunk may be missing.
func NextChunk(b []byte) (c Chunk, rest []byte, ok bool) {
	if len(b) < ChunkHeaderLen {
		return Chunk{}, nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < ChunkHeaderLen || n > len(b) {
		return Chunk{}, nil, false
	}
	return Chunk{ChunkType(b[0]), b[1], b[ChunkHeaderLen:n]}, b[min(Padded(n), len(b)):], true
}

// Padded rounds a length up to the next multiple of 4.
func Padded(n int) int { return (n + 3) &^ 3 }

// AppendHeader begins a packet; SealPacket completes it.
func AppendHeader(b []byte, h Header) []byte {
	b = binary.BigEndian.AppendUint16(b, h.Src)
	b = binary.BigEndian.AppendUint16(b, h.Dst)
	b = binary.BigEndian.AppendUint32(b, h.Tag)
	return append(b, 0, 0, 0, 0)
}

// AppendChunk appends a chunk with its padding.
func AppendChunk(b []byte, c Chunk) []byte {
	b = append(b, byte(c.Type), c.Flags)
	b = binary.BigEndian.AppendUint16(b, uint16(ChunkHeaderLen+len(c.Body)))
	return appendPadded(b, c.Body)
}

// appendPadded appends v, and zeros up to a multiple of 4 bytes.
func appendPadded(b, v []byte) []byte {
	b = append(b, v...)
	return append(b, make([]byte, Padded(len(v))-len(v))...)
}

// AppendTLV appends a parameter or an error cause, which have the same form, to the body
// of a chunk. It pads what is before it, because a chunk's length does not include the
// padding of its last parameter (RFC 9260, Section 3.2).
func AppendTLV(b []byte, typ uint16, v []byte) []byte {
	b = append(b, make([]byte, Padded(len(b))-len(b))...)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(v)))
	return append(b, v...)
}

// SealPacket writes the checksum into a packet.
func SealPacket(p []byte) []byte {
	binary.LittleEndian.PutUint32(p[8:], checksum(p))
	return p
}

// PacketOf returns a whole packet.
func PacketOf(h Header, chunks ...Chunk) []byte {
	n := CommonHeaderLen
	for _, c := range chunks {
		n += ChunkHeaderLen + Padded(len(c.Body))
	}
	b := AppendHeader(make([]byte, 0, n), h)
	for _, c := range chunks {
		b = AppendChunk(b, c)
	}
	return SealPacket(b)
}
