package enrp

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// ListRequest requests the list of registrars that a peer knows (RFC 5353, Section 2.5).
type ListRequest struct {
	Sender, Receiver rserpool.ServerID
	Unknown          []rserpool.Parameter
}

// Type returns TypeListRequest.
func (*ListRequest) Type() MessageType { return TypeListRequest }

// IDs returns the identifiers of the sender and of the receiver.
func (m *ListRequest) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *ListRequest) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeListRequest, 0, m.Sender, m.Receiver)
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseListRequest(c *tlv.Cursor) *ListRequest {
	m := new(ListRequest)
	m.Sender, m.Receiver = parseIDs(c)
	m.Unknown = parseUnknown(c)
	return m
}

// ListResponse answers a ListRequest (RFC 5353, Section 2.6).
type ListResponse struct {
	Sender, Receiver rserpool.ServerID
	// Reject is the R flag. A rejection has no Servers.
	Reject bool
	// Servers are the sender's peers. RSPLIB's list includes the receiver, and has
	// identifier 0 for peers that it has not received a message from.
	Servers []rserpool.ServerInformation
	Unknown []rserpool.Parameter
}

const rejectedYetListed = "server information in a rejection (R flag)"

// Type returns TypeListResponse.
func (*ListResponse) Type() MessageType { return TypeListResponse }

// IDs returns the identifiers of the sender and of the receiver.
func (m *ListResponse) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *ListResponse) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeListResponse, flag(m.Reject, flagReject), m.Sender, m.Receiver)
	if m.Reject && len(m.Servers) > 0 {
		w.Refuse(rejectedYetListed)
	}
	for i := range m.Servers {
		w.ServerInformation(&m.Servers[i])
	}
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseListResponse(c *tlv.Cursor) *ListResponse {
	m := &ListResponse{Reject: c.Flags()&flagReject != 0}
	m.Sender, m.Receiver = parseIDs(c)
	for c.Next() {
		switch c.Type() {
		case tlv.TypeServerInformation:
			m.Servers = append(m.Servers, rserpool.ServerInformation{})
			c.ServerInformation(&m.Servers[len(m.Servers)-1])
			if m.Reject {
				c.Refuse(rejectedYetListed)
			}
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	return m
}
