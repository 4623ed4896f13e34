package registrar

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// In a trusted scope, each association has the identity that the peer has proved, and
// Config.Rights say what it may do (RFC 5355, Section 3):
//
//   - It registers only in the pools that it may register in. The identity that has registered
//     an element owns the identifier: no other one can register or deregister it, as long as
//     the element is not gone. So silence is not enough for that, unlike between two hosts of
//     one identity: see claim.
//   - Only registrars speak ENRP.
//   - Peers say with which identity an element has registered. An element whose identity may
//     not register in its pool is set aside: it counts for checksums, and is in no answer. This
//     registrar does not become its home.
//   - Where this registrar calls an element, the element's identity has to answer. If another
//     one does, the element is displaced: see displaced.
//
// Without Rights, nobody looks at identities.

// Rights say what names may do in a trusted scope. The empty name is a peer without a
// certificate. They do not change: an event Trust replaces them.
type Rights interface {
	// Denied reports whether a name may do nothing.
	Denied(name string) bool
	// Registrar reports whether a name is one of a registrar.
	Registrar(name string) bool
	// Registers reports whether a name may register in a pool.
	Registers(name string, h rserpool.PoolHandle) bool
	// Resolves reports whether a name may resolve pool handles and report elements.
	Resolves(name string) bool
}

// Trust replaces the rights. Associations, elements and subscriptions that they do not allow
// any more end.
type Trust struct{ Rights Rights }

func (Trust) event() {}

// unauthorizedError says why an element may not be in a pool.
type unauthorizedError struct {
	identity string
	pool     rserpool.PoolHandle
	denied   bool
}

// Error names the certificate, the pool, and the option that would change it.
func (e *unauthorizedError) Error() string {
	option := "allow"
	if e.denied {
		option = "deny"
	}
	return fmt.Sprintf("%s may not register in pool %s (%s)", holder(e.identity), quote(e.pool), option)
}

// holder names who has an identity.
func holder(name string) string {
	switch {
	case name == "":
		return "a peer without a certificate"
	case strings.IndexFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) >= 0:
		name = strconv.QuoteToASCII(name)
	}
	return "certificate of " + name
}

// unauthorized returns why an identity may not register in a pool, nil if it may.
func (r *Registrar) unauthorized(name string, h rserpool.PoolHandle) error {
	if rights := r.cfg.Rights; rights != nil && !rights.Registers(name, h) {
		return &unauthorizedError{name, h, rights.Denied(name)}
	}
	return nil
}

// excluded returns why an element must not be in answers, nil if it may.
func (r *Registrar) excluded(h rserpool.PoolHandle, e *handlespace.Element) error {
	if err := r.unauthorized(e.Identity, h); err != nil {
		return err
	}
	return r.cfg.Rules.of(h).check(e)
}

// isVoid reports whether an element may not be registered in its pool.
func (r *Registrar) isVoid(x *entry) bool {
	return r.cfg.Rights != nil && !r.cfg.Rights.Registers(x.PE().Identity, x.Handle())
}

// isOf reports whether an association has the identity with which an element has registered.
func (r *Registrar) isOf(a *client, x *entry) bool {
	return r.cfg.Rights == nil || x.PE().Identity == a.identity
}

// usurps reports whether a peer names an element of a home whose identity may not register,
// while another home has one of that name whose identity may.
func (r *Registrar) usurps(home *peer, h rserpool.PoolHandle, pe *rserpool.PoolElement) bool {
	if r.cfg.Rights == nil || r.unauthorized(pe.Identity, h) == nil {
		return false
	}
	x := r.ledger.Find(h, pe.ID)
	return x != nil && x.Roster() != home.roster && !r.isVoid(x)
}

// answersFor reports whether an acknowledgement over an association counts for an element.
func (r *Registrar) answersFor(a *client, e *element) bool {
	return r.isOf(a, e.entry) && !r.isVoid(e.entry)
}

// mayAsk reports whether the identity of an association may resolve handles and report
// elements.
func (r *Registrar) mayAsk(a *client) bool {
	return r.cfg.Rights == nil || r.cfg.Rights.Resolves(a.identity)
}

