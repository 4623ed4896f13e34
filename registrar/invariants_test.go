package registrar

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// sortedElements are all elements that the registrar owns, in the order of
// pools and identifiers.
func (r *Registrar) sortedElements() []*element {
	var list []*element
	for _, p := range r.pools {
		for _, e := range p.elements {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b *element) int {
		return cmp.Or(cmp.Compare(a.pool.handle, b.pool.handle), cmp.Compare(a.id, b.id))
	})
	return list
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// checkInvariants says what is wrong with the registrar's state.
func (r *Registrar) checkInvariants() error {
	var bad []string
	fail := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }

	r.checkTimers(fail)
	probes := r.checkAssocs(fail)
	elements, foreign, subs, handleSize, size := 0, r.checkPeers(fail), 0, 0, 0
	for h, p := range r.pools {
		handleSize += handlespace.HandleSize(h)
		elements += len(p.elements)
		for _, f := range p.foreign {
			size += variableSize(&f.pe.PoolElement)
		}
		if h != p.handle {
			fail("pool %q is under %q", p.handle, h)
		}
		if len(p.elements)+len(p.foreign) == 0 && p.subs.head == nil {
			fail("pool %q is unused", h)
		}
		if p.changed && p.subs.head != nil && !p.update.armed() {
			fail("pool %q has changed and no update is due", h)
		}
		if p.cursor != nil && !p.update.armed() {
			fail("pool %q is in the middle of an update that does not go on", h)
		}
		subs += r.checkSubs(p, fail)
		for id, e := range p.elements {
			if e.id != id || e.pool != p {
				fail("element %v of %q is under %v of %q", e.id, e.pool.handle, id, h)
			}
			r.checkElement(e, fail)
			size += variableSize(&e.pe.PoolElement)
			if e.awaits != nil {
				size += e.awaits.size()
			}
			if e.probe != nil {
				probes[e.probe] = true
			}
		}
	}
	if size != r.size {
		fail("elements take %d bytes, counted %d", size, r.size)
	}
	misfits := 0
	for _, p := range r.pools {
		n := 0
		for _, f := range p.foreign {
			n += count(f.misfit)
		}
		for _, e := range p.elements {
			n += count(e.misfit)
		}
		if n != p.misfits {
			fail("pool %q counts %d misfits, want %d", p.handle, p.misfits, n)
		}
		misfits += n
	}
	if misfits != r.misfits {
		fail("%d misfits are counted, want %d", r.misfits, misfits)
	}
	if elements != r.elements || handleSize != r.handleSize || subs != r.subs {
		fail("counts are %d elements, %d handle bytes, %d subscriptions; want %d, %d, %d",
			r.elements, r.handleSize, r.subs, elements, handleSize, subs)
	}
	if _, n := r.space.Len(); n != elements+foreign-r.misfits {
		fail("handlespace has %d elements, want %d of our own and %d others", n, elements, foreign)
	}
	r.checkProbes(probes, fail)
	r.checkInquiries(fail)
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	return fmt.Errorf("invariants broken: %q", bad)
}

type failFunc func(format string, args ...any)

func (r *Registrar) checkTimers(fail failFunc) {
	h := r.timers.heap
	for i, t := range h {
		if t.place != i+1 || t.owner == nil {
			fail("timer %d has place %d", i, t.place)
		}
		if i > 0 && r.timers.less(i, (i-1)/2) {
			fail("timer %d is before its parent", i)
		}
	}
}

