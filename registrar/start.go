package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// start is how a registrar gets its first handlespace (RFC 5353, Section 3.2): from a
// mentor, which is the first peer that is heard, or, if that does not respond or
// refuses, from another one. A registrar that knows no peer starts with what it has, as
// does one that gets no handlespace within twice MAX-TIME-NO-RESPONSE: two registrars
// that start at the same time have none to give. It waits longer only while a peer has
// a handlespace and refuses to give it. If the registrar looks for peers by multicast,
// it listens for the time of mentor discovery.
type start struct {
	running     bool
	until       time.Time // when the start ends, unless a mentor sends
	discovery   time.Time // until when multicast presences may delay that
	heard       heardOne  // the last registrar that was heard by multicast
	mentor      *peer
	downloading bool
	transfer
	told    time.Time // when it was logged that a mentor refuses
	tried   []*peer   // mentors that have failed
	probes  probesAt  // of elements that were own ones before
	refused int       // registrations
	timer   timer
}

// Ready reports whether the registrar has a handlespace. Before that, it refuses
// registrations and resolutions, and does not act as a mentor.
func (r *Registrar) Ready() bool { return !r.start.running }

func (r *Registrar) beginStart() {
	s := &r.start
	if !s.running {
		return // no other registrar is known
	}
	s.probes = make(probesAt)
	s.until = r.now
	if len(r.cfg.Peers) > 0 {
		s.until = r.now.Add(2 * r.cfg.Timers.MaxTimeNoResponse)
	}
	if r.cfg.Discover {
		s.discovery = r.now.Add(r.cfg.Timers.MentorDiscovery)
		s.delay(s.discovery)
	}
	r.timers.Arm(&s.timer, s, s.until)
}

func (s *start) delay(until time.Time) {
	if until.After(s.until) {
		s.until = until
	}
}

// heardOne is a registrar that was heard by multicast, and its address.
type heardOne struct {
	id   rserpool.ServerID
	from netip.Addr
}

