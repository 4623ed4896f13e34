package registrar

import (
	"slices"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
)

// checkPeers checks the rosters, downloads and connectors.
func (r *Registrar) checkPeers(fail failFunc) {
	r.checkRoster(r.roster, fail)
	r.checkLeftOut(fail)
	sessions := 0
	for _, p := range r.peers.list {
		r.checkRoster(p.roster, fail)
		r.checkVigil(p, fail)
		if r.peers.byID[p.id] != p || p.id != p.roster.Home() || p.conn.gone || p.conn.of != p.id {
			fail("peer %v is listed but not known", p.id)
		}
		if !p.watch.Armed() {
			fail("peer %v is not watched", p.id)
		}
		if p.link != nil && r.assocs[p.link.id] != &p.link.assoc {
			fail("peer %v has an association that is none", p.id)
		}
		if (p.takeover != nil) != (p.state == PeerDying || p.state == PeerTaken) {
			fail("peer %v is %v, takeover %v", p.id, p.state, p.takeover != nil)
		}
		if (p.audit.number != 0) != p.audit.timer.Armed() {
			fail("peer %v has audit %d, timer %v", p.id, p.audit.number, p.audit.timer.Armed())
		}
		if p.session != nil {
			sessions++
			if !slices.Contains(r.peers.sessions, p.session) || !p.session.timer.Armed() {
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
		if c.gone || !c.busy && !c.timer.Armed() {
			fail("seed at %v is called never again", c.addrs)
		}
	}
	if heard > r.cfg.Limits.Servers {
		fail("%d registrars are called since they were heard", heard)
	}
	for _, p := range r.peers.list {
		for _, x := range r.entries(p.roster) {
			for c := x.Note.claim; c != nil; c = c.next {
				if !c.timer.Armed() {
					fail("foreign element %v has a claim that does not end", x.ID())
				}
			}
		}
	}
}

// checkRoster compares a roster's checksum with a full computation.
// checkVigil: each suspect of a peer is removed in time.
func (r *Registrar) checkVigil(p *peer, fail failFunc) {
	for x := p.roster.FirstOf(ledger.Suspect); x != nil; x = p.roster.Next(x) {
		last := x.Since().Add(r.suspectTime())
		if v := &p.vigil; !v.timer.Armed() || v.sweep == nil && r.timers.At(&v.timer).After(last) {
			fail("suspect %v of %v is to be removed at %v, armed %v", x.ID(), p.id, last, v.timer.Armed())
		}
	}
	if n := p.roster.LenOf(ledger.Unconfirmed); n > 0 {
		fail("%d elements of %v are unconfirmed", n, p.id)
	}
}

func (r *Registrar) checkRoster(l *roster, fail failFunc) {
	var sum enrp.Checksum
	all := r.entries(l)
	n := 0
	for _, x := range all {
		if x.State() == ledger.Member {
			n++
			sum.Add(x.Handle(), x.ID())
		}
		if x.Roster() != l || x.PE().Home != l.Home() {
			fail("element %v is in the wrong roster", x.ID())
		}
	}
	if n != members(l) || sum.Value() != l.Checksum() {
		fail("roster of %v counts %d elements with checksum %v, want %d with %v", l.Home(), members(l), l.Checksum(), n, sum.Value())
	}
}

func (r *Registrar) checkInquiries(fail failFunc) {
	calls := 0
	for key, q := range r.inquiries.all {
		if q.key != key || !q.timer.Armed() {
			fail("inquiry %v without a timer", q.key)
		}
		if q.ref != 0 {
			calls++
		}
		if q.state != inquiryAsking && q.assoc != nil || q.ref != 0 && q.assoc != nil {
			fail("inquiry %v in state %d has an association", q.key, q.state)
		}
		if a := q.assoc; a != nil && a.inquiry != nil && (a.inquiry != q || a.up || r.assocs[a.id] != &a.assoc) {
			fail("inquiry %v has a call that is none", q.key)
		}
	}
	if len(r.inquiries.all) > maxInquiries || calls > len(r.inquiries.connecting) || len(r.inquiries.connecting) > maxInquiryConnects {
		fail("%d inquiries, %d calls of %d", len(r.inquiries.all), calls, len(r.inquiries.connecting))
	}
}

func (r *Registrar) checkProbes(probes map[*probe]bool, fail failFunc) {
	running, queued := 0, 0
	for p := range probes {
		checkList(&p.waiting, func(e *element) bool { return e.probe == p && e.assoc == nil }, fail)
		checkList(&p.asked, func(e *element) bool { return e.probe == p && e.assoc == nil }, fail)
		if p.waiting.Len()+p.asked.Len() == 0 {
			fail("probe without elements")
		}
		switch p.state {
		case probeConnecting, probeAsking:
			running++
			if !p.timer.Armed() {
				fail("probe without a timer")
			}
			if p.state == probeAsking && p.asked.Len() < askWindow && p.waiting.Len() > 0 {
				fail("probe that does not ask")
			}
		case probeDelayed:
			if !p.timer.Armed() || p.place != "" && r.probes.resting[p.place] != p {
				fail("probe without a timer")
			}
		case probeQueued:
			queued++
			if !slices.Contains(r.probes.queue, p) && !slices.Contains(r.probes.later, p) {
				fail("probe that is not queued")
			}
		}
	}
	if len(probes) != r.probing || running != r.probes.running {
		fail("%d probes, %d running; counted are %d, %d", len(probes), running, r.probing, r.probes.running)
	}
	if r.restored.queue != nil {
		return // they do not run before the registrar serves
	}
	if queued > 0 && running < r.cfg.Limits.Probes/2 || slices.ContainsFunc(r.probes.queue, func(p *probe) bool { return p.state == probeQueued }) && running < r.cfg.Limits.Probes {
		fail("%d probes are queued while %d run", queued, running)
	}
}