// checkAssocs returns the probes that associations know.
func (r *Registrar) checkAssocs(fail failFunc) map[*probe]bool {
	probes := make(map[*probe]bool)
	n, missed, held := 0, 0, 0
	var up [vias]uint64
	for a := r.oldest; a != nil; a = a.newer {
		n++
		if r.assocs[a.id] != a {
			fail("association %d is listed but not known", a.id)
		}
		if a.newer == nil && r.newest != a || a.newer != nil && a.newer.older != a {
			fail("association %d is badly linked", a.id)
		}
		if a.up {
			up[viaIndex(a.via)]++
		} else if len(a.claims) > 0 || len(a.subs) > 0 || a.elements.n > 0 {
			fail("association %d is in use but not up", a.id)
		}
		if p := a.probe; p != nil {
			probes[p] = true
			if p.assoc != a || p.state != probeConnecting && p.state != probeAsking {
				fail("association %d has a probe in state %d that has not it", a.id, p.state)
			}
		}
		held += len(a.held)
		for _, h := range a.held {
			if h.assoc != a || !h.timer.armed() || !a.up {
				fail("association %d has a held registration that is none", a.id)
			}
		}
		checkList(&a.elements, func(e *element) bool { return e.assoc == a && e.probe == nil }, fail)
		for _, c := range a.claims {
			if c.assoc != a || !c.isListed() || r.entry(c.on.pool.handle, c.on.pe.ID) != c.on {
				fail("association %d has a claim that is none", a.id)
			}
		}
		missed += len(a.missed)
		if len(a.missed) > maxMissedPerAssoc || len(a.missed) > 0 && !a.up {
			fail("association %d has missed %d elements", a.id, len(a.missed))
		}
		idle := a.ours && a.elements.n == 0 && len(a.subs) == 0 && len(a.claims) == 0 && a.probe == nil
		if a.linger.armed() && !idle {
			fail("association %d is to be closed but in use", a.id)
		}
	}
	if n != len(r.assocs) {
		fail("%d associations are listed, %d known", n, len(r.assocs))
	}
	if missed != r.missed || missed > maxMissed {
		fail("%d elements are missed, counted %d", missed, r.missed)
	}
	if held != r.held || held > maxHeld {
		fail("%d registrations are held, counted %d", held, r.held)
	}
	if up != r.stats.Associations {
		fail("%v associations are up, counted are %v", up, r.stats.Associations)
	}
	for k, a := range r.byPrimary {
		if r.assocs[a.id] != a || !a.up || a.peer[0] != k.addr || a.via != k.via || k.encap != 0 && a.encap != k.encap {
			fail("association %d is under %v", a.id, k)
		}
	}
	return probes
}

func checkList(l *elements, mine func(*element) bool, fail failFunc) {
	n := 0
	var last *element
	for e := l.head; e != nil; e = e.next {
		n++
		if e.list != l || e.prev != last || !mine(e) {
			fail("element %v is in the wrong list", e.id)
		}
		last = e
	}
	if n != l.n || l.tail != last {
		fail("list of %d elements counts %d", n, l.n)
	}
}

// checkPlace: an element is in the handlespace, or does not fit what is there.
func (r *Registrar) checkPlace(e *entry, fail failFunc) {
	sp := r.space.Pool(e.pool.handle)
	switch {
	case sp == nil || !e.misfit && sp.Element(e.pe.ID) != e.pe:
		fail("element %v is not in the handlespace", e.pe.ID)
	case e.misfit && (sp.Element(e.pe.ID) != nil || sp.Policy() == e.pe.Policy.Type && fitsTransport(sp, e)):
		fail("element %v is set aside, but it fits", e.pe.ID)
	}
}

func fitsTransport(p *handlespace.Pool, e *entry) bool {
	t, use := p.Transport()
	return t == e.pe.UserTransport.Type && (t != rserpool.SCTP || use == e.pe.UserTransport.Use)
}

