package registrar

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// AssocID identifies an association. The host chooses it. 0 is none.
type AssocID uint64

// Event is something that has happened: one of the types below.
type Event interface{ event() }

// AssocUp: an association is established, by the peer or after Connect.
type AssocUp struct {
	Assoc AssocID
	// Peer are the peer's confirmed addresses, with its port. The first one is where
	// the peer has proved to be: the address that it has connected from, or was reached
	// at. The others have acknowledged a HEARTBEAT (RFC 9260, Section 5.4).
	Peer []netip.AddrPort
	// Claimed are addresses that the peer lists and that are not confirmed yet. An
	// AssocAddrs event follows when they are.
	Claimed []netip.AddrPort
	// Translated tells that the peer itself has not listed the first address: there is
	// an address translation (NAT) in between, beyond which the other addresses lead to
	// another host or nowhere.
	Translated bool
	// Via is what carries the association, so that the registrar connects to an
	// element over the same; it counts by it. ViaAuto counts as other.
	Via rserpool.Via
	// EncapPort is the peer's UDP port if its SCTP is in UDP, otherwise 0.
	EncapPort uint16
	// ENRP tells that the association is one of the ENRP endpoint.
	ENRP bool
	// Identity is the name that the peer has proved by its certificate, "" without one. See
	// package identity.
	Identity string
}

// AssocAddrs: the peer's addresses have changed, usually because more of them are
// confirmed. The first address of AssocUp remains the one where the peer has proved to
// be, as long as it is among them. The fields are those of AssocUp.
type AssocAddrs struct {
	Assoc         AssocID
	Peer, Claimed []netip.AddrPort
	Translated    bool
}

// AssocDone: the peer sends no more over this association, but may wait for responses.
// AssocDown follows when they are sent.
type AssocDone struct{ Assoc AssocID }

// Unsent: a keep-alive that was sent over this association may still wait in the send
// queue, behind other messages. The host repeats the event until the queue is short.
type Unsent struct{ Assoc AssocID }

// AssocDown: an association has ended, or a Connect has failed. No other event follows
// for this AssocID.
type AssocDown struct {
	Assoc  AssocID
	Reason DownReason
	// Err is why a Connect has failed, for the log; nil if that says nothing about the peer.
	Err error
}

// DownReason says how much the end of an association tells about the peer.
type DownReason uint8

// The reasons for AssocDown.
const (
	// DownSilent: the peer may live. It does not answer, or cannot be reached, or this
	// side has ended the association.
	DownSilent DownReason = iota
	// DownByPeer: the peer has shut down or aborted the association, or has restarted.
	DownByPeer
	// DownFarewell: the peer has ended the association in good order inside of TLS, and may be
	// about to come back, with another certificate or new keys.
	DownFarewell
	// DownRenew: this side has ended the association in the same way, to make a new one.
	DownRenew
	// DownRefused: a Connect has failed because nobody serves the peer's port: the
	// peer's host has answered so, at each of its addresses.
	DownRefused
	// DownUntrusted: the peer has shown a certificate that is not accepted, or not any
	// more.
	DownUntrusted
	// DownUntimely: the only thing wrong with the peer's certificate is the time. Either it has
	// ended, or this machine's clock is wrong.
	DownUntimely
)

// Received: a message has arrived on an association. The registrar does not keep Data.
type Received struct {
	Assoc AssocID
	PPID  uint32
	Data  []byte
}

// SendFailed: a message could not be delivered on this association. Data is the message
// if the transport has given up on the peer (RFC 5352, Section 3.5: SEND.FAILURE), nil
// if it was not sent at all, for instance because a queue is full. The registrar does
// not keep Data.
type SendFailed struct {
	Assoc AssocID
	Data  []byte
}

// Connecting gives the AssocID of a Connect action; AssocUp or AssocDown follows. 0
// means that the connect has failed at once.
type Connecting struct {
	Ref   uint64
	Assoc AssocID
}

// Announced: a datagram has arrived by multicast, from the ASAP group (RFC 5352,
// Section 3.6), or from the ENRP group if ENRP is set. The registrar does not keep
// Data.
type Announced struct {
	From netip.AddrPort
	Data []byte
	ENRP bool
}

// Serving: the host serves ASAP, and ENRP if there are addresses for it. If the event
// is used at all, it is the first one.
type Serving struct {
	// Addrs are where ASAP is served, over SCTP and, if TCP is set, over TCP. The most
	// useful ones for others come first.
	Addrs []netip.AddrPort
	TCP   bool
	// Announce asks for Announce actions of ASAP; Config.Discover is for those
	// of ENRP.
	Announce bool
	// ENRP are where ENRP is served; none if it is not.
	ENRP []netip.AddrPort
	// Own are all addresses at which the ENRP endpoint can be reached, those included
	// that are not offered to others, such as those of a bridge for containers. Other
	// machines may have the same ones. The addresses in ENRP need not be repeated.
	Own []netip.Addr
	// Machine are all addresses of the machine, served or not. Other machines may have
	// some of them, too.
	Machine []netip.Addr
}

// Addresses: the machine's addresses have changed since Serving, or since the last
// Addresses. The fields are those of Serving. ENRP is served only if it was before.
type Addresses struct {
	Addrs, ENRP  []netip.AddrPort
	Own, Machine []netip.Addr
}

// Tick: time has passed. Timers run only on this event, so that a host that was
// suspended or busy can first hand over the messages that have arrived.
type Tick struct {
	// Until is the time up to which timers run. All messages that arrived before it
	// have been handed over, so no peer times out while its message waits. The zero
	// time stands for now.
	Until time.Time
}

// Restore gives back what a former process has kept (action Keep). If the event is used, it
// is the first one, before Serving, and may be repeated with more elements.
type Restore struct {
	// Alive is until when the former process was there.
	Alive time.Time
	// All is about how many elements there are in all events, 0 if that is not known.
	All int
	// Elements are some of its own elements. The registrar takes over their descriptions, and
	// nothing else.
	Elements []Kept
	// Peers are where its peers were.
	Peers [][]netip.AddrPort
}

// KeepAll asks for Keep actions for the next own elements, or from the first one on. The
// host repeats the event until the action KeptAll.
type KeepAll struct{ First bool }

// Rules replaces the rules for pools.
type Rules struct{ Of PoolRules }

// Stop ends the registrar: it closes all associations gracefully and does nothing from
// then on. The handlespace stays as it is, and elements are not notified: there is no
// message for it.
type Stop struct{}

func (AssocUp) event()    {}
func (AssocAddrs) event() {}
func (AssocDone) event()  {}
func (Unsent) event()     {}
func (AssocDown) event()  {}
func (Received) event()   {}
func (SendFailed) event() {}
func (Connecting) event() {}
func (Announced) event()  {}
func (Serving) event()    {}
func (Addresses) event()  {}
func (Tick) event()       {}
func (Rules) event()      {}
func (Restore) event()    {}
func (KeepAll) event()    {}
func (Stop) event()       {}
