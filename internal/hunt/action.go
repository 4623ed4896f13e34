package hunt

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Action is what a protocol wants done: one of the types below.
type Action interface{ action() }

// Connect to a registrar. The performer calls the core with Ref and the association's
// name before any other event.
type Connect struct {
	Ref uint64
	To  rserpool.Registrar
}

// Lookup looks up the addresses of a registrar that is given by its name. The performer
// calls the core later with Ref and the result, in bounded time.
type Lookup struct {
	Ref uint64
	Of  rserpool.Registrar
}

// Send a message on an association. The performer owns Data. If the message cannot be
// queued, the performer reports a failed delivery.
type Send struct {
	Assoc sctp.AssocID
	Data  []byte
	// PPID is the payload protocol; 0 stands for ASAP.
	PPID uint32
	// Unordered lets the message arrive before earlier ones; see sctp.Message.
	Unordered bool
}

// Close ends an association: in good order, or at once if Abort is set.
type Close struct {
	Assoc sctp.AssocID
	Abort bool
}

// Heartbeat sends a HEARTBEAT of SCTP: a peer that has restarted answers it with an ABORT.
type Heartbeat struct{ Assoc sctp.AssocID }

func (Connect) action()   {}
func (Lookup) action()    {}
func (Send) action()      {}
func (Close) action()     {}
func (Heartbeat) action() {}