func (r *Registrar) checkElement(e *element, fail failFunc) {
	r.checkPlace(&e.entry, fail)
	if e.pe.Home != r.id || !e.pe.ASAPTransport.Present() {
		fail("element %v has home %v and ASAP transport %v", e.id, e.pe.Home, e.pe.ASAPTransport)
	}
	if t := &e.pe.UserTransport; hasAddrs(t) && len(t.Addrs) == 0 {
		fail("element %v has no address", e.id)
	}
	if w := e.awaits; w != nil && (w.on != e || w.timer.armed() != (len(w.kept) > 0)) {
		fail("element %v waits for addresses, of which it keeps %v, timer %v", e.id, w.kept, w.timer.armed())
	}
	if (e.assoc == nil) == (e.probe == nil) {
		fail("element %v has both or neither of association and probe", e.id)
	}
	if a := e.assoc; a != nil && (r.assocs[a.id] != a || !a.up || e.list != &a.elements || !e.keepAlive.armed()) {
		fail("element %v is not supervised", e.id)
	}
	if p := e.probe; p != nil && (p.state == probeOver || e.list != &p.asked && e.list != &p.waiting || e.keepAlive.armed() || e.waiting) {
		fail("element %v is not probed", e.id)
	}
	if e.life.armed() == e.pe.Expires.IsZero() {
		fail("element %v expires %v, timer %v", e.id, e.pe.Expires, e.life.armed())
	}
	r.checkClaims(&e.entry, fail)
	for c := e.claim; c != nil; c = c.next {
		switch {
		case c.timer.armed() != (!c.isRegistration() && (e.waiting || e.probe != nil)):
			fail("element %v waiting %v has a claim, registration %v, timer %v", e.id, e.waiting, c.isRegistration(), c.timer.armed())
		case !e.waiting && e.probe == nil && e.keepAlive.at.Sub(r.now) > minAskGap:
			fail("element %v has a claim and is not asked", e.id)
		}
	}
	if len(e.reports) > r.cfg.Timers.MaxBadPEReport {
		fail("element %v has %d reports", e.id, len(e.reports))
	}
}

// isListed reports whether the claim is among those of its element.
func (c *claim) isListed() bool {
	for x := c.on.claim; x != nil; x = x.next {
		if x == c {
			return true
		}
	}
	return false
}

func (r *Registrar) checkClaims(x *entry, fail failFunc) {
	kinds := make(map[bool]bool)
	for c := x.claim; c != nil; c = c.next {
		if c.on != x || r.assocs[c.assoc.id] != c.assoc || !slices.Contains(c.assoc.claims, c) || kinds[c.isRegistration()] {
			fail("element %v has a claim that its association does not know, or two", x.pe.ID)
		}
		kinds[c.isRegistration()] = true
	}
}

func (r *Registrar) checkSubs(p *pool, fail failFunc) int {
	n, cursor := 0, p.cursor == nil
	var last *subscription
	for s := p.subs.head; s != nil; s = s.next {
		n++
		if s.pool != p || s.prev != last || s.assoc.subs[p] != s || r.assocs[s.assoc.id] != s.assoc {
			fail("subscription of %q is badly linked", p.handle)
		}
		cursor = cursor || p.cursor == s
		last = s
	}
	if p.subs.tail != last || !cursor {
		fail("subscriptions of %q are badly linked", p.handle)
	}
	return n
}

func (r *Registrar) checkProbes(probes map[*probe]bool, fail failFunc) {
	running, queued := 0, 0
	for p := range probes {
		checkList(&p.waiting, func(e *element) bool { return e.probe == p && e.assoc == nil }, fail)
		checkList(&p.asked, func(e *element) bool { return e.probe == p && e.assoc == nil }, fail)
		if p.waiting.n+p.asked.n == 0 {
			fail("probe without elements")
		}
		switch p.state {
		case probeConnecting, probeAsking:
			running++
			if !p.timer.armed() {
				fail("probe without a timer")
			}
			if p.state == probeAsking && p.asked.n < askWindow && p.waiting.n > 0 {
				fail("probe that does not ask")
			}
		case probeDelayed:
			if !p.timer.armed() {
				fail("probe without a timer")
			}
		case probeQueued:
			queued++
			if !slices.Contains(r.probes.queue, p) {
				fail("probe that is not queued")
			}
		}
	}
	if len(probes) != r.probing || running != r.probes.running {
		fail("%d probes, %d running; counted are %d, %d", len(probes), running, r.probing, r.probes.running)
	}
	if queued > 0 && running < r.cfg.Limits.Probes {
		fail("%d probes are queued while %d run", queued, running)
	}
}

