package asap

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ServerAnnounce announces a registrar to pool elements and pool users by multicast (RFC
// 5352, Section 2.2.10). Without transports, the registrar's address is the source address
// of the datagram.
type ServerAnnounce struct {
	Server rserpool.ServerID
	// Transports are of types SCTP and TCP.
	Transports []rserpool.Transport
	Unknown    []rserpool.Parameter
}

const notAnnounced = "only SCTP and TCP transports are announced"

// Type returns TypeServerAnnounce.
func (*ServerAnnounce) Type() MessageType { return TypeServerAnnounce }

// Append adds the message's wire form to b.
func (m *ServerAnnounce) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeServerAnnounce, 0)
	w.Uint32(uint32(m.Server))
	for i := range m.Transports {
		t := &m.Transports[i]
		if t.Type != rserpool.SCTP && t.Type != rserpool.TCP {
			w.Refuse(notAnnounced)
		}
		w.Transport(t)
	}
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseServerAnnounce(c *tlv.Cursor) *ServerAnnounce {
	m := &ServerAnnounce{Server: rserpool.ServerID(c.Uint32())}
	for c.Next() {
		switch {
		case c.Type() == tlv.TypeSCTPTransport, c.Type() == tlv.TypeTCPTransport:
			m.Transports = append(m.Transports, c.Transport())
		case tlv.IsTransport(c.Type()):
			c.Refuse(notAnnounced)
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	return m
}
