package secure

import (
	"encoding/binary"
	"fmt"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// sessionHead is the length of the head of a message of a session inside of TLS: its PPID
// and the length of what follows, 32 bits each. Messages of ASAP and of the application share
// the one stream of bytes, and the PPID of the transport is not authenticated.
const sessionHead = 8

// sessionFraming cuts the messages of sessions. A message without content is refused: SCTP
// has none.
var sessionFraming = sctp.Framing{HeadLen: sessionHead, Len: sessionLen, Align: 1}

func sessionLen(head []byte) int {
	const most = 1 << 30 // more than any limit
	n := binary.BigEndian.Uint32(head[4:])
	if n == 0 {
		return 0
	}
	return sessionHead + int(min(n, most))
}

// checkSession says what is wrong with a message of a session, nil if nothing is.
func (e *Endpoint) checkSession(m sctp.Message) error {
	switch n := len(m.Data); {
	case n == 0 || n > e.lim.MessageSize:
		return fmt.Errorf("message of %d bytes cannot be sent: it must have 1 to %d", n, e.lim.MessageSize)
	case m.Stream != 0:
		return fmt.Errorf("stream %d: a session in TLS has only stream 0", m.Stream)
	}
	return nil
}

// appendSession appends a message of a session with its head.
func appendSession(b []byte, m sctp.Message) []byte {
	b = binary.BigEndian.AppendUint32(b, m.PPID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Data)))
	return append(b, m.Data...)
}

// content is the message in what the cutter has cut.
func (e *Endpoint) content(cut []byte) sctp.Message {
	if !e.sessions {
		return sctp.Message{Data: cut, PPID: e.frame.PPID}
	}
	return sctp.Message{PPID: binary.BigEndian.Uint32(cut), Data: cut[sessionHead:]}
}
