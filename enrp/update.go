package enrp

import (
	"fmt"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// flagTakeoverSuggestion is RSPLIB's: the sender suggests that the receiver becomes the
// element's home.
const flagTakeoverSuggestion = 0x01

// UpdateAction is the change that a HandleUpdate announces (RFC 5353, Section 2.4). Parse
// keeps reserved values, so that a receiver can log them.
type UpdateAction uint16

// The actions of RFC 5353, Section 2.4.
const (
	// AddPE adds or updates the element.
	AddPE UpdateAction = 0x0000
	// DelPE removes the element.
	DelPE UpdateAction = 0x0001
)

// String returns the action's name in RFC 5353, or its number.
func (a UpdateAction) String() string {
	switch a {
	case AddPE:
		return "ADD_PE"
	case DelPE:
		return "DEL_PE"
	}
	return fmt.Sprintf("update action 0x%04x", uint16(a))
}

// HandleUpdate tells peers that a pool element was added, changed or removed (RFC 5353,
// Section 2.4).
type HandleUpdate struct {
	Sender, Receiver rserpool.ServerID
	// SuggestTakeover is an extension of RSPLIB: the sender suggests that the
	// receiver becomes the element's home.
	SuggestTakeover bool
	Action          UpdateAction
	Handle          rserpool.PoolHandle
	// Element has a user transport if Action is AddPE. Its policy and its ASAP
	// transport are optional: to refuse the element without them would only make the
	// handlespaces differ.
	Element rserpool.PoolElement
	// Suspect is an extension of ours to DelPE: the element is suspect, not gone. It has been
	// silent for Silent, in whole seconds. A registrar without the extension removes it.
	Suspect bool
	Silent  time.Duration
	Unknown []rserpool.Parameter
}

// Type returns TypeHandleUpdate.
func (*HandleUpdate) Type() MessageType { return TypeHandleUpdate }

// IDs returns the identifiers of the sender and of the receiver.
func (m *HandleUpdate) IDs() (sender, receiver rserpool.ServerID) { return m.Sender, m.Receiver }

// Append adds the message's wire form to b.
func (m *HandleUpdate) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeHandleUpdate, flag(m.SuggestTakeover, flagTakeoverSuggestion), m.Sender, m.Receiver)
	w.Uint16(uint16(m.Action))
	w.Uint16(0)
	if m.unusable() {
		w.Refuse(noUserTransport)
	}
	w.PoolHandle(m.Handle)
	switch {
	case m.Suspect && m.Action == AddPE:
		w.Refuse("an element is added as a suspect")
	case m.Suspect:
		w.SuspectElement(&m.Element, m.Silent)
	default:
		w.PoolElement(&m.Element)
	}
	w.Unknown(m.Unknown)
	return w.Finish()
}

// unusable reports whether the message adds an element that nobody could use.
func (m *HandleUpdate) unusable() bool {
	return m.Action == AddPE && !m.Element.UserTransport.Present()
}

func parseHandleUpdate(c *tlv.Cursor) *HandleUpdate {
	m := &HandleUpdate{SuggestTakeover: c.Flags()&flagTakeoverSuggestion != 0}
	m.Sender, m.Receiver = parseIDs(c)
	m.Action, _ = UpdateAction(c.Uint16()), c.Uint16()
	for c.Next() {
		switch c.Type() {
		case tlv.TypePoolHandle:
			c.Once()
			m.Handle = c.PoolHandle()
		case tlv.TypePoolElement:
			c.Once()
			m.Silent, m.Suspect = c.SuspectElement(&m.Element)
			if m.unusable() {
				c.Refuse(noUserTransport)
			}
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(tlv.TypePoolHandle, tlv.TypePoolElement)
	if m.Action == AddPE { // it is back
		m.Silent, m.Suspect = 0, false
	}
	return m
}