// whyBarred returns why an association may not be, "" if it may.
func (r *Registrar) whyBarred(a *assoc) string {
	rights := r.cfg.Rights
	switch {
	case rights == nil:
	case len(a.identity) > tlv.MaxIdentity:
		return fmt.Sprintf("the name in its certificate has %d bytes, more than %d", len(a.identity), tlv.MaxIdentity)
	case rights.Denied(a.identity):
		return holder(a.identity) + " may do nothing (deny)"
	case a.link != nil && !rights.Registrar(a.identity):
		return holder(a.identity) + " is not that of a registrar (registrars)"
	}
	return ""
}

// bar ends an association that may not be. From now on, nothing from it is handled.
func (r *Registrar) bar(a *assoc, why string) {
	a.barred = true
	r.dropPrimary(a)
	r.stats.RightsRefused.Associations++
	if !r.barredIsTold(a) {
		r.logf(true, "the association with %v is closed: %s", a.primary(), why)
	}
	if l := a.link; l != nil {
		if l.by != nil {
			l.by.barred = true
		}
		r.leaveLink(l)
	} else {
		r.unsubscribeAll(a.client)
		r.dropClaims(a.client)
		r.dropHeld(a.client)
	}
	r.act(Close{Assoc: a.id, Abort: true})
}

// barredIsTold reports whether other lines of the log say why an association is barred: that of
// the one that has brought it, or those of its elements, which are removed.
func (r *Registrar) barredIsTold(a *assoc) bool {
	if l := a.link; l != nil {
		return l.by != nil && l.by.barred
	}
	e := a.client.elements.First()
	return e != nil && r.isVoid(e.entry)
}

// leaveLink has a peer do without a link that is up.
func (r *Registrar) leaveLink(a *link) {
	r.peers.links = slices.DeleteFunc(r.peers.links, func(x *link) bool { return x == a })
	for _, p := range r.peers.list {
		if p.link == a {
			r.unlink(p, DownSilent)
		}
	}
}

// refuseReport answers a report of an identity that may not report.
func (r *Registrar) refuseReport(a *client) {
	r.stats.RightsRefused.Reports++
	r.warnOf(&a.assoc, "a report of %v is refused: %s may not report elements (resolvers)", a.primary(), holder(a.identity))
	r.sendError(a, &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity}}})
}

// strangersAt: a probe has reached another identity than that of these elements, which it
// does not have any more.
func (r *Registrar) strangersAt(p *probe, a *client, elements []*element) {
	if len(elements) == 0 {
		return
	}
	e := elements[0]
	r.stats.RightsRefused.Elements += uint64(len(elements))
	r.logf(true, "pool element %v of pool %s does not answer: %s does at its place, and %s has registered it", e.ID(), quote(e.Handle()), holder(a.identity), holder(e.PE().Identity))
	q := &probe{untrusted: p.untrusted, via: p.via, adopted: p.adopted, to: p.to, encap: p.encap, heard: p.heard, host: p.host, began: p.began, pause: p.pause}
	r.countProbe()
	for _, e := range elements {
		q.add(r, e)
	}
	r.setLine(&q.line, lineMissing)
	q.displaced(r)
}

// distrusted: whoever answers the call of a probe has no certificate that is accepted, and
// nothing shows that the elements have lost theirs.
func (p *probe) distrusted(r *Registrar) {
	p.detach(r)
	p.requeue()
	e := p.waiting.First()
	r.stats.RightsRefused.Elements += uint64(p.waiting.Len())
	r.logf(true, "pool element %v of pool %s does not answer: one whose certificate is not accepted does at its place, and %s has registered it", e.ID(), quote(e.Handle()), holder(e.PE().Identity))
	p.displaced(r)
	r.runProbes()
}

// displaced: the elements of a probe are displaced, and called again after a pause.
func (p *probe) displaced(r *Registrar) {
	for _, e := range p.elements() {
		r.displaced(e)
	}
	if p.state == probeDelayed {
		p.rest(r)
	}
}

