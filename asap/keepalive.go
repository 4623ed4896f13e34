package asap

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// EndpointKeepAlive requests an acknowledgement from a pool element (RFC 5352, Section
// 2.2.7).
type EndpointKeepAlive struct {
	// Home is the H flag: the sender wants to be the element's home registrar.
	Home   bool
	Server rserpool.ServerID
	Handle rserpool.PoolHandle
	// ID is the element's identifier, which the message has if HasID is set. RFC
	// 5352 does not have this parameter; the reference implementation sends it.
	ID      rserpool.PEID
	HasID   bool
	Unknown []rserpool.Parameter
}

// Type returns TypeEndpointKeepAlive.
func (*EndpointKeepAlive) Type() MessageType { return TypeEndpointKeepAlive }

// Append adds the message's wire form to b.
func (m *EndpointKeepAlive) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeEndpointKeepAlive, flags(m.Home))
	w.Uint32(uint32(m.Server))
	w.PoolHandle(m.Handle)
	if m.HasID {
		w.PEID(m.ID)
	}
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseEndpointKeepAlive(c *tlv.Cursor) *EndpointKeepAlive {
	m := &EndpointKeepAlive{Home: c.Flags()&flag0 != 0, Server: rserpool.ServerID(c.Uint32())}
	for c.Next() {
		switch c.Type() {
		case tlv.TypePoolHandle:
			c.Once()
			m.Handle = c.PoolHandle()
		case tlv.TypePEIdentifier:
			c.Once()
			m.ID, m.HasID = c.PEID(), true
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(tlv.TypePoolHandle)
	return m
}

// EndpointKeepAliveAck acknowledges an EndpointKeepAlive (RFC 5352, Section 2.2.8).
type EndpointKeepAliveAck struct {
	Handle rserpool.PoolHandle
	ID     rserpool.PEID
	// Unordered tells that the sender lets the transport deliver acknowledgements out of
	// order: none waits for a lost message that was sent before. RFC 5352 does not have
	// this flag; other implementations neither set nor read it.
	Unordered bool
	Unknown   []rserpool.Parameter
}

// flagUnordered is the bit of EndpointKeepAliveAck.Unordered. RFC 5352 assigns none of this
// message's flags; a later RFC would begin with the lowest.
const flagUnordered = 0x80

// Type returns TypeEndpointKeepAliveAck.
func (*EndpointKeepAliveAck) Type() MessageType { return TypeEndpointKeepAliveAck }

// Append adds the message's wire form to b.
func (m *EndpointKeepAliveAck) Append(b []byte) ([]byte, error) {
	var f uint8
	if m.Unordered {
		f = flagUnordered
	}
	return appendNames(b, TypeEndpointKeepAliveAck, f, m.Handle, m.ID, nil, m.Unknown)
}

func parseEndpointKeepAliveAck(c *tlv.Cursor) *EndpointKeepAliveAck {
	m := &EndpointKeepAliveAck{Unordered: c.Flags()&flagUnordered != 0}
	m.Handle, m.ID, m.Unknown = parseNames(c, nil)
	return m
}

// EndpointUnreachable reports to a registrar that a pool user cannot reach a pool element
// (RFC 5352, Section 2.2.9).
type EndpointUnreachable struct {
	Handle  rserpool.PoolHandle
	ID      rserpool.PEID
	Unknown []rserpool.Parameter
}

// Type returns TypeEndpointUnreachable.
func (*EndpointUnreachable) Type() MessageType { return TypeEndpointUnreachable }

// Append adds the message's wire form to b.
func (m *EndpointUnreachable) Append(b []byte) ([]byte, error) {
	return (*aboutElement)(m).append(b, TypeEndpointUnreachable)
}
