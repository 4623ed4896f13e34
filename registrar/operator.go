package registrar

import (
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Remove: the operator removes an element that this registrar is the home of, whether it
// is silent, guarded or in good health. The action Removed is among those of this event.
type Remove struct {
	Handle rserpool.PoolHandle
	ID     rserpool.PEID
}

// Removed answers a Remove.
type Removed struct {
	Result Removal
	// Home is the home of the element, and At are the addresses at which it serves ENRP, the
	// best one first, with the results RemovalElsewhere and RemovalYielded. There are none if
	// they are not known.
	Home rserpool.ServerID
	At   []netip.AddrPort
}

// Removal is the result of a Remove.
type Removal uint8

const (
	// RemovalDone: the element was removed.
	RemovalDone Removal = iota
	// RemovalReplaced: it was removed, and another process whose registration waited for
	// that has its identifier now.
	RemovalReplaced
	// RemovalUnknown: there is no such element.
	RemovalUnknown
	// RemovalElsewhere: another registrar is its home.
	RemovalElsewhere
	// RemovalYielded: another registrar says that it is its home, and is that now.
	RemovalYielded
)

func (Remove) event()   {}
func (Removed) action() {}

// onRemove: the guard keeps silent elements, so the operator has the last word. An element
// that is alive is not told, since it would register again at once.
func (r *Registrar) onRemove(ev Remove) {
	answer := Removed{Result: RemovalElsewhere}
	e := r.find(ev.Handle, ev.ID)
	switch {
	case e != nil && e.standsIn():
		answer.Home, answer.At = e.standIn, r.whereIs(e.standIn)
		r.act(answer)
		return
	case e != nil:
		answer.Result = RemovalDone
		r.remove(e, RemovedByOperator)
	}
	x := r.ledger.Find(ev.Handle, ev.ID)
	switch {
	case x == nil && answer.Result == RemovalElsewhere:
		answer.Result = RemovalUnknown
	case x == nil:
	case x.Note.own != nil:
		answer.Result = RemovalReplaced
	default:
		if answer.Result == RemovalDone {
			answer.Result = RemovalYielded
		}
		answer.Home = x.PE().Home
		answer.At = r.whereIs(answer.Home)
	}
	r.act(answer)
}

// whereIs returns where a peer serves ENRP.
func (r *Registrar) whereIs(id rserpool.ServerID) []netip.AddrPort {
	p := r.peers.byID[id]
	switch {
	case p == nil:
		return nil
	case p.link != nil && len(p.link.peer) > 0:
		return slices.Clone(p.link.peer)
	}
	return slices.Clone(p.conn.addrs)
}
