package registrar

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// entries are the elements of some rosters in all states, the members of each first.
func (r *Registrar) entries(rosters ...*roster) (list []*entry) {
	for _, of := range rosters {
		for _, s := range []ledger.State{ledger.Member, ledger.Unconfirmed, ledger.Suspect} {
			for x := of.FirstOf(s); x != nil; x = of.Next(x) {
				list = append(list, x)
			}
		}
	}
	return list
}

// allEntries are those of all homes, the own ones first.
func (r *Registrar) allEntries() []*entry {
	rosters := []*roster{r.roster}
	for _, p := range r.peers.list {
		rosters = append(rosters, p.roster)
	}
	return r.entries(rosters...)
}

// sortedElements are the own elements that are no suspects, in the order of pools and
// identifiers.
func (r *Registrar) sortedElements() []*element {
	var list []*element
	for _, x := range r.entries(r.roster) {
		if x.State() != ledger.Suspect {
			list = append(list, x.Note.own)
		}
	}
	slices.SortFunc(list, func(a, b *element) int {
		return cmp.Or(cmp.Compare(a.Handle(), b.Handle()), cmp.Compare(a.ID(), b.ID()))
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

	probes := r.checkAssocs(fail)
	r.checkPeers(fail)
	r.checkPools(fail)
	for _, x := range r.allEntries() {
		r.checkPlace(x, fail)
		r.checkClaims(x, fail)
		e := x.Note.own
		if (e != nil) != (x.Roster() == r.roster) || r.ledger.Find(x.Handle(), x.ID()) != x {
			fail("entry %v of %q is in the wrong hands", x.ID(), x.Handle())
		}
		if e == nil {
			continue
		}
		if e.entry != x {
			fail("element %v of %q is not that of its entry", x.ID(), x.Handle())
		}
		r.checkElement(e, fail)
		if e.probe != nil {
			probes[e.probe] = true
		}
	}
	r.checkProbes(probes, fail)
	r.checkGuard(probes, fail)
	r.checkInquiries(fail)
	if len(bad) == 0 {
		return nil
	}
	slices.Sort(bad)
	return fmt.Errorf("invariants broken: %q", bad)
}

// checkPools recounts what the limits count.
func (r *Registrar) checkPools(fail failFunc) {
	var want ledger.Limits
	pools, aside, served, suspects := make(map[rserpool.PoolHandle]bool), 0, 0, 0 // whether it is served
	for _, x := range r.allEntries() {
		pools[x.Handle()] = pools[x.Handle()] || x.Served()
		served += count(x.Served())
		want.Elements++
		want.ElementBytes += ledger.Size(x.PE().UserTransport, x.PE().ASAPTransport) + len(x.PE().Identity)
		for _, u := range x.PE().Unknown {
			want.ElementBytes += 48 + len(u.Value)
		}
		if e := x.Note.own; e != nil && e.awaits != nil {
			want.ElementBytes += e.awaits.size()
		}
		aside += count(x.Aside())
		suspects += count(x.State() == ledger.Suspect)
	}
	servedPools := 0
	for h, is := range pools {
		servedPools += count(is)
		want.Pools++
		want.HandleBytes += handlespace.HandleSize(h)
	}
	if got := r.ledger.Used(); got != want {
		fail("the ledger uses %+v, want %+v", got, want)
	}
	for h := range r.settling.dark {
		if r.space.Pool(h) != nil || r.ledger.Pool(h).Elements == 0 {
			fail("pool %s is remembered as one that is out of answers", quote(h))
		}
	}
	if n := r.ledger.Suspects(); n != suspects || r.Stats().Suspects != uint64(suspects) {
		fail("%d suspects are counted, want %d", n, suspects)
	}
	if aside != r.ledger.Aside() {
		fail("%d elements are set aside, want %d", r.ledger.Aside(), aside)
	}
	if p, n := r.space.Len(); p != servedPools || n != served {
		fail("handlespace has %d pools and %d elements, want %d and %d", p, n, servedPools, served)
	}
	subs := 0
	for h, p := range r.watched {
		if h != p.handle {
			fail("pool %q is under %q", p.handle, h)
		}
		if !pools[h] && p.subs.Len() == 0 {
			fail("pool %q is unused", h)
		}
		if p.changed && p.subs.Len() > 0 && !p.update.Armed() {
			fail("pool %q has changed and no update is due", h)
		}
		if p.cursor != nil && !p.update.Armed() {
			fail("pool %q is in the middle of an update that does not go on", h)
		}
		subs += r.checkSubs(p, fail)
	}
	if subs != r.subs {
		fail("%d subscriptions are counted, want %d", r.subs, subs)
	}
}

type failFunc func(format string, args ...any)

// checkAssocs returns the probes that associations know.
func (r *Registrar) checkAssocs(fail failFunc) map[*probe]bool {
	probes := make(map[*probe]bool)
	held := 0
	var up [vias]uint64
	for id, a := range r.assocs {
		if a.id != id {
			fail("association %d is entered as %d", a.id, id)
		}
		if a.up {
			up[viaIndex(a.via)]++
		}
		if (a.client == nil) == (a.link == nil) || a.link != nil && &a.link.assoc != a || a.client != nil && &a.client.assoc != a {
			fail("association %d is of both endpoints, or of none", a.id)
		}
		if a.client == nil {
			continue
		}
		r.checkClient(a.client, fail)
		if a.client.probe != nil {
			probes[a.client.probe] = true
		}
		held += len(a.client.held)
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

func (r *Registrar) checkClient(a *client, fail failFunc) {
	if !a.up && (len(a.claims) > 0 || len(a.subs) > 0 || a.elements.Len() > 0) {
		fail("association %d is in use but not up", a.id)
	}
	if p := a.probe; p != nil {
		if p.assoc != a || p.state != probeConnecting && p.state != probeAsking {
			fail("association %d has a probe in state %d that has not it", a.id, p.state)
		}
	}
	for _, h := range a.held {
		if h.assoc != a || !h.timer.Armed() || !a.up {
			fail("association %d has a held registration that is none", a.id)
		}
	}
	checkList(&a.elements, func(e *element) bool { return e.assoc == a && e.probe == nil }, fail)
	for _, c := range a.claims {
		if c.assoc != a || !c.isListed() || r.ledger.Find(c.on.Handle(), c.on.ID()) != c.on {
			fail("association %d has a claim that is none", a.id)
		}
	}
	silent := 0
	for e := a.elements.First(); e != nil; e = e.place.Next() {
		silent += count(e.silence != nil)
	}
	if silent != a.silent.Len() {
		fail("association %d has %d silent elements, listed are %d", a.id, silent, a.silent.Len())
	}
	idle := a.ours && a.elements.Len() == 0 && len(a.subs) == 0 && len(a.claims) == 0 && a.probe == nil
	if a.linger.Armed() && !idle {
		fail("association %d is to be closed but in use", a.id)
	}
}

func checkList(l *chain.List[element], mine func(*element) bool, fail failFunc) {
	n := 0
	for e := l.First(); e != nil; e = e.place.Next() {
		n++
		if !e.place.In(l) || !mine(e) {
			fail("element %v is in the wrong list", e.ID())
		}
	}
	if n != l.Len() {
		fail("list of %d elements counts %d", n, l.Len())
	}
}

// checkPlace: an element is in the handlespace, or does not fit what is there.
func (r *Registrar) checkPlace(e *entry, fail failFunc) {
	sp := r.space.Pool(e.Handle())
	if r.review.cursor != nil {
		return // it may not have been looked at yet
	}
	excluded := r.excluded(e.Handle(), e.PE()) != nil
	switch {
	case !e.Served() && (excluded || !e.Aside()) && (sp == nil || sp.Element(e.ID()) == nil):
		if !e.Aside() && e.State() != ledger.Suspect {
			fail("element %v is no suspect, and not in the handlespace", e.ID())
		}
	case excluded:
		fail("element %v is in the handlespace against the pool's rule", e.ID())
	case sp == nil || !e.Aside() && sp.Element(e.ID()) != e.PE():
		fail("element %v is not in the handlespace", e.ID())
	case e.Aside() && (sp.Element(e.ID()) != nil || sp.Policy() == e.PE().Policy.Type && fitsTransport(sp, e)):
		fail("element %v is set aside, but it fits", e.ID())
	}
}

func fitsTransport(p *handlespace.Pool, e *entry) bool {
	t, use := p.Transport()
	return t == e.PE().UserTransport.Type && (t != rserpool.SCTP || use == e.PE().UserTransport.Use)
}

func (r *Registrar) checkElement(e *element, fail failFunc) {
	if e.PE().Home != r.id || !e.PE().ASAPTransport.Present() {
		fail("element %v has home %v and ASAP transport %v", e.ID(), e.PE().Home, e.PE().ASAPTransport)
	}
	if t := &e.PE().UserTransport; hasAddrs(t) && len(t.Addrs) == 0 {
		fail("element %v has no address", e.ID())
	}
	if w := e.awaits; w != nil && (w.on != e || w.timer.Armed() != (len(w.kept) > 0)) {
		fail("element %v waits for addresses, of which it keeps %v, timer %v", e.ID(), w.kept, w.timer.Armed())
	}
	if (e.assoc == nil) == (e.probe == nil) {
		fail("element %v has both or neither of association and probe", e.ID())
	}
	if a := e.assoc; a != nil && (r.assocs[a.id] != &a.assoc || !a.up || !e.place.In(&a.elements) || !e.keepAlive.Armed()) {
		fail("element %v is not supervised", e.ID())
	}
	if p := e.probe; p != nil && (p.state == probeOver || !e.place.In(&p.asked) && !e.place.In(&p.waiting) || e.keepAlive.Armed() || e.waiting) {
		fail("element %v is not probed", e.ID())
	}
	if e.life.Armed() && e.PE().Expires.IsZero() || e.isExpired() && !e.waiting && e.probe == nil && e.silence == nil {
		fail("element %v expires %v, timer %v", e.ID(), e.PE().Expires, e.life.Armed())
	}
	r.checkSilence(e, fail)
	for c := e.Note.claim; c != nil; c = c.next {
		switch {
		case c.timer.Armed() != (e.silence != nil || !c.isRegistration() && (e.waiting || e.probe != nil)):
			fail("element %v waiting %v has a claim, registration %v, timer %v", e.ID(), e.waiting, c.isRegistration(), c.timer.Armed())
		case !e.waiting && e.silence == nil && e.probe == nil && r.timers.At(&e.keepAlive).Sub(r.now) > minAskGap:
			fail("element %v has a claim and is not asked", e.ID())
		case !c.granted.IsZero():
			fail("element %v has a claim that is granted as one on a suspect of a peer", e.ID())
		}
	}
	if len(e.reports) > r.cfg.Timers.MaxBadPEReport {
		fail("element %v has %d reports", e.ID(), len(e.reports))
	}
}

func (r *Registrar) checkSilence(e *element, fail failFunc) {
	s := e.silence
	if (e.State() == ledger.Suspect) != e.isSuspect() {
		fail("element %v is in state %v, suspect %v", e.ID(), e.State(), e.isSuspect())
	}
	if s == nil {
		return
	}
	if s.on != e || s.suspect != s.over.Armed() || (e.assoc != nil) != (e.assoc != nil && s.place.In(&e.assoc.silent)) {
		fail("element %v is silent, suspect %v, timer %v", e.ID(), s.suspect, s.over.Armed())
	}
	if s.suspect && !s.since.Equal(e.Since()) {
		fail("element %v is a suspect since %v and %v", e.ID(), s.since, e.Since())
	}
}

// checkGuard recounts the lines.
func (r *Registrar) checkGuard(probes map[*probe]bool, fail failFunc) {
	var all []*line
	members, spares := make(map[*line]int), 0
	for _, a := range r.assocs {
		if a.client != nil {
			all = append(all, &a.client.line)
		}
	}
	for p := range probes {
		all = append(all, &p.line)
	}
	for _, x := range r.entries(r.roster) {
		e := x.Note.own
		members[e.line()] += count(!e.isSuspect() && !e.mute)
		spares += count(e.silence != nil && !e.isSuspect())
	}
	var want guard
	want.tick, want.began = r.tickNow(), r.guard.began
	recounted := make(map[*site]*site)
	for _, l := range all {
		if l.members != members[l] || l.members == 0 && (l.state != lineFine || l.site != nil) {
			fail("line has %d members, state %d, site %v, want %d", l.members, l.state, l.site, members[l])
		}
		copied := *l
		if x := l.site; x != nil {
			if recounted[x] == nil {
				recounted[x] = &site{at: x.at, heard: x.heard}
			}
			copied.site = recounted[x]
		}
		want.count(&copied, 1)
	}
	for x, again := range recounted {
		if *x != *again || r.guard.sites.at[x.at] != x {
			fail("site %v, want %v", *x, *again)
		}
	}
	if g := &r.guard.sites; len(g.at) != len(recounted) || g.words != want.sites.words || g.missing != want.sites.missing || r.guard.on && g.heard != want.sites.heard {
		fail("%d sites, %d missing, %d heard, words %v; want %d, %d, %d, %v", len(g.at), g.missing, g.heard, g.words, len(recounted), want.sites.missing, want.sites.heard, want.sites.words)
	}
	if g := &r.guard; g.lines != want.lines || g.words != want.words || g.on && g.heard != want.heard || g.spares != spares || g.on != g.timer.Armed() {
		fail("lines %v, %d heard, words %v, %d spared; want %v, %d, %v, %d; guard on: %v", g.lines, g.heard, g.words, g.spares, want.lines, want.heard, want.words, spares, g.on)
	}
}

// isListed reports whether the claim is among those of its element.
func (c *claim) isListed() bool {
	for x := c.on.Note.claim; x != nil; x = x.next {
		if x == c {
			return true
		}
	}
	return false
}

func (r *Registrar) checkClaims(x *entry, fail failFunc) {
	kinds := make(map[bool]bool)
	for c := x.Note.claim; c != nil; c = c.next {
		if c.on != x || r.assocs[c.assoc.id] != &c.assoc.assoc || !slices.Contains(c.assoc.claims, c) || kinds[c.isRegistration()] {
			fail("element %v has a claim that its association does not know, or two", x.ID())
		}
		kinds[c.isRegistration()] = true
	}
}

func (r *Registrar) checkSubs(p *watched, fail failFunc) int {
	n, cursor := 0, p.cursor == nil
	for s := p.subs.First(); s != nil; s = s.place.Next() {
		n++
		if s.pool != p || s.assoc.subs[p] != s || r.assocs[s.assoc.id] != &s.assoc.assoc {
			fail("subscription of %q is badly linked", p.handle)
		}
		cursor = cursor || p.cursor == s
	}
	if p.subs.Len() != n || !cursor {
		fail("subscriptions of %q are badly linked", p.handle)
	}
	return n
}
