package asap

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// HandleResolution requests elements of a pool (RFC 5352, Section 2.2.5).
type HandleResolution struct {
	// Subscribe is the S bit: the registrar sends updates while the association
	// lasts.
	Subscribe bool
	Handle    rserpool.PoolHandle
	// Items is the number of elements wanted; 0 requests the registrar's default.
	// The parameter is RSPLIB's. The message has it if HasItems is set.
	Items    uint32
	HasItems bool
	Unknown  []rserpool.Parameter
}

// Type returns TypeHandleResolution.
func (*HandleResolution) Type() MessageType { return TypeHandleResolution }

// Append adds the message's wire form to b.
func (m *HandleResolution) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeHandleResolution, flags(m.Subscribe))
	w.PoolHandle(m.Handle)
	if m.HasItems {
		w.Items(m.Items)
	}
	w.Unknown(m.Unknown)
	return w.Finish()
}

// Parse reads a handle resolution into m, as the function Parse does. It refuses all other
// messages. It does not allocate if known returns the pool handle (see
// [tlv.Cursor.PoolHandleFrom]) and the message has no unknown parameters. known may be
// nil. After an error, m is not valid.
func (m *HandleResolution) Parse(b []byte, known func([]byte) rserpool.PoolHandle) ([]rserpool.Cause, error) {
	c := tlv.NewCursor(b)
	if MessageType(c.MessageType()) == TypeHandleResolution {
		m.parse(&c, known)
	} else {
		c.Refuse("not a handle resolution")
	}
	return c.Finish()
}

func (m *HandleResolution) parse(c *tlv.Cursor, known func([]byte) rserpool.PoolHandle) {
	*m = HandleResolution{Subscribe: c.Flags()&flag0 != 0}
	for c.Next() {
		switch c.Type() {
		case tlv.TypePoolHandle:
			c.Once()
			m.Handle = c.PoolHandleFrom(known)
		case tlv.TypeHandleResolutionItems:
			c.Once()
			m.Items, m.HasItems = c.Items(), true
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(tlv.TypePoolHandle)
}

// HandleResolutionResponse answers a HandleResolution, or is an update that a pool user
// has subscribed to (RFC 5352, Section 2.2.6).
type HandleResolutionResponse struct {
	// Accept is the A bit: updates will follow.
	Accept bool
	Handle rserpool.PoolHandle
	// Policy is the pool's policy. Without one (Type 0), the policy is round robin.
	Policy rserpool.Policy
	// Elements have user transports. Their policies are optional.
	Elements []rserpool.PoolElement
	// Causes are the reasons in a negative response, which has at least one.
	Causes  []rserpool.Cause
	Unknown []rserpool.Parameter
}

// Type returns TypeHandleResolutionResponse.
func (*HandleResolutionResponse) Type() MessageType { return TypeHandleResolutionResponse }

// Append adds the message's wire form to b.
func (m *HandleResolutionResponse) Append(b []byte) ([]byte, error) {
	var w tlv.Builder
	w.BeginHandleResolutionResponse(b, m.Accept, m.Handle, m.Policy)
	appendElements(&w, m.Elements)
	w.Causes(m.Causes)
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseHandleResolutionResponse(c *tlv.Cursor) *HandleResolutionResponse {
	m := &HandleResolutionResponse{Accept: c.Flags()&flag0 != 0}
	for c.Next() {
		switch c.Type() {
		case tlv.TypePoolHandle:
			c.Once()
			m.Handle = c.PoolHandle()
		case tlv.TypePolicy:
			c.Once()
			m.Policy = c.Policy()
		case tlv.TypePoolElement:
			m.Elements = parseElement(c, m.Elements)
		case tlv.TypeOperationError:
			m.Causes = c.Causes(m.Causes)
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(tlv.TypePoolHandle)
	return m
}

// noUserTransport is the error for an element that nobody could use.
const noUserTransport = "pool element without a user transport"

// appendElements writes elements, which must have user transports.
func appendElements(w *tlv.Builder, list []rserpool.PoolElement) {
	for i := range list {
		if !list[i].UserTransport.Present() {
			w.Refuse(noUserTransport)
		}
		w.PoolElement(&list[i])
	}
}

// parseElement reads such an element and adds it to list.
func parseElement(c *tlv.Cursor, list []rserpool.PoolElement) []rserpool.PoolElement {
	list = append(list, rserpool.PoolElement{})
	e := &list[len(list)-1]
	c.PoolElement(e)
	if !e.UserTransport.Present() {
		c.Refuse(noUserTransport)
	}
	return list
}
