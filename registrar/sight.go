package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Sight is how a registrar sees a pool element.
type Sight struct {
	// Home is the element's home as far as it is known, if this registrar stands in for it.
	Home rserpool.ServerID
	// Suspect and Unconfirmed are states; without them the element is a member.
	Suspect, Unconfirmed bool
	Since                time.Time // since when it is a suspect
	// Served tells that it is in the handlespace.
	Served bool
	// Transport is where it serves pool users.
	Transport rserpool.Transport
}

// Sight returns how the registrar sees an element, if it knows it.
func (r *Registrar) Sight(h rserpool.PoolHandle, id rserpool.PEID) (Sight, bool) {
	x := r.ledger.Find(h, id)
	if x == nil {
		return Sight{}, false
	}
	home := x.Roster().Home()
	if e := x.Note.own; e != nil && e.standsIn() {
		home = e.standIn
	}
	return Sight{
		Home: home, Suspect: x.State() == ledger.Suspect, Unconfirmed: x.State() == ledger.Unconfirmed,
		Since: x.Since(), Served: x.Served(), Transport: x.PE().UserTransport,
	}, true
}