// mentorHeard: a registrar was heard by multicast, and the registrar connects to it. If
// that is late, it gets time to respond.
func (r *Registrar) mentorHeard() {
	if s := &r.start; s.running && !r.now.After(s.discovery) {
		s.delay(r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	}
}

// mentorFound: a peer was found, and was asked for its list.
func (r *Registrar) mentorFound(p *peer) {
	s := &r.start
	if s.running && s.mentor == nil {
		s.mentor, s.downloading = p, false
		r.timers.Arm(&s.timer, s, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	}
}

func (r *Registrar) askMentor(p *peer) {
	r.mentorFound(p)
	r.askList(p)
}

// mentorListed: the mentor has sent its list.
func (r *Registrar) mentorListed(p *peer, rejected bool) {
	s := &r.start
	switch {
	case !s.running || s.mentor != p || s.downloading:
	case rejected:
		r.nextMentor()
	default:
		s.downloading, s.transfer = true, transfer{began: r.now}
		r.askDownload()
	}
}

func (r *Registrar) askDownload() {
	s := &r.start
	r.timers.Arm(&s.timer, s, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	r.tell(s.mentor, &enrp.HandleTableRequest{Sender: r.id, Receiver: s.mentor.id, Suspects: true})
}

// onDownload enters a part of the mentor's handlespace.
func (r *Registrar) onDownload(p *peer, m *enrp.HandleTableResponse) {
	if m.Reject {
		p.refuses = true // it has sent its list, so it has a handlespace
		r.nextMentor()
		return
	}
	p.refuses = false
	r.offerAll(p, m.Pools, inDownload)
	r.runProbes()
	switch goesOn := r.start.goesOn(r, m); {
	case m.More && goesOn:
		r.askDownload()
	case m.More:
		r.giveUpTransfer(p, &r.start.transfer)
		r.nextMentor()
	default:
		r.peers.twin.refused = time.Time{} // the mentor accepts this registrar as the only one with its identifier
		if !r.waitForTwin() {
			r.endStart()
		}
	}
}

// mentorLost: a peer is removed from the peer list.
func (r *Registrar) mentorLost(p *peer) {
	if r.start.running && r.start.mentor == p {
		r.nextMentor()
	}
}

// nextMentor asks a peer that was not asked yet. If there is none, it waits, and then
// asks all of them again.
func (r *Registrar) nextMentor() {
	s := &r.start
	s.tried = append(s.tried, s.mentor)
	s.mentor, s.downloading = nil, false
	if p := r.untried(); p != nil {
		r.askMentor(p)
		return
	}
	s.tried = nil
	at := r.now.Add(r.cfg.Timers.PeerCallGap)
	if at.After(s.until) {
		at = s.until
	}
	r.timers.Arm(&s.timer, s, at)
}

func (r *Registrar) untried() *peer {
	for _, p := range r.peers.list {
		if p.heard && p.link != nil && !slices.Contains(r.start.tried, p) {
			return p
		}
	}
	return nil
}

// beginning says what is in the handlespace when the start is over: what mentors have sent
// before they fell silent, and what a former process has left.
func (r *Registrar) beginning() string {
	if n := r.roster.LenAll() + r.peers.foreign(); n > 0 {
		return elementsText(n)
	}
	return "an empty handlespace"
}

// Due: a mentor does not respond, or the pause before the next try is over, or the time
// for the start.
func (s *start) Due(r *Registrar, _ *timer) {
	switch {
	case !r.now.Before(s.until) && (r.waitForTwin() || r.waitForRefusing()):
	case !r.now.Before(s.until):
		switch {
		case len(r.cfg.Peers)+len(r.peers.list) > 0:
			r.logf(true, "no peer has sent the handlespace: starting with %s", r.beginning())
		case s.heard.id != 0:
			r.logf(true, "no registrar has sent the handlespace, but registrar %v is heard from %v: check for a firewall between that address and this registrar's ENRP port", s.heard.id, s.heard.from)
		default:
			r.logf(false, "no other registrar was heard: starting with %s", r.beginning())
		}
		s.mentor = nil
		r.endStart()
	case s.mentor != nil:
		r.nextMentor()
	default:
		if p := r.untried(); p != nil {
			r.askMentor(p)
		} else {
			r.timers.Arm(&s.timer, s, s.until)
		}
	}
}

// waitForRefusing continues the start while a registrar with a handlespace refuses to
// give it, for instance because it has too many downloads. Without that handlespace,
// this registrar would deny pools that exist.
func (r *Registrar) waitForRefusing() bool {
	s := &r.start
	i := slices.IndexFunc(r.peers.list, func(p *peer) bool { return p.refuses && p.link != nil && p.link.up })
	if i < 0 {
		return false
	}
	if p := r.peers.list[i]; s.told.IsZero() || r.now.Sub(s.told) >= r.cfg.Timers.PeerHeartbeat {
		s.told = r.now
		r.logf(true, "registrar %v refuses to send the handlespace: retrying, and not ready until it does or leaves the scope", p.id)
	}
	s.until = r.now.Add(r.cfg.Timers.MaxTimeNoResponse)
	s.mentor, s.downloading, s.tried = nil, false, nil
	if p := r.untried(); p != nil {
		r.askMentor(p)
	} else {
		r.timers.Arm(&s.timer, s, s.until)
	}
	return true
}

func (ps *peerList) foreign() int {
	n := 0
	for _, p := range ps.list {
		n += p.roster.LenAll()
	}
	return n
}

// elementsText is a number of pool elements in words.
func elementsText(n int) string {
	if n == 1 {
		return "1 pool element"
	}
	return fmt.Sprintf("%d pool elements", n)
}

func (r *Registrar) endStart() {
	s := &r.start
	if s.mentor != nil {
		r.logf(false, "downloaded the handlespace from registrar %v: %s, %d of them own ones from before the restart", s.mentor.id, elementsText(r.peers.foreign()+r.roster.LenAll()), r.roster.LenAll())
	}
	if s.refused > 0 {
		r.logf(true, "this registrar is ready: registrations that it has refused before: %d; elements try again", s.refused)
	}
	r.timers.Stop(&s.timer)
	*s = start{}
	r.confirmHeard()
	r.keepPeers()
}
