package sctp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// chunkType is the type of a chunk (RFC 9260, Section 3.2).
type chunkType uint8

const (
	chunkData             chunkType = 0
	chunkInit             chunkType = 1
	chunkInitAck          chunkType = 2
	chunkSack             chunkType = 3
	chunkHeartbeat        chunkType = 4
	chunkHeartbeatAck     chunkType = 5
	chunkAbort            chunkType = 6
	chunkShutdown         chunkType = 7
	chunkShutdownAck      chunkType = 8
	chunkError            chunkType = 9
	chunkCookieEcho       chunkType = 10
	chunkCookieAck        chunkType = 11
	chunkShutdownComplete chunkType = 14
)

// flagT on ABORT and SHUTDOWN COMPLETE says that the verification tag is the
// receiver's peer's own, reflected (RFC 9260, Section 8.5.1).
const flagT = 1

// flagImmediate on DATA asks for a SACK without delay (RFC 9260, Section 3.3.1).
const flagImmediate = 8

// flagEnd on DATA says that its message ends with it.
const flagEnd = 1

// The error causes that we send (RFC 9260, Section 3.3.10).
const (
	causeStaleCookie       = 3
	causeOutOfResource     = 4
	causeUnresolvableAddr  = 5
	causeUnrecognizedChunk = 6
	causeInvalidParameter  = 7
	causeNoUserData        = 9
	causeNewAddresses      = 11
	causeUserAbort         = 12
	causeProtocolViolation = 13
	causeInvalidStream     = 1
)

// causeText names an error cause (RFC 9260, Section 3.3.10).
func causeText(cause uint16) string {
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
	commonHeaderLen = 12
	chunkHeaderLen  = 4
	dataHeaderLen   = 12
	sackHeaderLen   = 12
)

// header is the common header of an SCTP packet (RFC 9260, Section 3.1).
type header struct {
	src, dst uint16
	tag      uint32
}

// chunk is a chunk as it lies in a packet.
type chunk struct {
	typ   chunkType
	flags byte
	body  []byte
}

var (
	errChecksum  = errors.New("packet has a wrong CRC32c")
	errMalformed = errors.New("packet is malformed")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC32c of a packet with its checksum field taken as zero
// (RFC 9260, Section 6.8).
func checksum(p []byte) uint32 {
	var zero [4]byte
	c := crc32.Update(0, castagnoli, p[:8])
	c = crc32.Update(c, castagnoli, zero[:])
	return crc32.Update(c, castagnoli, p[commonHeaderLen:])
}

// parsePacket checks a packet's size, checksum and ports, and returns its
// header and chunks. The chunks alias p.
func parsePacket(p []byte) (header, []byte, error) {
	if len(p) < commonHeaderLen+chunkHeaderLen {
		return header{}, nil, errMalformed
	}
	if binary.LittleEndian.Uint32(p[8:]) != checksum(p) {
		return header{}, nil, errChecksum
	}
	h, chunks := parseHeader(p)
	if h.src == 0 || h.dst == 0 {
		return header{}, nil, errMalformed
	}
	return h, chunks, nil
}

// parseHeader splits a packet, or the quoted beginning of one, without a check.
// p is at least as long as the common header.
func parseHeader(p []byte) (header, []byte) {
	return header{
		src: binary.BigEndian.Uint16(p),
		dst: binary.BigEndian.Uint16(p[2:]),
		tag: binary.BigEndian.Uint32(p[4:]),
	}, p[commonHeaderLen:]
}

// nextChunk splits the first chunk off b. It fails where b ends before the
// chunk does; the padding of a packet's last chunk may be missing.
func nextChunk(b []byte) (c chunk, rest []byte, ok bool) {
	if len(b) < chunkHeaderLen {
		return chunk{}, nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < chunkHeaderLen || n > len(b) {
		return chunk{}, nil, false
	}
	return chunk{chunkType(b[0]), b[1], b[chunkHeaderLen:n]}, b[min(padded(n), len(b)):], true
}

// padded rounds a length up to the next multiple of 4.
func padded(n int) int { return (n + 3) &^ 3 }

// appendHeader starts a packet; sealPacket ends it.
func appendHeader(b []byte, h header) []byte {
	b = binary.BigEndian.AppendUint16(b, h.src)
	b = binary.BigEndian.AppendUint16(b, h.dst)
	b = binary.BigEndian.AppendUint32(b, h.tag)
	return append(b, 0, 0, 0, 0)
}

// appendChunk adds a chunk with its padding.
func appendChunk(b []byte, c chunk) []byte {
	b = append(b, byte(c.typ), c.flags)
	b = binary.BigEndian.AppendUint16(b, uint16(chunkHeaderLen+len(c.body)))
	return appendPadded(b, c.body)
}

// appendPadded adds v and the zeros that bring it to a multiple of 4 bytes.
func appendPadded(b, v []byte) []byte {
	b = append(b, v...)
	return append(b, make([]byte, padded(len(v))-len(v))...)
}

// appendTLV adds a parameter or an error cause, which look alike, to the body of
// a chunk. It pads what is before: the padding of the last one belongs to the
// chunk, whose length does not count it (RFC 9260, Section 3.2).
func appendTLV(b []byte, typ uint16, v []byte) []byte {
	b = append(b, make([]byte, padded(len(b))-len(b))...)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(v)))
	return append(b, v...)
}

// sealPacket writes the checksum.
func sealPacket(p []byte) []byte {
	binary.LittleEndian.PutUint32(p[8:], checksum(p))
	return p
}

// packetOf makes a whole packet.
func packetOf(h header, chunks ...chunk) []byte {
	n := commonHeaderLen
	for _, c := range chunks {
		n += chunkHeaderLen + padded(len(c.body))
	}
	b := appendHeader(make([]byte, 0, n), h)
	for _, c := range chunks {
		b = appendChunk(b, c)
	}
	return sealPacket(b)
}
