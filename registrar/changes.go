package registrar

import (
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

type (
	entry  = ledger.Entry[note]
	roster = ledger.Roster[note]
	change = ledger.Change[note]
)

// note is what the registrar knows of any pool element, beside what is in the ledger.
type note struct {
	own *element // nil if the home is another registrar

	// claim is what waits for the element's end, nil if nothing does. former are
	// the associations that have owned it and were superseded, the latest first,
	// then zeros; nil at first.
	claim  *claim
	former *[maxFormerOwners]AssocID

	// seen is the audit of its home in which that has named it last.
	seen uint64
}

// find is an element of our own, nil if there is none.
func (r *Registrar) find(h rserpool.PoolHandle, id rserpool.PEID) *element {
	if x := r.ledger.Find(h, id); x != nil {
		return x.Note.own
	}
	return nil
}

// findForeign is an element of another registrar, nil if there is none.
func (r *Registrar) findForeign(h rserpool.PoolHandle, id rserpool.PEID) *entry {
	if x := r.ledger.Find(h, id); x != nil && x.Note.own == nil {
		return x
	}
	return nil
}

// occasion is why an element has come, changed, moved or left.
type occasion uint8

const (
	// byHome: its home, another registrar, has said so, or that home is gone.
	byHome occasion = iota
	// byElement: it has registered with us, or more of its addresses are confirmed.
	byElement
	// adopted: its home is dead, and we become its home without having heard it.
	adopted
	// yielded: another registrar is its home as well, and keeps it.
	yielded
	// ended: we have found or been told that it does not serve any more.
	ended
	// left: it has deregistered with us, and its home is another registrar.
	left
)

// publish makes of a change in the ledger what others are to know: updates to peers
// (RFC 5353, Section 3.3), notices to subscribers, log lines. We tell the peers of what
// we know as the home of an element, not of what another home tells all of them.
func (r *Registrar) publish(c change, why occasion) {
	x := c.Entry
	if c.Conflict != nil {
		r.logf(true, "pool element %v of pool %s, whose home is registrar %v, is set aside: %v", x.ID(), quote(x.Handle()), c.To.Home(), c.Conflict)
	}
	switch why {
	case byHome, adopted:
	case byElement:
		r.announceUpdate(enrp.AddPE, x.Handle(), x.PE())
	case yielded:
		r.stats.Yields++
		r.logf(false, "pool element %v of pool %s belongs to registrar %v", x.ID(), quote(x.Handle()), c.To.Home())
		r.announceUpdate(enrp.AddPE, x.Handle(), x.PE())
	case ended:
		r.announceUpdate(enrp.DelPE, x.Handle(), x.PE())
	case left: // the peers take its end from its home only: we are that for a moment
		pe := *x.PE()
		pe.Home = r.id
		r.announceUpdate(enrp.AddPE, x.Handle(), &pe)
		r.announceUpdate(enrp.DelPE, x.Handle(), &pe)
	}
	if c.Visible {
		r.poolChanged(x.Handle())
	}
	switch c.To {
	case nil:
		r.dropIdlePool(x.Handle())
	case r.roster:
	default:
		x.Note.seen = r.peers.byID[c.To.Home()].audit.number
		r.homeTold(x.Handle(), x.ID())
	}
}

// offered says how a peer has named an element.
type offered uint8

const (
	inUpdate   offered = iota // something has become of it
	inTable                   // it is among the peer's own
	inDownload                // it is in the handlespace, whichever registrar its home is
)

// foreign is an element as another registrar has told it. When it expires is the
// business of its home.
func foreign(e *rserpool.PoolElement) *handlespace.Element {
	return &handlespace.Element{PoolElement: *e}
}
