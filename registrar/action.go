package registrar

import "net/netip"

// Action is what a registrar wants done: one of the types below.
type Action interface{ action() }

// Send a message on an association. The Send and its Data are the host's until
// the next call of Handle. If the message cannot be queued the host reports
// SendFailed, or AssocDown.
type Send struct {
	Assoc AssocID
	PPID  uint32
	Data  []byte
}

// Connect to an address from the endpoint of ASAP or of ENRP, as PPID says; the
// host answers with Connecting before any other event of that association.
type Connect struct {
	Ref  uint64
	PPID uint32
	To   []netip.AddrPort
	Via  Via
	// EncapPort is the UDP port to call at over SCTP in UDP; 0 if it is not
	// known, or is that from which the peer was last heard.
	EncapPort uint16
}

// Close ends an association: in good order, or at once if Abort is set. The
// host reports AssocDown all the same.
type Close struct {
	Assoc AssocID
	Abort bool
}

// Announce sends a datagram by multicast: an ASAP_SERVER_ANNOUNCE to the group
// of those (RFC 5352, Section 3.6), or, if ENRP is set, an ENRP_PRESENCE to that
// of registrars.
type Announce struct {
	Data []byte
	ENRP bool
}

// Log tells the operator something, in one line. Warn marks what needs a look.
type Log struct {
	Warn bool
	Text string
}

func (*Send) action()    {}
func (Connect) action()  {}
func (Close) action()    {}
func (Announce) action() {}
func (Log) action()      {}
