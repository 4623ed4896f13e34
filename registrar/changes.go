package registrar

import (
	"errors"

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

// note is what the registrar knows of any element beside its entry in the ledger.
type note struct {
	own *element // nil if the home is another registrar

	// claim is the first claim on the element. former are the associations whose
	// registrations were superseded, the latest first, then zeros; nil if there was
	// none.
	claim  *claim
	former *[maxFormerOwners]AssocID

	// seen is the last audit of its home that has named the element.
	seen uint64

	// passed is the home to which its former home has passed it, if this registrar does not know
	// that one; 0 otherwise.
	passed rserpool.ServerID

	keeping bool // the element is in Registrar.keeping
}

// find returns an own element, nil if there is none.
func (r *Registrar) find(h rserpool.PoolHandle, id rserpool.PEID) *element {
	if x := r.ledger.Find(h, id); x != nil {
		return x.Note.own
	}
	return nil
}

// findForeign returns a foreign element, nil if there is none.
func (r *Registrar) findForeign(h rserpool.PoolHandle, id rserpool.PEID) *entry {
	if x := r.ledger.Find(h, id); x != nil && x.Note.own == nil {
		return x
	}
	return nil
}

// occasion is why an element has appeared, changed, moved or left.
type occasion uint8

const (
	// byHome: its home, a peer, has announced it, or that peer is dead.
	byHome occasion = iota
	// byElement: it has registered, or more of its addresses are confirmed.
	byElement
	// adopted: its home is dead, and this registrar becomes the home without having
	// heard from the element.
	adopted
	// yielded: the peer that contests it keeps it.
	yielded
	// unclaimed: it has changed, but is no member that the peers know.
	unclaimed
	// fellSilent: it has become a suspect of this registrar, or this registrar leaves a suspect to
	// a peer.
	fellSilent
	// ended: this registrar has removed it.
	ended
	// left: it has deregistered here, and its home is a peer.
	left
)

// publish turns a change of the ledger into updates for the peers (RFC 5353, Section
// 3.3), notices for subscribers and log lines. The peers get an update of what this
// registrar knows as the home of an element, not of what another home announces itself.
func (r *Registrar) publish(c change, why occasion) {
	x := c.Entry
	if c.From == r.roster || c.To == r.roster {
		r.keep(x)
	}
	r.logAside(c)
	switch why {
	case byHome, adopted, unclaimed:
	case byElement:
		r.announceUpdate(enrp.AddPE, x.Handle(), x.PE())
	case yielded:
		r.stats.Yields++
		r.logf(false, "pool element %v of pool %s belongs to registrar %v", x.ID(), quote(x.Handle()), c.To.Home())
		r.announceUpdate(enrp.AddPE, x.Handle(), x.PE())
	case fellSilent:
		r.announceSuspect(x)
	case ended:
		r.announceUpdate(enrp.DelPE, x.Handle(), x.PE())
	case left: // peers accept the removal from the home only: this registrar is that for a moment
		pe := *x.PE()
		pe.Home = r.id
		r.announceUpdate(enrp.AddPE, x.Handle(), &pe)
		r.announceUpdate(enrp.DelPE, x.Handle(), &pe)
	}
	r.poolSettled(ledger.PoolChange{Handle: x.Handle(), Guarded: c.Guarded, Visible: c.Visible, Emptied: c.Emptied})
	switch c.To {
	case nil, r.roster:
	default:
		home := r.peers.byID[c.To.Home()]
		x.Note.passed = 0
		x.Note.seen = home.audit.number
		r.letIn(home, x.Handle(), x.ID())
		r.homeTold(x.Handle(), x.ID())
	}
}

// logAside logs that an element is set aside.
func (r *Registrar) logAside(c change) {
	if c.Conflict == nil {
		return
	}
	if errors.As(c.Conflict, new(*unauthorizedError)) {
		r.stats.RightsRefused.Elements++
	}
	r.warnOfPools("pool element %v of pool %s, whose home is registrar %v, is set aside: %v", c.Entry.ID(), quote(c.Entry.Handle()), c.To.Home(), c.Conflict)
}

// offered is the kind of message in which a peer has named an element.
type offered uint8

const (
	inUpdate   offered = iota // it was added, or has changed
	inTable                   // a list of the peer's own elements
	inDownload                // the handlespace of a mentor, with elements of all homes
)

// foreign returns the description of a foreign element. Its home decides when it
// expires.
func foreign(e *rserpool.PoolElement) *handlespace.Element {
	return &handlespace.Element{PoolElement: *e}
}
