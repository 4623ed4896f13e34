package enrp

import (
	"time"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The flags of the handle table messages (RFC 5353, Sections 2.2 and 2.3).
const (
	flagOwnChildrenOnly = 0x01 // W
	// flagSuspects is an extension of ours to HANDLE_TABLE_REQUEST. A parameter would not do: the
	// reference implementation refuses a request with one.
	flagSuspects   = 0x80
	flagReject     = 0x01 // R
	flagMoreToSend = 0x02 // M
)

// HandleTableRequest requests a peer's handlespace (RFC 5353, Section 2.2).
type HandleTableRequest struct {
	Sender, Receiver rserpool.ServerID
	// OwnChildrenOnly is the W flag: the response has only elements whose home is
	// the receiver.
	OwnChildrenOnly bool
	// Suspects is an extension of ours: the response may have suspects as well.
	Suspects bool
	Unknown  []rserpool.Parameter
}

// Type returns TypeHandleTableRequest.
func (*HandleTableRequest) Type() MessageType { return TypeHandleTableRequest }

// IDs returns the identifiers of the sender and of the receiver.
func (m *HandleTableRequest) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *HandleTableRequest) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeHandleTableRequest, flag(m.OwnChildrenOnly, flagOwnChildrenOnly)|flag(m.Suspects, flagSuspects), m.Sender, m.Receiver)
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseHandleTableRequest(c *tlv.Cursor) *HandleTableRequest {
	m := &HandleTableRequest{OwnChildrenOnly: c.Flags()&flagOwnChildrenOnly != 0, Suspects: c.Flags()&flagSuspects != 0}
	m.Sender, m.Receiver = parseIDs(c)
	m.Unknown = parseUnknown(c)
	return m
}

// PoolEntry is a pool or a part of one in a handle table (RFC 5353, Section 2.3).
type PoolEntry struct {
	Handle rserpool.PoolHandle
	// Elements has at least one element. All have user transports. Policies and
	// ASAP transports are optional; the reference implementation sends both.
	Elements []rserpool.PoolElement
	// Suspects says for how long elements have been suspect, by their index in Elements, in
	// whole seconds; nil if none is. Only a response to a request with Suspects has any.
	Suspects map[int]time.Duration
}

// HandleTableResponse answers a HandleTableRequest (RFC 5353, Section 2.3).
type HandleTableResponse struct {
	Sender, Receiver rserpool.ServerID
	// Reject is the R flag. A rejection has no Pools.
	Reject bool
	// More is the M flag: the next request gets the next part.
	More    bool
	Pools   []PoolEntry
	Unknown []rserpool.Parameter
}

// Type returns TypeHandleTableResponse.
func (*HandleTableResponse) Type() MessageType { return TypeHandleTableResponse }

// IDs returns the identifiers of the sender and of the receiver.
func (m *HandleTableResponse) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// The errors of handle tables.
const (
	rejectedYetFull = "pool entry in a rejection (R flag)"
	emptyEntry      = "pool entry without a pool element"
	noPoolHandle    = "pool element before the first pool handle"
	noUserTransport = "pool element without a user transport"
)

// Append adds the message's wire form to b.
func (m *HandleTableResponse) Append(b []byte) ([]byte, error) {
	var w tlv.Builder
	w.BeginHandleTableResponse(b, m.Sender, m.Receiver, m.Reject, m.More)
	if m.Reject && len(m.Pools) > 0 {
		w.Refuse(rejectedYetFull)
	}
	for _, p := range m.Pools {
		w.PoolHandle(p.Handle)
		if len(p.Elements) == 0 {
			w.Refuse(emptyEntry)
		}
		for i := range p.Elements {
			if !p.Elements[i].UserTransport.Present() {
				w.Refuse(noUserTransport)
			}
			if silent, suspect := p.Suspects[i]; suspect {
				w.SuspectElement(&p.Elements[i], silent)
			} else {
				w.PoolElement(&p.Elements[i])
			}
		}
	}
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseHandleTableResponse(c *tlv.Cursor) *HandleTableResponse {
	m := &HandleTableResponse{Reject: c.Flags()&flagReject != 0, More: c.Flags()&flagMoreToSend != 0}
	m.Sender, m.Receiver = parseIDs(c)
	for c.Next() {
		switch c.Type() {
		case tlv.TypePoolHandle:
			m.checkEntry(c)
			m.Pools = append(m.Pools, PoolEntry{Handle: c.PoolHandle()})
			if m.Reject {
				c.Refuse(rejectedYetFull)
			}
		case tlv.TypePoolElement:
			m.parseElement(c)
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	m.checkEntry(c)
	return m
}

// checkEntry refuses the message if the last pool entry has no element.
func (m *HandleTableResponse) checkEntry(c *tlv.Cursor) {
	if n := len(m.Pools); n > 0 && len(m.Pools[n-1].Elements) == 0 {
		c.Refuse(emptyEntry)
	}
}

// leastElement is the smallest length in bytes of a pool element: its identifiers and life,
// a user transport without an address, and a policy (RFC 5354, Section 3.8).
const leastElement = 32

func (m *HandleTableResponse) parseElement(c *tlv.Cursor) {
	if len(m.Pools) == 0 {
		c.Refuse(noPoolHandle)
		return
	}
	p := &m.Pools[len(m.Pools)-1]
	if p.Elements == nil {
		p.Elements = make([]rserpool.PoolElement, 0, c.Run(leastElement))
	}
	p.Elements = append(p.Elements, rserpool.PoolElement{})
	e := &p.Elements[len(p.Elements)-1]
	if silent, suspect := c.SuspectElement(e); suspect {
		if p.Suspects == nil {
			p.Suspects = make(map[int]time.Duration)
		}
		p.Suspects[len(p.Elements)-1] = silent
	}
	if !e.UserTransport.Present() {
		c.Refuse(noUserTransport)
	}
}
