package enrp

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// InitTakeover tells peers that the sender wants to take over a registrar that
// seems dead (RFC 5353, Section 2.7).
type InitTakeover struct {
	Sender, Receiver rserpool.ServerID
	// Target is the registrar to be taken over.
	Target  rserpool.ServerID
	Unknown []rserpool.Parameter
}

// Type returns TypeInitTakeover.
func (*InitTakeover) Type() MessageType { return TypeInitTakeover }

// IDs returns the identifiers of the sender and of the receiver.
func (m *InitTakeover) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *InitTakeover) Append(b []byte) ([]byte, error) {
	return appendTakeover(b, TypeInitTakeover, m.Sender, m.Receiver, m.Target, m.Unknown)
}

func parseInitTakeover(c *tlv.Cursor) *InitTakeover {
	m := new(InitTakeover)
	m.Sender, m.Receiver = parseIDs(c)
	m.Target, m.Unknown = parseTarget(c)
	return m
}

// InitTakeoverAck has no objection to an InitTakeover (RFC 5353, Section 2.8).
type InitTakeoverAck struct {
	Sender, Receiver rserpool.ServerID
	// Target is the registrar to be taken over.
	Target  rserpool.ServerID
	Unknown []rserpool.Parameter
}

// Type returns TypeInitTakeoverAck.
func (*InitTakeoverAck) Type() MessageType { return TypeInitTakeoverAck }

// IDs returns the identifiers of the sender and of the receiver.
func (m *InitTakeoverAck) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *InitTakeoverAck) Append(b []byte) ([]byte, error) {
	return appendTakeover(b, TypeInitTakeoverAck, m.Sender, m.Receiver, m.Target, m.Unknown)
}

func parseInitTakeoverAck(c *tlv.Cursor) *InitTakeoverAck {
	m := new(InitTakeoverAck)
	m.Sender, m.Receiver = parseIDs(c)
	m.Target, m.Unknown = parseTarget(c)
	return m
}

// TakeoverServer tells peers that the sender takes a registrar over (RFC 5353,
// Section 2.9).
type TakeoverServer struct {
	Sender, Receiver rserpool.ServerID
	// Target is the registrar that is taken over.
	Target  rserpool.ServerID
	Unknown []rserpool.Parameter
}

// Type returns TypeTakeoverServer.
func (*TakeoverServer) Type() MessageType { return TypeTakeoverServer }

// IDs returns the identifiers of the sender and of the receiver.
func (m *TakeoverServer) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *TakeoverServer) Append(b []byte) ([]byte, error) {
	return appendTakeover(b, TypeTakeoverServer, m.Sender, m.Receiver, m.Target, m.Unknown)
}

func parseTakeoverServer(c *tlv.Cursor) *TakeoverServer {
	m := new(TakeoverServer)
	m.Sender, m.Receiver = parseIDs(c)
	m.Target, m.Unknown = parseTarget(c)
	return m
}

func appendTakeover(b []byte, t MessageType, sender, receiver, target rserpool.ServerID, unknown []rserpool.Parameter) ([]byte, error) {
	w := begin(b, t, 0, sender, receiver)
	w.Uint32(uint32(target))
	w.Unknown(unknown)
	return w.Finish()
}

func parseTarget(c *tlv.Cursor) (target rserpool.ServerID, unknown []rserpool.Parameter) {
	target = rserpool.ServerID(c.Uint32())
	return target, parseUnknown(c)
}
