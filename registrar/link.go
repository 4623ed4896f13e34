package registrar

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// caller keeps up an association to a place where a registrar is, or should be:
// that of a peer, or a seed. Seeds are the configured peers, where others were
// that are gone, and where some are that were heard by multicast.
type caller struct {
	addrs []netip.AddrPort
	via   Via
	peer  *peer  // nil for a seed
	ref   uint64 // of the call that has no AssocID yet, or 0
	busy  bool   // a call is under way, or its association up
	timer timer  // for the next call
	// left are the calls to be made to a former peer, or to one that was heard
	// by multicast; 0 for all others.
	left   int
	called time.Time  // when it was last called
	from   netip.Addr // where it was heard from, if it is called for that
	gone   bool       // its peer is forgotten
	self   bool       // we were found there ourselves
}

const (
	// maxFormer is how many former peers are called, maxFormerCalls how often.
	maxFormer      = 64
	maxFormerCalls = 120
)

// remember makes a former peer's addresses a seed, unless seeds have all of them.
func (r *Registrar) remember(addrs []netip.AddrPort) {
	ps := &r.peers
	former, left := 0, slices.Clone(addrs)
	for _, c := range ps.seeds {
		if c.from.IsValid() {
			continue
		}
		if left = without(left, c.addrs); overlap(c.addrs, addrs) && c.left > 0 {
			c.left = maxFormerCalls
		}
		if c.left > 0 {
			former++
		}
	}
	if len(left) == 0 || former >= maxFormer {
		return
	}
	c := &caller{addrs: addrs, left: maxFormerCalls}
	ps.seeds = append(ps.seeds, c)
	r.callAgain(c)
}

func overlap(a, b []netip.AddrPort) bool {
	return slices.ContainsFunc(a, func(x netip.AddrPort) bool { return slices.Contains(b, x) })
}

// without is a without the addresses of b.
func without(a, b []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(a), func(x netip.AddrPort) bool { return slices.Contains(b, x) })
}

// call opens an association, unless there is one already.
func (r *Registrar) call(c *caller) {
	if c.busy || len(c.addrs) == 0 || c.peer != nil && c.peer.assoc != nil {
		return
	}
	to := r.free(c)
	if len(to) == 0 {
		if a := r.sctpAssociated(true, c.addrs, 0); a != nil && a.sender == nil { // both have given the other up, but not the association
			r.write(a, r.presence(0, true))
		}
		r.callAgain(c)
		return
	}
	if p := c.peer; p != nil && !p.heard && !r.peers.unheard.take(r.now, unheardCalls) {
		r.callAgain(c)
		return
	}
	r.probes.ref++
	c.ref, c.busy, c.called = r.probes.ref, true, r.now
	r.peers.calls[c.ref] = c
	r.timers.stop(&c.timer)
	r.act(Connect{Ref: c.ref, PPID: enrp.PPID, To: to, Via: c.via})
}

// free are the addresses of a caller at which somebody can be called whom we are
// not associated with. Several machines may have one address, such as that of a
// bridge for containers or a virtual one: it stands for the machine that has
// proved to be there, which can be our own, and must not hide the others.
//
// Some address of those left may be one that a peer says to have as well. It is
// left out if there are others, since the kernel refuses a call to two peers as a
// whole. Where there is no other, the place counts as the peer's, unless we know
// that it is another registrar's, by its identifier.
func (r *Registrar) free(c *caller) []netip.AddrPort {
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
		if p.assoc != nil {
			claimed = append(claimed, p.caller.addrs...)
		}
	}
	if rest := without(left, claimed); len(rest) > 0 || c.peer == nil && !c.from.IsValid() {
		return rest
	}
	return left
}

// isConfigured reports whether the user has named the caller's address.
func (c *caller) isConfigured() bool { return c.peer == nil && !c.from.IsValid() && c.left == 0 }

// callAgain makes the next call some time later: soon, where somebody waits for
// it. A configured peer that is back, and that nobody has told of us, serves
// without the handlespace until we call.
func (r *Registrar) callAgain(c *caller) {
	if c.gone {
		return
	}
	after := r.cfg.Timers.PeerHeartbeat
	if c.peer != nil || !r.Ready() || c.isConfigured() {
		after = min(after, r.cfg.Timers.PeerCallGap)
	}
	r.timers.arm(&c.timer, c, r.now.Add(after))
}

