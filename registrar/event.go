package registrar

import "net/netip"

// AssocID names an association, by the host's choice. 0 is none.
type AssocID uint64

// Via says what carries an association, so that an element is called by what
// it came by. The registrar takes it from events and hands it back in Connect;
// its values are the host's but for ViaTCP.
type Via uint8

// ViaTCP marks a TCP connection, over which pool users may resolve handles and
// report failures, and elements may not register (RFC 5352, Section 2.1).
const ViaTCP Via = 3

// Event is what happens to a registrar: one of the types below.
type Event interface{ event() }

// AssocUp: an association is established, by the peer or after Connect.
type AssocUp struct {
	Assoc AssocID
	// Peer are the peer's addresses and port, the primary one first.
	Peer []netip.AddrPort
	Via  Via
}

// AssocAddrs: the set of a peer's addresses has changed.
type AssocAddrs struct {
	Assoc AssocID
	Peer  []netip.AddrPort
}

// AssocDown: an association is gone, however it went, or a Connect failed. No
// other event follows for this AssocID.
type AssocDown struct{ Assoc AssocID }

// Received: a message came on an association. The registrar does not keep
// Data.
type Received struct {
	Assoc AssocID
	PPID  uint32
	Data  []byte
}

// SendFailed: a message to this association could not be delivered.
type SendFailed struct{ Assoc AssocID }

// Connecting tells the AssocID of a Connect action; AssocUp or AssocDown
// follows. 0 says that the connect failed at once.
type Connecting struct {
	Ref   uint64
	Assoc AssocID
}

// Announced: an ASAP_SERVER_ANNOUNCE came by multicast (RFC 5352, Section 3.6).
type Announced struct {
	From netip.AddrPort
	Data []byte
}

// Tick: time has passed.
type Tick struct{}

func (AssocUp) event()    {}
func (AssocAddrs) event() {}
func (AssocDown) event()  {}
func (Received) event()   {}
func (SendFailed) event() {}
func (Connecting) event() {}
func (Announced) event()  {}
func (Tick) event()       {}