// checkPeers checks the rosters, and returns the number of foreign elements.
func (r *Registrar) checkPeers(fail failFunc) int {
	r.checkRoster(&r.roster, fail)
	if r.roster.n != r.elements {
		fail("%d elements are in the roster, want %d", r.roster.n, r.elements)
	}
	foreign, sessions := 0, 0
	for _, p := range r.peers.list {
		r.checkRoster(&p.roster, fail)
		foreign += p.roster.n
		if r.peers.byID[p.id] != p || p.id != p.roster.home || p.gone {
			fail("peer %v is listed but not known", p.id)
		}
		if !p.watch.armed() {
			fail("peer %v is not watched", p.id)
		}
		if p.assoc != nil && (r.assocs[p.assoc.id] != p.assoc || !p.assoc.enrp) {
			fail("peer %v has an association that is none", p.id)
		}
		if (p.takeover != nil) != (p.state == PeerDying || p.state == PeerTaken) {
			fail("peer %v is %v, takeover %v", p.id, p.state, p.takeover != nil)
		}
		if (p.audit.number != 0) != p.audit.timer.armed() {
			fail("peer %v has audit %d, timer %v", p.id, p.audit.number, p.audit.timer.armed())
		}
		if p.session != nil {
			sessions++
			if !slices.Contains(r.peers.sessions, p.session) || !p.session.timer.armed() {
				fail("peer %v has a download that does not end", p.id)
			}
		}
	}
	if len(r.peers.byID) != len(r.peers.list) || sessions != len(r.peers.sessions) {
		fail("%d peers, %d downloads; want %d, %d", len(r.peers.byID), len(r.peers.sessions), len(r.peers.list), sessions)
	}
	heard := 0
	for _, c := range r.peers.seeds {
		if c.from.IsValid() {
			heard++
		}
		if c.gone || !c.busy && !c.timer.armed() {
			fail("seed at %v is called never again", c.addrs)
		}
	}
	if heard > r.cfg.Limits.Servers {
		fail("%d registrars are called since they were heard", heard)
	}
	known := 0
	for _, p := range r.pools {
		known += len(p.foreign)
		for id, e := range p.foreign {
			if e.pe.ID != id || e.pool != p || e.roster == nil {
				fail("foreign element %v of %q is not there", id, p.handle)
			}
			r.checkPlace(e, fail)
			r.checkClaims(e, fail)
			for c := e.claim; c != nil; c = c.next {
				if !c.timer.armed() {
					fail("foreign element %v has a claim that does not end", id)
				}
			}
		}
	}
	if known != foreign {
		fail("%d foreign elements are in pools, %d in rosters", known, foreign)
	}
	return foreign
}

// checkRoster compares a roster's checksum with a full computation.
func (r *Registrar) checkRoster(l *roster, fail failFunc) {
	var sum enrp.Checksum
	n := 0
	var last *entry
	for e := l.head; e != nil; e = e.after {
		n++
		sum.Add(e.pool.handle, e.pe.ID)
		if e.roster != l || e.before != last || e.pe.Home != l.home {
			fail("element %v is in the wrong roster", e.pe.ID)
		}
		last = e
	}
	if n != l.n || l.tail != last || sum != l.sum {
		fail("roster of %v counts %d elements with checksum %v, want %d with %v", l.home, l.n, l.sum.Value(), n, sum.Value())
	}
}

func (r *Registrar) checkInquiries(fail failFunc) {
	calls := 0
	for key, q := range r.inquiries.all {
		if q.key != key || !q.timer.armed() {
			fail("inquiry %v without a timer", q.key)
		}
		if q.ref != 0 {
			calls++
		}
		if q.state != inquiryAsking && q.assoc != nil || q.ref != 0 && q.assoc != nil {
			fail("inquiry %v in state %d has an association", q.key, q.state)
		}
		if a := q.assoc; a != nil && a.inquiry != nil && (a.inquiry != q || a.up || r.assocs[a.id] != a) {
			fail("inquiry %v has a call that is none", q.key)
		}
	}
	if len(r.inquiries.all) > maxInquiries || calls > len(r.inquiries.calls) || len(r.inquiries.calls) > maxInquiryCalls {
		fail("%d inquiries, %d calls of %d", len(r.inquiries.all), calls, len(r.inquiries.calls))
	}
}
