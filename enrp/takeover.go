package enrp

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// InitTakeover tells peers that the sender wants to take over a registrar that no longer
// responds (RFC 5353, Section 2.7).
type InitTakeover struct {
	Sender, Receiver rserpool.ServerID
	// Target is the registrar that the sender of the InitTakeover takes over.
	Target  rserpool.ServerID
	Unknown []rserpool.Parameter
}

// Type returns TypeInitTakeover.
func (*InitTakeover) Type() MessageType { return TypeInitTakeover }

// IDs returns the identifiers of the sender and of the receiver.
func (m *InitTakeover) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *InitTakeover) Append(b []byte) ([]byte, error) {
	return (*aboutTarget)(m).append(b, TypeInitTakeover)
}

// InitTakeoverAck agrees to an InitTakeover (RFC 5353, Section 2.8).
type InitTakeoverAck struct {
	Sender, Receiver rserpool.ServerID
	// Target is the registrar that the sender of the InitTakeover takes over.
	Target  rserpool.ServerID
	Unknown []rserpool.Parameter
}

// Type returns TypeInitTakeoverAck.
func (*InitTakeoverAck) Type() MessageType { return TypeInitTakeoverAck }

// IDs returns the identifiers of the sender and of the receiver.
func (m *InitTakeoverAck) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *InitTakeoverAck) Append(b []byte) ([]byte, error) {
	return (*aboutTarget)(m).append(b, TypeInitTakeoverAck)
}

// TakeoverServer tells peers that the sender has taken over a registrar (RFC 5353, Section
// 2.9).
type TakeoverServer struct {
	Sender, Receiver rserpool.ServerID
	// Target is the registrar that the sender has taken over.
	Target  rserpool.ServerID
	Unknown []rserpool.Parameter
}

// Type returns TypeTakeoverServer.
func (*TakeoverServer) Type() MessageType { return TypeTakeoverServer }

// IDs returns the identifiers of the sender and of the receiver.
func (m *TakeoverServer) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *TakeoverServer) Append(b []byte) ([]byte, error) {
	return (*aboutTarget)(m).append(b, TypeTakeoverServer)
}

// aboutTarget has the fields of the messages above.
type aboutTarget struct {
	Sender, Receiver rserpool.ServerID
	Target           rserpool.ServerID
	Unknown          []rserpool.Parameter
}

func (m *aboutTarget) append(b []byte, t MessageType) ([]byte, error) {
	w := begin(b, t, 0, m.Sender, m.Receiver)
	w.Uint32(uint32(m.Target))
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseAboutTarget(c *tlv.Cursor) *aboutTarget {
	m := new(aboutTarget)
	m.Sender, m.Receiver = parseIDs(c)
	m.Target = rserpool.ServerID(c.Uint32())
	m.Unknown = parseUnknown(c)
	return m
}