// displaced: another one answers at the place of an element. That does not show that the
// element is gone: somebody on the way can answer for it, whom no certificate can stop from that.
// So the element stays, as a suspect. But it is more than silence: clients would reach that other
// one. So the pool does without the element while it has any other element, even if that is a
// suspect as well; the fault cannot be this registrar's own network; and the guards have no
// reason to keep the element for longer than SuspectLife. The first word of the element ends it.
func (r *Registrar) displaced(e *element) {
	switch {
	case e.contested != nil && r.yield(e):
		return
	case e.disowned:
		r.remove(e, RemovedUnreachable)
		return
	case e.Note.claim != nil:
		r.remove(e, RemovedClaimed)
		return
	case e.isSuspect():
		r.askLater(e)
	default:
		r.setSuspect(e, SilentDisplaced)
	}
	if r.find(e.Handle(), e.ID()) == e { // its life was over
		r.publish(r.ledger.Displace(e.entry), unclaimed)
	}
}

// release takes an element off its probe, which goes on without it.
func (p *probe) release(r *Registrar, e *element) {
	r.leaveLine(e)
	e.place.Leave()
	e.probe = nil
}

// review looks again at all that was allowed by former rights, some of it at a time.
type review struct {
	timer  timer
	assocs []AssocID
	cursor *ledger.Cursor[note] // nil if there is no review
}

func (r *Registrar) onTrust(ev Trust) {
	r.cfg.Rights = ev.Rights
	v := &r.review
	r.timers.Stop(&v.timer)
	r.ledger.Close(v.cursor)
	v.assocs = slices.Sorted(maps.Keys(r.assocs))
	rosters := []*roster{r.roster}
	for _, p := range r.peers.list {
		p.conn.barred = false
		rosters = append(rosters, p.roster)
	}
	for _, c := range r.peers.seeds {
		c.barred = false
	}
	r.reviewLinks()
	v.cursor = r.ledger.OpenEach(rosters...)
	v.Due(r, nil)
}

// Due looks at the next associations, and then at the next elements. What comes meanwhile is
// subject to the new rights already.
func (v *review) Due(r *Registrar, _ *timer) {
	for range moveBatch {
		if len(v.assocs) > 0 {
			if a := r.assocs[v.assocs[0]]; a != nil && a.up && !a.barred {
				r.reviewAssoc(a)
			}
			v.assocs = v.assocs[1:]
			continue
		}
		x := v.cursor.Next()
		if x == nil {
			r.ledger.Close(v.cursor)
			v.assocs, v.cursor = nil, nil
			return
		}
		r.reviewElement(x)
	}
	r.timers.Arm(&v.timer, v, r.now.Add(takeGap))
}

// reviewLinks looks at all links at once: they are few, and could change the handlespace. A peer
// that loses one of two is sent nothing over the other one.
func (r *Registrar) reviewLinks() {
	links := slices.Clone(r.peers.links)
	for _, a := range links {
		if r.whyBarred(&a.assoc) != "" {
			a.barred = true
			r.dropPrimary(&a.assoc)
		}
	}
	for _, a := range links {
		r.reviewAssoc(&a.assoc)
	}
}

func (r *Registrar) reviewAssoc(a *assoc) {
	if why := r.whyBarred(a); why != "" {
		r.bar(a, why)
		return
	}
	if a.client == nil || len(a.client.subs) == 0 || r.mayAsk(a.client) {
		return
	}
	var handles []rserpool.PoolHandle
	for p := range a.client.subs {
		handles = append(handles, p.handle)
	}
	slices.Sort(handles)
	for _, h := range handles {
		r.barResolution(a.client, h)
	}
}

// reviewElement removes an own element whose identity may not register in its pool any more,
// and sets others aside or takes them back.
func (r *Registrar) reviewElement(x *entry) {
	void := r.isVoid(x)
	switch {
	case void && x.Note.own != nil:
		r.stats.RightsRefused.Elements++
		r.remove(x.Note.own, RemovedUnauthorized)
	case void != x.Aside():
		c := r.ledger.Move(x, x.Roster(), x.PE())
		r.logAside(c)
		r.poolSettled(ledger.PoolChange{Handle: x.Handle(), Guarded: c.Guarded, Visible: c.Visible, Emptied: c.Emptied})
	}
}
