package registrar

import (
	"net/netip"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Action is something for the host to do: one of the types below.
type Action interface{ action() }

// Send a message on an association. The Send and its Data belong to the host until the
// next call of Handle. If the message cannot be queued, the host reports SendFailed or
// AssocDown.
type Send struct {
	Assoc AssocID
	PPID  uint32
	Data  []byte
	// Unordered lets the message arrive before earlier ones, so that it does not wait
	// while a lost one is repeated (RFC 9260, Section 6.6).
	Unordered bool
}

// Connect opens an association from the endpoint of ASAP or of ENRP, as PPID says. The
// host answers with Connecting before any other event of that association.
type Connect struct {
	Ref  uint64
	PPID uint32
	To   []netip.AddrPort
	Via  rserpool.Via
	// EncapPort is the UDP port to connect to with SCTP in UDP; 0 if it is not known,
	// or is the one from which the peer was last heard.
	EncapPort uint16
}

// Close ends an association: gracefully, or at once if Abort is set. The host reports
// AssocDown in either case.
type Close struct {
	Assoc AssocID
	Abort bool
}

// Announce sends a datagram by multicast: an ASAP_SERVER_ANNOUNCE to the ASAP group
// (RFC 5352, Section 3.6), or, if ENRP is set, an ENRP_PRESENCE to the ENRP group.
type Announce struct {
	Data []byte
	ENRP bool
}

// Keep has the host remember an own element over a restart, in place of what it remembers
// under the same handle and identifier; or forget it, if Element is nil. See Config.Keep.
type Keep struct {
	Handle  rserpool.PoolHandle
	ID      rserpool.PEID
	Element *Kept
}

// KeptAll ends the Keep actions that KeepAll events have asked for.
type KeptAll struct{}

// KeepPeers has the host remember where the peers are, in place of what it remembers.
type KeepPeers struct{ At [][]netip.AddrPort }

// Log is one line for the operator's log. Warn marks lines that need attention.
type Log struct {
	Warn bool
	Text string
}

func (*Send) action()     {}
func (Connect) action()   {}
func (Close) action()     {}
func (Announce) action()  {}
func (Log) action()       {}
func (Keep) action()      {}
func (KeptAll) action()   {}
func (KeepPeers) action() {}
