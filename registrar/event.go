package registrar

import (
	"net/netip"
	"time"
)

// AssocID names an association, by the host's choice. 0 is none.
type AssocID uint64

// Via says what carries an association, so that an element is called by what
// it came by. The registrar takes it from events, hands it back in Connect, and
// counts by it.
type Via uint8

// The values of Via; others are counted as "other".
const (
	// ViaKernel marks the operating system's SCTP.
	ViaKernel Via = 1
	// ViaUDP marks user-space SCTP in UDP (RFC 6951).
	ViaUDP Via = 2
	// ViaTCP marks a TCP connection, over which pool users may resolve handles
	// and report failures, and elements may not register (RFC 5352, Section
	// 2.1).
	ViaTCP Via = 3
)

// Event is what happens to a registrar: one of the types below.
type Event interface{ event() }

// AssocUp: an association is established, by the peer or after Connect.
type AssocUp struct {
	Assoc AssocID
	// Peer are the peer's confirmed addresses, and its port. The first one is where
	// the peer has proved to be: the address that it called from, or was reached at.
	// The others have acknowledged a HEARTBEAT (RFC 9260, Section 5.4).
	Peer []netip.AddrPort
	// Claimed are addresses that the peer lists and that are not confirmed yet.
	// AssocAddrs tells when they are.
	Claimed []netip.AddrPort
	// Translated tells that the first address is none of those that the peer itself
	// has named: there is an address translation (NAT) in between, beyond which the
	// others lead to somebody else, or nowhere.
	Translated bool
	Via        Via
	// EncapPort is the peer's UDP port if its SCTP is in UDP, otherwise 0.
	EncapPort uint16
	// ENRP tells that it is an association of the ENRP endpoint, not of that
	// of ASAP.
	ENRP bool
}

// AssocAddrs: the set of a peer's addresses has changed, mostly since more of them
// are confirmed. As long as it has the first address of AssocUp, that remains the
// one where the peer has proved to be. The fields are those of AssocUp.
type AssocAddrs struct {
	Assoc         AssocID
	Peer, Claimed []netip.AddrPort
	Translated    bool
}

// AssocDone: the peer sends no more over this association, and may wait for the
// answers to what it has sent. AssocDown follows when they are sent.
type AssocDone struct{ Assoc AssocID }

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

// SendFailed: a message to this association could not be delivered. Data is
// the message if the transport has given up on the peer (RFC 5352, Section
// 3.5: SEND.FAILURE), nil if it was not even tried, such as for a full queue.
// The registrar does not keep Data.
type SendFailed struct {
	Assoc AssocID
	Data  []byte
}

// Connecting tells the AssocID of a Connect action; AssocUp or AssocDown
// follows. 0 says that the connect failed at once.
type Connecting struct {
	Ref   uint64
	Assoc AssocID
}

// Announced: a datagram came by multicast, to the group of ASAP_SERVER_ANNOUNCEs
// (RFC 5352, Section 3.6), or to that of ENRP_PRESENCEs if ENRP is set. The
// registrar does not keep Data.
type Announced struct {
	From netip.AddrPort
	Data []byte
	ENRP bool
}

// Serving: the host serves ASAP, and ENRP if it does. It is the first event, if it comes at all.
type Serving struct {
	// Addrs are where ASAP is served, over SCTP and, if TCP is set, over TCP.
	// Those that others can use best come first.
	Addrs []netip.AddrPort
	TCP   bool
	// Announce asks for Announce actions of ASAP; Config.Discover is for those
	// of ENRP.
	Announce bool
	// ENRP are where ENRP is served; none if it is not.
	ENRP []netip.AddrPort
	// Own are all addresses at which the ENRP endpoint takes calls, those included
	// that are not offered to others, such as those of a bridge for containers.
	// Other machines may have the same ones. The addresses of ENRP need not be
	// repeated.
	Own []netip.Addr
	// Machine are all addresses of the machine, be they served or not. Some of them
	// may be those of other machines, too.
	Machine []netip.Addr
}

// Addresses: the machine's addresses have changed since Serving, or since the last
// Addresses. The fields are those of Serving; ENRP is served if it was.
type Addresses struct {
	Addrs, ENRP  []netip.AddrPort
	Own, Machine []netip.Addr
}

// Tick: time has passed. Timers run only on this event, so that a host that
// was held up can first hand over what its peers have sent meanwhile.
type Tick struct {
	// Until is the time before which all that peers have sent has been handed
	// over, and up to which timers run: nobody is late whose message waits. The
	// zero time stands for now.
	Until time.Time
}

// Stop ends the registrar: it closes all associations in good order and does
// nothing from then on. The handlespace stays as it is, and elements are told
// nothing: there is no message for it.
type Stop struct{}

func (AssocUp) event()    {}
func (AssocAddrs) event() {}
func (AssocDone) event()  {}
func (AssocDown) event()  {}
func (Received) event()   {}
func (SendFailed) event() {}
func (Connecting) event() {}
func (Announced) event()  {}
func (Serving) event()    {}
func (Addresses) event()  {}
func (Tick) event()       {}
func (Stop) event()       {}