// due makes the next call.
func (c *caller) due(r *Registrar, _ *timer) {
	if c.busy { // who was heard takes our call, and does not say who it is
		for _, a := range r.peers.links {
			if a.caller == c {
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
	r.call(c)
}

func (r *Registrar) dropSeed(c *caller) {
	r.timers.stop(&c.timer)
	r.peers.seeds = slices.DeleteFunc(r.peers.seeds, func(s *caller) bool { return s == c })
}

// calling: the host has named the association of a call.
func (r *Registrar) calling(c *caller, ev Connecting) {
	delete(r.peers.calls, ev.Ref)
	c.ref = 0
	if ev.Assoc == 0 || r.assocs[ev.Assoc] != nil {
		c.busy = false
		r.callAgain(c)
		return
	}
	a := r.newAssoc(ev.Assoc)
	a.ours, a.enrp, a.caller, a.via = true, true, c, c.via
}

// linkUp: an association of the ENRP endpoint is established. Who has called
// says who it is, and asks the same of the other.
func (r *Registrar) linkUp(a *assoc) {
	r.peers.links = append(r.peers.links, a)
	if a.caller == nil {
		return
	}
	if p := a.caller.peer; p != nil && p.assoc == nil && !a.caller.gone {
		p.assoc = a
	}
	if c := a.caller; c.from.IsValid() {
		r.timers.arm(&c.timer, c, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	}
	r.write(a, r.presence(0, true))
}

// linkDown: an association of the ENRP endpoint has ended, or did not come up.
func (r *Registrar) linkDown(a *assoc) {
	r.peers.links = slices.DeleteFunc(r.peers.links, func(x *assoc) bool { return x == a })
	if c := a.caller; c != nil {
		a.caller, c.busy = nil, false
		r.callAgain(c)
		if p := c.peer; p != nil && p.assoc == a {
			r.unlink(p)
		}
	}
	if p := a.sender; p != nil && p.assoc == a {
		r.unlink(p)
	}
}

// unlink moves a peer to another association, or suspects it if there is none.
func (r *Registrar) unlink(p *peer) {
	p.assoc, p.doubted, p.missed = nil, time.Time{}, true
	for _, a := range r.peers.links {
		if a.sender == p {
			p.assoc = a
			return
		}
	}
	if p.state == PeerActive {
		r.suspect(p)
	}
}

// tell sends a message to a peer, if there is an association to it.
func (r *Registrar) tell(p *peer, m enrp.Message) {
	if p.assoc != nil && p.assoc.up {
		r.write(p.assoc, m)
	}
}

// tellAll sends a message, whose receiver is 0, to all peers (RFC 5353, Section
// 3.1).
func (r *Registrar) tellAll(m enrp.Message) {
	if len(r.peers.list) == 0 {
		return
	}
	b, err := m.Append(r.buf[:0])
	if err != nil {
		r.logf(true, "cannot tell the peers: %v", err)
		return
	}
	r.buf = b
	for _, p := range r.peers.list {
		if p.assoc != nil && p.assoc.up {
			r.stats.ENRPSent[enrpIndex(m.Type())]++
			r.send(p.assoc, b)
		}
	}
}

func (r *Registrar) write(a *assoc, m enrp.Message) {
	b, err := m.Append(r.buf[:0])
	if err != nil {
		r.logf(true, "cannot tell the registrar at %v: %v", a.primary(), err)
		return
	}
	r.buf = b
	r.stats.ENRPSent[enrpIndex(m.Type())]++
	r.send(a, b)
}

// onENRP takes a message of another registrar.
func (r *Registrar) onENRP(a *assoc, b []byte) {
	if !a.rate.takeN(r.now, r.cfg.Limits.PeerMessages, r.weight(a, b)) {
		r.stats.Ignored.Rate++
		if a.sender != nil {
			a.sender.missed = true
		}
		return
	}
	msg, causes, err := enrp.Parse(b)
	if _, report := msg.(*enrp.Error); a.sender != nil && (err != nil || report) {
		// The association tells the sender: its identifier may not be readable,
		// and RSPLIB puts our identifier into its error reports.
		r.heardFrom(a.sender, a)
	}
	if err != nil {
		r.stats.Malformed++
		r.logf(true, "ENRP message from %v is refused: %v", a.primary(), err)
		if m, ok := enrp.ErrorReply(err, r.id, b); ok {
			r.writeError(a, m)
		}
		return
	}
	r.stats.ENRPReceived[enrpIndex(msg.Type())]++
	if m, ok := msg.(*enrp.Error); ok {
		r.stats.ErrorsReceived++
		r.onTwinTold(a, m)
		r.logf(true, "registrar at %v reports an error: %v", a.primary(), m.Causes[0].Code)
		return
	}
	p := r.hear(a, msg)
	if p == nil {
		return
	}
	r.onPeerMessage(p, a, msg)
	if len(causes) > 0 {
		r.writeError(a, &enrp.Error{Sender: r.id, Receiver: p.id, Causes: causes})
	}
}

// weight is what a message counts as of Limits.PeerMessages: about by the work
// that it makes, unless we have asked for it.
func (r *Registrar) weight(a *assoc, b []byte) int {
	const tableRequest = 16
	if len(b) > 0 {
		switch enrp.MessageType(b[0]) {
		case enrp.TypeHandleTableRequest:
			return tableRequest
		case enrp.TypeHandleTableResponse:
			if p := a.sender; p != nil && r.awaitsTable(p) {
				return 1
			}
		}
	}
	return 1 + len(b)/1024
}

func (r *Registrar) onPeerMessage(p *peer, a *assoc, msg enrp.Message) {
	switch m := msg.(type) {
	case *enrp.Presence:
		r.onPresence(p, a, m)
	case *enrp.ListRequest:
		r.onListRequest(p, a)
	case *enrp.ListResponse:
		r.onListResponse(p, m)
	case *enrp.HandleTableRequest:
		r.onTableRequest(p, a, m)
	case *enrp.HandleTableResponse:
		r.onTableResponse(p, m)
	case *enrp.HandleUpdate:
		r.onHandleUpdate(p, m)
	case *enrp.InitTakeover:
		r.onInitTakeover(p, a, m)
	case *enrp.InitTakeoverAck:
		r.onInitTakeoverAck(p, m)
	case *enrp.TakeoverServer:
		r.onTakeoverServer(p, m)
	}
}

// writeError sends an ENRP_ERROR, unless the peer has had too many of them.
func (r *Registrar) writeError(a *assoc, m *enrp.Error) {
	if !a.errors.take(r.now, r.cfg.Limits.ErrorsPerSecond) {
		r.stats.ErrorsSuppressed++
		return
	}
	r.stats.ErrorsSent++
	r.write(a, m)
}
