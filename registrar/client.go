package registrar

import "github.com/rserpool/coredns-rserpool/registrar/internal/chain"

// client is an association of the ASAP endpoint, with pool elements, pool users, or
// both.
type client struct {
	assoc

	elements chain.List[element] // supervised over it
	silent   chain.List[element] // those of them that are silent; the one asked last is the last
	line     line
	isHome   bool // an own element has registered or acknowledged over it
	trips    roundTrips
	round    round
	subs     map[*watched]*subscription
	claims   []*claim
	held     []*held // registrations that wait for an address
	probe    *probe
	inquiry  *inquiry // that opens it, until it is up
	linger   timer
}

func (r *Registrar) newClient(id AssocID) *client {
	a := &client{}
	a.client = a
	r.newAssoc(&a.assoc, id)
	return a
}

func (r *Registrar) clientUp(a *client) {
	if a.probe != nil {
		a.probe.connected(r)
	} else {
		r.leaveIdle(a)
	}
	if q := a.inquiry; q != nil {
		q.askOver(r, a)
	}
}

func (r *Registrar) clientDown(a *client, why DownReason) {
	r.timers.Stop(&a.linger)
	r.unsubscribeAll(a)
	r.dropClaims(a)
	r.dropHeld(a)
	if a.inquiry != nil {
		a.inquiry.ended(r, why)
	}
	var again *probe
	if p := a.probe; p != nil && p.lost(r, why) {
		again = p
	}
	if a.elements.Len() > 0 {
		r.probeElements(a, why, again)
	}
}

// leaveIdle closes an association that the registrar has opened, some time after
// nothing needs it any more.
func (r *Registrar) leaveIdle(a *client) {
	idle := a.ours && a.elements.Len() == 0 && len(a.subs) == 0 && len(a.claims) == 0 && len(a.held) == 0 && a.probe == nil
	switch {
	case !idle:
		r.timers.Stop(&a.linger)
	case !a.linger.Armed():
		r.timers.Arm(&a.linger, a, r.now.Add(r.cfg.Timers.Linger))
	}
}

// Due closes an idle association.
func (a *client) Due(r *Registrar, _ *timer) { r.act(Close{Assoc: a.id}) }
