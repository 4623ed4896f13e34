package hunt

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Action is what an endpoint's core wants done: one of the types below.
type Action interface{ action() }

// Connect to a registrar. The performer tells the association's name by
// calling the core with Ref before it hands on any other event.
type Connect struct {
	Ref uint64
	To  rserpool.Registrar
}

// Lookup looks up the addresses of a registrar that is given by its name. The
// performer calls the core with Ref and the result, later on, in bounded time.
type Lookup struct {
	Ref uint64
	Of  rserpool.Registrar
}

// Send a message on an association. Data is the performer's from now on. If it
// cannot be queued the core is told as if its delivery had failed.
type Send struct {
	Assoc sctp.AssocID
	Data  []byte
	// PPID is the payload protocol; 0 stands for ASAP.
	PPID uint32
}

// Close ends an association: in good order, or at once if Abort is set.
type Close struct {
	Assoc sctp.AssocID
	Abort bool
}

func (Connect) action() {}
func (Lookup) action()  {}
func (Send) action()    {}
func (Close) action()   {}
