package enrp

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// flagReplyRequired is the Reply_request flag of RFC 5353, Section 3.4.3. Section 2.1 shows
// no bit for it; this one is RSPLIB's.
const flagReplyRequired = 0x01

// Presence tells a peer that the sender is alive, and may request the same from the peer
// (RFC 5353, Section 2.1).
type Presence struct {
	Sender, Receiver rserpool.ServerID
	// ReplyRequired requests a Presence with Info from the receiver.
	ReplyRequired bool
	// Checksum is the sender's PE checksum (see [Checksum]). The message has it if
	// HasChecksum is set, which the RFC recommends.
	Checksum    uint16
	HasChecksum bool
	// Info has the addresses of the sender. It is optional, except in the reply to a
	// Presence with ReplyRequired.
	Info    rserpool.ServerInformation
	Unknown []rserpool.Parameter
}

// Type returns TypePresence.
func (*Presence) Type() MessageType { return TypePresence }

// IDs returns the identifiers of the sender and of the receiver.
func (m *Presence) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *Presence) Append(b []byte) ([]byte, error) {
	w := begin(b, TypePresence, flag(m.ReplyRequired, flagReplyRequired), m.Sender, m.Receiver)
	if m.HasChecksum {
		w.PEChecksum(m.Checksum)
	}
	if m.Info.Present() {
		w.ServerInformation(&m.Info)
	}
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parsePresence(c *tlv.Cursor) *Presence {
	m := &Presence{ReplyRequired: c.Flags()&flagReplyRequired != 0}
	m.Sender, m.Receiver = parseIDs(c)
	for c.Next() {
		switch c.Type() {
		case tlv.TypePEChecksum:
			c.Once()
			m.Checksum, m.HasChecksum = c.PEChecksum(), true
		case tlv.TypeServerInformation:
			c.Once()
			c.ServerInformation(&m.Info)
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	return m
}
