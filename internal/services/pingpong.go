package services

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The types of PingPong's messages.
const (
	typePing uint8 = 1
	typePong uint8 = 2
)

// Ping is a user's request.
type Ping struct {
	Number uint64 // of the request: 1, 2, 3, ...
	Data   []byte // at most 65515 bytes, so that the answer can repeat it
}

// Pong is the element's answer: it repeats the request.
type Pong struct {
	Number uint64
	// Reply counts the answers of the session, across failovers: it is the state that the
	// cookie keeps.
	Reply uint64
	Data  []byte
}

// maxPingData leaves room for the two numbers of a Pong.
const maxPingData = maxBody - 16

// Append appends the message to b.
func (p *Ping) Append(b []byte) ([]byte, error) {
	if len(p.Data) > maxPingData {
		return b, fmt.Errorf("ping with %d bytes: at most %d fit", len(p.Data), maxPingData)
	}
	b = appendHead(b, typePing, 0, 8+len(p.Data))
	b = binary.BigEndian.AppendUint64(b, p.Number)
	return append(b, p.Data...), nil
}

// ParsePing reads a Ping. Data is part of b.
func ParsePing(b []byte) (Ping, error) {
	h, body, err := parseHead(b)
	switch {
	case err != nil:
		return Ping{}, fmt.Errorf("ping: %w", err)
	case h.typ != typePing:
		return Ping{}, fmt.Errorf("ping: message has type %d, want %d", h.typ, typePing)
	case len(body) < 8:
		return Ping{}, fmt.Errorf("ping: %d bytes after the head, want at least 8", len(body))
	case len(body)-8 > maxPingData:
		return Ping{}, fmt.Errorf("ping with %d bytes: the answer has room for %d", len(body)-8, maxPingData)
	}
	return Ping{Number: binary.BigEndian.Uint64(body), Data: body[8:]}, nil
}

// Append appends the message to b.
func (p *Pong) Append(b []byte) ([]byte, error) {
	if len(p.Data) > maxPingData {
		return b, fmt.Errorf("pong with %d bytes: at most %d fit", len(p.Data), maxPingData)
	}
	b = appendHead(b, typePong, 0, 16+len(p.Data))
	b = binary.BigEndian.AppendUint64(b, p.Number)
	b = binary.BigEndian.AppendUint64(b, p.Reply)
	return append(b, p.Data...), nil
}

// ParsePong reads a Pong. Data is part of b.
func ParsePong(b []byte) (Pong, error) {
	h, body, err := parseHead(b)
	switch {
	case err != nil:
		return Pong{}, fmt.Errorf("pong: %w", err)
	case h.typ != typePong:
		return Pong{}, fmt.Errorf("pong: message has type %d, want %d", h.typ, typePong)
	case len(body) < 16:
		return Pong{}, fmt.Errorf("pong: %d bytes after the head, want at least 16", len(body))
	}
	return Pong{Number: binary.BigEndian.Uint64(body), Reply: binary.BigEndian.Uint64(body[8:]), Data: body[16:]}, nil
}

// pingPongMagic begins PingPong's cookies.
var pingPongMagic = []byte("<PP-TD1>")

// AppendPingPongCookie appends the cookie of a session whose next answer has a number.
func AppendPingPongCookie(b []byte, next uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, pingPongMagic...), next)
}

// ParsePingPongCookie returns the number of the next answer.
func ParsePingPongCookie(b []byte) (next uint64, err error) {
	if len(b) != len(pingPongMagic)+8 || !bytes.HasPrefix(b, pingPongMagic) {
		return 0, fmt.Errorf("%d bytes that are not a cookie of PingPong", len(b))
	}
	return binary.BigEndian.Uint64(b[len(pingPongMagic):]), nil
}
