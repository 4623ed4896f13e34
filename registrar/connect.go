package registrar

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// connector keeps up a link to the place of a registrar. Each peer has one. The others
// are the seeds: the configured peers, the places of former peers, and the places of
// registrars that were heard by multicast.
type connector struct {
	addrs []netip.AddrPort
	via   rserpool.Via
	of    rserpool.ServerID // the peer that has it; 0 for a seed
	ref   uint64            // of the Connect that has no AssocID yet, or 0
	busy  bool              // a Connect is under way, or its link up
	timer timer             // for the next Connect
	// left is how many times the place of a former peer, or of a registrar that was
	// heard by multicast, is tried; 0 for all others.
	left  int
	tried time.Time  // when the last Connect was
	from  netip.Addr // where the multicast came from, if that is the reason for it
	gone  bool       // its peer is forgotten
	self  bool       // the registrar has found itself there
	// barred tells that whoever is there may not be a registrar, which was logged.
	barred bool
	// missing tells that a configured place cannot be reached, which was logged.
	missing bool
}

const (
	// maxFormer is how many places of former peers are tried, maxFormerTries how
	// often.
	maxFormer      = 64
	maxFormerTries = 120
)

// target is the peer that a connector belongs to; nil if it is a seed, or that peer is
// forgotten.
func (r *Registrar) target(c *connector) *peer {
	if c.of == 0 || c.gone {
		return nil
	}
	return r.peers.byID[c.of]
}

// addSeed has a place tried so many times, the first time soon.
func (r *Registrar) addSeed(addrs []netip.AddrPort, left int, from netip.Addr) *connector {
	c := &connector{addrs: addrs, left: left, from: from}
	r.peers.seeds = append(r.peers.seeds, c)
	return c
}

func (r *Registrar) dropSeed(c *connector) {
	r.timers.Stop(&c.timer)
	r.peers.seeds = slices.DeleteFunc(r.peers.seeds, func(s *connector) bool { return s == c })
}

// remember makes a former peer's addresses a seed, unless seeds have all of them.
func (r *Registrar) remember(addrs []netip.AddrPort) {
	former, left := 0, slices.Clone(addrs)
	for _, c := range r.peers.seeds {
		if c.from.IsValid() {
			continue
		}
		if left = without(left, c.addrs); overlap(c.addrs, addrs) && c.left > 0 {
			c.left = maxFormerTries
		}
		if c.left > 0 {
			former++
		}
	}
	if len(left) > 0 && former < maxFormer {
		r.connectLater(r.addSeed(addrs, maxFormerTries, netip.Addr{}))
	}
}

// connect opens a link, unless there is one already.
func (r *Registrar) connect(c *connector) {
	p := r.target(c)
	if c.busy || len(c.addrs) == 0 || p != nil && p.link != nil {
		return
	}
	to := r.free(c)
	if len(to) == 0 {
		if a := r.at(true, anySCTP, c.addrs, 0); a != nil && a.link.sender == nil { // both have given the other up, but not the link
			r.write(a.link, r.presence(0, true))
		}
		r.connectLater(c)
		return
	}
	if p != nil && !p.heard && !r.peers.unheard.allow(r.now, unheardTries) {
		r.connectLater(c)
		return
	}
	r.refs++
	c.ref, c.busy, c.tried = r.refs, true, r.now
	r.peers.connecting[c.ref] = c
	r.timers.Stop(&c.timer)
	r.act(Connect{Ref: c.ref, PPID: enrp.PPID, To: to, Via: c.via})
}

