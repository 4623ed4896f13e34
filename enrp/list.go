package enrp

import "github.com/rserpool/coredns-rserpool/asap/param"

// ListRequest asks a peer for the registrars that it knows (RFC 5353, Section
// 2.5).
type ListRequest struct {
	Sender, Receiver param.ServerID
	Unknown          []param.Raw
}

// Type returns TypeListRequest.
func (*ListRequest) Type() MessageType { return TypeListRequest }

// IDs returns the identifiers of the sender and of the receiver.
func (m *ListRequest) IDs() (sender, receiver param.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *ListRequest) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeListRequest, 0, m.Sender, m.Receiver)
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseListRequest(c *param.Cursor) *ListRequest {
	m := new(ListRequest)
	m.Sender, m.Receiver = parseIDs(c)
	m.Unknown = parseUnknown(c)
	return m
}

// ListResponse answers a ListRequest (RFC 5353, Section 2.6).
type ListResponse struct {
	Sender, Receiver param.ServerID
	// Reject is the R flag; with it there are no Servers.
	Reject bool
	// Servers are the sender's peers. RSPLIB lists the receiver among them,
	// and peers that it has not heard of yet with identifier 0.
	Servers []param.ServerInformation
	Unknown []param.Raw
}

const rejectedYetListed = "server information in a rejection (R flag)"

// Type returns TypeListResponse.
func (*ListResponse) Type() MessageType { return TypeListResponse }

// IDs returns the identifiers of the sender and of the receiver.
func (m *ListResponse) IDs() (sender, receiver param.ServerID) { return m.Sender, m.Receiver }

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

func parseListResponse(c *param.Cursor) *ListResponse {
	m := &ListResponse{Reject: c.Flags()&flagReject != 0}
	m.Sender, m.Receiver = parseIDs(c)
	for c.Next() {
		switch c.Type() {
		case param.TypeServerInformation:
			m.Servers = append(m.Servers, param.ServerInformation{})
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