// free are the addresses of a connector at which there may be a registrar that the
// registrar has no link with. Several machines may have one address, such as that of a
// bridge for containers or a virtual one. The address stands for the machine that has
// proved to be there, which may be this one, and must not hide the others.
//
// An address may be one that a linked peer lists as well. It is left out if there are
// others, since the kernel refuses to connect to addresses of two peers at once. If
// there is no other, the place counts as that peer's, unless the connector is for
// another registrar, known by its identifier.
func (r *Registrar) free(c *connector) []netip.AddrPort {
	left := slices.DeleteFunc(slices.Clone(c.addrs), r.isOurs)
	if len(left) == 0 && c.isConfigured() && !c.self { // the user may know better, having another UDP port
		left = c.addrs
	}
	var claimed []netip.AddrPort
	for _, a := range r.peers.links {
		if len(a.peer) > 0 {
			left = without(left, a.peer[:1])
			claimed = append(append(claimed, a.peer[1:]...), a.claimed...)
		}
	}
	for _, p := range r.peers.list {
		if p.link != nil {
			claimed = append(claimed, p.conn.addrs...)
		}
	}
	if rest := without(left, claimed); len(rest) > 0 || c.of == 0 && !c.from.IsValid() {
		return rest
	}
	return left
}

// isConfigured reports whether the connector is for an address of Config.Peers.
func (c *connector) isConfigured() bool { return c.of == 0 && !c.from.IsValid() && c.left == 0 }

// notReached warns that a configured peer cannot be reached, once until it is.
func (r *Registrar) notReached(c *connector, why error) {
	if c == nil || !c.isConfigured() || c.missing || why == nil {
		return
	}
	text := strings.ReplaceAll(why.Error(), "\n", "; ")
	if strings.ContainsFunc(text, unicode.IsControl) { // it may have names from a certificate
		text = strconv.QuoteToASCII(text)
	}
	c.missing = r.logf(true, "peer %v cannot be reached: %s. This line is not repeated until it is", c.addrs[0], text)
}

// reached logs that a configured peer can be reached again, whichever side has opened the link.
func (r *Registrar) reached(a *link) {
	for _, c := range r.peers.seeds {
		if c.missing && (a.by == c || len(a.peer) > 0 && slices.Contains(c.addrs, a.peer[0])) {
			c.missing = !r.logf(false, "peer %v is reached", c.addrs[0])
		}
	}
}

// connectLater sets the time for the next try: PEER-CALL-GAP if the start depends on
// it, or a peer or a configured place is to be reached; PEER-HEARTBEAT-CYCLE otherwise.
// A configured registrar that has come back, and that no one has told of this one,
// serves without the handlespace until there is a link.
func (r *Registrar) connectLater(c *connector) {
	if c.gone {
		return
	}
	after := r.cfg.Timers.PeerHeartbeat
	if c.of != 0 || !r.Ready() || c.isConfigured() {
		after = min(after, r.cfg.Timers.PeerCallGap)
	}
	r.timers.Arm(&c.timer, c, r.now.Add(after))
}

// connectSoon has all places tried soon that were to be tried later.
func (r *Registrar) connectSoon() {
	all := slices.Clone(r.peers.seeds)
	for _, p := range r.peers.list {
		all = append(all, &p.conn)
	}
	for _, c := range all {
		if !c.busy && c.timer.Armed() {
			r.hasten(c)
		}
	}
}

// hasten has a place tried soon that was to be tried later.
func (r *Registrar) hasten(c *connector) {
	if c.left > 0 {
		c.left = maxFormerTries
	}
	at := c.tried.Add(r.cfg.Timers.PeerCallGap)
	if !c.busy && r.timers.At(&c.timer).After(at) {
		r.timers.Arm(&c.timer, c, at)
	}
}

// Due makes the next try.
func (c *connector) Due(r *Registrar, _ *timer) {
	if c.busy { // the registrar there has accepted the link, and does not identify itself
		for _, a := range r.peers.links {
			if a.by == c {
				r.act(Close{Assoc: a.id, Abort: true})
			}
		}
		return
	}
	if c.left > 0 {
		if c.left--; c.left == 0 {
			r.dropSeed(c)
			return
		}
	}
	r.connect(c)
}

// onLinkConnecting: the host has named the association of a Connect.
func (r *Registrar) onLinkConnecting(c *connector, ev Connecting) {
	delete(r.peers.connecting, ev.Ref)
	c.ref = 0
	if ev.Assoc == 0 || r.assocs[ev.Assoc] != nil {
		c.busy = false
		r.connectLater(c)
		return
	}
	a := r.newLink(ev.Assoc)
	a.ours, a.by, a.via = true, c, c.via
}
